// The table of pre-tokenizers: tokenizer.ggml.pre → regular expressions and habits. The expressions
// are facts of the vocabularies (the split rules of their tokenizer.json); docs/tokenizers.md lists
// sources and known deviations.
#pragma once

#include <span>

namespace shoal {

struct PreTokenizerFamily {
  std::span<const char* const> names;
  std::span<const char* const> expressions;  // applied in this order
  bool ignore_merges = false;                // a word that is a token is not merged from its bytes
  bool adds_bos = false;                     // when the file does not say
};

std::span<const PreTokenizerFamily> pretokenizer_families();

}  // namespace shoal

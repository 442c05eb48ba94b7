// A tokenizer's tables as they stand in a GGUF file: plain data, checked for consistency only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoal {

class GgufFile;

enum class TokenKind : int32_t {  // tokenizer.ggml.token_type
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct Vocab {
  std::string model;  // tokenizer.ggml.model: "llama" (SentencePiece), "gpt2" (byte-level BPE)
  std::string pre;    // tokenizer.ggml.pre, BPE only; "default" if missing
  std::vector<std::string> tokens;  // text of token i
  std::vector<float> scores;        // [tokens] or empty
  std::vector<TokenKind> kinds;     // [tokens]
  std::vector<std::string> merges;  // "LEFT RIGHT", rank = index

  std::optional<int32_t> bos, eos, eot, eom, unknown, separator, padding, mask;
  std::optional<int32_t> fim_pre, fim_suf, fim_mid, fim_pad, fim_rep, fim_sep;
  std::optional<bool> add_bos, add_eos, add_space_prefix;

  std::string chat_template;                           // "" if there is none
  std::map<std::string, std::string> named_templates;  // tokenizer.chat_template.NAME
  std::string model_name;                              // general.name, for quirks by name
  std::vector<std::string> warnings;                   // of what is wrong and does not matter
};

// Errors name the file and key: missing tables, lengths that disagree, ids beyond the vocabulary.
// Those of padding, unknown, separator and mask, which nobody needs, are a warning and left out.
// Missing kinds (all tokens are normal ones), tokens of equal text, without text and of text that
// is not UTF-8 are a warning.
Result<Vocab> read_vocab(const GgufFile& file);

// For a model whose embedding has `rows` rows: plain tokens beyond them go, with their merges,
// since no text may become one; so do ids of them that nobody needs. kInvalidArgument: a control or
// added token, or one that another key names, lies beyond.
Status fit_vocab(int64_t rows, Vocab* vocab);

}  // namespace shoal

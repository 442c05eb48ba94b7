// Pre-tokenizers: how byte-level BPE vocabularies cut text into words before merging. The table of
// names is pretokenizer_table.cc; PCRE2 does the matching.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoal {

// Immutable, thread-safe.
class PreTokenizer {
 public:
  // `name`: tokenizer.ggml.pre. Unknown names are kUnsupported; the message lists the known ones.
  static Result<std::unique_ptr<const PreTokenizer>> create(const std::string& name);
  // Every name in the table, and the first one of each family.
  static std::vector<std::string> known_names();
  static std::vector<std::string> family_names();
  virtual ~PreTokenizer() = default;

  // Cuts valid UTF-8 into non-empty words that together are the text. Every expression splits what
  // the previous ones left: its matches and the stretches between them both become pieces.
  // kResourceExhausted: matching took more steps than a text of this length can need.
  virtual Result<std::vector<std::string_view>> split(std::string_view text) const = 0;

  bool ignore_merges() const { return ignore_merges_; }  // a word that is a token is not merged
  bool adds_bos() const { return adds_bos_; }            // when the file does not say

 protected:
  bool ignore_merges_ = false;
  bool adds_bos_ = false;
};

}  // namespace shoal

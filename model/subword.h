// Plain text to tokens, the part that differs between kinds of vocabularies. Behind Tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/vocab.h"

namespace shoal {

// Immutable, thread-safe.
class SubwordEncoder {
 public:
  virtual ~SubwordEncoder() = default;
  // Appends the tokens of `text`: valid UTF-8, not empty; a stretch between two special
  // tokens or the ends of the text.
  virtual Status encode(std::string_view text, std::vector<int32_t>* out) const = 0;
  // Whether BOS is added when the file does not say.
  virtual bool adds_bos_by_default() const = 0;
  // Whether every byte of a text becomes part of a token; otherwise some are dropped.
  virtual bool writes_all_bytes() const = 0;
};

// tokenizer.ggml.model = "llama".
Result<std::unique_ptr<const SubwordEncoder>> make_spm_encoder(const Vocab& vocab,
                                                               bool add_space_prefix);
// tokenizer.ggml.model = "gpt2".
Result<std::unique_ptr<const SubwordEncoder>> make_bpe_encoder(const Vocab& vocab);

// The alphabet in which byte-level vocabularies are written: one printable character per byte.
// Bytes of the text of a BPE token; characters outside the alphabet stand for themselves.
std::string bpe_text_to_bytes(std::string_view text);
std::string bytes_to_bpe_text(std::string_view bytes);

// The value of "<0xAB>", the text of a byte token, or −1.
int byte_token_value(std::string_view text);

// Whether plain text may become this token: not for control and unknown tokens, whose texts in a
// prompt must stay characters, and not for empty texts.
inline bool is_text_token(const Vocab& vocab, size_t id) {
  return !vocab.tokens[id].empty() && vocab.kinds[id] != TokenKind::kControl &&
         vocab.kinds[id] != TokenKind::kUnknown;
}

}  // namespace shoal

// Tokenizers of GGUF models: text to token ids and back.
//
// Two kinds, by tokenizer.ggml.model: "llama" (SentencePiece-style merging by score, spm.cc) and
// "gpt2" (byte-level BPE, bpe.cc). The rules and where they differ from other engines are in
// docs/tokenizers.md. A Tokenizer is immutable and safe to use from several threads.
//
// Time: n log n in the length of the text, on any text. Memory: at most 80 bytes per byte of text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/vocab.h"

namespace shoal {

class SpecialTokens;
class SubwordEncoder;

struct EncodeOptions {
  bool add_special = false;    // BOS and EOS where the model wants them
  bool parse_special = false;  // texts of control tokens become those tokens, else plain characters
  // Ascending byte offsets into the text. A control text that spans one (starts before it and ends
  // after it) is plain characters: so text from outside cannot be completed to a control token.
  std::span<const size_t> breaks = {};
};

class Tokenizer {
 public:
  // kUnsupported: a tokenizer model or pre-tokenizer Shoal does not know. kInvalidArgument: a
  // vocabulary that cannot work (no scores, add_bos without a BOS id).
  static Result<std::unique_ptr<Tokenizer>> create(Vocab vocab);
  ~Tokenizer();

  // kInvalidArgument: `text` is not UTF-8, or `breaks` is not ascending. User-defined tokens are
  // always matched, control tokens only with parse_special.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options) const;

  // encode() of `text` gives at least so many tokens, found without encoding: what cannot fit is
  // refused before time and memory are spent. Time: at most linear.
  uint64_t least_tokens(std::string_view text) const;

  // The text of `ids` from the start of a text: control tokens print nothing, bytes that are not
  // UTF-8 become U+FFFD.
  std::string decode(std::span<const int32_t> ids) const;

  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  // The bytes the token stands for in output, perhaps not whole characters; "" for control tokens
  // (but gpt-oss' channel markers print their text). Ids without a token, which a model may have
  // rows for, print nothing and have no text.
  const std::string& token_bytes(int32_t id) const;
  // Its text in the vocabulary; of control and user-defined tokens what is recognised in text.
  const std::string& token_text(int32_t id) const;
  // Control and unknown tokens, and ids without one: not part of the text a model writes,
  // and made from text with parse_special only.
  bool is_control(int32_t id) const;
  // Those and user-defined tokens: found in a text before the rest of it is encoded.
  bool is_special(int32_t id) const;
  // Whether the token ends a generation; false for ids outside the vocabulary.
  bool is_end_of_generation(int32_t id) const;

  std::optional<int32_t> bos() const { return vocab_.bos; }
  std::optional<int32_t> eos() const { return vocab_.eos; }
  bool adds_bos() const { return adds_bos_; }  // with add_special
  bool adds_eos() const { return adds_eos_; }
  // Ids that end a generation, ascending.
  const std::vector<int32_t>& end_of_generation() const { return end_tokens_; }
  // The texts that parse_special recognises and plain encoding does not.
  const std::vector<std::string>& control_texts() const { return control_texts_; }
  // The tables; texts of BPE tokens are in the byte-to-unicode alphabet here.
  const Vocab& vocab() const { return vocab_; }
  // A space is put before the first word, and taken away again by decode().
  bool adds_space_prefix() const { return adds_space_prefix_; }

 private:
  Tokenizer() = default;
  Status build(Vocab vocab);
  bool has_token(int32_t id) const { return id >= 0 && id < vocab_size(); }
  void build_token_bytes();

  Vocab vocab_;
  std::vector<std::string> bytes_;  // [token]
  std::vector<int32_t> end_tokens_;
  std::vector<std::string> control_texts_;
  bool adds_bos_ = false;
  bool adds_eos_ = false;
  bool adds_space_prefix_ = false;
  size_t longest_token_ = 0;     // bytes of text one token takes up at most; 0: not known
  bool swallows_space_ = false;  // … besides white space, which some tokens take any amount of
  std::unique_ptr<const SubwordEncoder> encoder_;
  std::unique_ptr<const SpecialTokens> all_special_;   // control, unknown and user-defined
  std::unique_ptr<const SpecialTokens> user_defined_;  // those found in any text
};

}  // namespace shoal

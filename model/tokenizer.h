// Text to token ids and back. Immutable after create(), thread-safe.
//
// Two families: SentencePiece-style ("llama": merges by score, byte fallback) and byte-level BPE
// ("gpt2": a pre-tokenizer cuts words, merges go by rank). Rules and sources: docs/tokenizers.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/vocab.h"

namespace shoal {

struct EncodeOptions {
  bool add_special = false;  // BOS/EOS where the vocabulary asks for them
  bool parse_special =
      false;  // texts of control tokens become those tokens; user-defined ones always do
  // Sorted byte offsets no control token's text may span: it is plain text then. Keeps text glued
  // from several sources from forming a control token across the seam.
  std::span<const size_t> breaks = {};
};

class Tokenizer {
 public:
  // kUnsupported: a tokenizer model or pre-tokenizer Shoal does not know; the message names it.
  static Result<std::unique_ptr<Tokenizer>> create(Vocab vocab);
  virtual ~Tokenizer() = default;

  // kInvalidArgument unless `text` is strict UTF-8.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options) const;

  // The bytes a token stands for in output; may be part of a character; "" for control tokens.
  // REQUIRES 0 ≤ id < vocab_size() (both).
  const std::string& token_bytes(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
  // Its text in the vocabulary; for control tokens what parse_special recognises.
  const std::string& token_text(int32_t id) const { return vocab_.tokens[static_cast<size_t>(id)]; }
  // Bytes of a whole sequence, SentencePiece's leading space removed. See detokenizer.h for
  // streams.
  std::string decode(std::span<const int32_t> ids) const;

  int32_t vocab_size() const { return static_cast<int32_t>(vocab_.tokens.size()); }
  std::optional<int32_t> bos() const { return vocab_.bos; }
  std::optional<int32_t> eos() const { return vocab_.eos; }
  bool adds_bos() const { return adds_bos_; }
  bool adds_eos() const { return adds_eos_; }
  // The first token's single leading space is not part of the text.
  bool strips_leading_space() const { return space_prefix_; }
  bool is_control(int32_t id) const;
  bool is_end_of_generation(int32_t id) const;
  const std::vector<int32_t>& end_of_generation() const { return end_tokens_; }  // ascending
  const std::vector<std::string>& control_texts() const { return control_texts_; }
  const Vocab& vocab() const { return vocab_; }

 protected:
  explicit Tokenizer(Vocab vocab);

  // Ids of a stretch of plain text. `first`: it starts the text or follows a special token.
  virtual Status encode_plain(std::string_view text, bool first,
                              std::vector<int32_t>* out) const = 0;
  virtual std::string plain_bytes(int32_t id) const = 0;  // of a normal token
  void finish();  // call at the end of a subclass's constructor

  Vocab vocab_;
  bool adds_bos_ = false;
  bool adds_eos_ = false;
  bool space_prefix_ = false;

 private:
  class SpecialTrie;
  void find_end_tokens();

  std::vector<std::string> bytes_;  // [vocab]
  std::vector<int32_t> end_tokens_;
  std::vector<std::string> control_texts_;
  bool swallow_space_after_special_ = false;  // Phi-3
  std::shared_ptr<const SpecialTrie> specials_;
};

// The two families; Tokenizer::create chooses.
Result<std::unique_ptr<Tokenizer>> make_spm_tokenizer(Vocab vocab);
Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(Vocab vocab);

}  // namespace shoal

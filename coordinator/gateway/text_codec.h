// TextCodec: what the gateway needs of a model's tokenizer and chat template. model_codec.h
// implements it over model/; tests bring a small one of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/gateway/json_reader.h"

namespace shoal {
class RenderControl;
}

namespace shoal::gateway {

// Turns ids into text as they come; text never ends inside a character. Single-threaded.
class TextStream {
 public:
  virtual ~TextStream() = default;
  virtual std::string push(int32_t id) = 0;
  virtual std::string
  flush() = 0;  // what is left when no token follows (U+FFFD for half characters)
};

struct EncodeOptions {
  bool add_bos = false;        // where the model's tokenizer puts one before a text
  bool add_eos = false;        // likewise behind it; never for a prompt, which is to go on
  bool parse_special = false;  // control-token texts become their tokens
  // Sorted byte offsets into the text. A control text that spans one (starts before, ends after) is
  // not a control token but plain characters.
  std::span<const size_t> breaks = {};
};

// Immutable and thread-safe.
class TextCodec {
 public:
  virtual ~TextCodec() = default;
  virtual int32_t vocab_size() const = 0;
  virtual Result<std::vector<int32_t>> encode(std::string_view text,
                                              const EncodeOptions& options) const = 0;
  // encode() of `text` gives at least so many tokens; cheap.
  virtual uint64_t least_tokens(std::string_view text) const = 0;
  // What the token is called where tokens are shown; of control tokens, which print nothing, the
  // name.
  virtual std::string token_bytes(int32_t id) const = 0;  // REQUIRES 0 ≤ id < vocab_size
  // token_bytes(), where ids are put together to a text again: without the space that encoding
  // puts in front of a text, and behind special tokens. `previous`: the id before, −1 at the start.
  virtual std::string text_bytes(int32_t id, int32_t previous) const {
    (void)previous;
    return token_bytes(id);
  }
  virtual std::unique_ptr<TextStream> new_stream() const = 0;

  // The texts that parse_special recognises and plain encoding does not: "<|im_end|>" …
  virtual const std::vector<std::string>& control_texts() const = 0;
  virtual std::string bos_text() const = 0;  // "" when the model has none
  virtual std::string eos_text() const = 0;

  virtual bool has_chat_template() const = 0;
  // kInvalidArgument: the template refused the conversation (raise_exception) or does not suit it.
  // kResourceExhausted: it takes too much of what a request may spend. kCancelled: by `control`.
  virtual Result<std::string> render_chat(const Json& context, RenderControl& control) const = 0;
};

// codec.encode(), but kOutOfRange, before any work, for a text that certainly has more tokens than
// the model's context.
Result<std::vector<int32_t>> encode_within(const TextCodec& codec, std::string_view text,
                                           const EncodeOptions& options, uint32_t context_tokens);

}  // namespace shoal::gateway

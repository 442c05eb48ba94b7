// A small TextCodec for gateway tests: ids 0 … 255 are bytes, then a few control tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway::testing {

inline constexpr int32_t kBos = 256, kEos = 257, kImStart = 258, kImEnd = 259;
inline constexpr int32_t kVocab = 260;

class FakeCodec : public TextCodec {
 public:
  int32_t vocab_size() const override { return kVocab; }
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      const EncodeOptions& options) const override;
  uint64_t least_tokens(std::string_view text) const override {
    return text.size() / 10;  // the longest control text
  }
  std::string token_bytes(int32_t id) const override;
  std::unique_ptr<TextStream> new_stream() const override;
  const std::vector<std::string>& control_texts() const override { return controls_; }
  std::string bos_text() const override { return "<s>"; }
  std::string eos_text() const override { return "</s>"; }
  bool has_chat_template() const override { return has_template; }
  Result<std::string> render_chat(const Json& context, RenderControl& control) const override;

  bool has_template = true;
  // How the template treats a message's content; tests make it trim, split or look at it.
  std::function<std::string(const std::string&)> on_content = [](const std::string& s) {
    return s;
  };
  std::function<void()> on_push;  // called for every token that becomes text; may throw
  // Instead of all of this, if it is set. Called on the server's threads.
  std::function<Result<std::string>(RenderControl&)> on_render;
  std::string prologue = "<s>";
  bool bare = false;  // nothing in front of a message

 private:
  std::vector<std::string> controls_ = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};
};

// Ids of a text of plain bytes.
std::vector<int32_t> bytes_of(const std::string& text);

}  // namespace shoal::gateway::testing

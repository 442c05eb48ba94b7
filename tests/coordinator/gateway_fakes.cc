#include "tests/coordinator/gateway_fakes.h"

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace shoal::gateway::testing {
namespace {

class FakeStream final : public TextStream {
 public:
  explicit FakeStream(std::function<void()> on_push) : on_push_(std::move(on_push)) {}
  std::string push(int32_t id) override {
    if (on_push_) on_push_();
    if (id > 255) return {};
    held_ += static_cast<char>(id);
    const size_t complete = complete_utf8_prefix(held_);
    std::string out = sanitize_utf8(held_.substr(0, complete));
    held_.erase(0, complete);
    return out;
  }
  std::string flush() override {
    std::string out = held_.empty() ? "" : "\xef\xbf\xbd";
    held_.clear();
    return out;
  }

 private:
  const std::function<void()> on_push_;
  std::string held_;
};

bool broken(std::span<const size_t> breaks, size_t begin, size_t end) {
  for (const size_t place : breaks) {
    if (place > begin && place < end) return true;
  }
  return false;
}

}  // namespace

Result<std::vector<int32_t>> FakeCodec::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  if (options.add_bos) ids.push_back(kBos);
  for (size_t i = 0; i < text.size();) {
    bool matched = false;
    for (size_t k = 0; options.parse_special && k < controls_.size() && !matched; ++k) {
      const size_t end = i + controls_[k].size();
      if (!text.substr(i).starts_with(controls_[k]) || broken(options.breaks, i, end)) continue;
      ids.push_back(kBos + static_cast<int32_t>(k));
      i = end;
      matched = true;
    }
    if (!matched) ids.push_back(static_cast<unsigned char>(text[i++]));
  }
  if (options.add_eos) ids.push_back(kEos);
  return ids;
}

std::string FakeCodec::token_bytes(int32_t id) const {
  if (id > 255) return controls_[static_cast<size_t>(id - kBos)];
  return std::string(1, static_cast<char>(id));
}

std::unique_ptr<TextStream> FakeCodec::new_stream() const {
  return std::make_unique<FakeStream>(on_push);
}

Result<std::string> FakeCodec::render_chat(const Json& context, RenderControl& control) const {
  if (on_render) return on_render(control);
  std::string out = prologue;
  for (const Json& message : context["messages"]) {
    const auto content = message["content"].get<std::string>();
    if (content == "raise") return invalid_argument("the template says: no such conversation");
    if (!bare) out += "<|im_start|>" + message["role"].get<std::string>() + "\n";
    if (message.contains("name")) out += message["name"].get<std::string>() + ": ";
    out += on_content(content) + "<|im_end|>\n";
  }
  if (context["add_generation_prompt"].get<bool>()) out += "<|im_start|>assistant\n";
  if (context.contains("suffix")) out += context["suffix"].get<std::string>();
  return out;
}

std::vector<int32_t> bytes_of(const std::string& text) {
  return std::vector<int32_t>(reinterpret_cast<const unsigned char*>(text.data()),
                              reinterpret_cast<const unsigned char*>(text.data()) + text.size());
}

}  // namespace shoal::gateway::testing

// Chat templates and conversations together: the template's text up to a NUL byte, then the context
// as JSON (what is no JSON object stands for an empty one). Whatever comes, it ends within the
// limits and all that was held is given back. The limits are those of production but for the work,
// so that one input takes milliseconds.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/check.h"
#include "model/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using Json = nlohmann::ordered_json;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view rest = input.substr(std::min(end + 1, input.size()));

  shoal::TemplateLimits limits;
  limits.max_work = 200'000;
  const auto chat = shoal::ChatTemplate::parse(std::string(input.substr(0, end)), limits);
  if (!chat) {
    SHOAL_CHECK(!chat.status().message().empty(), "an error without words");
    return 0;
  }
  Json context = Json::parse(rest, nullptr, false);
  if (!context.is_object()) context = Json::object();
  context["add_generation_prompt"] = true;
  context["bos_token"] = "<s>";

  shoal::RenderControl control;
  for (int rendering = 0; rendering < 2; ++rendering) {
    const auto text = chat->render(context, 1'700'000'000, control);
    SHOAL_CHECK(control.lost_bytes() == 0, "bytes were not given back");
    SHOAL_CHECK(control.peak_bytes() <= limits.max_live_bytes, "more was live than may be");
    SHOAL_CHECK(control.work() <= 2 * limits.max_work + limits.max_live_bytes, "too much work");
    if (!text) SHOAL_CHECK(!text.status().message().empty(), "an error without words");
  }
  return 0;
}

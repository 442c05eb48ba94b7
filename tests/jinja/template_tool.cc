// Renders chat templates for comparisons with Jinja2.
//   template_tool NOW < REQUESTS     NOW: seconds since 1970, what strftime_now() shows
// REQUESTS: a line each, {"template": text, "context": object}. Answers, a line each: {"text": …}
// or
// {"error": …}; bytes that a rendering did not give back end the program.
#include <cstdio>
#include <iostream>
#include <string>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "model/chat_template.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

Json answer(const Json& request, std::time_t now) {
  const auto chat = ChatTemplate::parse(request.at("template").get<std::string>());
  if (!chat) return {{"error", chat.status().message()}, {"at", "parse"}};
  RenderControl control(std::chrono::seconds(20));
  const auto text = chat->render(request.at("context"), now, control);
  SHOAL_CHECK(control.lost_bytes() == 0, "a rendering did not give all bytes back");
  if (!text) return {{"error", text.status().message()}, {"at", "render"}};
  return {{"text", *text}};
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: template_tool NOW < REQUESTS\n");
    return 2;
  }
  const std::time_t now = std::stoll(argv[1]);
  for (std::string line; std::getline(std::cin, line);) {
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;
    std::cout << shoal::answer(shoal::Json::parse(line), now).dump(-1, ' ', false, replace) << '\n'
              << std::flush;
  }
  return 0;
}

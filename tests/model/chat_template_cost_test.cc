// What real templates cost is linear in the conversation: charged work, which does not depend on
// the machine, for 1, 2 and 4 times as much of it.
#include <gtest/gtest.h>

#include <array>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "model/chat_template.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

Json message(const char* role, const std::string& content) {
  return Json::object({{"role", role}, {"content", content}});
}

Json short_messages(int n) {
  Json out = Json::array();
  for (int i = 0; i < 4 * n; ++i)
    out.push_back(message(i % 2 == 0 ? "user" : "assistant", "message " + std::to_string(i)));
  return out;
}

Json with_system(int n) {
  Json out = short_messages(n);
  out.insert(out.begin(), message("system", "Be brief."));
  return out;
}

// Some templates gather all of them in one string before they write anything.
Json system_messages(int n) {
  Json out = Json::array();
  for (int i = 0; i < 4 * n; ++i) out.push_back(message("system", "rule " + std::to_string(i)));
  out.push_back(message("user", "Hello"));
  return out;
}

Json one_long_message(int n) {
  std::string text;
  for (int i = 0; i < 100 * n; ++i) text += "a line with \"quotes\", <tags> and grüße\n";
  return Json::array({message("user", text)});
}

Json long_answer(int n) {
  std::string text = "<think>";
  for (int i = 0; i < 50 * n; ++i) text += "thinking\n";
  text += "</think>\n\n";
  for (int i = 0; i < 50 * n; ++i) text += "answer\n";
  return Json::array(
      {message("user", "Hello"), message("assistant", text), message("user", "So?")});
}

Json tool_results(int n) {
  Json out = Json::array({message("user", "Look it up.")});
  for (int i = 0; i < n; ++i) {
    Json answer = message("assistant", "<think>\nlooking\n</think>\n\nLooking.");
    answer["reasoning_content"] = "step " + std::to_string(i);
    Json result = message("tool", "{\"found\": " + std::to_string(i) + "}");
    result["tool_call_id"] = "call" + std::to_string(10'000 + i);
    result["name"] = "search";
    out.push_back(std::move(answer));
    out.push_back(result);
    out.push_back(std::move(result));
  }
  out.push_back(message("user", "And?"));
  return out;
}

struct Cost {
  bool rendered;
  uint64_t work, peak_bytes;
};

Cost cost(const ChatTemplate& chat, const Json& messages, bool with_tools) {
  Json context = {{"messages", messages},
                  {"add_generation_prompt", true},
                  {"bos_token", "<s>"},
                  {"eos_token", "</s>"},
                  {"documents", nullptr}};
  if (with_tools) context["tools"] = nullptr;  // as the gateway gives them
  RenderControl control(std::chrono::hours(1));
  const auto result = chat.render(context, 0, control);
  EXPECT_EQ(control.lost_bytes(), 0u);
  return {result.is_ok(), control.work(), control.peak_bytes()};
}

TEST(ChatTemplateCost, IsLinearInTheConversation) {
  SHOAL_SKIP_WITHOUT_SHARED("templates/expected.json");
  const std::pair<const char*, Json (*)(int)> shapes[] = {
      {"short messages", short_messages},   {"with a system message", with_system},
      {"system messages", system_messages}, {"one long message", one_long_message},
      {"a long answer", long_answer},       {"tool results", tool_results}};
  int rendered = 0;
  for (const auto& file : std::filesystem::directory_iterator(*testing::shared_path("templates"))) {
    if (file.path().extension() != ".jinja") continue;
    const auto chat = ChatTemplate::parse(testing::read_file(file.path()));
    ASSERT_TRUE(chat) << file.path();
    for (const auto& [name, shape] : shapes) {
      // A template that loops over tools without asking whether there are any: as without them.
      const bool with_tools = cost(*chat, shape(1), true).rendered;
      std::array<Cost, 3> costs{};
      for (size_t i = 0; i < costs.size(); ++i) costs[i] = cost(*chat, shape(250 << i), with_tools);
      if (!costs[0].rendered) continue;  // not a conversation for this template
      ++rendered;
      // What twice as much adds is twice what once as much adds; a tenth for tables that grow.
      const auto grows_linearly = [&](uint64_t one, uint64_t two, uint64_t four) {
        return four - two <= 2 * (two - one) + (two - one) / 5 + 4096;
      };
      EXPECT_TRUE(grows_linearly(costs[0].work, costs[1].work, costs[2].work))
          << file.path() << ", " << name << ": " << costs[0].work << " " << costs[1].work << " "
          << costs[2].work << " units";
      EXPECT_LE(costs[2].peak_bytes, 6 * costs[0].peak_bytes) << file.path() << ", " << name;
    }
  }
  EXPECT_GT(rendered, 50);
}

// Nothing that templates do with each message may look at all of them.
TEST(ChatTemplateCost, OperationsOnEachMessageAreConstant) {
  for (const char* body :
       {"{{ messages | length }}",
        "{{ (messages | last).role }}",
        "{{ (messages | first).role }}",
        "{{ messages[loop.index0].role }}",
        "{{ messages[-1].role }}",
        "{{ (messages[loop.index0:] | first).role }}",
        "{{ (messages[1:] | length) }}",
        "{{ (messages[:loop.index0] | length) }}",
        "{{ loop.previtem }}{{ loop.nextitem }}",
        "{% set ns.text = ns.text + message.content %}",
        "{% set ns.text = ns.text ~ message.role ~ '\n' ~ message.content %}",
        "{% set ns.list = ns.list + [message] %}",
        "{% set ns.last = message %}",
        "{% set ns.all = messages %}{{ ns.all[0].role }}",
        "{{ m(message) }}",
        "{% set x %}{{ message.role }}{% endset %}{{ x }}",
        "{{ messages[1:] is sequence }}",
        "{{ messages == messages }}",
        "{{ 'role' in message }}{{ message.get('x') }}",
        "{{ loop.changed(message.role) }}{{ loop.cycle('a', 'b') }}",
        "{% if message.content.startswith('mess') and message.content[-1:] == '1' %}x{% endif %}",
        "{{ message.items() | list | length }}",
        "{{ message | tojson }}"}) {
    const std::string source =
        "{% macro m(v) %}{{ v.role }}{% endmacro %}{% set ns = namespace(text='', list=[]) %}"
        "{% for message in messages %}" +
        std::string(body) + "{% endfor %}{% for message in messages[::-1] %}" + body +
        "{% endfor %}";
    const auto chat = ChatTemplate::parse(source);
    ASSERT_TRUE(chat) << chat.status().message();
    std::array<Cost, 3> costs{};
    for (size_t i = 0; i < costs.size(); ++i)
      costs[i] = cost(*chat, short_messages(250 << i), true);
    EXPECT_TRUE(costs[2].rendered) << body;
    EXPECT_LE(costs[2].work - costs[1].work, (costs[1].work - costs[0].work) * 11 / 5 + 4096)
        << body << ": " << costs[0].work << " " << costs[1].work << " " << costs[2].work;
  }
}

}  // namespace
}  // namespace shoal

#include "model/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>

#include <nlohmann/json.hpp>

#include "tests/support/support.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

// 2025-01-15 12:00:00, local time.
std::time_t fixed_time() {
  std::tm when{};
  when.tm_year = 125;
  when.tm_mon = 0;
  when.tm_mday = 15;
  when.tm_hour = 12;
  return std::mktime(&when);
}

TEST(ChatTemplate, RealTemplatesRenderAsJinja2Does) {
  SHOAL_SKIP_WITHOUT_SHARED("templates/expected.json");
  const Json data =
      Json::parse(testing::read_file(*testing::shared_path("templates/expected.json")));
  int rows = 0, errors = 0;
  for (const auto& [name, expected] : data["templates"].items()) {
    const auto path = testing::shared_path("templates/" + name);
    ASSERT_TRUE(path) << name;
    const auto chat = ChatTemplate::parse(testing::read_file(*path));
    ASSERT_TRUE(chat.is_ok()) << name << ": " << chat.status().message();
    for (const auto& [case_name, outcome] : expected.items()) {
      Json context = data["cases"][case_name];
      if (!context.contains("add_generation_prompt")) context["add_generation_prompt"] = true;
      context["bos_token"] = "<BOS>";
      context["eos_token"] = "<EOS>";
      RenderControl control;
      const auto rendered = chat->render(context, fixed_time(), control);
      EXPECT_EQ(control.lost_bytes(), 0u);
      ++rows;
      if (outcome.contains("text")) {
        EXPECT_TRUE(rendered.is_ok())
            << name << " " << case_name << ": " << rendered.status().message();
        if (!rendered) continue;
        EXPECT_EQ(*rendered, outcome["text"].get<std::string>()) << name << " " << case_name;
      } else {
        ++errors;
        EXPECT_FALSE(rendered.is_ok())
            << name << " " << case_name << " should fail: " << outcome.dump();
      }
    }
  }
  EXPECT_GT(rows, 100);
  std::printf("%d rows, %d of them errors\n", rows, errors);
}

std::string render(const std::string& source, const Json& context = Json::object()) {
  const auto chat = ChatTemplate::parse(source);
  if (!chat) return "error: " + chat.status().message();
  RenderControl control;
  const auto out = chat->render(context, fixed_time(), control);
  EXPECT_EQ(control.lost_bytes(), 0u) << source;
  return out ? *out : "error: " + out.status().message();
}

TEST(ChatTemplate, Language) {
  const Json context = {
      {"xs", {3, 1, 2}}, {"d", {{"a", 1}, {"b", nullptr}}}, {"s", "Hällo"}, {"t", true}};
  const struct {
    const char* source;
    const char* expected;
  } cases[] = {
      {"{{ 1 + 2 * 3 ** 2 }}", "19"},
      {"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }}", "3 -4 2 3.5"},
      {"{{ 'a' ~ 1 ~ none ~ true }}", "a1NoneTrue"},
      {"{{ xs | sort | join(',') }} {{ xs[::-1] }} {{ xs[1:] }}", "1,2,3 [2, 1, 3] [1, 2]"},
      {"{{ s | length }} {{ s[1] }} {{ s[-1] }} {{ s | upper }}", "5 ä o HÄLLO"},
      {"{% for k, v in d.items() %}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %}",
       "a=1,b=None"},
      {"{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n "
       "}}",
       "6"},
      {"{% set x = 1 %}{% for y in xs %}{% set x = y %}{% endfor %}{{ x }}", "1"},
      {"{% macro f(a, b='z') %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=2) }}", "1z12"},
      {"{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}", "<x>"},
      {"{{ missing }}|{{ missing is defined }}|{{ missing | default('d') }}", "|False|d"},
      {"{{ d.b is none }} {{ d['a'] == 1 }} {{ 'a' in d }} {{ 'll' in s }}", "True True True True"},
      {"{{ {'a': [1, 'x', 2.0]} | tojson }}", "{\"a\": [1, \"x\", 2.0]}"},
      {"{{ d | tojson(indent=2) }}", "{\n  \"a\": 1,\n  \"b\": null\n}"},
      {"{{ 1 < 2 < 3 }} {{ not t }} {{ t and 5 or 6 }}", "True False 5"},
      {"  {% if t %}\n  x\n  {% endif %}\ny", "  x\ny"},
      {"a {%- if t %} b {%- endif %} c", "a b c"},
      {"{# gone #}{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
      {"{% for x in xs if x > 1 %}{{ loop.index }}:{{ x }} {% else %}none{% endfor %}", "1:3 2:2 "},
      {"{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "32"},
      {"{% filter upper %}a{{ s }}{% endfilter %}", "AHÄLLO"},
      {"{% set b %}x{{ 1 }}{% endset %}[{{ b }}]", "[x1]"},
      {"{{ ' a b '.strip().split(' ') }}", "['a', 'b']"},
      {"{{ [{'r': 'x'}, {'r': 'y'}] | selectattr('r', 'equalto', 'y') | map(attribute='r') | list "
       "}}",
       "['y']"},
      {"{{ 'a' 'b' }} {{ (1,) }} {{ [] or 'e' }}", "ab (1,) e"},
      {"{{ strftime_now('%d %b %Y') }}", "15 Jan 2025"},
      {"{{ raise_exception('no ' ~ 'way') }}", "error: no way"},
      {"{{ missing.x }}", "error: chat template, line 1: 'missing' is undefined"},
      {"\n{{ 1 / 0 }}", "error: chat template, line 2: division by zero"},
      {"{% if %}", "error: chat template, line 1: an expression is missing"},
      {"{{ x", "error: chat template, line 1: '{{' is not closed"},
      {"{% unknown %}", "error: chat template, line 1: unknown tag 'unknown'"},
      {"{{ [].append(1) }}",
       "error: chat template, line 1: access to attribute 'append' of 'list' object is unsafe."},
      {"{{ ''.__class__.x }}",
       "error: chat template, line 1: access to attribute '__class__' of 'str' object is unsafe."},
      {"{{ ''.__class__ }}{{ [].append is defined }}", "False"},
  };
  for (const auto& c : cases) EXPECT_EQ(render(c.source, context), c.expected) << c.source;
}

TEST(ChatTemplate, LanguageAsJinja2) {
  const Json data =
      Json::parse(testing::read_file(testing::source_dir() + "/tests/model/jinja_language.json"));
  EXPECT_GT(data["rows"].size(), 40u);
  for (const Json& row : data["rows"]) {
    EXPECT_EQ(render(row[0].get<std::string>(), data["context"]), row[1].get<std::string>())
        << row[0];
  }
  // Jinja's own filter sorts keys; templates are written for one that does not.
  EXPECT_EQ(
      render("{{ {'b': 1, 'a': 2} | tojson }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}"),
      R"({"b": 1, "a": 2}{"a": 2, "b": 1})");
  // A call block's body is a macro of its own: `caller` in it is its own, and nobody gave it one.
  EXPECT_EQ(render("{% macro i() %}{{ caller() }}{% endmacro %}{% macro o() %}{% call i() %}("
                   "{{ caller() }}){% endcall %}{% endmacro %}{% call o() %}x{% endcall %}"),
            "error: chat template, line 1: no caller is given");
}

TEST(ChatTemplate, WrongTypesAreErrors) {
  for (const char* source :
       {"{{ 'a'.split('b', 'c') }}", "{{ 'a'.replace('b', 'c', 'd') }}", "{{ 'ab'[::'x'] }}",
        "{{ [1] | batch([]).x }}", "{{ 1 | round('x') }}", "{{ [1] | sum(start='x') }}",
        "{{ 'a\\nb' | indent([]) }}", "{{ [1][:'x'] }}", "{{ 'a' | replace('a', 'b', 'c') }}"}) {
    EXPECT_TRUE(render(source).starts_with("error: chat template, line 1: ")) << source;
  }
}

TEST(ChatTemplate, LimitsHold) {
  TemplateLimits limits;
  limits.max_work = 10'000;
  limits.max_live_bytes = 1 << 16;
  const auto fails = [&](const std::string& source) {
    const auto chat = ChatTemplate::parse(source, limits);
    RenderControl control;
    return !chat || !chat->render(Json::object(), 0, control);
  };
  EXPECT_TRUE(fails("{% for i in range(99999) %}{{ i }}{% endfor %}"));
  EXPECT_TRUE(fails("{{ range(10 ** 9) }}"));
  EXPECT_TRUE(fails("{{ 'x' * 10 ** 12 }}"));
  EXPECT_TRUE(
      fails("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(64) %}{% set ns.s = ns.s ~ "
            "ns.s %}{% endfor %}"));
  EXPECT_TRUE(fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"));
  EXPECT_TRUE(fails("{{ 2 ** 64 }}"));
  EXPECT_TRUE(fails("{{ 9223372036854775807 + 1 }}"));
  EXPECT_TRUE(fails("{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}"));
  EXPECT_TRUE(fails("{{ " + std::string(100'000, '-') + "1 }}"));
  // Chains are as deep as they are long.
  for (const char* link : {"+1", "|int", ".x", "[0]", "()", " or 1", " if 1", " is none"}) {
    std::string chain = "{{ 1";
    for (int i = 0; i < 50'000; ++i) chain += link;
    EXPECT_TRUE(fails(chain + " }}")) << link;
  }
  EXPECT_FALSE(fails("{{ 'x' * 100 }}"));
}

}  // namespace
}  // namespace shoal

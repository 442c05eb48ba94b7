// Templates that ask for far more than they are long: each ends within the limits, whatever the
// operation, and gives back all it held.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <thread>

#include <nlohmann/json.hpp>

#include "model/chat_template.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

struct Outcome {
  Result<std::string> result;
  uint64_t work, peak_bytes, lost_bytes;
};

Outcome render(const std::string& source, const TemplateLimits& limits, RenderControl& control) {
  const auto chat = ChatTemplate::parse(source, limits);
  if (!chat) return {chat.status(), 0, 0, 0};
  auto result = chat->render(Json::object(), 0, control);
  return {std::move(result), control.work(), control.peak_bytes(), control.lost_bytes()};
}

std::string repeated(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// x and y look alike and share nothing; each holds itself twice, forty times over.
std::string lists() {
  return "{% set x = [1] %}{% set y = [1] %}" +
         repeated("{% set x = [x, x] %}{% set y = [y, y] %}", 40);
}
std::string dicts() {
  return "{% set x = {} %}{% set y = {} %}" +
         repeated("{% set x = {'a': x, 'b': x} %}{% set y = {'a': y, 'b': y} %}", 40);
}
// s: 4 MiB of 'a'; t: 2 MiB of them and a 'b'.
std::string texts() { return "{% set s = 'a' * 4194304 %}{% set t = 'a' * 2097152 ~ 'b' %}"; }
std::string forever(const std::string& body) {
  return "{% for i in range(99999) %}{% for j in range(99999) %}" + body +
         "{% endfor %}{% endfor %}";
}
std::string grown(const std::string& start, const std::string& step) {
  return "{% set ns = namespace(v=" + start + ") %}{% for i in range(64) %}{% set ns.v = " + step +
         " %}{% endfor %}";
}

struct Bomb {
  std::string source;
  const char* error;  // "": it is not too much
};

constexpr const char* kLimit = "the chat template needs more than";  // steps or memory
constexpr const char* kSteps = "steps";
constexpr const char* kMemory = "MB of memory";
constexpr const char* kDeep = "nested too deeply";

std::vector<Bomb> bombs_of_values(const std::string& values, bool ordered) {
  std::vector<Bomb> out;
  for (const char* use : {
           "{{ x }}",
           "{{ x | string }}",
           "{{ x ~ '' }}",
           "{{ '' ~ x }}",
           "{{ x | tojson }}",
           "{{ x | tojson(indent=2) }}",
           "{{ '{}'.format(x) }}",
           "{{ [x] | join }}",
           "{{ [x] | map('string') | list }}",
           "{{ x | upper }}",
           "{{ x | length }}{{ x is lower }}",
           "{{ x == y }}",
           "{{ x != y }}",
           "{{ x is eq y }}",
           "{{ x in [y] }}",
           "{{ x not in [y] }}",
           "{{ x is in [y] }}",
           "{{ [y].index(x) }}",
           "{{ [y].count(x) }}",
           "{{ {'a': x} == {'a': y} }}",
           "{{ [x] | select('eq', y) }}",
           "{{ [[x]] | selectattr('0', 'ne', y) }}",
           "{% for z in [x, y] %}{{ loop.changed(z) }}{% endfor %}",
           "{% macro m(v) %}{{ v }}{% endmacro %}{{ m(x) }}",
           "{% set b %}{{ x }}{% endset %}",
           "{% filter upper %}{{ x }}{% endfilter %}",
       }) {
    out.push_back({values + use, kLimit});
  }
  for (const char* use : {"{{ x < y }}", "{{ x >= y }}", "{{ x is lt y }}", "{{ [x, y] | sort }}",
                          "{{ [x, y] | min }}", "{{ [x, y] | max }}",
                          "{{ {'a': x, 'b': y} | dictsort(by='value') }}"}) {
    if (ordered) out.push_back({values + use, kLimit});
  }
  // A cycle cannot form here, so nothing is searched for one.
  out.push_back({values + "{% set ns = namespace(a=x) %}{% set ns.b = [x, ns.a] %}", ""});
  out.push_back({values + "{{ x == x }}{{ x | length }}{{ x is mapping }}", ""});
  return out;
}

std::vector<Bomb> bombs_of_size() {
  return {
      {"{{ 'x' * 10 ** 12 }}", kMemory},
      {"{{ [1] * 10 ** 12 }}", kMemory},
      {"{{ (1, 2) * 9 ** 18 }}", kMemory},
      {"{{ [[]] * 999999999 }}", kMemory},
      {grown("'ab'", "ns.v ~ ns.v"), kMemory},
      {grown("'ab'", "ns.v + ns.v"), kMemory},
      {grown("[1]", "ns.v + ns.v"), kLimit},
      {grown("'ab'", "ns.v.replace('a', ns.v)"), kLimit},
      {grown("'ab'", "ns.v | replace('b', ns.v)"), kLimit},
      {grown("'ab'", "[ns.v, ns.v] | join('-')"), kMemory},
      {grown("'ab'", "'-'.join([ns.v, ns.v])"), kMemory},
      {grown("'ab'", "'{}{}'.format(ns.v, ns.v)"), kLimit},
      {grown("'<'", "(ns.v ~ ns.v) | escape"), kLimit},
      {grown("'a\n'", "(ns.v ~ ns.v) | indent(999)"), kLimit},
      {grown("'ab'", "[ns.v, ns.v] | tojson"), kLimit},
      {"{% set x = range(99999) | list %}{{ (x * 40) | batch(1) }}", kLimit},
      {"{% set s = 'a,' * 2000000 %}{{ s.split(',') }}", kLimit},
      {"{% set s = 'a ' * 2000000 %}{{ s.split() }}", kLimit},
      {"{% set s = 'a\n' * 2000000 %}{{ s.splitlines() }}", kLimit},
      {"{% set s = 'ab' * 2000000 %}{{ s | list }}", kLimit},
      {"{% set s = 'ab' * 2000000 %}{{ s | reverse }}", kLimit},
      {"{% set s = 'ab' * 2000000 %}{{ s[::-1] }}", kLimit},
      {"{% for c in 'ab' * 9000000 %}{% endfor %}", kLimit},
      {"{{ range(10 ** 9) }}", "Range too big"},
  };
}

std::vector<Bomb> bombs_of_time() {
  return {
      {forever(""), kSteps},
      {forever("{% set x = 1 %}"), kSteps},
      {forever("{{ s.find(t) }}").insert(0, texts()), kSteps},
      {texts() + forever("{{ s.rfind(t) }}"), kSteps},
      {texts() + forever("{{ t in s }}"), kSteps},
      {texts() + forever("{{ s.count(t) }}"), kSteps},
      {texts() + forever("{{ s.split(t) }}"), kSteps},
      {texts() + forever("{{ s.rsplit(t, 1) }}"), kSteps},
      {texts() + forever("{{ s.replace(t, '') == 'x' }}"), kSteps},
      {texts() + forever("{{ s.strip(t) }}"), kSteps},
      {texts() + forever("{{ (s | trim(t)) == '' }}"), kSteps},
      {texts() + forever("{{ s.startswith(s ~ 'b') }}{{ s.startswith(s ~ '') }}"), kSteps},
      {texts() + forever("{{ s == t ~ t }}{{ s < s ~ 'a' }}"), kSteps},
      {texts() + forever("{% if s.upper() %}{% endif %}"), kSteps},
      {texts() + forever("{% if s.isalpha() %}{% endif %}"), kSteps},
      {texts() + forever("{% if (s ~ 'ä')[1:] == s %}{% endif %}"), kSteps},
      {texts() + forever("{{ (s ~ 'ä') | length }}"), kSteps},
      {texts() + forever("{{ s | int }}{{ s | wordcount }}"), kSteps},
      {texts() + forever("{{ strftime_now(s[:9]) }}{{ s[9:99] }}"), kSteps},
      {"{{ range(99999) | unique | list | length }}", kSteps},
      {"{{ range(99999) | list | sort | first }}{{ range(99999) | max }}", ""},
      {"{% set x = range(99999) %}" + forever("{{ -1 in x }}"), kSteps},
      {"{% set x = range(99999) %}" + forever("{{ x.count(-1) }}"), kSteps},
      {"{% set x = range(99999) %}" + forever("{{ x[::-1] | length }}"), kSteps},
      {"{% set x = range(99999) %}" + forever("{% if (x | sum) %}{% endif %}"), kSteps},
      {"{% set x = range(99999) %}" + forever("{% for k in x if false %}{% endfor %}"), kSteps},
      {"{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
       kSteps},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", kDeep},
      {"{% macro f() %}{{ caller() }}{% endmacro %}"
       "{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
       kDeep},
      {"{% set ns = namespace() %}{% macro f() %}{% set ns.c = caller %}{{ caller() }}{% endmacro "
       "%}"
       "{% call f() %}{{ ns.c() }}{% endcall %}",
       kDeep},
  };
}

// Of what came with the rest of Jinja's filters and Python's methods.
std::vector<Bomb> bombs_of_text() {
  return {
      {"{{ '%999999s' % '' * 99 }}{{ ('%999999d' % 1) * 999 }}", kLimit},
      {"{{ '{:>999999}'.format('') * 99 }}", kLimit},
      {"{{ '%*s' % (10 ** 9, 'x') }}", "is too wide"},
      {"{{ '{:{}}'.format(1, 10 ** 9) }}", "is too wide"},
      {"{{ '%.9999f' % 1.5 }}", "too wide"},
      {"{{ 'x'.center(10 ** 12) }}", kLimit},
      {"{{ 'x'.ljust(10 ** 12, 'ä') }}", kLimit},
      {"{{ 'x'.zfill(10 ** 12) }}", kLimit},
      {"{{ '\t'.expandtabs(10 ** 12) }}", kLimit},
      {"{{ [1] | batch(10 ** 12, 'x') }}", kLimit},
      {"{{ [1] | slice(10 ** 12) }}", kLimit},
      {texts() + forever("{{ s | wordwrap(9) | length }}"), kLimit},
      {texts() + forever("{{ s | title | length }}"), kSteps},
      {texts() + forever("{% if (s ~ 'Σ') | lower %}{% endif %}"), kSteps},
      {texts() + forever("{% if s.isalpha() or s.islower() %}{% endif %}"), kSteps},
      {texts() + forever("{{ s.rsplit(none, 3) | length }}"), kSteps},
      {texts() + forever("{{ s.count('') + s.find('b', 5) + s.rfind('b', 5, -1) }}"), kSteps},
      {texts() + forever("{{ s.translate({97: 'b'}) | length }}"), kSteps},
      {texts() + forever("{{ s.partition('b') | length }}"), kSteps},
      {texts() + forever("{{ s | urlencode | length }}"), kSteps},
      {texts() + forever("{{ s | striptags | length }}"), kSteps},
      {texts() + forever("{{ ('<' * 999999) | striptags | length }}"), kSteps},
      {texts() + forever("{{ [s] | pprint | length }}"), kSteps},
      {texts() + forever("{{ s.strip('äöü') | length }}{{ (s ~ 'ä').strip('aä') }}"), kSteps},
      {texts() + "{{ s.replace('', 'x' * 100) }}", kLimit},
      {"{% macro m() %}{{ varargs | length }}{% endmacro %}{% set x = range(99999) | list %}" +
           forever("{{ m(*x) }}"),
       kSteps},
      {"{% for n in [1] recursive %}{{ loop([1]) }}{% endfor %}", kDeep},
      {"{% for n in [1, 1] recursive %}{{ loop([1, 1]) if loop.depth < 40 }}{% endfor %}", kSteps},
      {"{% set c = cycler(1, 2) %}" + forever("{{ c.next() }}"), kLimit},
      {"{% set g = range(99999) | map('string') %}" + forever("{% for x in g %}{% endfor %}"),
       kSteps},
      {"{% set x = range(99999) %}" + forever("{% if x | groupby('real') %}{% endif %}"), kLimit},
      {"{% set x = range(999) %}" + forever("{{ x | unique | list | length }}"), kSteps},
      {forever("{% for x in range(99) if x > 98 %}{{ loop.last }}{% endfor %}"), kSteps},
  };
}

std::vector<Bomb> bombs_of_depth() {
  const auto nested = [](const std::string& step, const std::string& use) {
    return "{% set ns = namespace(v=[]) %}{% for i in range(99999) %}{% set ns.v = " + step +
           " %}{% endfor %}" + use;
  };
  return {
      {nested("[ns.v]", ""), ""},  // freed without nesting calls
      {nested("(ns.v,)", ""), ""},
      {nested("{'a': ns.v}", ""), ""},
      {nested("namespace(a=ns.v)", ""), ""},
      {nested("[ns.v].index", ""), ""},
      {nested("[ns.v]", "{{ ns.v }}"), kDeep},
      {nested("[ns.v]", "{{ ns.v | pprint }}"), kDeep},
      {nested("(ns.v,)", "{{ {ns.v: 1} }}"), kDeep},
      {nested("[ns.v]", "{{ '%r' % [ns.v] }}"), kDeep},
      {nested("[ns.v]", "{{ ns.v | tojson }}"), kDeep},
      {nested("[ns.v]", nested("[ns.v]", "{{ ns.v == last }}").insert(0, "{% set last = ns.v %}")),
       kDeep},
      {nested("[ns.v]", nested("[ns.v]", "{{ ns.v < last }}").insert(0, "{% set last = ns.v %}")),
       kDeep},
      {nested("{'a': ns.v}", "{{ ns.v }}"), kDeep},
      // What holds itself.
      {"{% set ns = namespace() %}{% set ns.a = [ns] %}", ""},
      {"{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}", kDeep},
      {"{% set ns = namespace() %}{% set ns.f = [ns].index %}{% set ns.g = ns.f %}", ""},
      {"{% set a = [1] + [2] %}{% set b = a + [a] %}{% set c = b + [c, b, a] %}{{ c | length }}",
       ""},
      {"{% set ns = namespace() %}{% for i in [1] %}{% set ns.l = loop %}"
       "{{ loop.changed(loop, ns) }}{% endfor %}",
       ""},
      {"{% set ns = namespace() %}{% macro m() %}{{ ns.m }}{% endmacro %}{% set ns.m = m %}", ""},
  };
}

std::vector<Bomb> all_bombs() {
  std::vector<Bomb> out;
  for (const auto& part : {bombs_of_values(lists(), true), bombs_of_values(dicts(), false),
                           bombs_of_size(), bombs_of_time(), bombs_of_text(), bombs_of_depth()})
    out.insert(out.end(), part.begin(), part.end());
  return out;
}

TEST(ChatTemplateLimits, EveryOperationIsChargedBySize) {
  TemplateLimits limits;
  limits.max_work = 4'000'000;
  // Work is charged before it is done: what was refused comes on top.
  const uint64_t most_work = limits.max_work + limits.max_live_bytes;
  for (const Bomb& bomb : all_bombs()) {
    RenderControl control(std::chrono::hours(1));
    const Outcome outcome = render(bomb.source, limits, control);
    const std::string shown =
        bomb.source.substr(bomb.source.size() - std::min<size_t>(bomb.source.size(), 80));
    if (*bomb.error == '\0') {
      EXPECT_TRUE(outcome.result) << shown << ": " << outcome.result.status().message();
    } else {
      ASSERT_FALSE(outcome.result) << shown;
      EXPECT_NE(outcome.result.status().message().find(bomb.error), std::string::npos)
          << shown << ": " << outcome.result.status().message();
    }
    EXPECT_LE(outcome.work, most_work) << shown;
    EXPECT_LE(outcome.peak_bytes, limits.max_live_bytes) << shown;
    EXPECT_EQ(outcome.lost_bytes, 0u) << shown;
  }
}

Duration thread_cpu_time() {
  std::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

TEST(ChatTemplateLimits, TheClockIsSeenInEveryOperation) {
  TemplateLimits limits;
  limits.max_work = uint64_t{1} << 62;
  int in_time = 0;
  for (const Bomb& bomb : all_bombs()) {
    const Duration before = thread_cpu_time();
    RenderControl control(std::chrono::milliseconds(10));
    const Outcome outcome = render(bomb.source, limits, control);
    // Slack for sanitizers and the largest single operation.
    EXPECT_LT(to_seconds(thread_cpu_time() - before), 4.0) << bomb.source;
    EXPECT_EQ(outcome.lost_bytes, 0u);
    if (outcome.result) continue;
    in_time += outcome.result.status().message() ==
               "the chat template took more than 0.01 s of CPU time for these messages";
  }
  EXPECT_GT(in_time, 40);
}

TEST(ChatTemplateLimits, AllRenderingsOfARequestShareThem) {
  TemplateLimits limits;
  limits.max_work = 100'000;
  const auto chat = ChatTemplate::parse("{% for i in range(10000) %}{% endfor %}", limits);
  ASSERT_TRUE(chat);
  RenderControl control;
  int rendered = 0;
  while (rendered < 100 && chat->render(Json::object(), 0, control)) ++rendered;
  EXPECT_GE(rendered, 1);
  EXPECT_LT(rendered, 10);
  EXPECT_EQ(chat->render(Json::object(), 0, control).status().code(), Code::kResourceExhausted);
}

TEST(ChatTemplateLimits, AnotherThreadCancels) {
  TemplateLimits limits;
  limits.max_work = uint64_t{1} << 62;
  const auto chat =
      ChatTemplate::parse(lists() + "{% for i in range(99999) %}{{ x == y }}{% endfor %}", limits);
  ASSERT_TRUE(chat);
  RenderControl control(std::chrono::hours(1));
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    control.cancel();
  });
  const auto result = chat->render(Json::object(), 0, control);
  other.join();
  EXPECT_EQ(result.status().code(), Code::kCancelled);
  EXPECT_EQ(control.lost_bytes(), 0u);
  EXPECT_EQ(chat->render(Json::object(), 0, control).status().code(), Code::kCancelled);
}

TEST(ChatTemplateLimits, ErrorsQuoteLittle) {
  const std::string name(100'000, 'n');
  for (const char* source : {"{{ [1].index('%') }}", "{{ 1 | map('%') }}", "{{ [1] | map('%') }}",
                             "{{ [1] | select('%') }}", "{{ 'a'.format(1) ~ '{%}'.format(1) }}"}) {
    std::string text = source;
    text.replace(text.find('%', 3), 1, name);
    RenderControl control;
    const Outcome outcome = render(text, {}, control);
    ASSERT_FALSE(outcome.result) << source;
    EXPECT_LT(outcome.result.status().message().size(), 400u) << source;
  }
}

}  // namespace
}  // namespace shoal

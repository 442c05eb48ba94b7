// "is" tests.
#include <cmath>
#include <map>

#include "model/jinja/arithmetic.h"
#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

using In = Interpreter&;
using Item = const Value&;
using Args = const Arguments&;

bool defined(In, Item v, Args) { return !v.is_undefined(); }
bool undefined(In, Item v, Args) { return v.is_undefined(); }
bool none(In, Item v, Args) { return v.is_none(); }
bool string(In, Item v, Args) { return v.is_string(); }
bool number(In, Item v, Args) { return v.is_number(); }
bool whole(In, Item v, Args) { return v.is_int(); }
bool real(In, Item v, Args) { return v.is_float(); }
bool boolean(In, Item v, Args) { return v.is_bool(); }
bool is_true(In, Item v, Args) { return v.is_bool() && v.truthy(); }
bool is_false(In, Item v, Args) { return v.is_bool() && !v.truthy(); }
bool mapping(In, Item v, Args) { return v.is_dict(); }
bool escaped(In, Item v, Args) { return v.is_markup(); }
bool is_iterable(In, Item v, Args) { return iterable(v) || v.is_loop(); }

// Python: it has a length and items.
bool sequence(In, Item v, Args) {
  return v.is_list() || v.is_string() || v.is_dict() || v.is_undefined() ||
         (v.is_series() && v.list().kind == Series::kRange);
}

bool callable(In, Item v, Args) { return v.is_callable() || v.is_loop() || v.is_undefined(); }

Value remainder(In in, Item v, Item by) {
  if (v.is_undefined()) throw TemplateError(v.undefined_text());
  return binary(in.budget(), "%", v, by);
}
bool odd(In in, Item v, Args) {
  return equal(in.budget(), remainder(in, v, int64_t{2}), int64_t{1});
}
bool even(In in, Item v, Args) {
  return equal(in.budget(), remainder(in, v, int64_t{2}), int64_t{0});
}
bool divisibleby(In in, Item v, Args a) {
  return equal(in.budget(), remainder(in, v, a.need(0, "num")), int64_t{0});
}

bool is_lower(In in, Item v, Args) {
  return is_lower_text(in.budget(), to_text(in.budget(), v).str());
}
bool is_upper(In in, Item v, Args) {
  return is_upper_text(in.budget(), to_text(in.budget(), v).str());
}

bool eq(In in, Item v, Args a) { return equal(in.budget(), v, a.need(0, "b")); }
bool ne(In in, Item v, Args a) { return !equal(in.budget(), v, a.need(0, "b")); }
bool lt(In in, Item v, Args a) { return compare(in.budget(), v, a.need(0, "b")) < 0; }
bool le(In in, Item v, Args a) { return compare(in.budget(), v, a.need(0, "b")) <= 0; }
bool gt(In in, Item v, Args a) { return compare(in.budget(), v, a.need(0, "b")) > 0; }
bool ge(In in, Item v, Args a) { return compare(in.budget(), v, a.need(0, "b")) >= 0; }
bool in_test(In in, Item v, Args a) { return contains(in.budget(), a.need(0, "seq"), v); }

// Python compares identities; numbers and strings that are equal are taken for the same.
bool sameas(In in, Item v, Args a) {
  const Value& other = a.need(0, "other");
  if (v.same_object(other)) return true;
  const bool plain = v.is_none() || v.is_number() || v.is_string();
  return plain && v.type() == other.type() && equal(in.budget(), v, other);
}

std::string_view name_of(Item v) {
  if (!hashable(v)) throw TemplateError(std::string("a ") + v.type_name() + " is no name");
  return v.is_string() ? v.str() : "";
}
bool filter_test(In, Item v, Args) { return is_filter(name_of(v)); }
bool test_test(In, Item v, Args) { return is_test(name_of(v)); }

using Tests = std::map<std::string_view, Function<Test>>;

const Tests& tests() {
  static const Tests table = [] {
    Tests t = {
        {"defined", {defined, ""}},   {"undefined", {undefined, ""}},
        {"none", {none, ""}},         {"string", {string, ""}},
        {"number", {number, ""}},     {"integer", {whole, ""}},
        {"float", {real, ""}},        {"boolean", {boolean, ""}},
        {"true", {is_true, ""}},      {"false", {is_false, ""}},
        {"mapping", {mapping, ""}},   {"iterable", {is_iterable, ""}},
        {"sequence", {sequence, ""}}, {"callable", {callable, ""}},
        {"escaped", {escaped, ""}},   {"filter", {filter_test, ""}},
        {"test", {test_test, ""}},    {"odd", {odd, ""}},
        {"even", {even, ""}},         {"divisibleby", {divisibleby, "num"}},
        {"lower", {is_lower, ""}},    {"upper", {is_upper, ""}},
        {"in", {in_test, "seq"}},     {"sameas", {sameas, "other"}},
    };
    const auto add = [&t](Test test, std::initializer_list<const char*> names) {
      for (const char* name : names) t.insert({name, {test, "b, /"}});
    };
    add(eq, {"eq", "equalto", "=="});
    add(ne, {"ne", "!="});
    add(lt, {"lt", "lessthan", "<"});
    add(le, {"le", "<="});
    add(gt, {"gt", "greaterthan", ">"});
    add(ge, {"ge", ">="});
    return t;
  }();
  return table;
}

}  // namespace

const Function<Test>& find_test(std::string_view name) {
  const auto it = tests().find(name);
  if (it == tests().end()) throw TemplateError("No test named '" + excerpt(name) + "'.");
  return it->second;
}

bool is_test(std::string_view name) { return tests().contains(name); }

bool apply_test(Interpreter& in, std::string_view name, const Value& v, const Arguments& args) {
  const Function<Test>& test = find_test(name);
  test.takes.check(name, args);
  return test.function(in, v, args);
}

}  // namespace shoal::jinja

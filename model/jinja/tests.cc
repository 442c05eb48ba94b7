// "is" tests.
#include <functional>
#include <map>

#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

bool is_sequence(const Value& v) {
  return v.is_list() || v.is_string() || (v.is_dict() && !v.dict().is_namespace) ||
         v.is_undefined();
}

int64_t integer(const Value& v, const char* test) {
  if (!v.is_int() && !v.is_bool()) throw TemplateError(std::string(test) + ": needs an integer");
  return v.as_int();
}

const std::map<std::string, Test, std::less<>>& tests() {
  static const std::map<std::string, Test, std::less<>> table = [] {
    std::map<std::string, Test, std::less<>> t = {
        {"defined",
         [](Interpreter&, const Value& v, const Arguments&) { return !v.is_undefined(); }},
        {"undefined",
         [](Interpreter&, const Value& v, const Arguments&) { return v.is_undefined(); }},
        {"none", [](Interpreter&, const Value& v, const Arguments&) { return v.is_none(); }},
        {"string", [](Interpreter&, const Value& v, const Arguments&) { return v.is_string(); }},
        {"number", [](Interpreter&, const Value& v, const Arguments&) { return v.is_number(); }},
        {"integer", [](Interpreter&, const Value& v, const Arguments&) { return v.is_int(); }},
        {"float", [](Interpreter&, const Value& v, const Arguments&) { return v.is_float(); }},
        {"boolean", [](Interpreter&, const Value& v, const Arguments&) { return v.is_bool(); }},
        {"true",
         [](Interpreter&, const Value& v, const Arguments&) { return v.is_bool() && v.truthy(); }},
        {"false",
         [](Interpreter&, const Value& v, const Arguments&) { return v.is_bool() && !v.truthy(); }},
        {"mapping", [](Interpreter&, const Value& v, const Arguments&) { return v.is_dict(); }},
        {"iterable", [](Interpreter&, const Value& v, const Arguments&) { return is_sequence(v); }},
        {"sequence", [](Interpreter&, const Value& v, const Arguments&) { return is_sequence(v); }},
        {"callable",
         [](Interpreter&, const Value& v, const Arguments&) { return v.is_callable(); }},
        {"odd",
         [](Interpreter&, const Value& v, const Arguments&) { return integer(v, "odd") % 2 != 0; }},
        {"even", [](Interpreter&, const Value& v,
                    const Arguments&) { return integer(v, "even") % 2 == 0; }},
        {"divisibleby",
         [](Interpreter&, const Value& v, const Arguments& a) {
           const int64_t by = integer(a.need(0, "num", "divisibleby"), "divisibleby");
           if (by == 0) throw TemplateError("divisibleby: division by zero");
           return by == -1 || integer(v, "divisibleby") % by == 0;
         }},
        {"lower",
         [](Interpreter& in, const Value& v, const Arguments&) {
           const Value text = to_text(in.budget(), v);
           return text.str() == lower(in.budget(), text).str() &&
                  text.str() != upper(in.budget(), text).str();
         }},
        {"upper",
         [](Interpreter& in, const Value& v, const Arguments&) {
           const Value text = to_text(in.budget(), v);
           return text.str() == upper(in.budget(), text).str() &&
                  text.str() != lower(in.budget(), text).str();
         }},
        {"eq", [](Interpreter& in, const Value& v,
                  const Arguments& a) { return equal(in.budget(), v, a.need(0, "other", "eq")); }},
        {"ne", [](Interpreter& in, const Value& v,
                  const Arguments& a) { return !equal(in.budget(), v, a.need(0, "other", "ne")); }},
        {"lt",
         [](Interpreter& in, const Value& v, const Arguments& a) {
           return compare(in.budget(), v, a.need(0, "other", "lt")) < 0;
         }},
        {"le",
         [](Interpreter& in, const Value& v, const Arguments& a) {
           return compare(in.budget(), v, a.need(0, "other", "le")) <= 0;
         }},
        {"gt",
         [](Interpreter& in, const Value& v, const Arguments& a) {
           return compare(in.budget(), v, a.need(0, "other", "gt")) > 0;
         }},
        {"ge",
         [](Interpreter& in, const Value& v, const Arguments& a) {
           return compare(in.budget(), v, a.need(0, "other", "ge")) >= 0;
         }},
        {"in", [](Interpreter& in, const Value& v,
                  const Arguments& a) { return contains(in.budget(), a.need(0, "seq", "in"), v); }},
        {"sameas",
         [](Interpreter& in, const Value& v, const Arguments& a) {
           const Value& other = a.need(0, "other", "sameas");
           return std::string(v.type_name()) == other.type_name() && equal(in.budget(), v, other);
         }},
    };
    for (const auto& [alias, name] : std::map<std::string, std::string>{{"equalto", "eq"},
                                                                        {"==", "eq"},
                                                                        {"!=", "ne"},
                                                                        {"lessthan", "lt"},
                                                                        {"<", "lt"},
                                                                        {"<=", "le"},
                                                                        {"greaterthan", "gt"},
                                                                        {">", "gt"},
                                                                        {">=", "ge"}}) {
      t[alias] = t.at(name);
    }
    return t;
  }();
  return table;
}

}  // namespace

Test find_test(std::string_view name) {
  const auto it = tests().find(name);
  if (it == tests().end()) throw TemplateError("No test named '" + excerpt(name) + "'.");
  return it->second;
}

}  // namespace shoal::jinja

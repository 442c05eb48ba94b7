// "is" tests.
#include <map>

#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

using Test = bool (*)(const Value&, const Arguments&);

bool is_mapping(const Value& v) { return v.is_dict(); }
bool is_sequence(const Value& v) {
  return v.is_list() || v.is_string() || (v.is_dict() && !v.dict().is_namespace) ||
         v.is_undefined();
}

int64_t integer(const Value& v, const char* test) {
  if (!v.is_int() && !v.is_bool()) throw TemplateError(std::string(test) + ": needs an integer");
  return v.as_int();
}

const std::map<std::string, Test>& tests() {
  static const std::map<std::string, Test> table = [] {
    std::map<std::string, Test> t = {
        {"defined", [](const Value& v, const Arguments&) { return !v.is_undefined(); }},
        {"undefined", [](const Value& v, const Arguments&) { return v.is_undefined(); }},
        {"none", [](const Value& v, const Arguments&) { return v.is_none(); }},
        {"string", [](const Value& v, const Arguments&) { return v.is_string(); }},
        {"number", [](const Value& v, const Arguments&) { return v.is_number(); }},
        {"integer", [](const Value& v, const Arguments&) { return v.is_int(); }},
        {"float", [](const Value& v, const Arguments&) { return v.is_float(); }},
        {"boolean", [](const Value& v, const Arguments&) { return v.is_bool(); }},
        {"true", [](const Value& v, const Arguments&) { return v.is_bool() && v.truthy(); }},
        {"false", [](const Value& v, const Arguments&) { return v.is_bool() && !v.truthy(); }},
        {"mapping", [](const Value& v, const Arguments&) { return is_mapping(v); }},
        {"iterable", [](const Value& v, const Arguments&) { return is_sequence(v); }},
        {"sequence", [](const Value& v, const Arguments&) { return is_sequence(v); }},
        {"callable", [](const Value& v, const Arguments&) { return v.is_callable(); }},
        {"odd", [](const Value& v, const Arguments&) { return integer(v, "odd") % 2 != 0; }},
        {"even", [](const Value& v, const Arguments&) { return integer(v, "even") % 2 == 0; }},
        {"divisibleby",
         [](const Value& v, const Arguments& a) {
           const int64_t by = integer(a.need(0, "num", "divisibleby"), "divisibleby");
           if (by == 0) throw TemplateError("divisibleby: division by zero");
           return by == -1 || integer(v, "divisibleby") % by == 0;
         }},
        {"lower",
         [](const Value& v, const Arguments&) {
           return v.to_text() == lower(v.to_text()) && v.to_text() != upper(v.to_text());
         }},
        {"upper",
         [](const Value& v, const Arguments&) {
           return v.to_text() == upper(v.to_text()) && v.to_text() != lower(v.to_text());
         }},
        {"eq",
         [](const Value& v, const Arguments& a) { return equal(v, a.need(0, "other", "eq")); }},
        {"ne",
         [](const Value& v, const Arguments& a) { return !equal(v, a.need(0, "other", "ne")); }},
        {"lt", [](const Value& v,
                  const Arguments& a) { return compare(v, a.need(0, "other", "lt")) < 0; }},
        {"le", [](const Value& v,
                  const Arguments& a) { return compare(v, a.need(0, "other", "le")) <= 0; }},
        {"gt", [](const Value& v,
                  const Arguments& a) { return compare(v, a.need(0, "other", "gt")) > 0; }},
        {"ge", [](const Value& v,
                  const Arguments& a) { return compare(v, a.need(0, "other", "ge")) >= 0; }},
        {"in",
         [](const Value& v, const Arguments& a) { return contains(a.need(0, "seq", "in"), v); }},
        {"sameas",
         [](const Value& v, const Arguments& a) {
           const Value& other = a.need(0, "other", "sameas");
           return std::string(v.type_name()) == other.type_name() && equal(v, other);
         }},
        {"filter", [](const Value&, const Arguments&) { return true; }},
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
    t.erase("filter");
    return t;
  }();
  return table;
}

}  // namespace

bool has_test(const std::string& name) { return tests().contains(name); }

bool apply_test(const std::string& name, const Value& input, const Arguments& args) {
  const auto it = tests().find(name);
  if (it == tests().end()) throw TemplateError("No test named '" + name + "'.");
  return it->second(input, args);
}

}  // namespace shoal::jinja

// What is reached by a dot: attributes and methods, as Python's getattr() and Jinja's sandbox see
// them.
#include <algorithm>
#include <map>

#include "model/jinja/interpreter.h"
#include "model/jinja/methods.h"

namespace shoal::jinja {
namespace {

// What Python's dicts and lists have, but would change them.
constexpr std::string_view kChangeDicts[] = {"update", "pop", "setdefault", "clear", "popitem"};
constexpr std::string_view kChangeLists[] = {"append", "extend", "insert", "pop",
                                             "remove", "clear",  "sort",   "reverse"};

bool among(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_internal(std::string_view name) { return name.starts_with("__") && name.ends_with("__"); }

bool changes(const Value& object, std::string_view name) {
  return object.is_dict() ? among(kChangeDicts, name)
                          : object.is_list() && !object.list().tuple() && among(kChangeLists, name);
}

Value unsafe(Interpreter& in, const Value& object, std::string_view name) {
  return Value::undefined(in.budget(), "access to attribute '" + excerpt(name) + "' of '" +
                                           object.type_name() + "' object is unsafe.");
}

std::optional<Value> of_number(const Value& v, std::string_view name) {
  if (name == "real") return v.is_float() ? v : Value(v.as_int());
  if (name == "imag") return v.is_float() ? Value(0.0) : Value(int64_t{0});
  if (v.is_float()) return std::nullopt;
  if (name == "numerator") return v.as_int();
  if (name == "denominator") return int64_t{1};
  return std::nullopt;
}

std::optional<Value> of_series(const List& list, std::string_view name) {
  if (list.kind == Series::kGroup && list.view.size() == 2) {
    if (name == "grouper") return list.view[0];
    if (name == "list") return list.view[1];
  }
  if (list.kind == Series::kRange) {
    const auto& range = static_cast<const Range&>(list);
    if (name == "start") return range.start;
    if (name == "stop") return range.stop;
    if (name == "step") return range.step;
  }
  return std::nullopt;
}

std::optional<Value> of_macro(Interpreter& in, const Callable& callable, std::string_view name) {
  const Node& macro = *callable.macro;
  if (name == "name") {
    if (macro.kind == Kind::kCallBlock) return Value();
    return Value::outside(in.budget(), callable.name);
  }
  if (name == "arguments") {
    ListBuilder names(in.budget());
    for (const std::string& word : macro.words) names.add(Value::outside(in.budget(), word));
    return names.take(Series::kTuple);
  }
  if (name == "catch_kwargs") return (macro.uses & kUsesKwargs) != 0;
  if (name == "catch_varargs") return (macro.uses & kUsesVarargs) != 0;
  if (name == "caller") return (macro.uses & kUsesCaller) != 0;
  if (name == "explicit_caller")
    return std::find(macro.words.begin(), macro.words.end(), "caller") != macro.words.end();
  return std::nullopt;
}

}  // namespace

std::optional<Value> python_attribute(Interpreter& in, const Value& object, std::string_view name) {
  if (is_internal(name) || changes(object, name)) return unsafe(in, object, name);
  if (object.is_namespace()) {
    const Value* found = object.dict().find(name);
    if (found == nullptr) return std::nullopt;
    return name.starts_with('_') ? unsafe(in, object, name) : *found;
  }
  if (object.is_loop()) {
    if (auto found = object.loop().attribute(name)) return found;
  }
  if (object.is_cycler() && name == "current")
    return object.cycler().items.items()[object.cycler().index];
  if (const Function<Method>* method = find_method(object, name)) {
    static const std::string kMethod = "method";
    return Value::callable(
        in.budget(), kMethod,
        [&in, object, method, name = Value::string(in.budget(), name)](const Arguments& args) {
          return call_method(in, *method, name.str(), object, args);
        });
  }
  if (object.is_number()) return of_number(object, name);
  if (object.is_series()) return of_series(object.list(), name);
  if (object.is_callable() && object.callable().macro != nullptr)
    return of_macro(in, object.callable(), name);
  return std::nullopt;
}

bool may_be_attribute(std::string_view name) {
  return is_internal(name) || among(kChangeDicts, name) || among(kChangeLists, name) ||
         is_method_name(name);
}

}  // namespace shoal::jinja

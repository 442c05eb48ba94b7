// Methods of lists, dicts, numbers, `loop` and cyclers, and the choice among all.
#include "model/jinja/methods.h"

#include <bit>
#include <cmath>
#include <numeric>

#include "model/jinja/arithmetic.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

template <Series kKind>
Value entries_method(Interpreter& in, const Value& object, const Arguments&) {
  const auto& entries = object.dict().entries;
  ListBuilder out(in.budget(), entries.size());
  for (const auto& [key, value] : entries) {
    out.add(kKind == Series::kPairs  ? pair(in.budget(), key, value)
            : kKind == Series::kKeys ? key
                                     : value);
  }
  return out.take(kKind);
}

Value get_method(Interpreter&, const Value& object, const Arguments& args) {
  const Value& key = args.need(0, "key");
  if (!hashable(key)) throw TemplateError(std::string("a ") + key.type_name() + " cannot be a key");
  const Value* found = object.dict().find(key);
  return found ? *found : args.get(1, "default", Value());
}

Value itself(Interpreter&, const Value& object, const Arguments&) { return object; }

const Methods& dict_methods() {
  static const Methods table = {
      {"items", {entries_method<Series::kPairs>, ""}},
      {"keys", {entries_method<Series::kKeys>, ""}},
      {"values", {entries_method<Series::kValues>, ""}},
      {"get", {get_method, "key, default=, /"}},
      {"copy", {itself, ""}},
  };
  return table;
}

Value list_count(Interpreter& in, const Value& object, const Arguments& args) {
  const Value& wanted = args.need(0, "value");
  int64_t count = 0;
  for (const Value& item : object.items()) count += equal(in.budget(), item, wanted);
  return count;
}

Value list_index(Interpreter& in, const Value& object, const Arguments& args) {
  const Value& wanted = args.need(0, "value");
  const std::span<const Value> all = object.items();
  const auto n = static_cast<int64_t>(all.size());
  const auto bound = [&](size_t i, int64_t otherwise) {
    const Value* given = args.find(i, "");
    if (given == nullptr) return otherwise;
    const int64_t at = integer(*given, "index");
    return at < 0 ? std::max<int64_t>(0, at + n) : std::min(at, n);
  };
  for (int64_t i = bound(1, 0), end = bound(2, n); i < end; ++i) {
    if (equal(in.budget(), all[static_cast<size_t>(i)], wanted)) return i;
  }
  TextBuilder text(in.budget());
  print_repr(wanted, &text);
  throw TemplateError(excerpt(text.view()) + " is not in list");
}

const Methods& list_methods() {
  static const Methods table = {{"index", {list_index, "value, start=, stop=, /"}},
                                {"count", {list_count, "value, /"}},
                                {"copy", {itself, ""}}};
  return table;
}

Value cycle_method(Interpreter&, const Value& object, const Arguments& args) {
  if (args.positional.empty()) throw TemplateError("loop.cycle: no items");
  return args.positional[object.loop().index % args.positional.size()];
}

Value changed_method(Interpreter& in, const Value& object, const Arguments& args) {
  ListBuilder now(in.budget());
  now.add(args.positional);
  Value& last = object.loop().changed;
  const Value given = now.take(Series::kTuple);
  if (last.is_list() && equal(in.budget(), last, given)) return false;
  last = given;
  return true;
}

const Methods& loop_methods() {
  static const Methods table = {{"cycle", {cycle_method, "*"}}, {"changed", {changed_method, "*"}}};
  return table;
}

Value cycler_next(Interpreter&, const Value& object, const Arguments&) {
  Cycler& cycler = object.cycler();
  Value out = cycler.items.items()[cycler.index];
  cycler.index = (cycler.index + 1) % cycler.items.items().size();
  return out;
}

Value cycler_reset(Interpreter&, const Value& object, const Arguments&) {
  object.cycler().index = 0;
  return Value();
}

const Methods& cycler_methods() {
  static const Methods table = {{"next", {cycler_next, ""}}, {"reset", {cycler_reset, ""}}};
  return table;
}

uint64_t magnitude(const Value& v) {
  const int64_t number = v.as_int();
  return number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
}

Value bit_length(Interpreter&, const Value& v, const Arguments&) {
  return static_cast<int64_t>(std::bit_width(magnitude(v)));
}

Value bit_count(Interpreter&, const Value& v, const Arguments&) {
  return static_cast<int64_t>(std::popcount(magnitude(v)));
}

Value conjugate(Interpreter&, const Value& v, const Arguments&) { return positive(v); }

Value is_integer(Interpreter&, const Value& v, const Arguments&) {
  const double number = v.as_double();
  return std::isfinite(number) && number == std::floor(number);
}

Value integer_ratio(Interpreter& in, const Value& v, const Arguments&) {
  if (!v.is_float()) return pair(in.budget(), v.as_int(), int64_t{1});
  int exponent = 0;
  double rest = std::frexp(v.as_double(), &exponent);
  if (!std::isfinite(rest)) throw TemplateError("as_integer_ratio: the number is not finite");
  for (; rest != std::floor(rest); rest *= 2) --exponent;
  int64_t above = truncated(rest), below = 1;
  if (exponent > 62 || exponent < -62 ||
      (exponent > 0 && __builtin_mul_overflow(above, int64_t{1} << exponent, &above)))
    throw TemplateError("as_integer_ratio: an integer is beyond 64 bits");
  if (exponent < 0) below = int64_t{1} << -exponent;
  const int64_t common = std::gcd(above, below);
  return pair(in.budget(), above / common, below / common);
}

Value hex(Interpreter& in, const Value& v, const Arguments&) {
  const double number = v.as_double();
  if (!std::isfinite(number))
    return Value::string(in.budget(), float_digits(number, 'r', 0, false, false));
  int exponent = 0;
  double rest = std::frexp(std::fabs(number), &exponent);
  constexpr int kLeastExponent = -1022;
  int shift = 1;  // one digit before the point, but for numbers too small for that
  if (exponent - shift < kLeastExponent) shift -= kLeastExponent - (exponent - shift);
  if (number == 0)
    return Value::string(in.budget(), std::signbit(number) ? "-0x0.0p+0" : "0x0.0p+0");
  rest = std::ldexp(rest, shift);
  exponent -= shift;
  std::string out = std::string(std::signbit(number) ? "-" : "") + "0x";
  constexpr int kDigits = 13;
  for (int i = 0; i <= kDigits; ++i) {
    const int digit = static_cast<int>(rest);
    out += "0123456789abcdef"[digit];
    if (i == 0) out += '.';
    rest = (rest - digit) * 16;
  }
  out += exponent < 0 ? "p-" : "p+";
  return Value::string(in.budget(), out + std::to_string(std::abs(exponent)));
}

const Methods& integer_methods() {
  static const Methods table = {{"bit_length", {bit_length, ""}},
                                {"bit_count", {bit_count, ""}},
                                {"conjugate", {conjugate, ""}},
                                {"as_integer_ratio", {integer_ratio, ""}}};
  return table;
}

const Methods& float_methods() {
  static const Methods table = {{"is_integer", {is_integer, ""}},
                                {"conjugate", {conjugate, ""}},
                                {"as_integer_ratio", {integer_ratio, ""}},
                                {"hex", {hex, ""}}};
  return table;
}

const Methods* methods_of(const Value& object) {
  if (object.is_string()) return &string_methods();
  if (object.is_dict()) return &dict_methods();
  if (object.is_series()) return &list_methods();
  if (object.is_loop()) return &loop_methods();
  if (object.is_cycler()) return &cycler_methods();
  if (object.is_int() || object.is_bool()) return &integer_methods();
  if (object.is_float()) return &float_methods();
  return nullptr;
}

bool has_method(const Value& object, std::string_view name) {
  if (!object.is_series()) return true;
  const Series kind = object.list().kind;
  if (kind == Series::kList) return true;
  return name != "copy" && (object.is_list() || kind == Series::kRange);
}

}  // namespace

const Function<Method>* find_method(const Value& object, std::string_view name) {
  const Methods* methods = methods_of(object);
  if (methods == nullptr) return nullptr;
  const auto found = methods->find(name);
  return found != methods->end() && has_method(object, name) ? &found->second : nullptr;
}

bool is_method_name(std::string_view name) {
  for (const Methods* table : {&string_methods(), &dict_methods(), &list_methods(), &loop_methods(),
                               &cycler_methods(), &integer_methods(), &float_methods()}) {
    if (table->contains(name)) return true;
  }
  return false;
}

// A method of Markup escapes what it is given and makes Markup.
static Value call_markup_method(Interpreter& in, const Function<Method>& method,
                                const Value& object, const Arguments& args) {
  const auto escaped = [&](const Value& v) { return v.is_string() ? escape(in.budget(), v) : v; };
  Arguments safe(in.budget());
  for (const Value& value : args.positional) safe.add(escaped(value));
  for (const auto& [name, value] : args.named) safe.add(name, escaped(value));
  const Value out = method.function(in, object, safe);
  if (out.is_string()) return as_markup(out, true);
  if (!out.is_list()) return out;
  ListBuilder parts(in.budget());
  for (const Value& part : out.items()) parts.add(part.is_string() ? as_markup(part, true) : part);
  return parts.take(out.list().kind);
}

Value call_method(Interpreter& in, const Function<Method>& method, std::string_view name,
                  const Value& object, const Arguments& args) {
  method.takes.check(name, args);
  constexpr std::string_view kPlain[] = {"find",       "rfind",    "index",  "rindex",    "count",
                                         "startswith", "endswith", "format", "format_map"};
  if (object.is_markup() &&
      std::find(std::begin(kPlain), std::end(kPlain), name) == std::end(kPlain))
    return call_markup_method(in, method, object, args);
  return method.function(in, object, args);
}

}  // namespace shoal::jinja

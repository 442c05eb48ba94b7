// Filters over strings and numbers.
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "model/jinja/arithmetic.h"
#include "model/jinja/filters.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

// A string as it is, Markup or not; anything else as text.
Value soft_text(Budget& budget, const Value& v) { return v.is_string() ? v : to_text(budget, v); }

Value replace(Interpreter& in, const Value& v, const Arguments& args) {
  const Value what = to_text(in.budget(), args.need(0, "old")),
              with = to_text(in.budget(), args.need(1, "new"));
  const Value count = args.get(2, "count", Value());
  return replace_all(in.budget(), to_text(in.budget(), v), what.str(), with.str(),
                     count.is_none() ? -1 : integer(count, "replace"));
}

Value to_int(Interpreter& in, const Value& v, const Arguments& args) {
  if (v.is_undefined()) throw TemplateError(v.undefined_text());
  if (v.is_int() || v.is_bool()) return v.as_int();
  double real = 0;
  if (v.is_float()) {
    real = v.as_double();
    if (std::isinf(real)) throw TemplateError("int: infinity is no integer");
  } else if (v.is_string()) {
    const int64_t base = integer(args.get(1, "base", int64_t{10}), "int: base");
    const bool known = base == 0 || (base >= 2 && base <= 36);
    if (const auto whole = known ? read_integer(in.budget(), v.str(), base) : std::nullopt)
      return *whole;
    const auto number = read_float(in.budget(), v.str());
    if (!number) return args.get(0, "default", int64_t{0});
    real = *number;
  } else {
    return args.get(0, "default", int64_t{0});
  }
  if (!std::isfinite(real)) return args.get(0, "default", int64_t{0});
  return truncated(real);
}

Value to_float(Interpreter& in, const Value& v, const Arguments& args) {
  if (v.is_undefined()) throw TemplateError(v.undefined_text());
  if (v.is_number()) return v.as_double();
  if (v.is_string()) {
    if (const auto number = read_float(in.budget(), v.str())) return *number;
  }
  return args.get(0, "default", 0.0);
}

Value round(Interpreter& in, const Value& v, const Arguments& args) {
  const int64_t precision = integer(args.get(0, "precision", int64_t{0}), "round");
  const Value method = args.get(1, "method", Value::outside(in.budget(), "common"));
  const std::string_view how = method.is_string() ? method.str() : "";
  if (how != "common" && how != "ceil" && how != "floor")
    throw TemplateError("round: the method must be common, ceil or floor");
  if (!v.is_number()) throw TemplateError("round: needs a number");
  if (how == "common") return rounded(v, precision);
  const Value scale = binary(in.budget(), "**", int64_t{10}, precision);
  const double x = binary(in.budget(), "*", v, scale).as_double();
  return binary(in.budget(), "/", truncated(how == "ceil" ? std::ceil(x) : std::floor(x)), scale);
}

Value abs(Interpreter&, const Value& v, const Arguments&) {
  if (v.is_undefined()) throw TemplateError(v.undefined_text());
  return absolute(v);
}

Value escape_filter(Interpreter& in, const Value& v, const Arguments&) {
  return escape(in.budget(), soft_text(in.budget(), v));
}

Value force_escape(Interpreter& in, const Value& v, const Arguments&) {
  return escape(in.budget(), to_text(in.budget(), v));
}

Value safe(Interpreter& in, const Value& v, const Arguments&) {
  return as_markup(to_text(in.budget(), v), true);
}

template <Value (*F)(Budget&, const Value&)>
Value text_filter(Interpreter& in, const Value& v, const Arguments&) {
  const Value text = soft_text(in.budget(), v);
  return as_markup(F(in.budget(), text), text.is_markup());
}

Value title_filter(Interpreter& in, const Value& v, const Arguments&) {
  return title_words(in.budget(), soft_text(in.budget(), v));
}

Value trim(Interpreter& in, const Value& v, const Arguments& args) {
  const Value set = args.get(0, "chars", Value());
  const Value all = soft_text(in.budget(), v);
  if (set.is_none()) return Value::part(all, strip_blanks(in.budget(), all.str(), true, true));
  return Value::part(all, strip(in.budget(), all.str(), text(set, "trim").str(), true, true));
}

Value string(Interpreter& in, const Value& v, const Arguments&) {
  return soft_text(in.budget(), v);
}

Value wordcount(Interpreter& in, const Value& v, const Arguments&) {
  const Value all = to_text(in.budget(), v);
  int64_t count = 0;
  bool inside = false;
  for (size_t pos = 0; pos < all.str().size();) {
    in.budget().work(1);
    const uint32_t c = next_code_point(all.str(), &pos);
    const bool part = c == '_' || is_letter_or_number(c);
    count += part && !inside;
    inside = part;
  }
  return count;
}

Value format_filter(Interpreter& in, const Value& v, const Arguments& args) {
  if (!args.positional.empty() && !args.named.empty())
    throw TemplateError("format: positional and named arguments do not go together");
  const Value format = soft_text(in.budget(), v);
  if (!args.named.empty()) {
    const auto names = make_object<Dict>(in.budget(), 0);
    for (const auto& [name, value] : args.named) names->set(name, value);
    return percent_format(in.budget(), format, Value::dict(names));
  }
  ListBuilder values(in.budget());
  values.add(args.positional);
  return percent_format(in.budget(), format, values.take(Series::kTuple));
}

Value filesizeformat(Interpreter& in, const Value& v, const Arguments& args) {
  double bytes = 0;
  if (v.is_undefined()) throw TemplateError(v.undefined_text());
  if (v.is_number()) {
    bytes = v.as_double();
  } else {
    const auto number = v.is_string() ? read_float(in.budget(), v.str()) : std::nullopt;
    if (!number) throw TemplateError("filesizeformat: needs a number");
    bytes = *number;
  }
  const bool binary_units = args.flag(0, "binary");
  const double base = binary_units ? 1024 : 1000;
  if (bytes == 1) return Value::outside(in.budget(), "1 Byte");
  if (bytes < base) return Value::string(in.budget(), std::to_string(truncated(bytes)) + " Bytes");
  double unit = base;
  constexpr std::string_view kUnits = "kMGTPEZY";
  size_t i = 0;
  for (; i < kUnits.size(); ++i) {
    unit *= base;
    if (bytes < unit) break;
  }
  i = std::min(i, kUnits.size() - 1);
  std::string name(1, kUnits[i]);
  if (binary_units) name = (i == 0 ? "K" : name) + "i";
  return Value::string(in.budget(),
                       float_digits(base * bytes / unit, 'f', 1, false, false) + " " + name + "B");
}

}  // namespace

std::span<const FilterRow> scalar_filters() {
  static const FilterRow table[] = {
      {"replace", {replace, "old, new, count="}},
      {"int", {to_int, "default=, base="}},
      {"float", {to_float, "default="}},
      {"round", {round, "precision=, method="}},
      {"abs", {abs, ""}},
      {"escape", {escape_filter, ""}},
      {"e", {escape_filter, ""}},
      {"forceescape", {force_escape, ""}},
      {"safe", {safe, ""}},
      {"upper", {text_filter<upper>, ""}},
      {"lower", {text_filter<lower>, ""}},
      {"capitalize", {text_filter<capitalize>, ""}},
      {"title", {title_filter, ""}},
      {"trim", {trim, "chars="}},
      {"string", {string, ""}},
      {"wordcount", {wordcount, ""}},
      {"format", {format_filter, "*, **"}},
      {"filesizeformat", {filesizeformat, "binary="}},
  };
  return table;
}

}  // namespace shoal::jinja

// Filters over strings and numbers.
#include <algorithm>
#include <cmath>

#include "model/jinja/filters.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

constexpr size_t kLongestNumber = 400;  // characters of a text that is read as one

Value replace(Interpreter& in, const Value& v, const Arguments& args) {
  const Value what = to_text(in.budget(), args.need(0, "old", "replace")),
              with = to_text(in.budget(), args.need(1, "new", "replace"));
  const Value count = args.get(2, "count", Value());
  if (what.str().empty()) throw TemplateError("replace: nothing to look for");
  return replace_all(in.budget(), to_text(in.budget(), v), what.str(), with.str(),
                     count.is_none() ? -1 : count.as_int());
}

// Blanks stripped; "" for what is no number for its length alone.
std::string number_text(Budget& budget, std::string_view text) {
  const std::string_view stripped = strip(budget, text, kBlanks, true, true);
  return std::string(stripped.size() <= kLongestNumber ? stripped : std::string_view());
}

Value to_int(Interpreter& in, const Value& v, const Arguments& args) {
  if (v.is_number()) return v.as_int();
  if (v.is_string()) {
    const std::string text = number_text(in.budget(), v.str());
    try {
      size_t used = 0;
      const long long value = std::stoll(text, &used, 10);
      if (used == text.size()) return static_cast<int64_t>(value);
      const double real = std::stod(text, &used);
      if (used == text.size()) return Value(real).as_int();
    } catch (const std::logic_error&) {  // not a number
    }
  }
  return args.get(0, "default", int64_t{0});
}

Value to_float(Interpreter& in, const Value& v, const Arguments& args) {
  if (v.is_number()) return v.as_double();
  if (v.is_string()) {
    const std::string text = number_text(in.budget(), v.str());
    try {
      size_t used = 0;
      const double value = std::stod(text, &used);
      if (used == text.size()) return value;
    } catch (const std::logic_error&) {  // not a number
    }
  }
  return args.get(0, "default", 0.0);
}

Value round(Interpreter& in, const Value& v, const Arguments& args) {
  if (!v.is_number()) throw TemplateError("round: needs a number");
  const int64_t precision =
      std::clamp<int64_t>(args.get(0, "precision", int64_t{0}).as_int(), -15, 15);
  const Value method = to_text(in.budget(), args.get(1, "method", Value()));
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double x = v.as_double() * scale;
  if (method.str() == "ceil") return std::ceil(x) / scale;
  if (method.str() == "floor") return std::floor(x) / scale;
  return std::nearbyint(x) / scale;  // half to even, as Python's round
}

Value abs(Interpreter&, const Value& v, const Arguments&) {
  if (v.is_float()) return std::fabs(v.as_double());
  if (!v.is_number()) throw TemplateError("abs: needs a number");
  return v.as_int() < 0 ? Value(-std::max(v.as_int(), -INT64_MAX)) : Value(v.as_int());
}

Value indent(Interpreter& in, const Value& v, const Arguments& args) {
  const Value width = args.get(0, "width", int64_t{4});
  if (width.is_number() && width.as_int() > 1024) throw TemplateError("indent: too wide");
  const bool first_too = args.get(1, "first", false).truthy(),
             blank_too = args.get(2, "blank", false).truthy();
  const Value text = to_text(in.budget(), v);
  TextBuilder out(in.budget());
  std::string_view rest = text.str();
  for (bool is_first = true;; is_first = false) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    if ((!is_first || first_too) && (blank_too || !line.empty())) {
      if (width.is_string()) {
        out.append(width.str());
      } else {
        out.append(static_cast<size_t>(std::max<int64_t>(0, width.as_int())), ' ');
      }
    }
    out.append(line);
    in.budget().bytes(line.size());
    if (end == rest.size()) return out.take();
    out.push('\n');
    rest.remove_prefix(end + 1);
  }
}

Value escape(Interpreter& in, const Value& v, const Arguments&) {
  const Value text = to_text(in.budget(), v);
  TextBuilder out(in.budget());
  for (std::string_view rest = text.str(); !rest.empty();) {
    const size_t plain = std::min(rest.find_first_of("&<>'\""), rest.size());
    out.append(rest.substr(0, plain));
    in.budget().bytes(4 * plain);
    rest.remove_prefix(plain);
    if (rest.empty()) break;
    const char c = rest.front();
    out.append(c == '&'    ? "&amp;"
               : c == '<'  ? "&lt;"
               : c == '>'  ? "&gt;"
               : c == '\'' ? "&#39;"
                           : "&#34;");
    rest.remove_prefix(1);
  }
  return out.take();
}

template <Value (*F)(Budget&, const Value&)>
Value text_filter(Interpreter& in, const Value& v, const Arguments&) {
  return F(in.budget(), to_text(in.budget(), v));
}

Value trim(Interpreter& in, const Value& v, const Arguments& args) {
  const Value given = args.get(0, "chars", Value());
  const Value set = given.is_none() ? Value() : to_text(in.budget(), given);
  const Value text = to_text(in.budget(), v);
  return Value::part(
      text, strip(in.budget(), text.str(), set.is_none() ? kBlanks : set.str(), true, true));
}

Value string(Interpreter& in, const Value& v, const Arguments&) { return to_text(in.budget(), v); }

Value wordcount(Interpreter& in, const Value& v, const Arguments&) {
  const Value words = split_blanks(in.budget(), to_text(in.budget(), v), -1);
  return static_cast<int64_t>(words.items().size());
}

}  // namespace

std::span<const std::pair<std::string_view, Filter>> scalar_filters() {
  static const std::pair<std::string_view, Filter> table[] = {
      {"replace", replace},
      {"int", to_int},
      {"float", to_float},
      {"round", round},
      {"abs", abs},
      {"indent", indent},
      {"escape", escape},
      {"e", escape},
      {"upper", text_filter<upper>},
      {"lower", text_filter<lower>},
      {"capitalize", text_filter<capitalize>},
      {"title", text_filter<title>},
      {"trim", trim},
      {"string", string},
      {"wordcount", wordcount},
  };
  return table;
}

}  // namespace shoal::jinja

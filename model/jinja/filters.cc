#include <algorithm>
#include <cmath>
#include <map>

#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

using Filter = Value (*)(const Interpreter&, const Value&, const Arguments&);

// Jinja's own attribute paths: "function.name", "0".
Value path(const Value& value, const std::string& dotted) {
  Value at = value;
  for (const std::string& part : split_on(dotted, ".", -1, false)) {
    const Value* found = nullptr;
    if (at.is_dict()) found = at.dict().find(std::string_view(part));
    if (at.is_list() && !part.empty() &&
        part.find_first_not_of("0123456789") == std::string::npos && part.size() < 9) {
      const size_t index = std::stoul(part);
      if (index < at.list().items.size()) found = &at.list().items[index];
    }
    at = found ? Value(*found) : Value::undefined("no attribute '" + part + "'");
  }
  return at;
}

std::string attribute_name(const Arguments& args, size_t index, const char* filter) {
  return args.need(index, "attribute", filter).to_text();
}

Value default_value(const Interpreter&, const Value& v, const Arguments& args) {
  const bool also_false = args.get(1, "boolean", false).truthy();
  return v.is_undefined() || (also_false && !v.truthy()) ? args.get(0, "default_value", "") : v;
}

Value to_json_filter(const Interpreter& in, const Value& v, const Arguments& args) {
  JsonFormat format;
  const Value indent = args.get(0, "indent", Value());
  for (const auto& [name, value] : args.named) {
    if (name == "ensure_ascii") {
      format.ensure_ascii = value.truthy();
    } else if (name == "sort_keys") {
      format.sort_keys = value.truthy();
    } else if (name == "separators" && value.is_list() && value.list().items.size() == 2) {
      format.item_separator = value.list().items[0].to_text();
      format.key_separator = value.list().items[1].to_text();
    } else if (name != "indent" && name != "separators") {
      throw TemplateError("tojson: unknown argument '" + name + "'");
    }
  }
  if (indent.is_number()) {
    if (indent.as_int() > 64) throw TemplateError("tojson: indent is too large");
    format.indent = std::max<int64_t>(0, indent.as_int());
  }
  return in.bounded(to_json(v, format));
}

Value length(const Interpreter&, const Value& v, const Arguments&) {
  if (v.is_string()) return character_count(v.str());
  return static_cast<int64_t>(iterate(v).size());
}

Value join(const Interpreter& in, const Value& v, const Arguments& args) {
  const std::string separator = args.get(0, "d", "").to_text();
  const Value attribute = args.get(1, "attribute", Value());
  std::string out;
  bool first = true;
  for (const Value& item : iterate(v)) {
    if (!first) out += separator;
    first = false;
    out += (attribute.is_none() ? item : path(item, attribute.to_text())).to_text();
    in.check_size(out.size());
  }
  return out;
}

Value items(const Interpreter&, const Value& v, const Arguments&) {
  if (v.is_undefined()) return Value::list({});
  if (!v.is_dict()) throw TemplateError("items: needs a mapping");
  Values out;
  for (const auto& [key, value] : v.dict().items) out.push_back(Value::list({key, value}, true));
  return Value::list(std::move(out));
}

// Lower-cased strings, so that sorting ignores case unless asked not to.
Value sort_key(const Value& v, bool case_sensitive) {
  return !case_sensitive && v.is_string() ? Value(lower(v.str())) : v;
}

Value dictsort(const Interpreter&, const Value& v, const Arguments& args) {
  if (!v.is_dict()) throw TemplateError("dictsort: needs a mapping");
  const bool case_sensitive = args.get(0, "case_sensitive", false).truthy();
  const bool by_value = args.get(1, "by", "key").to_text() == "value";
  const bool reverse = args.get(2, "reverse", false).truthy();
  auto pairs = v.dict().items;
  std::stable_sort(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) {
    const Value x = sort_key(by_value ? a.second : a.first, case_sensitive);
    const Value y = sort_key(by_value ? b.second : b.first, case_sensitive);
    return reverse ? compare(y, x) < 0 : compare(x, y) < 0;
  });
  Values out;
  for (auto& [key, value] : pairs) out.push_back(Value::list({key, value}, true));
  return Value::list(std::move(out));
}

Value sort(const Interpreter&, const Value& v, const Arguments& args) {
  const bool reverse = args.get(0, "reverse", false).truthy();
  const bool case_sensitive = args.get(1, "case_sensitive", false).truthy();
  const Value attribute = args.get(2, "attribute", Value());
  Values out = iterate(v);
  const auto key = [&](const Value& x) {
    return sort_key(attribute.is_none() ? x : path(x, attribute.to_text()), case_sensitive);
  };
  std::stable_sort(out.begin(), out.end(), [&](const Value& a, const Value& b) {
    return reverse ? compare(key(b), key(a)) < 0 : compare(key(a), key(b)) < 0;
  });
  return Value::list(std::move(out));
}

Value unique(const Interpreter&, const Value& v, const Arguments&) {
  Values out;
  for (Value& item : iterate(v)) {
    const Value key = sort_key(item, false);
    if (std::none_of(out.begin(), out.end(),
                     [&](const Value& x) { return equal(sort_key(x, false), key); })) {
      out.push_back(std::move(item));
    }
  }
  return Value::list(std::move(out));
}

Value extreme(const Value& v, bool largest, const char* name) {
  const Values all = iterate(v);
  if (all.empty())
    return Value::undefined(std::string("no aggregated item, sequence was empty (") + name + ")");
  return *(largest
               ? std::max_element(all.begin(), all.end(),
                                  [](const Value& a, const Value& b) { return compare(a, b) < 0; })
               : std::min_element(all.begin(), all.end(), [](const Value& a, const Value& b) {
                   return compare(a, b) < 0;
                 }));
}

Value sum(const Interpreter&, const Value& v, const Arguments& args) {
  const Value attribute = args.get(0, "attribute", Value());
  double total = args.get(1, "start", int64_t{0}).as_double();
  bool real = args.get(1, "start", int64_t{0}).is_float();
  for (const Value& item : iterate(v)) {
    const Value x = attribute.is_none() ? item : path(item, attribute.to_text());
    if (!x.is_number()) throw TemplateError(std::string("sum: cannot add ") + x.type_name());
    real = real || x.is_float();
    total += x.as_double();
  }
  return real ? Value(total) : Value(Value(total).as_int());
}

Value map(const Interpreter& in, const Value& v, const Arguments& args) {
  Values out;
  for (const auto& [name, value] : args.named) {
    if (name != "attribute") continue;
    for (const Value& item : iterate(v)) {
      Value found = path(item, value.to_text());
      if (found.is_undefined()) found = args.get(99, "default", std::move(found));
      out.push_back(std::move(found));
    }
    return Value::list(std::move(out));
  }
  const std::string filter = args.need(0, "filter", "map").to_text();
  Arguments rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  for (const Value& item : iterate(v)) out.push_back(apply_filter(in, filter, item, rest));
  return Value::list(std::move(out));
}

// select, reject, selectattr, rejectattr.
Value select(const Value& v, const Arguments& args, bool by_attribute, bool keep) {
  const std::string attribute = by_attribute ? attribute_name(args, 0, "selectattr") : "";
  const size_t test_at = by_attribute ? 1 : 0;
  const bool plain = args.positional.size() <= test_at;
  const std::string test = plain ? "" : args.positional[test_at].to_text();
  Arguments rest;
  if (!plain)
    rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(test_at) + 1,
                           args.positional.end());
  Values out;
  for (Value& item : iterate(v)) {
    const Value subject = by_attribute ? path(item, attribute) : item;
    if ((plain ? subject.truthy() : apply_test(test, subject, rest)) == keep)
      out.push_back(std::move(item));
  }
  return Value::list(std::move(out));
}

Value first(const Interpreter&, const Value& v, const Arguments&) {
  Values all = iterate(v);
  return all.empty() ? Value::undefined("no first item, sequence was empty") : all.front();
}

Value last(const Interpreter&, const Value& v, const Arguments&) {
  Values all = iterate(v);
  return all.empty() ? Value::undefined("no last item, sequence was empty") : all.back();
}

Value reverse(const Interpreter&, const Value& v, const Arguments&) {
  Values all = iterate(v);
  std::reverse(all.begin(), all.end());
  if (!v.is_string()) return Value::list(std::move(all));
  std::string text;
  for (const Value& c : all) text += c.str();
  return text;
}

Value replace(const Interpreter& in, const Value& v, const Arguments& args) {
  const std::string what = args.need(0, "old", "replace").to_text(),
                    with = args.need(1, "new", "replace").to_text();
  const int64_t count =
      args.get(2, "count", int64_t{-1}).is_none() ? -1 : args.get(2, "count", int64_t{-1}).as_int();
  const std::string text = v.to_text();
  if (what.empty()) throw TemplateError("replace: nothing to look for");
  in.check_size(text.size() / what.size() * (with.size() + 1) + text.size());
  return in.bounded(replace_all(text, what, with, count));
}

Value to_int(const Interpreter&, const Value& v, const Arguments& args) {
  if (v.is_number()) return v.as_int();
  if (v.is_string()) {
    const std::string text = strip(v.str(), kBlanks, true, true);
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

Value to_float(const Interpreter&, const Value& v, const Arguments& args) {
  if (v.is_number()) return v.as_double();
  if (v.is_string()) {
    try {
      size_t used = 0;
      const double value = std::stod(v.str(), &used);
      if (used == v.str().size()) return value;
    } catch (const std::logic_error&) {  // not a number
    }
  }
  return args.get(0, "default", 0.0);
}

Value round_filter(const Interpreter&, const Value& v, const Arguments& args) {
  if (!v.is_number()) throw TemplateError("round: needs a number");
  const int64_t precision =
      std::clamp<int64_t>(args.get(0, "precision", int64_t{0}).as_int(), -15, 15);
  const std::string method = args.get(1, "method", "common").to_text();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double x = v.as_double() * scale;
  if (method == "ceil") return std::ceil(x) / scale;
  if (method == "floor") return std::floor(x) / scale;
  return std::nearbyint(x) / scale;  // half to even, as Python's round
}

Value indent(const Interpreter& in, const Value& v, const Arguments& args) {
  const Value width = args.get(0, "width", int64_t{4});
  if (width.is_number() && width.as_int() > 1024) throw TemplateError("indent: too wide");
  const std::string pad =
      width.is_string()
          ? width.str()
          : std::string(static_cast<size_t>(std::max<int64_t>(0, width.as_int())), ' ');
  const bool first_too = args.get(1, "first", false).truthy(),
             blank_too = args.get(2, "blank", false).truthy();
  std::string out;
  bool is_first = true;
  for (const std::string& line : split_on(v.to_text(), "\n", -1, false)) {
    if (!is_first) out += '\n';
    if ((is_first ? first_too : true) && (blank_too || !line.empty())) out += pad;
    out += line;
    is_first = false;
    in.check_size(out.size());
  }
  return out;
}

Value escape(const Interpreter& in, const Value& v, const Arguments&) {
  std::string out;
  for (const char c : v.to_text()) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return in.bounded(std::move(out));
}

Value batch(const Interpreter&, const Value& v, const Arguments& args) {
  const int64_t size = args.need(0, "linecount", "batch").as_int();
  if (size < 1) throw TemplateError("batch: the size must be positive");
  Values out, row;
  for (Value& item : iterate(v)) {
    row.push_back(std::move(item));
    if (static_cast<int64_t>(row.size()) == size)
      out.push_back(Value::list(std::exchange(row, {})));
  }
  if (!row.empty()) out.push_back(Value::list(std::move(row)));
  return Value::list(std::move(out));
}

template <std::string (*F)(std::string)>
Value text_filter(const Interpreter& in, const Value& v, const Arguments&) {
  return in.bounded(F(v.to_text()));
}
std::string capitalize_text(std::string s) { return capitalize(s); }
std::string title_text(std::string s) { return title(s); }

const std::map<std::string, Filter>& filters() {
  static const std::map<std::string, Filter> table = {
      {"default", default_value},
      {"d", default_value},
      {"tojson", to_json_filter},
      {"length", length},
      {"count", length},
      {"join", join},
      {"items", items},
      {"dictsort", dictsort},
      {"sort", sort},
      {"unique", unique},
      {"sum", sum},
      {"map", map},
      {"first", first},
      {"last", last},
      {"reverse", reverse},
      {"replace", replace},
      {"int", to_int},
      {"float", to_float},
      {"round", round_filter},
      {"indent", indent},
      {"escape", escape},
      {"e", escape},
      {"batch", batch},
      {"upper", text_filter<upper>},
      {"lower", text_filter<lower>},
      {"capitalize", text_filter<capitalize_text>},
      {"title", text_filter<title_text>},
      {"trim",
       [](const Interpreter&, const Value& v, const Arguments& a) -> Value {
         const Value set = a.get(0, "chars", Value());
         return strip(v.to_text(), set.is_none() ? std::string(kBlanks) : set.to_text(), true,
                      true);
       }},
      {"string",
       [](const Interpreter& in, const Value& v, const Arguments&) -> Value {
         return in.bounded(v.to_text());
       }},
      {"safe", [](const Interpreter&, const Value& v, const Arguments&) -> Value { return v; }},
      {"list",
       [](const Interpreter&, const Value& v, const Arguments&) -> Value {
         return Value::list(iterate(v));
       }},
      {"abs",
       [](const Interpreter&, const Value& v, const Arguments&) -> Value {
         if (v.is_float()) return std::fabs(v.as_double());
         if (!v.is_number()) throw TemplateError("abs: needs a number");
         return v.as_int() < 0 ? Value(-std::max(v.as_int(), -INT64_MAX)) : Value(v.as_int());
       }},
      {"min",
       [](const Interpreter&, const Value& v, const Arguments&) -> Value {
         return extreme(v, false, "min");
       }},
      {"max",
       [](const Interpreter&, const Value& v, const Arguments&) -> Value {
         return extreme(v, true, "max");
       }},
      {"select",
       [](const Interpreter&, const Value& v, const Arguments& a) -> Value {
         return select(v, a, false, true);
       }},
      {"reject",
       [](const Interpreter&, const Value& v, const Arguments& a) -> Value {
         return select(v, a, false, false);
       }},
      {"selectattr",
       [](const Interpreter&, const Value& v, const Arguments& a) -> Value {
         return select(v, a, true, true);
       }},
      {"rejectattr",
       [](const Interpreter&, const Value& v, const Arguments& a) -> Value {
         return select(v, a, true, false);
       }},
      {"wordcount",
       [](const Interpreter&, const Value& v, const Arguments&) -> Value {
         return static_cast<int64_t>(split_blanks(v.to_text(), -1).size());
       }},
      {"attr",
       [](const Interpreter& in, const Value& v, const Arguments& a) -> Value {
         return bound_method(in, v, a.need(0, "name", "attr").to_text());
       }},
  };
  return table;
}

}  // namespace

Value apply_filter(const Interpreter& interpreter, const std::string& name, const Value& input,
                   const Arguments& args) {
  const auto it = filters().find(name);
  if (it == filters().end()) throw TemplateError("No filter named '" + name + "'.");
  return it->second(interpreter, input, args);
}

}  // namespace shoal::jinja

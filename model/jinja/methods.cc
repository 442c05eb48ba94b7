// Methods of strings and dicts, and the global functions.
#include <algorithm>
#include <array>
#include <ctime>
#include <map>

#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

using StringMethod = Value (*)(const Interpreter&, const std::string&, const Arguments&);

constexpr int64_t kMaxRange = 100'000;  // entries: a template loops over messages, not over numbers

Value strings(std::vector<std::string> parts) {
  Values out;
  for (std::string& part : parts) out.emplace_back(std::move(part));
  return Value::list(std::move(out));
}

std::string text_argument(const Arguments& args, size_t index, const char* method) {
  const Value& value = args.need(index, "", method);
  if (!value.is_string())
    throw TemplateError(std::string(method) + ": needs a string, not " + value.type_name());
  return value.str();
}

template <bool kLeft, bool kRight>
Value strip_method(const Interpreter&, const std::string& s, const Arguments& args) {
  const Value set = args.get(0, "chars", Value());
  return strip(s, set.is_none() ? std::string(kBlanks) : set.to_text(), kLeft, kRight);
}

template <bool kFromRight>
Value split_method(const Interpreter&, const std::string& s, const Arguments& args) {
  const Value separator = args.get(0, "sep", Value());
  const int64_t max = args.get(1, "maxsplit", int64_t{-1}).as_int();
  if (separator.is_none()) return strings(split_blanks(s, max));
  if (!separator.is_string() || separator.str().empty())
    throw TemplateError("split: empty separator");
  return strings(split_on(s, separator.str(), max, kFromRight));
}

template <bool kStart>
Value affix_method(const Interpreter&, const std::string& s, const Arguments& args) {
  const Value& affix = args.need(0, "prefix", kStart ? "startswith" : "endswith");
  const Values candidates = affix.is_list() ? affix.list().items : Values{affix};
  for (const Value& candidate : candidates) {
    if (!candidate.is_string())
      throw TemplateError(std::string(kStart ? "startswith" : "endswith") + ": needs a string");
    if (kStart ? s.starts_with(candidate.str()) : s.ends_with(candidate.str())) return true;
  }
  return false;
}

template <bool kFromRight>
Value find_method(const Interpreter&, const std::string& s, const Arguments& args) {
  const std::string what = text_argument(args, 0, "find");
  const size_t at = kFromRight ? s.rfind(what) : s.find(what);
  return at == std::string::npos ? int64_t{-1} : character_count(std::string_view(s).substr(0, at));
}

template <bool (*F)(char)>
Value every(const Interpreter&, const std::string& s, const Arguments&) {
  return !s.empty() && std::all_of(s.begin(), s.end(), F);
}
bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80); }
bool letter_or_digit(char c) { return digit(c) || letter(c); }
bool blank(char c) { return kBlanks.find(c) != std::string_view::npos; }

Value replace_method(const Interpreter& in, const std::string& s, const Arguments& args) {
  const std::string what = text_argument(args, 0, "replace"),
                    with = text_argument(args, 1, "replace");
  if (what.empty()) throw TemplateError("replace: nothing to look for");
  in.check_size(s.size() / what.size() * (with.size() + 1) + s.size());
  return replace_all(s, what, with, args.get(2, "count", int64_t{-1}).as_int());
}

// "{} {0} {name}": plain fields only.
Value format_method(const Interpreter& in, const std::string& s, const Arguments& args) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    if ((s[i] == '{' || s[i] == '}') && i + 1 < s.size() && s[i + 1] == s[i]) {
      out += s[i++];
      continue;
    }
    if (s[i] != '{') {
      out += s[i];
      continue;
    }
    const size_t close = s.find('}', i);
    if (close == std::string::npos) throw TemplateError("format: a brace is not closed");
    const std::string field = s.substr(i + 1, close - i - 1);
    const bool number =
        !field.empty() && field.size() < 6 && std::all_of(field.begin(), field.end(), digit);
    const size_t index = field.empty() ? next++
                         : number      ? std::stoul(field)
                                       : args.positional.size();
    out += args.need(index, field, "format").to_text();
    in.check_size(out.size());
    i = close;
  }
  return out;
}

Value join_method(const Interpreter& in, const std::string& s, const Arguments& args) {
  return apply_filter(in, "join", args.need(0, "iterable", "join"), Arguments{{Value(s)}, {}});
}

const std::map<std::string, StringMethod>& string_methods() {
  static const std::map<std::string, StringMethod> table = {
      {"strip", strip_method<true, true>},
      {"lstrip", strip_method<true, false>},
      {"rstrip", strip_method<false, true>},
      {"split", split_method<false>},
      {"rsplit", split_method<true>},
      {"startswith", affix_method<true>},
      {"endswith", affix_method<false>},
      {"find", find_method<false>},
      {"rfind", find_method<true>},
      {"isdigit", every<digit>},
      {"isnumeric", every<digit>},
      {"isalpha", every<letter>},
      {"isalnum", every<letter_or_digit>},
      {"isspace", every<blank>},
      {"replace", replace_method},
      {"format", format_method},
      {"join", join_method},
      {"upper",
       [](const Interpreter&, const std::string& s, const Arguments&) -> Value {
         return upper(s);
       }},
      {"lower",
       [](const Interpreter&, const std::string& s, const Arguments&) -> Value {
         return lower(s);
       }},
      {"title",
       [](const Interpreter&, const std::string& s, const Arguments&) -> Value {
         return title(s);
       }},
      {"capitalize",
       [](const Interpreter&, const std::string& s, const Arguments&) -> Value {
         return capitalize(s);
       }},
      {"splitlines",
       [](const Interpreter&, const std::string& s, const Arguments& a) -> Value {
         return strings(split_lines(s, a.get(0, "keepends", false).truthy()));
       }},
      {"count",
       [](const Interpreter&, const std::string& s, const Arguments& a) -> Value {
         const std::string what = text_argument(a, 0, "count");
         if (what.empty()) return character_count(s) + 1;
         return static_cast<int64_t>(split_on(s, what, -1, false).size()) - 1;
       }},
      {"removeprefix",
       [](const Interpreter&, const std::string& s, const Arguments& a) -> Value {
         const std::string what = text_argument(a, 0, "removeprefix");
         return s.starts_with(what) ? s.substr(what.size()) : s;
       }},
      {"removesuffix",
       [](const Interpreter&, const std::string& s, const Arguments& a) -> Value {
         const std::string what = text_argument(a, 0, "removesuffix");
         return s.ends_with(what) ? s.substr(0, s.size() - what.size()) : s;
       }},
  };
  return table;
}

Value dict_method(const Dict& dict, const std::string& name, const Value& object) {
  if (name == "items" || name == "keys" || name == "values") {
    return Value::callable(name, [object, name](const Arguments&) {
      Values out;
      for (const auto& [key, value] : object.dict().items) {
        out.push_back(name == "items"  ? Value::list({key, value}, true)
                      : name == "keys" ? key
                                       : value);
      }
      return Value::list(std::move(out));
    });
  }
  if (name == "get") {
    return Value::callable(name, [object](const Arguments& args) {
      const Value* found = object.dict().find(args.need(0, "key", "get"));
      return found ? *found : args.get(1, "default", Value());
    });
  }
  if ((name == "update" || name == "pop" || name == "setdefault" || name == "clear" ||
       name == "popitem") &&
      dict.find(std::string_view(name)) == nullptr) {
    throw TemplateError("access to attribute '" + name + "' of 'dict' object is unsafe.");
  }
  return Value::undefined(name);
}

Value range(const Arguments& args) {
  if (args.positional.empty()) throw TemplateError("range: needs an argument");
  const auto at = [&](size_t i) {
    if (!args.positional[i].is_number()) throw TemplateError("range: needs integers");
    return args.positional[i].as_int();
  };
  const int64_t start = args.positional.size() > 1 ? at(0) : 0,
                stop = args.positional.size() > 1 ? at(1) : at(0);
  const int64_t step = args.positional.size() > 2 ? at(2) : 1;
  if (step == 0) throw TemplateError("range: the step is zero");
  Values out;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    out.emplace_back(i);
    if (static_cast<int64_t>(out.size()) > kMaxRange)
      throw TemplateError("Range too big. The sandbox blocks ranges larger than 100000.");
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(out));
}

Dict named_dict(const Arguments& args) {
  Dict dict;
  if (!args.positional.empty() && args.positional[0].is_dict())
    dict.items = args.positional[0].dict().items;
  for (const auto& [key, value] : args.named) dict.set(Value(key), value);
  return dict;
}

Value strftime_value(std::time_t now, const Arguments& args) {
  const std::string format = args.need(0, "format", "strftime_now").to_text();
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 512> text{};
  if (format.size() > 256) throw TemplateError("strftime_now: the format is too long");
  const size_t n = std::strftime(text.data(), text.size(), format.c_str(), &local);
  return std::string(text.data(), n);
}

}  // namespace

Value bound_method(const Interpreter& interpreter, const Value& object, const std::string& name) {
  if (name.starts_with("__")) throw TemplateError("access to attribute '" + name + "' is unsafe.");
  if (object.is_string()) {
    const auto it = string_methods().find(name);
    if (it == string_methods().end()) return Value::undefined(name);
    return Value::callable(name, [&interpreter, object, f = it->second](const Arguments& args) {
      return f(interpreter, object.str(), args);
    });
  }
  if (object.is_dict()) return dict_method(object.dict(), name, object);
  if (object.is_list()) {
    if (name == "index" || name == "count") {
      return Value::callable(name, [object, name](const Arguments& args) -> Value {
        const Values& all = object.list().items;
        const Value& wanted = args.need(0, "value", name);
        if (name == "count")
          return static_cast<int64_t>(std::count_if(
              all.begin(), all.end(), [&](const Value& v) { return equal(v, wanted); }));
        const auto it =
            std::find_if(all.begin(), all.end(), [&](const Value& v) { return equal(v, wanted); });
        if (it == all.end()) throw TemplateError(wanted.to_repr() + " is not in list");
        return static_cast<int64_t>(it - all.begin());
      });
    }
    for (const char* unsafe :
         {"append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"}) {
      if (name == unsafe)
        throw TemplateError("access to attribute '" + name + "' of 'list' object is unsafe.");
    }
  }
  return Value::undefined(name);
}

Value Interpreter::global(const std::string& name) {
  if (name == "raise_exception") {
    return Value::callable(name, [](const Arguments& args) -> Value {
      TemplateError error(args.get(0, "message", "").to_text());
      error.raised_by_template = true;
      throw error;
    });
  }
  if (name == "strftime_now") {
    return Value::callable(
        name, [now = now_](const Arguments& args) { return strftime_value(now, args); });
  }
  if (name == "namespace") {
    return Value::callable(name, [](const Arguments& args) {
      Dict dict = named_dict(args);
      dict.is_namespace = true;
      return Value::dict(std::move(dict));
    });
  }
  if (name == "dict")
    return Value::callable(name,
                           [](const Arguments& args) { return Value::dict(named_dict(args)); });
  if (name == "range") return Value::callable(name, range);
  if (name == "joiner") {
    return Value::callable(name, [](const Arguments& args) {
      const std::string separator = args.get(0, "sep", ", ").to_text();
      return Value::callable("joiner",
                             [separator, used = Value::list({})](const Arguments&) -> Value {
                               Values& seen = used.list().items;
                               if (seen.empty()) {
                                 seen.emplace_back(true);
                                 return "";
                               }
                               return separator;
                             });
    });
  }
  return Value::undefined("'" + name + "' is undefined");
}

}  // namespace shoal::jinja

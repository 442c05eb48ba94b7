// Methods of strings, lists, dicts and `loop`.
#include <algorithm>
#include <map>

#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

using Methods = std::map<std::string_view, Method>;

Value text_argument(const Arguments& args, size_t index, const char* method) {
  const Value& value = args.need(index, "", method);
  if (!value.is_string())
    throw TemplateError(std::string(method) + ": needs a string, not " + value.type_name());
  return value;
}

template <bool kLeft, bool kRight>
Value strip_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value given = args.get(0, "chars", Value());
  const Value set = given.is_none() ? Value() : to_text(in.budget(), given);
  return Value::part(
      s, strip(in.budget(), s.str(), set.is_none() ? kBlanks : set.str(), kLeft, kRight));
}

template <bool kFromRight>
Value split_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value separator = args.get(0, "sep", Value());
  const int64_t max = args.get(1, "maxsplit", int64_t{-1}).as_int();
  if (separator.is_none()) return split_blanks(in.budget(), s, max);
  if (!separator.is_string() || separator.str().empty())
    throw TemplateError("split: empty separator");
  return split_on(in.budget(), s, separator.str(), max, kFromRight);
}

template <bool kStart>
Value affix_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value& affix = args.need(0, "prefix", kStart ? "startswith" : "endswith");
  const std::span<const Value> candidates =
      affix.is_list() ? affix.items() : std::span<const Value>(&affix, 1);
  for (const Value& candidate : candidates) {
    if (!candidate.is_string())
      throw TemplateError(std::string(kStart ? "startswith" : "endswith") + ": needs a string");
    in.budget().bytes(std::min(candidate.str().size(), s.str().size()));
    if (kStart ? s.str().starts_with(candidate.str()) : s.str().ends_with(candidate.str()))
      return true;
  }
  return false;
}

template <bool kFromRight>
Value find_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value what = text_argument(args, 0, "find");
  const size_t at = kFromRight ? find_last_text(in.budget(), s.str(), what.str())
                               : find_text(in.budget(), s.str(), what.str());
  if (at == std::string_view::npos) return int64_t{-1};
  return character_count(in.budget(), s.str().substr(0, at));
}

template <bool (*F)(char)>
Value every(Interpreter& in, const Value& s, const Arguments&) {
  for (size_t i = 0; i < s.str().size(); ++i) {
    if (i % 1024 == 0) in.budget().work(512);
    if (!F(s.str()[i])) return false;
  }
  return !s.str().empty();
}
bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80); }
bool letter_or_digit(char c) { return digit(c) || letter(c); }
bool blank(char c) { return kBlanks.find(c) != std::string_view::npos; }

Value replace_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value what = text_argument(args, 0, "replace"), with = text_argument(args, 1, "replace");
  if (what.str().empty()) throw TemplateError("replace: nothing to look for");
  return replace_all(in.budget(), s, what.str(), with.str(),
                     args.get(2, "count", int64_t{-1}).as_int());
}

// "{} {0} {name}": plain fields only.
Value format_method(Interpreter& in, const Value& self, const Arguments& args) {
  const std::string_view s = self.str();
  TextBuilder out(in.budget());
  size_t next = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    const size_t brace = std::min(s.find_first_of("{}", i), s.size());
    out.append(s.substr(i, brace - i));
    if (brace == s.size()) break;
    i = brace;
    if (i + 1 < s.size() && s[i + 1] == s[i]) {
      out.push(s[i++]);
      continue;
    }
    if (s[i] != '{') {
      out.push(s[i]);
      continue;
    }
    const size_t close = s.find('}', i);
    if (close == std::string_view::npos) throw TemplateError("format: a brace is not closed");
    const std::string_view field = s.substr(i + 1, close - i - 1);
    const bool number =
        !field.empty() && field.size() < 6 && std::all_of(field.begin(), field.end(), digit);
    const size_t index = field.empty() ? next++
                         : number      ? std::stoul(std::string(field))
                                       : args.positional.size();
    in.budget().work(1 + args.named.size());
    print(args.need(index, field, "format"), &out);
    i = close;
  }
  return out.take();
}

Value join_method(Interpreter& in, const Value& s, const Arguments& args) {
  Arguments separator(in.budget());
  separator.add(s);
  return find_filter("join")(in, args.need(0, "iterable", "join"), separator);
}

Value count_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value what = text_argument(args, 0, "count");
  if (what.str().empty()) return s.text().length() + 1;
  int64_t count = 0;
  std::string_view rest = s.str();
  for (;; ++count) {
    const size_t at = find_text(in.budget(), rest, what.str());
    if (at == std::string_view::npos) return count;
    rest.remove_prefix(at + what.str().size());
  }
}

Value splitlines_method(Interpreter& in, const Value& s, const Arguments& args) {
  return split_lines(in.budget(), s, args.get(0, "keepends", false).truthy());
}

template <bool kStart>
Value remove_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value what = text_argument(args, 0, kStart ? "removeprefix" : "removesuffix");
  const std::string_view text = s.str(), affix = what.str();
  in.budget().bytes(std::min(text.size(), affix.size()));
  if (!(kStart ? text.starts_with(affix) : text.ends_with(affix))) return s;
  return Value::part(
      s, kStart ? text.substr(affix.size()) : text.substr(0, text.size() - affix.size()));
}

template <Value (*F)(Budget&, const Value&)>
Value converted(Interpreter& in, const Value& s, const Arguments&) {
  return F(in.budget(), s);
}

const Methods& string_methods() {
  static const Methods table = {
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
      {"upper", converted<upper>},
      {"lower", converted<lower>},
      {"title", converted<title>},
      {"capitalize", converted<capitalize>},
      {"splitlines", splitlines_method},
      {"count", count_method},
      {"removeprefix", remove_method<true>},
      {"removesuffix", remove_method<false>},
  };
  return table;
}

template <bool kKeys, bool kValues>
Value entries_method(Interpreter& in, const Value& object, const Arguments&) {
  const auto& entries = object.dict().entries;
  ListBuilder out(in.budget(), entries.size());
  for (const auto& [key, value] : entries) {
    out.add(kKeys && kValues ? pair(in.budget(), key, value) : kKeys ? key : value);
  }
  return out.take();
}

Value get_method(Interpreter&, const Value& object, const Arguments& args) {
  const Value* found = object.dict().find(args.need(0, "key", "get"));
  return found ? *found : args.get(1, "default", Value());
}

const Methods& dict_methods() {
  static const Methods table = {
      {"items", entries_method<true, true>},
      {"keys", entries_method<true, false>},
      {"values", entries_method<false, true>},
      {"get", get_method},
  };
  return table;
}

Value list_count(Interpreter& in, const Value& object, const Arguments& args) {
  const Value& wanted = args.need(0, "value", "count");
  int64_t count = 0;
  for (const Value& item : object.items()) count += equal(in.budget(), item, wanted);
  return count;
}

Value list_index(Interpreter& in, const Value& object, const Arguments& args) {
  const Value& wanted = args.need(0, "value", "index");
  const std::span<const Value> all = object.items();
  for (size_t i = 0; i < all.size(); ++i) {
    if (equal(in.budget(), all[i], wanted)) return static_cast<int64_t>(i);
  }
  TextBuilder text(in.budget());
  print_repr(wanted, &text);
  throw TemplateError(excerpt(text.view()) + " is not in list");
}

const Methods& list_methods() {
  static const Methods table = {{"index", list_index}, {"count", list_count}};
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
  const Value given = now.take(true);
  if (last.is_list() && equal(in.budget(), last, given)) return false;
  last = given;
  return true;
}

const Methods& loop_methods() {
  static const Methods table = {{"cycle", cycle_method}, {"changed", changed_method}};
  return table;
}

// What Python's dicts and lists have, but would change them.
constexpr std::string_view kUnsafeOfDicts[] = {"update", "pop", "setdefault", "clear", "popitem"};
constexpr std::string_view kUnsafeOfLists[] = {"append", "extend", "insert", "pop",
                                               "remove", "clear",  "sort",   "reverse"};

bool among(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

[[noreturn]] void unsafe(std::string_view name, const char* of) {
  throw TemplateError("access to attribute '" + excerpt(name) + "'" + of + " is unsafe.");
}

Method find_in(const Methods& table, std::string_view name) {
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace

Method find_method(const Value& object, std::string_view name) {
  if (name.starts_with("__")) unsafe(name, "");
  if (object.is_string()) return find_in(string_methods(), name);
  if (object.is_loop()) return find_in(loop_methods(), name);
  if (object.is_list()) {
    if (among(kUnsafeOfLists, name)) unsafe(name, " of 'list' object");
    return find_in(list_methods(), name);
  }
  if (!object.is_dict()) return nullptr;
  if (among(kUnsafeOfDicts, name) && object.dict().find(name) == nullptr)
    unsafe(name, " of 'dict' object");
  return find_in(dict_methods(), name);
}

bool may_be_method(std::string_view name) {
  return name.starts_with("__") || among(kUnsafeOfDicts, name) || among(kUnsafeOfLists, name) ||
         string_methods().contains(name) || dict_methods().contains(name) ||
         list_methods().contains(name) || loop_methods().contains(name);
}

Value bound_method(Interpreter& in, const Value& object, std::string_view name) {
  const Method method = find_method(object, name);
  if (method == nullptr) return Value::undefined("a method that is not there");
  return Value::callable(in.budget(), "method", [&in, object, method](const Arguments& args) {
    return method(in, object, args);
  });
}

}  // namespace shoal::jinja

// Methods of strings.
#include <algorithm>

#include "base/utf8.h"
#include "model/jinja/arithmetic.h"
#include "model/jinja/methods.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

template <bool kLeft, bool kRight>
Value strip_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value set = args.get(0, "chars", Value());
  if (set.is_none()) return Value::part(s, strip_blanks(in.budget(), s.str(), kLeft, kRight));
  return Value::part(s, strip(in.budget(), s.str(), text(set, "strip").str(), kLeft, kRight));
}

template <bool kFromRight>
Value split_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value separator = args.get(0, "sep", Value());
  const int64_t max = integer(args.get(1, "maxsplit", int64_t{-1}), "split");
  if (separator.is_none()) return split_blanks(in.budget(), s, max, kFromRight);
  if (text(separator, "split").str().empty()) throw TemplateError("split: empty separator");
  return split_on(in.budget(), s, separator.str(), max, kFromRight);
}

// What of a string `start` and `end`, arguments 1 and 2, leave: a view and the character it begins
// with; none: they leave less than nothing.
struct Part {
  std::string_view text;
  int64_t begin;
};
std::optional<Part> part_of(Interpreter& in, const Value& s, const Arguments& args,
                            const char* method) {
  const Value start = args.get(1, "", Value()), stop = args.get(2, "", Value());
  if (start.is_none() && stop.is_none()) return Part{s.str(), 0};
  const int64_t n = s.text().length();
  const auto bound = [&](const Value& v, int64_t otherwise) {
    if (v.is_none()) return otherwise;
    const int64_t i = integer(v, method);
    return i < 0 ? std::max<int64_t>(0, i + n) : i;
  };
  const int64_t from = bound(start, 0), to = std::min(n, bound(stop, n));
  if (from > to) return std::nullopt;
  const size_t begin = offset_of(in.budget(), s, from), end = offset_of(in.budget(), s, to);
  return Part{s.str().substr(begin, end - begin), from};
}

template <bool kStart>
Value affix_method(Interpreter& in, const Value& s, const Arguments& args) {
  const char* name = kStart ? "startswith" : "endswith";
  const Value& affix = args.need(0, "prefix");
  const auto part = part_of(in, s, args, name);
  if (affix.is_list() && !affix.list().tuple())
    throw TemplateError(std::string(name) + ": needs a string or a tuple of them");
  const std::span<const Value> candidates =
      affix.is_list() ? affix.items() : std::span<const Value>(&affix, 1);
  for (const Value& candidate : candidates) {
    const std::string_view wanted = text(candidate, name).str();
    in.budget().bytes(std::min(wanted.size(), s.str().size()));
    if (part && (kStart ? part->text.starts_with(wanted) : part->text.ends_with(wanted)))
      return true;
  }
  return false;
}

// Where: a character, or −1.
template <bool kFromRight>
int64_t position(Interpreter& in, const Value& s, const Arguments& args) {
  const std::string_view what = text(args.need(0, "sub"), "find").str();
  const auto part = part_of(in, s, args, "find");
  if (!part) return -1;
  const size_t at = kFromRight ? find_last_text(in.budget(), part->text, what)
                               : find_text(in.budget(), part->text, what);
  if (at == std::string_view::npos) return -1;
  return part->begin + character_count(in.budget(), part->text.substr(0, at));
}

template <bool kFromRight>
Value find_method(Interpreter& in, const Value& s, const Arguments& args) {
  return position<kFromRight>(in, s, args);
}

template <bool kFromRight>
Value index_method(Interpreter& in, const Value& s, const Arguments& args) {
  const int64_t at = position<kFromRight>(in, s, args);
  if (at < 0) throw TemplateError("index: substring not found");
  return at;
}

Value count_method(Interpreter& in, const Value& s, const Arguments& args) {
  const std::string_view what = text(args.need(0, "sub"), "count").str();
  const auto part = part_of(in, s, args, "count");
  return part ? count_text(in.budget(), part->text, what) : 0;
}

template <bool kFromRight>
Value partition_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value& separator = text(args.need(0, "sep"), "partition");
  const std::string_view all = s.str(), what = separator.str();
  if (what.empty()) throw TemplateError("partition: empty separator");
  const size_t at =
      kFromRight ? find_last_text(in.budget(), all, what) : find_text(in.budget(), all, what);
  const Value empty = Value::part(s, all.substr(0, 0));
  ListBuilder out(in.budget(), 3);
  if (at == std::string_view::npos) {
    if (!kFromRight) out.add(s);
    out.add(empty);
    out.add(empty);
    if (kFromRight) out.add(s);
  } else {
    out.add(Value::part(s, all.substr(0, at)));
    out.add(separator);
    out.add(Value::part(s, all.substr(at + what.size())));
  }
  return out.take(Series::kTuple);
}

Value replace_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value what = text(args.need(0, "old"), "replace"),
              with = text(args.need(1, "new"), "replace");
  return replace_all(in.budget(), s, what.str(), with.str(),
                     integer(args.get(2, "count", int64_t{-1}), "replace"));
}

Value format_method(Interpreter& in, const Value& s, const Arguments& args) {
  return brace_format(in, s, args);
}

Value format_map_method(Interpreter& in, const Value& s, const Arguments& args) {
  Arguments names(in.budget());
  names.unpack_names(args.need(0, "mapping"));
  return brace_format(in, s, names);
}

Value join_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value all = iterate(in.budget(), args.need(0, "iterable"));
  TextBuilder out(in.budget());
  bool first = true;
  for (const Value& item : all.items()) {
    in.budget().work(1);
    if (!first) out.append(s.str());
    first = false;
    const Value& part = text(item, "join");
    out.append(s.is_markup() ? escape(in.budget(), part).str() : part.str());
  }
  return out.take();
}

Value splitlines_method(Interpreter& in, const Value& s, const Arguments& args) {
  return split_lines(in.budget(), s, args.flag(0, "keepends"));
}

template <bool kStart>
Value remove_method(Interpreter& in, const Value& s, const Arguments& args) {
  const std::string_view all = s.str(), affix = text(args.need(0, "affix"), "removeprefix").str();
  in.budget().bytes(std::min(all.size(), affix.size()));
  if (!(kStart ? all.starts_with(affix) : all.ends_with(affix))) return s;
  return Value::part(s,
                     kStart ? all.substr(affix.size()) : all.substr(0, all.size() - affix.size()));
}

// where: -1 left, 0 centre, 1 right.
template <int kWhere>
Value pad_method(Interpreter& in, const Value& s, const Arguments& args) {
  const int64_t width = integer(args.need(0, "width"), "center");
  const Value fill = args.get(1, "fillchar", Value::outside(in.budget(), " "));
  if (text(fill, "center").text().length() != 1)
    throw TemplateError("center: the fill character must be exactly one");
  const int64_t missing = width - s.text().length();
  if (missing <= 0) return s;
  // CPython's choice of the longer side.
  const int64_t left = kWhere < 0 ? 0 : kWhere > 0 ? missing : missing / 2 + (missing & width & 1);
  TextBuilder out(in.budget());
  out.append_times(static_cast<uint64_t>(left), fill.str());
  out.append(s.str());
  out.append_times(static_cast<uint64_t>(missing - left), fill.str());
  return out.take();
}

Value zfill_method(Interpreter& in, const Value& s, const Arguments& args) {
  const int64_t missing = integer(args.need(0, "width"), "zfill") - s.text().length();
  if (missing <= 0) return s;
  std::string_view rest = s.str();
  TextBuilder out(in.budget());
  if (rest.starts_with('-') || rest.starts_with('+')) {
    out.push(rest.front());
    rest.remove_prefix(1);
  }
  out.append(static_cast<size_t>(missing), '0');
  out.append(rest);
  return out.take();
}

Value expandtabs_method(Interpreter& in, const Value& s, const Arguments& args) {
  const int64_t size = integer(args.get(0, "tabsize", int64_t{8}), "expandtabs");
  const std::string_view all = s.str();
  TextBuilder out(in.budget());
  int64_t column = 0;
  for (size_t pos = 0; pos < all.size();) {
    in.budget().work(1);
    const size_t begin = pos;
    const uint32_t c = next_code_point(all, &pos);
    if (c == '\t') {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      out.append(static_cast<size_t>(blanks), ' ');
      column += blanks;
      continue;
    }
    column = c == '\n' || c == '\r' ? 0 : column + 1;
    out.append(all.substr(begin, pos - begin));
  }
  return out.take();
}

// maketrans(a, b, gone): characters to characters; maketrans(mapping).
Value maketrans_method(Interpreter& in, const Value&, const Arguments& args) {
  const auto table = make_object<Dict>(in.budget(), 0);
  const auto code = [](const Value& c) {
    size_t pos = 0;
    return static_cast<int64_t>(next_code_point(c.str(), &pos));
  };
  const Value* to = args.find(1, "");
  if (to == nullptr) {
    const Value& mapping = args.need(0, "x");
    if (!mapping.is_dict()) throw TemplateError("maketrans: one argument must be a mapping");
    for (const auto& [key, value] : mapping.dict().entries) {
      const bool character = key.is_string() && key.text().length() == 1;
      if (!character && !key.is_int())
        throw TemplateError("maketrans: keys must be characters or integers");
      table->set(character ? Value(code(key)) : key, value);
    }
    return Value::dict(table);
  }
  const Value from = iterate(in.budget(), text(args.need(0, "x"), "maketrans")),
              into = iterate(in.budget(), text(*to, "maketrans"));
  if (from.items().size() != into.items().size())
    throw TemplateError("maketrans: the first two strings must have equal length");
  for (size_t i = 0; i < from.items().size(); ++i)
    table->set(Value(code(from.items()[i])), Value(code(into.items()[i])));
  if (const Value* gone = args.find(2, "")) {
    const Value all = iterate(in.budget(), text(*gone, "maketrans"));
    for (const Value& c : all.items()) table->set(Value(code(c)), Value());
  }
  return Value::dict(table);
}

Value translate_method(Interpreter& in, const Value& s, const Arguments& args) {
  const Value& table = args.need(0, "table");
  const std::string_view all = s.str();
  TextBuilder out(in.budget());
  for (size_t pos = 0; pos < all.size();) {
    const size_t begin = pos;
    const uint32_t c = next_code_point(all, &pos);
    const Value found = in.item(table, static_cast<int64_t>(c));
    if (found.is_undefined()) {
      out.append(all.substr(begin, pos - begin));
    } else if (found.is_string()) {
      out.append(found.str());
    } else if (!found.is_none()) {
      const int64_t code = integer(found, "translate");
      if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        throw TemplateError("translate: not the number of a character, or a lone surrogate");
      out.push_character(static_cast<uint32_t>(code));
    }
  }
  return out.take();
}

bool is_decimal_digit(uint32_t c) { return decimal_value(c) >= 0; }
bool is_ascii_character(uint32_t c) { return c < 0x80; }

template <bool (*F)(uint32_t), bool kEmpty = false>
Value every(Interpreter& in, const Value& s, const Arguments&) {
  return every_character(in.budget(), s.str(), F, kEmpty);
}
template <bool (*F)(Budget&, std::string_view)>
Value whole(Interpreter& in, const Value& s, const Arguments&) {
  return F(in.budget(), s.str());
}
template <Value (*F)(Budget&, const Value&)>
Value converted(Interpreter& in, const Value& s, const Arguments&) {
  return F(in.budget(), s);
}

}  // namespace

const Methods& string_methods() {
  static const Methods table = {
      {"strip", {strip_method<true, true>, "chars=, /"}},
      {"lstrip", {strip_method<true, false>, "chars=, /"}},
      {"rstrip", {strip_method<false, true>, "chars=, /"}},
      {"split", {split_method<false>, "sep=, maxsplit="}},
      {"rsplit", {split_method<true>, "sep=, maxsplit="}},
      {"splitlines", {splitlines_method, "keepends="}},
      {"partition", {partition_method<false>, "sep, /"}},
      {"rpartition", {partition_method<true>, "sep, /"}},
      {"startswith", {affix_method<true>, "prefix, start=, end=, /"}},
      {"endswith", {affix_method<false>, "suffix, start=, end=, /"}},
      {"find", {find_method<false>, "sub, start=, end=, /"}},
      {"rfind", {find_method<true>, "sub, start=, end=, /"}},
      {"index", {index_method<false>, "sub, start=, end=, /"}},
      {"rindex", {index_method<true>, "sub, start=, end=, /"}},
      {"count", {count_method, "sub, start=, end=, /"}},
      {"replace", {replace_method, "old, new, count=, /"}},
      {"removeprefix", {remove_method<true>, "prefix, /"}},
      {"removesuffix", {remove_method<false>, "suffix, /"}},
      {"format", {format_method, "*, **"}},
      {"format_map", {format_map_method, "mapping, /"}},
      {"join", {join_method, "iterable, /"}},
      {"upper", {converted<upper>, ""}},
      {"lower", {converted<lower>, ""}},
      {"title", {converted<title>, ""}},
      {"capitalize", {converted<capitalize>, ""}},
      {"swapcase", {converted<swapcase>, ""}},
      {"casefold", {converted<casefold>, ""}},
      {"center", {pad_method<0>, "width, fillchar=, /"}},
      {"ljust", {pad_method<-1>, "width, fillchar=, /"}},
      {"rjust", {pad_method<1>, "width, fillchar=, /"}},
      {"zfill", {zfill_method, "width, /"}},
      {"expandtabs", {expandtabs_method, "tabsize="}},
      {"maketrans", {maketrans_method, "x, y=, z=, /"}},
      {"translate", {translate_method, "table, /"}},
      {"isalpha", {every<is_letter>, ""}},
      {"isalnum", {every<is_letter_or_number>, ""}},
      {"isdigit", {every<is_digit>, ""}},
      {"isdecimal", {every<is_decimal_digit>, ""}},
      {"isnumeric", {every<is_numeric>, ""}},
      {"isspace", {every<is_blank>, ""}},
      {"isascii", {every<is_ascii_character, true>, ""}},
      {"isprintable", {every<is_printable, true>, ""}},
      {"islower", {whole<is_lower_text>, ""}},
      {"isupper", {whole<is_upper_text>, ""}},
      {"istitle", {whole<is_title_text>, ""}},
      {"isidentifier", {whole<is_identifier>, ""}},
  };
  return table;
}

}  // namespace shoal::jinja

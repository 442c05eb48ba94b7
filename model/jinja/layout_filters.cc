// Filters that lay text out, and those that make or unmake HTML and URLs.
#include <algorithm>
#include <charconv>

#include "base/utf8.h"
#include "model/jinja/arithmetic.h"
#include "model/jinja/filters.h"
#include "model/jinja/methods.h"
#include "model/jinja/text.h"
#include "model/jinja/word_wrap.h"

namespace shoal::jinja {
namespace {

Value call_text_method(Interpreter& in, std::string_view name, const Value& v,
                       const Arguments& args) {
  return call_method(in, string_methods().at(name), name, v, args);
}

Value center(Interpreter& in, const Value& v, const Arguments& args) {
  Arguments width(in.budget());
  width.add(args.get(0, "width", int64_t{80}));
  return call_text_method(in, "center", v.is_string() ? v : to_text(in.budget(), v), width);
}

Value indent(Interpreter& in, const Value& v, const Arguments& args) {
  Value width = args.get(0, "width", int64_t{4});
  if (!width.is_string()) {
    const int64_t blanks = integer(width, "indent");
    constexpr int64_t kMost = 1024;
    if (blanks > kMost) throw TemplateError("indent: is too wide");
    TextBuilder made(in.budget());
    made.append(static_cast<size_t>(std::max<int64_t>(0, blanks)), ' ');
    width = made.take();
  }
  const bool first_too = args.flag(1, "first"), blank_too = args.flag(2, "blank");
  const bool markup = text(v, "indent").is_markup();
  if (markup) width = escape(in.budget(), width);
  const Value lines = split_lines(
      in.budget(), concatenate_text(in.budget(), v, Value::outside(in.budget(), "\n")), false);
  TextBuilder out(in.budget());
  bool is_first = true;
  for (const Value& line : lines.items()) {
    in.budget().work(1);
    if (!is_first) out.push('\n');
    if (is_first ? first_too : blank_too || !line.str().empty()) out.append(width.str());
    is_first = false;
    out.append(line.str());
  }
  return out.take(markup);
}

Value truncate(Interpreter& in, const Value& v, const Arguments& args) {
  const int64_t length = integer(args.get(0, "length", int64_t{255}), "truncate");
  const Value end = args.get(2, "end", Value::outside(in.budget(), "..."));
  const int64_t of_end = length_of(end);
  const Value leeway_given = args.get(3, "leeway", Value());
  const int64_t leeway = leeway_given.is_none() ? 5 : integer(leeway_given, "truncate");
  if (of_end < 0 || length < of_end)
    throw TemplateError("truncate: the length is less than that of the end");
  if (leeway < 0) throw TemplateError("truncate: the leeway is negative");
  const int64_t n = length_of(v);
  if (v.is_undefined()) return v;
  if (n < 0) throw TemplateError(std::string("truncate: a '") + v.type_name() + "' has no length");
  if (n <= length + leeway) return v;
  Value kept = characters(in.budget(), text(v, "truncate"), 0, length - of_end);
  if (!args.flag(1, "killwords")) {
    const size_t blank = find_last_text(in.budget(), kept.str(), " ");
    if (blank != std::string_view::npos) kept = Value::part(kept, kept.str().substr(0, blank));
  }
  return binary(in.budget(), "+", kept, text(end, "truncate"));
}

Value wordwrap(Interpreter& in, const Value& v, const Arguments& args) {
  const Value lines = split_lines(in.budget(), text(v, "wordwrap"), false);
  WrapOptions options;
  options.width = integer(args.get(0, "width", int64_t{79}), "wordwrap");
  options.break_long_words = args.flag(1, "break_long_words", true);
  options.break_on_hyphens = args.flag(3, "break_on_hyphens", true);
  const Value given = args.get(2, "wrapstring", Value());
  const Value between =
      given.is_none() ? Value::outside(in.budget(), "\n") : text(given, "wordwrap");
  TextBuilder out(in.budget());
  bool first = true;
  for (const Value& line : lines.items()) {
    if (!first) out.append(between.str());
    first = false;
    const Value wrapped = wrap_words(in.budget(), line, options);
    for (size_t i = 0; i < wrapped.items().size(); ++i) {
      if (i > 0) out.append(between.str());
      out.append(wrapped.items()[i].str());
    }
  }
  return out.take();
}

// The characters references stand for. HTML has two thousand names; one that is none of these is an
// error, not left as it is.
size_t unescape_one(std::string_view at, std::string* out) {
  constexpr std::pair<std::string_view, const char*> kNames[] = {
      {"&amp;", "&"},   {"&lt;", "<"},   {"&gt;", ">"},
      {"&quot;", "\""}, {"&apos;", "'"}, {"&nbsp;", "\xc2\xa0"}};
  for (const auto& [name, text] : kNames) {
    if (!at.starts_with(name)) continue;
    *out += text;
    return name.size();
  }
  const bool hexadecimal = at.size() > 2 && (at[2] | 0x20) == 'x';
  const size_t begin = hexadecimal ? 3 : 2;
  if (at.size() > begin && at[1] == '#') {
    uint32_t code = 0;
    const auto read =
        std::from_chars(at.data() + begin, at.data() + at.size(), code, hexadecimal ? 16 : 10);
    const bool plain = code >= 0x20 && code <= 0x10ffff && !(code >= 0x7f && code < 0xa0) &&
                       !(code >= 0xd800 && code < 0xe000);
    if (read.ec == std::errc() && plain) {
      append_utf8(code, out);
      auto used = static_cast<size_t>(read.ptr - at.data());
      if (used < at.size() && at[used] == ';') ++used;
      return used;
    }
  }
  const char next = at.size() > 1 ? at[1] : ' ';
  if (std::string_view("\t\n\f <&;").find(next) == std::string_view::npos)
    throw TemplateError("striptags: '" + excerpt(at.substr(0, std::min(at.find(';'), size_t{16}))) +
                        "' is a character reference that is not known here");
  *out += '&';
  return 1;
}

Value without(Budget& budget, const Value& v, std::string_view open, std::string_view close) {
  std::string_view rest = v.str();
  TextBuilder out(budget);
  for (;;) {
    const size_t begin = find_text(budget, rest, open);
    const size_t end = begin == std::string_view::npos
                           ? begin
                           : find_text(budget, rest.substr(begin + open.size()), close);
    if (end == std::string_view::npos) break;
    out.append(rest.substr(0, begin));
    rest.remove_prefix(begin + open.size() + end + close.size());
  }
  out.append(rest);
  return out.take();
}

Value striptags(Interpreter& in, const Value& v, const Arguments&) {
  const Value bare =
      without(in.budget(), without(in.budget(), to_text(in.budget(), v), "<!--", "-->"), "<", ">");
  const Value words = split_blanks(in.budget(), bare, -1, false);
  TextBuilder out(in.budget());
  for (size_t i = 0; i < words.items().size(); ++i) {
    if (i > 0) out.push(' ');
    std::string_view rest = words.items()[i].str();
    while (!rest.empty()) {
      const size_t plain = std::min(rest.find('&'), rest.size());
      out.append(rest.substr(0, plain));
      rest.remove_prefix(plain);
      if (rest.empty()) break;
      std::string character;
      rest.remove_prefix(unescape_one(rest, &character));
      out.append(character);
    }
  }
  return out.take();
}

void quote_url(const Value& v, bool for_query, TextBuilder* out) {
  const Value all = to_text(out->budget(), v);
  for (const char c : all.str()) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !for_query)) {
      out->push(c);
    } else if (c == ' ' && for_query) {
      out->push('+');
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out->push('%');
      out->push("0123456789ABCDEF"[byte >> 4]);
      out->push("0123456789ABCDEF"[byte & 15]);
    }
  }
}

Value urlencode(Interpreter& in, const Value& v, const Arguments&) {
  TextBuilder out(in.budget());
  if (v.is_string() || !iterable(v)) {
    quote_url(v, false, &out);
    return out.take();
  }
  bool first = true;
  const auto put = [&](const Value& key, const Value& value) {
    if (!first) out.push('&');
    first = false;
    quote_url(key, true, &out);
    out.push('=');
    quote_url(value, true, &out);
  };
  if (v.is_dict()) {
    for (const auto& [key, value] : v.dict().entries) put(key, value);
    return out.take();
  }
  const Value all = iterate(in.budget(), v);
  for (const Value& item : all.items()) {
    const Value parts = iterate(in.budget(), item);
    if (parts.items().size() != 2) throw TemplateError("urlencode: needs pairs");
    put(parts.items()[0], parts.items()[1]);
  }
  return out.take();
}

Value xmlattr(Interpreter& in, const Value& v, const Arguments& args) {
  if (!v.is_dict()) throw TemplateError("xmlattr: needs a mapping");
  TextBuilder out(in.budget());
  for (const auto& [key, value] : v.dict().entries) {
    if (value.is_none() || value.is_undefined()) continue;
    const std::string_view name = text(key, "xmlattr").str();
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos)
      throw TemplateError("xmlattr: a character that does not go into an attribute's name: '" +
                          excerpt(name) + "'");
    if (!out.view().empty() || args.flag(0, "autospace", true)) out.push(' ');
    out.append(escape(in.budget(), key).str());
    out.append("=\"");
    out.append(escape(in.budget(), value.is_string() ? value : to_text(in.budget(), value)).str());
    out.push('"');
  }
  return out.take();
}

}  // namespace

std::span<const FilterRow> layout_filters() {
  static const FilterRow table[] = {
      {"center", {center, "width="}},
      {"indent", {indent, "width=, first=, blank="}},
      {"truncate", {truncate, "length=, killwords=, end=, leeway="}},
      {"wordwrap", {wordwrap, "width=, break_long_words=, wrapstring=, break_on_hyphens="}},
      {"striptags", {striptags, ""}},
      {"urlencode", {urlencode, ""}},
      {"xmlattr", {xmlattr, "autospace="}},
      {"pprint", {pretty_print, ""}},
  };
  return table;
}

}  // namespace shoal::jinja

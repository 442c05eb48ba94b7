// Numbers as text: the shortest form, a given precision, and the format specifications of Python's
// format().
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "model/jinja/arguments.h"
#include "model/jinja/arithmetic.h"
#include "model/jinja/format_spec.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

// printf's own: e, E, f, F.
std::string printed(double value, char type, int64_t precision, bool alternate) {
  const std::string format = std::string("%") + (alternate ? "#" : "") + ".*" + type;
  const int n = std::snprintf(nullptr, 0, format.c_str(), static_cast<int>(precision), value);
  std::string out(static_cast<size_t>(n) + 1, '\0');
  std::snprintf(out.data(), out.size(), format.c_str(), static_cast<int>(precision), value);
  out.pop_back();
  return out;
}

std::string shortest(double value) {
  char buffer[64];
  const double magnitude = std::fabs(value);
  const bool scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value,
                    scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string out(buffer, end.ptr);
  if (!scientific && out.find('.') == std::string::npos) out += ".0";
  return out;
}

// Significant digits without trailing zeros (unless `alternate`), in the form that suits.
std::string general(double value, char type, int64_t precision, bool alternate, bool point_zero) {
  precision = std::max<int64_t>(1, precision);
  const char e = type == 'G' ? 'E' : 'e';
  const std::string exact = printed(value, e, precision - 1, false);
  const size_t exponent_at = exact.find(e);
  const int exponent = std::stoi(exact.substr(exponent_at + 1));
  const bool scientific = exponent < -4 || exponent >= precision - (point_zero ? 1 : 0);
  std::string digits = scientific ? exact.substr(0, exponent_at)
                                  : printed(value, 'f', precision - 1 - exponent, false);
  if (alternate) {
    if (digits.find('.') == std::string::npos) digits += '.';
  } else if (digits.find('.') != std::string::npos) {
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.ends_with('.')) digits.pop_back();
  }
  if (scientific) return digits + exact.substr(exponent_at);
  if (point_zero && digits.find('.') == std::string::npos) digits += ".0";
  return digits;
}

// Groups of `size` digits, at least `width` characters with leading zeros.
std::string grouped(const std::string& digits, char separator, size_t size, size_t width) {
  std::string out;
  for (size_t count = 0; count < digits.size() || out.size() < width; ++count) {
    if (count > 0 && count % size == 0) out += separator;
    out += count < digits.size() ? digits[digits.size() - 1 - count] : '0';
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::string integer_digits(uint64_t value, char type) {
  const int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
  char buffer[72];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, base);
  std::string out(buffer, end.ptr);
  if (type == 'X')
    std::transform(out.begin(), out.end(), out.begin(),
                   [](char c) { return c >= 'a' ? c - 32 : c; });
  return out;
}

// What a number is written as, in parts.
struct Parts {
  bool negative = false;
  std::string prefix;  // 0x
  std::string digits;  // before the point
  std::string rest;    // the point and what follows
};

void put_parts(const FormatSpec& spec, Parts parts, TextBuilder* out) {
  std::string sign = parts.negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  const bool zeros = spec.fill == "0" && spec.align == '=';
  if (spec.separator != 0) {
    const bool decimal =
        spec.type != 'b' && spec.type != 'o' && spec.type != 'x' && spec.type != 'X';
    const size_t others = sign.size() + parts.prefix.size() + parts.rest.size();
    const auto width = static_cast<size_t>(spec.width);
    parts.digits = grouped(parts.digits, spec.separator, decimal ? 3 : 4,
                           zeros && width > others ? width - others : 0);
  }
  const std::string head = sign + parts.prefix;
  spec.pad(head, parts.digits + parts.rest, '>', out);
}

void put_integer(const FormatSpec& spec, int64_t value, TextBuilder* out) {
  if (spec.precision >= 0) throw TemplateError("a precision does not go with an integer");
  if (spec.type == 'c') {
    if (spec.sign_given || spec.separator != 0 || spec.alternate)
      throw TemplateError("signs and separators do not go with the format 'c'");
    if (value < 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
      throw TemplateError("the format 'c' needs the number of a character; no lone surrogates");
    std::string text;
    append_utf8(static_cast<uint32_t>(value), &text);
    return spec.pad("", text, '>', out);
  }
  Parts parts;
  parts.negative = value < 0;
  parts.digits = integer_digits(
      value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value), spec.type);
  if (spec.alternate && spec.type != 'd' && spec.type != 0 && spec.type != 'n')
    parts.prefix = std::string("0") + spec.type;
  put_parts(spec, std::move(parts), out);
}

void put_float(const FormatSpec& spec, double value, TextBuilder* out) {
  Parts parts;
  parts.negative = std::signbit(value) && !std::isnan(value);
  const char type = spec.type == 0     ? (spec.precision < 0 ? 'r' : 'g')
                    : spec.type == 'n' ? 'g'
                                       : spec.type;
  const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
  const double magnitude = std::fabs(value);
  std::string text =
      type == '%' ? float_digits(magnitude * 100, 'f', precision, spec.alternate, false) + "%"
                  : float_digits(magnitude, type, precision, spec.alternate, spec.type == 0);
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  parts.digits = text.substr(0, digits);
  parts.rest = text.substr(digits);
  if (!std::isfinite(value)) {  // no groups of digits in "inf"
    FormatSpec plain = spec;
    plain.separator = 0;
    return put_parts(plain, std::move(parts), out);
  }
  put_parts(spec, std::move(parts), out);
}

void put_text(const FormatSpec& spec, const Value& value, TextBuilder* out) {
  if (spec.type != 0 && spec.type != 's')
    throw TemplateError(std::string("the format '") + spec.type + "' does not go with a string");
  if (spec.sign_given || spec.alternate || spec.separator != 0 ||
      (spec.align == '=' && spec.align_given))
    throw TemplateError("signs, '=', '#' and separators do not go with a string");
  const Value cut = spec.precision >= 0 && spec.precision < value.text().length()
                        ? characters(out->budget(), value, 0, spec.precision)
                        : value;
  FormatSpec padding = spec;
  if (!spec.align_given) padding.align = 0;
  padding.pad("", cut.str(), '<', out);
}

}  // namespace

std::string float_digits(double value, char type, int64_t precision, bool alternate,
                         bool point_zero) {
  const bool capital = type >= 'A' && type <= 'Z';
  if (std::isnan(value)) return capital ? "NAN" : "nan";
  if (std::isinf(value)) return std::string(value < 0 ? "-" : "") + (capital ? "INF" : "inf");
  constexpr int64_t kMostDigits = 4096;
  if (precision > kMostDigits) throw TemplateError("a precision is too wide");
  if (type == 'r') return shortest(value);
  if (type == 'g' || type == 'G') return general(value, type, precision, alternate, point_zero);
  return printed(value, type, precision, alternate);
}

FormatSpec::FormatSpec(std::string_view text) {
  size_t at = 0;
  const auto peek = [&](size_t i) { return i < text.size() ? text[i] : '\0'; };
  const auto aligns = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  if (!text.empty()) {
    size_t after = 0;
    (void)next_code_point(text, &after);
    if (aligns(peek(after))) {
      fill = text.substr(0, after);
      align = text[after];
      at = after + 1;
      align_given = fill_given = true;
    } else if (aligns(peek(0))) {
      align = text[at++];
      align_given = true;
    }
  }
  if (peek(at) == '+' || peek(at) == '-' || peek(at) == ' ') {
    sign = text[at++];
    sign_given = true;
  }
  if (peek(at) == 'z') throw TemplateError("the format option 'z' is not supported");
  if (peek(at) == '#') {
    alternate = true;
    ++at;
  }
  if (!fill_given && peek(at) == '0') {
    fill = "0";
    if (!align_given) align = '=';
    ++at;
  }
  const auto number = [&](int64_t* out) {
    const size_t begin = at;
    int64_t value = 0;
    for (; peek(at) >= '0' && peek(at) <= '9'; ++at) {
      value = value * 10 + (text[at] - '0');
      if (value > kWidest) throw TemplateError("a format is too wide");
    }
    if (at > begin) *out = value;
    return at > begin;
  };
  number(&width);
  if (peek(at) == ',' || peek(at) == '_') separator = text[at++];
  if (peek(at) == ',' || peek(at) == '_') throw TemplateError("two separators in a format");
  if (peek(at) == '.') {
    ++at;
    if (!number(&precision)) throw TemplateError("a format's precision is missing");
  }
  if (text.size() > at + 1) throw TemplateError("a malformed format: '" + excerpt(text) + "'");
  if (at < text.size()) type = text[at];
}

void FormatSpec::pad(std::string_view head, std::string_view body, char usual,
                     TextBuilder* out) const {
  const int64_t length =
      character_count(out->budget(), head) + character_count(out->budget(), body);
  const auto missing = static_cast<uint64_t>(std::max<int64_t>(0, width - length));
  const char where = align == 0 ? usual : align;
  const uint64_t left = where == '<' ? 0 : where == '^' ? missing / 2 : missing;
  if (where == '=') out->append(head);
  out->append_times(left, fill);
  if (where != '=') out->append(head);
  out->append(body);
  out->append_times(missing - left, fill);
}

void format_value(const Value& value, std::string_view text, TextBuilder* out) {
  if (text.empty()) return print(value, out);
  const bool known = value.is_number() || value.is_string();
  if (!known) throw TemplateError(std::string("a format does not go with ") + value.type_name());
  const FormatSpec spec(text);
  if (value.is_string()) return put_text(spec, value, out);
  const std::string_view floats = "eEfFgG%", integers = "bcdoxXn";
  const bool is_float_type = spec.type != 0 && floats.find(spec.type) != std::string_view::npos;
  const bool is_integer_type = spec.type == 0 || integers.find(spec.type) != std::string_view::npos;
  if (spec.separator != 0 && spec.type != 0 && !is_float_type &&
      !(spec.type == 'd' || (spec.separator == '_' && spec.type != 'c' && spec.type != 'n')))
    throw TemplateError("a separator does not go with this format");
  if (value.is_float()) {
    if (!is_float_type && spec.type != 0 && spec.type != 'n')
      throw TemplateError(std::string("the format '") + spec.type + "' does not go with a float");
    return put_float(spec, value.as_double(), out);
  }
  if (is_float_type) return put_float(spec, value.as_double(), out);
  if (!is_integer_type)
    throw TemplateError(std::string("the format '") + spec.type + "' does not go with an integer");
  put_integer(spec, value.as_int(), out);
}

}  // namespace shoal::jinja

// Numbers in text, as Python's int() and float() read them.
#include <charconv>
#include <cstdlib>
#include <limits>

#include "base/utf8.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

// Blanks stripped, decimal digits of any script as ASCII's, letters small; "" for what is no number
// for its length alone.
std::string plain(Budget& budget, std::string_view text) {
  const std::string_view stripped = strip_blanks(budget, text, true, true);
  std::string out;
  if (stripped.size() > kLongestNumber) return out;
  for (size_t pos = 0; pos < stripped.size();) {
    const uint32_t c = next_code_point(stripped, &pos);
    const int digit = decimal_value(c);
    out += digit >= 0             ? static_cast<char>('0' + digit)
           : c >= 0x80            ? '?'
           : c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32)
                                  : static_cast<char>(c);
  }
  return out;
}

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

int digit_of(char c) {
  return is_ascii_digit(c) ? c - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

// Takes a sign off; true: it was '-'.
bool take_sign(std::string_view* s) {
  const bool negative = s->starts_with('-');
  if (negative || s->starts_with('+')) s->remove_prefix(1);
  return negative;
}

// Digits with single '_' between them from `at` on; none: `at`.
size_t skip_digits(std::string_view s, size_t at, std::string* out) {
  const auto digit = [&](size_t i) { return i < s.size() && is_ascii_digit(s[i]); };
  while (digit(at)) {
    *out += s[at++];
    if (at < s.size() && s[at] == '_' && digit(at + 1)) ++at;
  }
  return at;
}

}  // namespace

std::optional<int64_t> read_integer(Budget& budget, std::string_view text, int64_t base) {
  const std::string all = plain(budget, text);
  std::string_view s = all;
  const bool negative = take_sign(&s);
  bool prefixed = false;
  for (const auto& [letter, of] : {std::pair('b', 2), std::pair('o', 8), std::pair('x', 16)}) {
    if ((base != 0 && base != of) || !s.starts_with('0') || s.size() < 2 || s[1] != letter)
      continue;
    base = of;
    s.remove_prefix(2);
    prefixed = true;
    break;
  }
  const bool zeros_only = base == 0 && s.starts_with('0');
  if (base == 0) base = 10;
  if (prefixed && s.starts_with('_')) s.remove_prefix(1);
  if (s.empty() || s.front() == '_' || s.back() == '_') return std::nullopt;
  uint64_t value = 0;
  bool overflow = false;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '_' && s[i - 1] != '_') continue;
    const int digit = digit_of(s[i]);
    if (digit >= base || (zeros_only && digit != 0)) return std::nullopt;
    overflow |= __builtin_mul_overflow(value, static_cast<uint64_t>(base), &value);
    overflow |= __builtin_add_overflow(value, static_cast<uint64_t>(digit), &value);
  }
  const uint64_t most = static_cast<uint64_t>(INT64_MAX) + (negative ? 1 : 0);
  if (overflow || value > most) throw TemplateError("an integer is beyond 64 bits");
  return static_cast<int64_t>(negative ? 0 - value : value);
}

std::optional<double> read_float(Budget& budget, std::string_view text) {
  const std::string all = plain(budget, text);
  std::string_view s = all;
  const bool negative = take_sign(&s);
  const double sign = negative ? -1 : 1;
  if (s == "inf" || s == "infinity") return sign * std::numeric_limits<double>::infinity();
  if (s == "nan") return std::numeric_limits<double>::quiet_NaN();
  std::string digits;
  size_t at = skip_digits(s, 0, &digits);
  size_t count = digits.size();
  if (at < s.size() && s[at] == '.') {
    digits += '.';
    const size_t before = digits.size();
    at = skip_digits(s, at + 1, &digits);
    count += digits.size() - before;
  }
  if (count == 0) return std::nullopt;
  if (at < s.size() && s[at] == 'e') {
    digits += s[at++];
    if (at < s.size() && (s[at] == '-' || s[at] == '+')) digits += s[at++];
    const size_t before = digits.size();
    at = skip_digits(s, at, &digits);
    if (digits.size() == before) return std::nullopt;
  }
  if (at != s.size()) return std::nullopt;
  double value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  // Too large or too small to represent: infinity or zero, as strtod says.
  if (result.ec == std::errc::result_out_of_range) value = std::strtod(digits.c_str(), nullptr);
  return negative ? -value : value;
}

}  // namespace shoal::jinja

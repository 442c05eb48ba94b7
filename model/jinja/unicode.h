// Characters as Python's str sees them, from Unicode's tables (libunistring's, version 14, which is
// that of Python 3.11). Every code point up to U+10FFFF may be asked about. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoal::jinja {

enum class Case : uint8_t { kUpper, kLower, kTitle, kFold };
// What one character becomes, up to three: SpecialCasing's rules that need no context and no
// language. The final sigma is up to the caller. Returns how many.
inline constexpr size_t kMostMapped = 3;
size_t map_case(uint32_t c, Case to, uint32_t out[kMostMapped]);

bool is_cased(uint32_t c);
bool is_case_ignorable(uint32_t c);
bool is_lower(uint32_t c);
bool is_upper(uint32_t c);
bool is_title(uint32_t c);

bool is_blank(uint32_t c);   // str.isspace(), and \s of regular expressions
bool ends_line(uint32_t c);  // for str.splitlines()
bool is_letter(uint32_t c);
int decimal_value(uint32_t c);  // 0 to 9, −1: no decimal digit
bool is_digit(uint32_t c);      // has the value of one digit: '²'
bool is_numeric(uint32_t c);    // has a value: '½', '三'
inline bool is_letter_or_number(uint32_t c) { return is_letter(c) || is_numeric(c); }
bool is_printable(uint32_t c);
bool is_name_start(uint32_t c);
bool is_name_part(uint32_t c);

}  // namespace shoal::jinja

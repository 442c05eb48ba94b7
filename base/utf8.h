// Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal {

bool is_valid_utf8(std::string_view text);

// Byte length of the longest prefix that ends on a character boundary: text[0, n) contains no
// incomplete trailing sequence. Invalid bytes count as complete characters.
size_t complete_utf8_prefix(std::string_view text);

// Replaces what is invalid by U+FFFD, once for each maximal part of a character (the Unicode
// Standard, section 3.9, "substitution of maximal subparts"; what Python and browsers do): a
// character that is cut short is one, a byte that can begin none is one.
std::string sanitize_utf8(std::string_view text);

// The code point at text[*pos], advancing *pos; an invalid byte yields 0xFFFD and advances by one.
// REQUIRES *pos < text.size().
uint32_t next_code_point(std::string_view text, size_t* pos);

void append_utf8(uint32_t code_point, std::string* out);

}  // namespace shoal

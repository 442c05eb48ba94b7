#include "base/utf8.h"

namespace shoal {
namespace {

// Bytes a lead byte announces; 0 if it cannot lead.
int sequence_length(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

// Whether `second` may follow `lead` (rules out overlong forms, surrogates, > U+10FFFF).
bool second_byte_fits(uint8_t lead, uint8_t second) {
  switch (lead) {
    case 0xe0: return second >= 0xa0 && second <= 0xbf;
    case 0xed: return second >= 0x80 && second <= 0x9f;
    case 0xf0: return second >= 0x90 && second <= 0xbf;
    case 0xf4: return second >= 0x80 && second <= 0x8f;
    default: return second >= 0x80 && second <= 0xbf;
  }
}

// Length of the valid sequence at text[pos]; 0 if invalid, −1 if cut off by the end of the text.
int valid_length(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const int length = sequence_length(byte(pos));
  if (length <= 1) return length;
  for (int i = 1; i < length; ++i) {
    if (pos + i >= text.size()) return -1;
    const uint8_t b = byte(pos + i);
    const bool fits = i == 1 ? second_byte_fits(byte(pos), b) : (b >= 0x80 && b <= 0xbf);
    if (!fits) return 0;
  }
  return length;
}

// Bytes of the longest beginning of a valid sequence at text[pos], at least 1.
size_t part_length(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const auto length = static_cast<size_t>(sequence_length(byte(pos)));
  size_t count = 1;
  while (count < length && pos + count < text.size()) {
    const uint8_t b = byte(pos + count);
    if (!(count == 1 ? second_byte_fits(byte(pos), b) : (b >= 0x80 && b <= 0xbf))) break;
    ++count;
  }
  return count;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const int length = valid_length(text, pos);
    if (length <= 0) return false;
    pos += static_cast<size_t>(length);
  }
  return true;
}

size_t complete_utf8_prefix(std::string_view text) {
  const size_t first = text.size() > 3 ? text.size() - 3 : 0;
  for (size_t pos = text.size(); pos-- > first;) {
    if (valid_length(text, pos) == -1) return pos;
    if ((static_cast<uint8_t>(text[pos]) & 0xc0) != 0x80) break;  // a complete or invalid lead
  }
  return text.size();
}

std::string sanitize_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const int length = valid_length(text, pos);
    if (length > 0) {
      out.append(text, pos, static_cast<size_t>(length));
      pos += static_cast<size_t>(length);
    } else {
      out += "\xef\xbf\xbd";
      pos += part_length(text, pos);
    }
  }
  return out;
}

uint32_t next_code_point(std::string_view text, size_t* pos) {
  const int length = valid_length(text, *pos);
  const auto lead = static_cast<uint8_t>(text[*pos]);
  if (length <= 0) {
    ++*pos;
    return 0xfffd;
  }
  uint32_t value = length == 1 ? lead : lead & (0x7fu >> length);
  for (int i = 1; i < length; ++i) {
    value = value << 6 | (static_cast<uint8_t>(text[*pos + i]) & 0x3f);
  }
  *pos += static_cast<size_t>(length);
  return value;
}

void append_utf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xc0 | c >> 6);
    *out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xe0 | c >> 12);
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    *out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    *out += static_cast<char>(0xf0 | c >> 18);
    *out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    *out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

}  // namespace shoal

#include "base/quote.h"

#include <fmt/format.h>

#include "base/utf8.h"

namespace shoal {
namespace {

// C0, DEL, C1, and what reorders or breaks lines: U+2028, U+2029, U+202A … 202E, U+2066 … 2069.
bool is_control(uint32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069);
}

void escape(std::string_view bytes, std::string* out) {
  if (bytes == "\n") {
    *out += "\\n";
  } else if (bytes == "\r") {
    *out += "\\r";
  } else if (bytes == "\t") {
    *out += "\\t";
  } else {
    for (const char byte : bytes) {
      *out += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    }
  }
}

// Appends what is shown of `text`; whether that is all of it.
bool show(std::string_view text, size_t max, bool keep_lines, std::string* out) {
  const size_t start = out->size();
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos, before = out->size();
    const uint32_t c = next_code_point(text, &pos);
    const std::string_view bytes = text.substr(begin, pos - begin);
    const bool invalid = c == 0xfffd && bytes.size() == 1;
    if (keep_lines && c == '\n') {
      *out += '\n';
    } else if (invalid || is_control(c)) {
      escape(bytes, out);
    } else {
      *out += bytes;
    }
    if (out->size() - start > max) {
      out->resize(before);
      return false;
    }
  }
  return true;
}

std::string of_length(size_t bytes) { return fmt::format(" ({} bytes)", bytes); }

}  // namespace

std::string excerpt(std::string_view text, size_t max) {
  std::string out;
  if (!show(text, max, false, &out)) out += "…" + of_length(text.size());
  return out;
}

std::string in_quotes(std::string_view text, size_t max) {
  std::string out = "'";
  if (show(text, max, false, &out)) return out + "'";
  return out + "…'" + of_length(text.size());
}

std::string bounded_message(std::string_view message) {
  constexpr size_t kRoomForLength = 40;
  std::string out;
  if (show(message, kMessageBytes, true, &out)) return out;
  out.clear();
  show(message, kMessageBytes - kRoomForLength, true, &out);
  return out + "…" + of_length(message.size());
}

}  // namespace shoal

#include "cli/chat/text.h"

#include <fmt/format.h>

#include "base/utf8.h"

namespace shoal::chat {
namespace {

using Json = nlohmann::json;

// Marks, of plane 16's private use: a byte, and a half of a UTF-16 pair.
constexpr uint32_t kByteMark = 0x10ee00;
constexpr uint32_t kHalfMark = 0x10f000;
constexpr uint32_t kFirstHalf = 0xd800, kHalves = 0x800;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The four digits behind "\u" at text[pos]; −1 if there is no such escape.
int escaped_unit(std::string_view text, size_t pos) {
  if (pos + 6 > text.size() || text[pos] != '\\' || text[pos + 1] != 'u') return -1;
  int value = 0;
  for (size_t i = pos + 2; i < pos + 6; ++i) {
    const int digit = hex_digit(text[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

bool is_high(int unit) { return unit >= 0xd800 && unit < 0xdc00; }
bool is_low(int unit) { return unit >= 0xdc00 && unit < 0xe000; }

// JSON text in which everything the parser would refuse for its bytes is a mark.
std::string mark(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 64);
  for (size_t pos = 0; pos < text.size();) {
    if (text[pos] == '\\') {
      const int unit = escaped_unit(text, pos);
      if (is_high(unit) && is_low(escaped_unit(text, pos + 6))) {
        out += text.substr(pos, 12);
        pos += 12;
      } else if (is_high(unit) || is_low(unit)) {
        append_utf8(kHalfMark + static_cast<uint32_t>(unit) - kFirstHalf, &out);
        pos += 6;
      } else {  // an escaped backslash must not look like the start of another escape
        out += text.substr(pos, 2);
        pos += 2;
      }
      continue;
    }
    const size_t begin = pos;
    const uint32_t c = next_code_point(text, &pos);
    if (c == 0xfffd && pos - begin == 1) {
      append_utf8(kByteMark + static_cast<uint8_t>(text[begin]), &out);
    } else {
      out += text.substr(begin, pos - begin);
    }
  }
  return out;
}

// The three bytes that UTF-8 would have for a half of a UTF-16 pair, if it allowed it.
void append_half(uint32_t half, std::string* out) {
  *out += static_cast<char>(0xe0 | half >> 12);
  *out += static_cast<char>(0x80 | (half >> 6 & 0x3f));
  *out += static_cast<char>(0x80 | (half & 0x3f));
}

// The half at text[pos], 0 if there is none, −1 if the text ends within what may be one.
int half_at(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[pos + i]); };
  if (pos >= text.size()) return -1;
  if (byte(0) != 0xed) return 0;
  if (pos + 1 >= text.size()) return -1;
  if (byte(1) < 0xa0 || byte(1) > 0xbf) return 0;
  if (pos + 2 >= text.size()) return -1;
  if (byte(2) < 0x80 || byte(2) > 0xbf) return 0;
  return 0xd000 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
}

}  // namespace

LooseJson parse_loosely(std::string_view text) {
  LooseJson out;
  out.json = Json::parse(text, nullptr, false);
  if (!out.json.is_discarded()) return out;
  const std::string marked = mark(text);
  if (marked == text) return out;
  out.json = Json::parse(marked, nullptr, false);
  out.marked = true;
  return out;
}

std::string LooseJson::bytes(const Json& string) const {
  const std::string& text = string.get_ref<const std::string&>();
  if (!marked) return text;
  std::string out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const uint32_t c = next_code_point(text, &pos);
    if (c >= kByteMark && c < kByteMark + 0x100) {
      out += static_cast<char>(c - kByteMark);
    } else if (c >= kHalfMark && c < kHalfMark + kHalves) {
      append_half(c - kHalfMark + kFirstHalf, &out);
    } else {
      out.append(text, begin, pos - begin);
    }
  }
  return out;
}

std::string Utf8Joiner::feed(std::string_view bytes) {
  pending_ += bytes;
  return take(false);
}

std::string Utf8Joiner::finish() { return take(true); }

std::string Utf8Joiner::take(bool last) {
  std::string out;
  size_t pos = 0;
  while (pos < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(pos);
    const int first = half_at(rest, 0);
    const int second = is_high(first) ? half_at(rest, 3) : 0;
    if (!last && (first == -1 || second == -1)) break;
    if (is_high(first) && is_low(second)) {
      append_utf8(0x10000 + (static_cast<uint32_t>(first - 0xd800) << 10) +
                      static_cast<uint32_t>(second - 0xdc00),
                  &out);
      pos += 6;
    } else if (first > 0) {
      append_utf8(0xfffd, &out);
      pos += 3;
    } else if (!last && rest.size() < 4 && complete_utf8_prefix(rest) == 0) {
      break;
    } else {
      append_utf8(next_code_point(pending_, &pos), &out);
    }
  }
  pending_.erase(0, pos);
  return out;
}

std::string for_terminal(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const uint32_t c = next_code_point(text, &pos);
    const std::string_view bytes = text.substr(begin, pos - begin);
    if (c == '\r' && pos < text.size() && text[pos] == '\n') continue;
    if (c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f) || c >= 0xa0) {
      append_utf8(c, &out);
      continue;
    }
    for (const char byte : bytes) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return out;
}

}  // namespace shoal::chat

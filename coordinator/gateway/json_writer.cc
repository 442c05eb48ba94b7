#include "coordinator/gateway/json_writer.h"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "base/utf8.h"

namespace shoal::gateway {

void append_json_string(std::string* out, std::string_view text) {
  if (!is_valid_utf8(text)) {
    append_json_string(out, sanitize_utf8(text));
    return;
  }
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          fmt::format_to(std::back_inserter(*out), "\\u{:04x}", static_cast<unsigned>(c));
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

void append_json_logprob(std::string* out, std::optional<float> logprob) {
  if (!logprob) {
    *out += "null";
    return;
  }
  const float value = *logprob;
  fmt::format_to(std::back_inserter(*out), "{}", std::isfinite(value) ? value : -9999.0f);
}

void append_json_integer(std::string* out, int64_t value) {
  fmt::format_to(std::back_inserter(*out), "{}", value);
}

}  // namespace shoal::gateway

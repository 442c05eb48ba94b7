#include "coordinator/server/model_name.h"

#include "base/utf8.h"
#include "config/values.h"

namespace shoal {
namespace {

std::string repaired(std::string_view name) {
  // Of a name of megabytes only what can stay; a character has up to four bytes, a space one.
  const std::string text = sanitize_utf8(name.substr(0, 4 * config::kMaxModelName));
  std::string out;
  for (const char c : text) {
    const bool blank = static_cast<unsigned char>(c) <= ' ' || c == 0x7f;
    if (!blank) out += c;
    if (blank && !out.empty() && out.back() != ' ') out += ' ';
  }
  if (out.size() > config::kMaxModelName) {
    out.resize(config::kMaxModelName);
    out.resize(complete_utf8_prefix(out));
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string usable_model_name(std::string_view name, std::string_view fallback) {
  std::string out = repaired(name);
  if (out.empty()) out = repaired(fallback);
  return out.empty() ? "model" : out;
}

}  // namespace shoal

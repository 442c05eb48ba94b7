#include "model/detokenizer.h"

#include "base/utf8.h"

namespace shoal {

std::string Detokenizer::push(int32_t id) {
  std::string_view bytes = tokenizer_.token_bytes(id);
  if (tokenizer_.is_control(id)) return "";
  if (at_start_ && tokenizer_.strips_leading_space() && bytes.starts_with(' '))
    bytes.remove_prefix(1);
  at_start_ = false;
  pending_ += bytes;
  const size_t complete = complete_utf8_prefix(pending_);
  std::string out = sanitize_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return out;
}

std::string Detokenizer::flush() {
  std::string out = pending_.empty() ? "" : "\xef\xbf\xbd";
  pending_.clear();
  return out;
}

}  // namespace shoal

#include "model/detokenizer.h"

#include <string_view>
#include <utility>

#include "base/utf8.h"

namespace shoal {

std::string Detokenizer::push(int32_t id) {
  std::string_view bytes = tokenizer_.token_bytes(id);
  if (drop_space_ && !bytes.empty()) {
    if (bytes.front() == ' ') bytes.remove_prefix(1);
    drop_space_ = false;
  }
  pending_ += bytes;
  const size_t complete = complete_utf8_prefix(pending_);
  std::string text = sanitize_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string Detokenizer::flush() { return sanitize_utf8(std::exchange(pending_, std::string())); }

}  // namespace shoal

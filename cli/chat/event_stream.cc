#include "cli/chat/event_stream.h"

namespace shoal::chat {

Status EventStream::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (after_cr_ && bytes.front() == '\n') bytes.remove_prefix(1);
    after_cr_ = false;
    const size_t end = bytes.find_first_of("\r\n");
    if (end == std::string_view::npos) {
      pending_ += bytes;
      break;
    }
    after_cr_ = bytes[end] == '\r';
    if (pending_.empty()) {
      line(bytes.substr(0, end));
    } else {
      pending_ += bytes.substr(0, end);
      line(pending_);
      pending_.clear();
    }
    bytes.remove_prefix(end + 1);
  }
  if (pending_.size() + data_.size() > kMaxEventBytes)
    return out_of_range("the server sent an event of more than 64 MiB");
  return Status::ok();
}

void EventStream::finish() {
  if (!pending_.empty()) line(pending_);
  pending_.clear();
  dispatch();
}

void EventStream::line(std::string_view text) {
  if (first_line_ && text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  first_line_ = false;
  if (text.empty()) return dispatch();
  const size_t colon = text.find(':');
  const std::string_view field = text.substr(0, colon);
  // `error: {…}` is not in the standard; llama.cpp's server wrote it for years.
  if (field != "data" && field != "error") return;
  std::string_view value = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += value;
  has_data_ = true;
  if (!take_(data_, false)) return;
  data_.clear();
  has_data_ = false;
}

void EventStream::dispatch() {
  if (has_data_ && !data_.empty()) take_(data_, true);
  data_.clear();
  has_data_ = false;
}

}  // namespace shoal::chat

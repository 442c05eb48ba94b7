// Server-sent events as they arrive, in whatever pieces: lines that end in LF, CR LF or CR, `data:`
// with or without a space, data over several lines, comments.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace shoal::chat {

class EventStream {
 public:
  // Is given the data of an event and says whether it was whole. Called after every data line: many
  // servers leave out the empty line between events, and nobody wants to wait for the next one.
  // `last`: nothing more belongs to this event.
  using Take = std::function<bool(std::string_view data, bool last)>;

  explicit EventStream(Take take) : take_(std::move(take)) {}

  // kOutOfRange: a line or event of more than kMaxEventBytes.
  Status feed(std::string_view bytes);
  // At the end of the stream: also what has no line end.
  void finish();

  static constexpr size_t kMaxEventBytes = size_t{64} << 20;

 private:
  void line(std::string_view text);
  void dispatch();

  const Take take_;
  std::string pending_;  // bytes of a line without its end
  std::string data_;     // of an event that is not whole yet
  bool has_data_ = false;
  bool first_line_ = true;
  bool after_cr_ = false;  // a LF that comes next belongs to it
};

}  // namespace shoal::chat

// Bytes from standard input, together with the signals that may come instead.
#pragma once

#include <string>

#include "base/clock.h"
#include "cli/chat/terminal.h"

namespace shoal::chat {

class Keyboard {
 public:
  explicit Keyboard(Signals& signals) : signals_(signals) {}

  enum class Event { kByte, kEnd, kInterrupt, kResize, kRedraw, kNothing };
  // Waits for one; kNothing: none came within `patience_ms` (−1: for ever).
  Event next(char* byte, int patience_ms = -1);
  // Whether a byte is there, or comes within so long.
  bool more(int patience_ms);
  // The next byte is gone if it is this one; waits for nothing.
  void skip(char byte);
  // Takes over what is there already: was_old() tells such bytes from those that come later.
  void begin_line();
  bool was_old() const { return at_ <= old_; }  // of the byte that next() gave last
  // What has come but was not asked for yet is forgotten.
  void forget();

 private:
  // Reads what is there, without waiting; false at the end of input.
  bool fill();

  Signals& signals_;
  std::string bytes_;
  size_t at_ = 0;
  size_t old_ = 0;  // bytes_[0, old_) had come before the line began
  bool ended_ = false;
  bool interrupted_ = false;  // before the line began
};

}  // namespace shoal::chat

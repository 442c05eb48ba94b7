#include "cli/chat/keyboard.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace shoal::chat {
namespace {

constexpr size_t kChunk = 4096;

bool readable(int patience_ms) {
  pollfd wait{STDIN_FILENO, POLLIN, 0};
  return ::poll(&wait, 1, patience_ms) > 0;
}

}  // namespace

void Keyboard::forget() {
  bytes_.clear();
  at_ = old_ = 0;
}

bool Keyboard::fill() {
  if (at_ == bytes_.size()) forget();
  char chunk[kChunk];
  const ssize_t got = ::read(STDIN_FILENO, chunk, sizeof(chunk));
  if (got > 0) bytes_.append(chunk, static_cast<size_t>(got));
  ended_ = got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN);
  return !ended_;
}

Keyboard::Event Keyboard::next(char* byte, int patience_ms) {
  if (std::exchange(interrupted_, false)) return Event::kInterrupt;
  while (at_ == bytes_.size()) {
    if (was_stopped()) return Event::kRedraw;
    if (std::exchange(ended_, false)) return Event::kEnd;
    pollfd wait[] = {{signals_.fd(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    const int ready = ::poll(wait, 2, patience_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return Event::kEnd;
    if (ready == 0) return Event::kNothing;
    if (wait[0].revents != 0) {
      const Signals::Taken taken = signals_.take();
      if (taken.interrupt) {
        signals_.forget_interrupt();
        forget();
        return Event::kInterrupt;
      }
      if (taken.resize) return Event::kResize;
    }
    if (wait[1].revents != 0) fill();
  }
  *byte = bytes_[at_++];
  return Event::kByte;
}

bool Keyboard::more(int patience_ms) {
  if (at_ < bytes_.size()) return true;
  return readable(patience_ms) && fill() && at_ < bytes_.size();
}

void Keyboard::skip(char byte) {
  if (at_ < bytes_.size() && bytes_[at_] == byte) ++at_;
}

void Keyboard::begin_line() {
  interrupted_ = signals_.interrupted();
  signals_.forget_interrupt();
  bytes_.erase(0, at_);
  at_ = 0;
  for (size_t before = bytes_.size() + 1; before != bytes_.size() && readable(0);) {
    before = bytes_.size();
    if (!fill()) break;
  }
  old_ = bytes_.size();
}

}  // namespace shoal::chat

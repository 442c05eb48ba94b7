#include "cli/chat/piped_input.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/core.h>

namespace shoal::chat {
namespace {

// Whoever forgot that input is part of the question sees nothing happen.
constexpr int kSilentMs = 3000;

}  // namespace

Result<std::string> read_piped_input(Signals& signals, Screen& screen) {
  std::string text;
  bool told = false;
  char chunk[65536];
  for (;;) {
    pollfd wait[] = {{STDIN_FILENO, POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    const int ready = ::poll(wait, 2, told ? -1 : kSilentMs);
    if (signals.interrupted()) return cancelled("stopped");
    if (ready == 0) {
      screen.note(
          "shoal chat: waiting for the end of standard input, which is part of the question "
          "(</dev/null if it is not)");
      told = true;
    }
    if (ready <= 0 || wait[0].revents == 0) continue;
    const ssize_t got = ::read(STDIN_FILENO, chunk, sizeof(chunk));
    if (got == 0) break;
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0)
      return unavailable(fmt::format("cannot read standard input: {}", std::strerror(errno)));
    text.append(chunk, static_cast<size_t>(got));
    if (text.size() > kMaxPipedBytes)
      return out_of_range("standard input holds more than 64 MiB, more than any question may");
  }
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return text;
}

}  // namespace shoal::chat

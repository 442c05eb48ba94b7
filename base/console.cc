#include "base/console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/log.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr Duration kLastWords = std::chrono::seconds(1);
// What a pipe that is ready takes without waiting (PIPE_BUF).
constexpr size_t kPiece = 4096;

// Writes without waiting. O_NONBLOCK belongs to the open file, which other processes share, and
// they may not expect it; so pipes and terminals are opened anew, for this one purpose.
class Outlet {
 public:
  explicit Outlet(int fd) : fd_(fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) return;
    socket_ = S_ISSOCK(info.st_mode);
    if (!S_ISFIFO(info.st_mode) && !S_ISCHR(info.st_mode)) return;
    char path[32];
    std::snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    own_ = ::open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  }
  ~Outlet() {
    if (own_ >= 0) ::close(own_);
  }
  Outlet(const Outlet&) = delete;
  Outlet& operator=(const Outlet&) = delete;

  bool ready(int timeout_ms) const {
    pollfd entry{own_ >= 0 ? own_ : fd_, POLLOUT, 0};
    return ::poll(&entry, 1, timeout_ms) > 0;
  }
  // REQUIRES: ready(). What could not be opened anew is written only as far as it is ready to take.
  // Whole lines if there are some: a pipe takes such a piece at once, also where others write to
  // it.
  ssize_t write(std::string_view text) const {
    size_t size = std::min(text.size(), kPiece);
    if (size < text.size()) {
      const size_t end = text.rfind('\n', size - 1);
      if (end != std::string_view::npos) size = end + 1;
    }
    if (socket_) return ::send(fd_, text.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return ::write(own_ >= 0 ? own_ : fd_, text.data(), size);
  }

 private:
  const int fd_;
  int own_ = -1;
  bool socket_ = false;
};

int left_ms(TimePoint deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1000));
}

}  // namespace

void open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number is this one.
    if (::open("/dev/null", O_RDWR) != fd) std::_Exit(1);
  }
}

size_t write_within(int fd, std::string_view text, Duration patience) {
  const TimePoint deadline = steady_clock::now() + patience;
  const Outlet outlet(fd);
  size_t done = 0;
  while (done < text.size()) {
    if (outlet.ready(left_ms(deadline))) {
      const ssize_t wrote = outlet.write(text.substr(done));
      if (wrote > 0) done += static_cast<size_t>(wrote);
      if (wrote >= 0 || errno == EINTR) continue;
      if (errno != EAGAIN) break;
    }
    if (steady_clock::now() >= deadline) break;
  }
  return done;
}

void print_error(std::string_view text) {
  flush_log(kLastWords);
  write_within(STDERR_FILENO, std::string(text) + "\n", kLastWords);
}

}  // namespace shoal

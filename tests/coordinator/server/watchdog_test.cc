// The watchdog ends processes whose threads stand still, whatever else hangs, and no others.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "coordinator/server/watchdog.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr Watchdog::Options kQuick{
    .period = milliseconds(10), .limit = milliseconds(300), .exit_code = 7};
constexpr int kHung = -1;

struct End {
  int status = kHung;  // of waitpid
  std::string said;    // on standard error
};

// How a child ends that runs `body`; `meanwhile` gets its pid.
End end_of(const std::function<void()>& body, bool full_pipe = false,
           const std::function<void(pid_t)>& meanwhile = {}) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  if (full_pipe) {
    ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (::write(ends[1], "-", 1) > 0) {
    }
    ::fcntl(ends[1], F_SETFL, 0);
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  if (meanwhile) meanwhile(pid);
  End end;
  const auto deadline = steady_clock::now() + std::chrono::seconds(20);
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0 && steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  if (steady_clock::now() < deadline) {
    end.status = status;
  } else {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  char buffer[4096];
  while (!full_pipe) {
    const ssize_t got = ::read(ends[0], buffer, sizeof(buffer));
    if (got <= 0) break;
    end.said.append(buffer, static_cast<size_t>(got));
  }
  ::close(ends[0]);
  return end;
}

void hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// A counter that turns every millisecond until told otherwise.
class Turning {
 public:
  ~Turning() {
    stopping_.store(true);
    thread_.join();
  }
  std::function<uint64_t()> beat() {
    return [this] { return count_.load(); };
  }

 private:
  std::atomic<uint64_t> count_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_{[this] {
    while (!stopping_.load()) {
      ++count_;
      std::this_thread::sleep_for(milliseconds(1));
    }
  }};
};

TEST(Watchdog, EndsAProcessWhoseThreadStandsStillAndSaysWhich) {
  const End end = end_of([] {
    Turning turning;
    Watchdog watchdog({{"the main thread", turning.beat()}, {"the core", [] { return 3; }}},
                      kQuick);
    hang();
  });
  EXPECT_EQ(end.status, 7 << 8);
  EXPECT_EQ(end.said, "shoal: the core has stood still for 0.3 s; ending\n");
}

TEST(Watchdog, DoesNotDependOnWhoeverReadsStandardError) {
  const End end = end_of(
      [] {
        Watchdog watchdog({{"the core", [] { return 3; }}}, kQuick);
        hang();
      },
      true);
  EXPECT_EQ(end.status, 7 << 8);
}

TEST(Watchdog, LeavesAProcessAloneThatTurns) {
  const End end = end_of([] {
    Turning turning;
    Watchdog watchdog({{"the core", turning.beat()}}, kQuick);
    std::this_thread::sleep_for(milliseconds(1000));
  });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.said, "");
}

TEST(Watchdog, TimeInWhichTheWholeProcessStoodStillDoesNotCount) {
  const End end = end_of(
      [] {
        Turning turning;
        Watchdog watchdog({{"the core", turning.beat()}}, kQuick);
        std::this_thread::sleep_for(milliseconds(2000));
      },
      false,
      [](pid_t pid) {
        std::this_thread::sleep_for(milliseconds(100));
        ::kill(pid, SIGSTOP);
        std::this_thread::sleep_for(milliseconds(800));
        ::kill(pid, SIGCONT);
      });
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.said, "");
}

TEST(Watchdog, AnEndThatDoesNotComeIsBroughtAbout) {
  const End end = end_of([] {
    Watchdog watchdog({{"the core", [] { return 3; }}}, kQuick);
    watchdog.expect_end(milliseconds(600));
    hang();
  });
  EXPECT_EQ(end.status, 7 << 8);
  EXPECT_EQ(end.said, "shoal: stopping takes longer than 0.6 s; ending\n");
}

TEST(Watchdog, WhileItStopsNothingHasToTurn) {
  const End end = end_of([] {
    Watchdog watchdog({{"the core", [] { return 3; }}}, kQuick);
    watchdog.expect_end(std::chrono::seconds(60));
    std::this_thread::sleep_for(milliseconds(800));
  });
  EXPECT_EQ(end.status, 0);
}

}  // namespace
}  // namespace shoal

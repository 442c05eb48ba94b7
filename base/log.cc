#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <thread>

#include <fmt/core.h>

#include "base/console.h"
#include "base/quote.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr Duration kPatience = std::chrono::seconds(1);

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarn:
      return "warning";
    case LogLevel::kError:
      return "error";
    case LogLevel::kOff:
      return "off";
  }
  return "";
}

const char* level_colour(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "\x1b[36m";
    case LogLevel::kInfo:
      return "\x1b[32m";
    case LogLevel::kWarn:
      return "\x1b[33m\x1b[1m";
    case LogLevel::kError:
      return "\x1b[31m\x1b[1m";
    case LogLevel::kOff:
      return "";
  }
  return "";
}

bool shows_colours() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) != 0 && term != nullptr && std::string_view(term) != "dumb";
}

class Logger {
 public:
  void start(LogLevel level) {
    level_.store(level);
    colours_ = shows_colours();
    if (threaded_.exchange(true)) return;
    // No signal is for this thread: whoever waits for them is to get them.
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { write_all(); }).detach();
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    std::atexit([] { flush_log(kPatience); });
  }

  void set_role(std::string_view role) {
    std::lock_guard lock(mutex_);
    role_ = role;
  }

  bool enabled(LogLevel level) const { return level >= level_.load() && level != LogLevel::kOff; }

  void add(LogLevel level, std::string_view message) {
    const std::string head = time_and_level(level);
    std::unique_lock lock(mutex_);
    std::string line = fmt::format("{} [{}] {}\n", head, role_, message);
    if (!threaded_.load()) {
      lock.unlock();
      write_within(STDERR_FILENO, line, kPatience);
      return;
    }
    if (lines_ >= kMaxLogLines || queue_.size() + line.size() > kMaxLogBytes) {
      ++unreported_;
      ++dropped_;
      return;
    }
    queue_ += line;
    ++lines_;
    lock.unlock();
    changed_.notify_all();
  }

  // Does not trust the lock: the thread that has it may be the one that ends the program.
  void flush(Duration patience) {
    if (!threaded_.load()) return;
    const TimePoint deadline = steady_clock::now() + patience;
    while (steady_clock::now() < deadline) {
      if (std::unique_lock lock(mutex_, std::try_to_lock);
          lock && queue_.empty() && unreported_ == 0 && !writing_)
        return;
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  uint64_t dropped() const { return dropped_.load(); }

 private:
  std::string time_and_level(LogLevel level) const {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm local{};
    ::localtime_r(&now.tv_sec, &local);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03} {}{}{}", local.tm_year + 1900,
                       local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec,
                       now.tv_nsec / 1'000'000, colours_ ? level_colour(level) : "",
                       level_name(level), colours_ ? "\x1b[m" : "");
  }

  [[noreturn]] void write_all() {
    for (;;) {
      std::string text;
      {
        std::unique_lock lock(mutex_);
        writing_ = false;
        changed_.wait(lock, [this] { return !queue_.empty() || unreported_ > 0; });
        writing_ = true;
        text.swap(queue_);
        lines_ = 0;
        if (unreported_ > 0) {
          text += fmt::format(
              "{} [{}] {} lines of the log were dropped here: standard error did not take them\n",
              time_and_level(LogLevel::kWarn), role_, unreported_);
          unreported_ = 0;
        }
      }
      write(text);
    }
  }

  // Until somebody reads, or it is certain that nobody will.
  void write(std::string_view text) {
    while (!text.empty()) {
      const TimePoint begin = steady_clock::now();
      const size_t wrote = write_within(STDERR_FILENO, text, kPatience);
      text.remove_prefix(wrote);
      if (wrote > 0 || steady_clock::now() - begin >= kPatience) continue;
      dropped_ += static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
      return;
    }
  }

  std::atomic<LogLevel> level_{LogLevel::kInfo};
  std::atomic<bool> threaded_{false};
  std::atomic<uint64_t> dropped_{0};
  bool colours_ = false;  // set before the thread starts
  std::mutex mutex_;      // guards everything below
  std::condition_variable changed_;
  std::string role_ = "shoal";
  std::string queue_;  // whole lines
  size_t lines_ = 0;
  uint64_t unreported_ = 0;
  bool writing_ = false;
};

// Never destroyed: its thread writes until the process is gone.
Logger& logger() {
  static auto* const instance = new Logger;
  return *instance;
}

// Of a message; figures of a plan over many ranks are the longest.
constexpr size_t kLineBytes = 4096;
constexpr size_t kRoleBytes = 64;

}  // namespace

Result<LogLevel> parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warn") return LogLevel::kWarn;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return invalid_argument("unknown log level " + in_quotes(name) +
                          "; one of debug, info, warn, error, off");
}

void init_logging(LogLevel level, std::string_view role) {
  set_log_role(role);
  logger().start(level);
}

void set_log_role(std::string_view role) { logger().set_role(excerpt(role, kRoleBytes)); }

bool log_enabled(LogLevel level) { return logger().enabled(level); }

void log(LogLevel level, std::string_view message) {
  // Whatever it quotes stays on one line.
  if (logger().enabled(level)) logger().add(level, excerpt(message, kLineBytes));
}

void flush_log(Duration patience) { logger().flush(patience); }

uint64_t log_dropped() { return logger().dropped(); }

}  // namespace shoal

#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
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
#include "base/utf8.h"

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

// Escape sequences have an effect; so do the carriage returns of a status line.
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
    add_line(fmt::format("{} [{}] {}\n", head, role_, message), lock);
  }

  void add_foreign(std::string_view line) {
    std::string text = (colours_ ? coloured(line) : std::string(line)) + "\n";
    std::unique_lock lock(mutex_);
    add_line(std::move(text), lock);
  }

  void set_status(std::string_view text) {
    if (!colours_ || !threaded_.load()) return;
    {
      std::lock_guard lock(mutex_);
      status_ = text;
      hide_status_ = false;
    }
    changed_.notify_all();
  }
  bool shows_status() const { return colours_ && threaded_.load(); }

  // Does not trust the lock: the thread that has it may be the one that ends the program.
  void flush(Duration patience) {
    if (!threaded_.load()) return;
    hide_status_ = true;
    const TimePoint deadline = steady_clock::now() + patience;
    while (steady_clock::now() < deadline) {
      changed_.notify_all();
      if (std::unique_lock lock(mutex_, std::try_to_lock);
          lock && queue_.empty() && unreported_ == 0 && !writing_ && shown_.empty())
        return;
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  uint64_t dropped() const { return dropped_.load(); }

 private:
  // REQUIRES: `lock` holds mutex_; gives it up.
  void add_line(std::string line, std::unique_lock<std::mutex>& lock) {
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

  // A line that begins with a time and a level, as time_and_level() would have shown them here.
  static std::string coloured(std::string_view line) {
    constexpr size_t kTimeBytes = 24;  // with the space behind it
    for (const LogLevel level :
         {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
      const std::string_view name = level_name(level);
      if (line.size() <= kTimeBytes || !line.substr(kTimeBytes).starts_with(name)) continue;
      return fmt::format("{}{}{}\x1b[m{}", line.substr(0, kTimeBytes), level_colour(level), name,
                         line.substr(kTimeBytes + name.size()));
    }
    return std::string(line);
  }

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
        changed_.wait(lock, [this] {
          return !queue_.empty() || unreported_ > 0 || wanted_status() != shown_;
        });
        writing_ = true;
        const std::string erased = erase_status(shown_);
        text = std::move(queue_);
        queue_.clear();
        lines_ = 0;
        if (unreported_ > 0) {
          text += fmt::format(
              "{} [{}] {} lines of the log were dropped here: standard error did not take them\n",
              time_and_level(LogLevel::kWarn), role_, unreported_);
          unreported_ = 0;
        }
        shown_ = wanted_status();
        text = erased + text + fitting(shown_);
      }
      write(text);
    }
  }

  // REQUIRES: mutex_ held.
  std::string wanted_status() const { return hide_status_.load() ? "" : status_; }

  static size_t columns() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  }

  // Columns a character takes, at most: what is East Asian and wide begins at U+1100.
  static size_t width(uint32_t c) { return c >= 0x1100 ? 2 : 1; }

  // `text` cut so that the cursor stays on its row.
  static std::string fitting(std::string_view text) {
    const size_t room = columns() - 1;
    size_t used = 0;
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      used += width(next_code_point(text, &pos));
      if (used > room) return std::string(text.substr(0, begin));
    }
    return std::string(text);
  }

  // Takes `shown` away, also where a narrower window has broken it into rows.
  std::string erase_status(std::string_view shown) {
    size_t used = 0;
    for (size_t pos = 0; pos < shown.size();) used += width(next_code_point(shown, &pos));
    const size_t now = columns();
    const size_t had = std::min(used, std::max<size_t>(status_columns_, 1) - 1);
    status_columns_ = now;
    if (shown.empty()) return "";
    const size_t rows_above = had == 0 ? 0 : (had - 1) / now;
    std::string out = "\r";
    for (size_t i = 0; i < rows_above; ++i) out += "\x1b[A";
    return out + "\x1b[J";
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
  std::string status_;         // what is wanted
  std::string shown_;          // what stands on the terminal
  size_t status_columns_ = 0;  // the terminal's width when that was written; writing thread only
  std::atomic<bool> hide_status_{false};
};

// Never destroyed: its thread writes until the process is gone.
Logger& logger() {
  static auto* const instance = new Logger;
  return *instance;
}

// Of a message; figures of a plan over many ranks are the longest. With time, level, colours and
// role a line has at most 4096 bytes (PIPE_BUF).
constexpr size_t kLineBytes = 3840;
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

void log_line(std::string_view line) { logger().add_foreign(excerpt(line, kLineBytes + 128)); }

void set_status_line(std::string_view text) { logger().set_status(excerpt(text)); }

bool log_shows_status() { return logger().shows_status(); }

void flush_log(Duration patience) { logger().flush(patience); }

uint64_t log_dropped() { return logger().dropped(); }

}  // namespace shoal

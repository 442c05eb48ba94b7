// One logger, to standard error. It never makes its caller wait: a line is queued and a thread of
// its own writes it; when nobody reads standard error the queue fills, further lines are dropped,
// counted, and their number is logged when there is room again. Format with fmt::format at the call
// site.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"

namespace shoal {

enum class LogLevel { kDebug, kInfo, kWarn, kError, kOff };

// "debug", "info", "warn", "error", "off".
Result<LogLevel> parse_log_level(std::string_view name);

// Call once from main. `role` ("coordinator", "worker 2") is part of every line. Starts the thread
// that writes; what is queued when the program ends is written first, within a second. Without it
// lines from kInfo on are written at once, each within a second: for tests.
void init_logging(LogLevel level, std::string_view role);
void set_log_role(std::string_view role);
bool log_enabled(LogLevel level);

// All thread-safe.
// One line, whatever the message holds: control characters are escaped, what is more than fits into
// PIPE_BUF with the rest of the line is cut off, so that processes that share a pipe never tear
// each other's lines.
void log(LogLevel level, std::string_view message);
inline void log_debug(std::string_view m) { log(LogLevel::kDebug, m); }
inline void log_info(std::string_view m) { log(LogLevel::kInfo, m); }
inline void log_warn(std::string_view m) { log(LogLevel::kWarn, m); }
inline void log_error(std::string_view m) { log(LogLevel::kError, m); }

// A line of another process's log, as it came: only control characters are escaped and the level
// coloured. Its level was judged where it was written.
void log_line(std::string_view line);

// Progress on a terminal: one line below the log, cut to the terminal's width, which is taken away
// before anything else is written and comes back behind it. Empty: none. Elsewhere (no terminal, or
// one that cannot erase) nothing is shown: log_shows_status() tells.
void set_status_line(std::string_view text);
bool log_shows_status();

// Waits until all that was logged is written and no status line is left, at most so long. Needed
// before _exit, abort, and whatever is printed by other means.
void flush_log(Duration patience);
// Lines dropped since the program began.
uint64_t log_dropped();

// What may wait in the queue.
inline constexpr size_t kMaxLogLines = 4096;
inline constexpr size_t kMaxLogBytes = size_t{1} << 20;

}  // namespace shoal

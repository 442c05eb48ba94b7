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
// One line, whatever the message holds: control characters are escaped, more than 4 KiB cut off.
void log(LogLevel level, std::string_view message);
inline void log_debug(std::string_view m) { log(LogLevel::kDebug, m); }
inline void log_info(std::string_view m) { log(LogLevel::kInfo, m); }
inline void log_warn(std::string_view m) { log(LogLevel::kWarn, m); }
inline void log_error(std::string_view m) { log(LogLevel::kError, m); }

// Waits until all that was logged is written, at most so long. Needed before _exit and abort only.
void flush_log(Duration patience);
// Lines dropped since the program began.
uint64_t log_dropped();

// What may wait in the queue.
inline constexpr size_t kMaxLogLines = 4096;
inline constexpr size_t kMaxLogBytes = size_t{1} << 20;

}  // namespace shoal

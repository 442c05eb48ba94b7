// Logging set-up: one logger to standard error. spdlog stays inside log.cc, so that including
// this header costs nothing; format with fmt::format at the call site.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace shoal {

enum class LogLevel { kDebug, kInfo, kWarn, kError, kOff };

// "debug", "info", "warn", "error", "off".
Result<LogLevel> parse_log_level(std::string_view name);

// Call once from main. `role` ("coordinator", "worker 2") is part of every line.
void init_logging(LogLevel level, std::string_view role);
void set_log_role(std::string_view role);
bool log_enabled(LogLevel level);

// Thread-safe.
void log(LogLevel level, std::string_view message);
inline void log_debug(std::string_view m) { log(LogLevel::kDebug, m); }
inline void log_info(std::string_view m) { log(LogLevel::kInfo, m); }
inline void log_warn(std::string_view m) { log(LogLevel::kWarn, m); }
inline void log_error(std::string_view m) { log(LogLevel::kError, m); }

}  // namespace shoal

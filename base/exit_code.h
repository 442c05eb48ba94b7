// Exit codes of `shoal`.
#pragma once

namespace shoal {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // while running
// The command line, configuration or model is wrong: trying again does not help.
inline constexpr int kExitUsage = 2;

}  // namespace shoal

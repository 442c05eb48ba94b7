// Standard input that is no terminal.
#pragma once

#include <string>

#include "base/status.h"
#include "cli/chat/terminal.h"

namespace shoal::chat {

// All of it, without line ends at the end. Says on standard error that it waits, if it does for
// long. kOutOfRange: more than kMaxPipedBytes; kCancelled: Ctrl-C; kUnavailable: it cannot be read.
Result<std::string> read_piped_input(Signals& signals, Screen& screen);

inline constexpr size_t kMaxPipedBytes = size_t{64} << 20;

}  // namespace shoal::chat

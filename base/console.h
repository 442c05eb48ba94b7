// Standard input, output and error of a program that must not depend on who reads them: a pipe that
// nobody empties, a terminal that is stopped, a descriptor that was closed.
#pragma once

#include <string_view>

#include "base/clock.h"

namespace shoal {

// Opens /dev/null for those of 0, 1 and 2 that are closed: the next file would otherwise get their
// number, and what is printed would go into it. Call before anything opens a descriptor.
void open_standard_descriptors();

// Writes to the standard descriptor `fd` (1 or 2) and waits at most `patience` for a reader who is
// slow; how many bytes were taken, text.size() if all. Thread-safe, without locks or memory of the
// heap. SIGPIPE is the caller's affair.
size_t write_within(int fd, std::string_view text, Duration patience);

// Where every program's last words go: to standard error, after what was logged before, with a line
// break; given up after a second.
void print_error(std::string_view text);

}  // namespace shoal

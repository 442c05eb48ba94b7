// One child process that starts with a clean table: of its parent's descriptors it has the three
// standard ones and at most one more, of its signals none blocked and none handled. It dies with
// the thread that started it (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/status.h"

namespace shoal {

// Where a child finds the descriptor that `inherited` names.
inline constexpr int kInheritedDescriptor = 3;

// argv[0] is the program's path. Standard input is /dev/null; output and error are the parent's, or
// both `output` where that is ≥ 0. `inherited` ≥ 0: this descriptor too, as kInheritedDescriptor.
// Returns once the program runs; kUnavailable: no process can be made, kFailedPrecondition: the
// program cannot be executed.
Result<pid_t> start_child(const std::vector<std::string>& argv, int inherited = -1,
                          int output = -1);

// The path of the program that runs, to start it again. kFailedPrecondition: /proc is not mounted.
Result<std::string> own_program();

}  // namespace shoal

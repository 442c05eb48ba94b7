// Keeps child processes alive: starts them, notices at once when one ends, starts it again with a
// growing pause. Children die with their parent (PR_SET_PDEATHSIG), so a killed server leaves none.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoal {

struct ChildSpec {
  std::string name;
  std::vector<std::string> argv;  // argv[0] is the program's path
};

struct ChildExit {
  std::string name;
  pid_t pid = 0;
  std::string how;        // "killed by signal 9", "exited with 2"
  bool restarts = false;  // false: it failed too often and is left alone
};

class Supervisor {
 public:
  struct Options {
    // Called on the supervisor's thread each time a child ends unasked.
    std::function<void(const ChildExit&)> on_exit;
    // Give up on a child that ended this often without once living for `stable_seconds`.
    int max_failures = 5;
    double stable_seconds = 30;
  };
  // Starts all children or none.
  static Result<std::unique_ptr<Supervisor>> start(std::vector<ChildSpec> children,
                                                   Options options);
  virtual ~Supervisor() = default;

  // SIGTERM to all, SIGKILL after `grace_seconds` to those left; returns when none is left.
  virtual void stop(double grace_seconds) = 0;
  // SIGKILL to a living child with this pid; it is then restarted like any that ended.
  virtual void kill(pid_t pid) = 0;
  virtual std::vector<pid_t> pids() const = 0;  // of living children
};

}  // namespace shoal

// Keeps child processes alive: starts them, notices at once when one ends, starts it again, after a
// pause that grows with every failure but never for ever. Children die with their parent
// (PR_SET_PDEATHSIG), so a killed server leaves none. How they start: child_process.h.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "base/status.h"

namespace shoal {

struct ChildSpec {
  std::string name;
  std::vector<std::string> argv;  // argv[0] is the program's path
  // Given to the child as kInheritedDescriptor, also when it starts again; null: nothing.
  std::shared_ptr<const Descriptor> inherited;
};

struct ChildExit {
  std::string name;
  pid_t pid = 0;
  std::string how;   // "was killed by signal 9", "exited with 2"
  int failures = 0;  // ends in a row without once living for stable_seconds; ≥ 1
  int refusals = 0;  // of these, the latest in a row that were quick ends with refusal_code
  double next_try_seconds = 0;
};

class Supervisor {
 public:
  struct Options {
    // Called on the supervisor's thread each time a child ends unasked.
    std::function<void(const ChildExit&)> on_exit;
    // Called with lines that children print, as they are to be shown (child_output.h), before what
    // on_exit says of their end; empty: children have this process's standard output and error.
    std::function<void(std::string_view line)> on_line;
    // The pause doubles with every failure in a row.
    double first_backoff_seconds = 0.1, max_backoff_seconds = 60;
    double stable_seconds = 30;  // a child that lived so long begins anew
    // An end with this code within so many seconds: the child says that trying again does not help.
    int refusal_code = 2;
    double refusal_seconds = 5;
    // A number that changes when there is reason for hope: children that wait for their pause to
    // end are started at once. Called on the supervisor's thread, must not block; may be empty.
    std::function<uint64_t()> hope;
  };
  // Starts all children or none.
  static Result<std::unique_ptr<Supervisor>> start(std::vector<ChildSpec> children,
                                                   Options options);
  virtual ~Supervisor() = default;

  // SIGTERM to all, SIGKILL after `grace_seconds` to those left; returns when none is left, or five
  // seconds later if one cannot be killed (a disk that hangs).
  virtual void stop(double grace_seconds) = 0;
  // SIGKILL to a living child with this pid; it is then restarted like any that ended.
  virtual void kill(pid_t pid) = 0;
  virtual std::vector<pid_t> pids() const = 0;  // of living children
  // "worker w1 failed 7 times, next try in 12 s"; empty if none waits. Thread-safe.
  virtual std::string waiting() const = 0;
};

}  // namespace shoal

// Who a process is, in a way that survives pid reuse and tells namespaces apart.
#pragma once

#include <cstdint>

namespace shoal {

struct ProcessIdentity {
  int32_t pid = 0;
  uint64_t pid_namespace = 0;  // inode of /proc/self/ns/pid; 0: unknown
  uint64_t start_time = 0;     // clock ticks since boot, field 22 of /proc/PID/stat; 0: unknown
};

ProcessIdentity this_process();

// False only if the process is certainly gone: no such pid, a zombie, or another process under its
// pid. A process of another namespace cannot be judged and counts as alive.
bool may_be_alive(const ProcessIdentity& process, const ProcessIdentity& self);

}  // namespace shoal

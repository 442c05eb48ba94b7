#include "parallel/collective/process_identity.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace shoal {
namespace {

struct ProcStat {
  char state = 0;  // 0: unreadable
  uint64_t start_time = 0;
};

ProcStat read_proc_stat(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  char text[1024];
  const ssize_t got = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (got <= 0) return {};
  text[got] = 0;
  // The command, field 2, is in parentheses and may hold anything, also parentheses.
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] != ' ') return {};
  ProcStat stat;
  stat.state = at[2];
  at += 2;
  for (int field = 3; field < 22; ++field) {
    at = std::strchr(at, ' ');
    if (at == nullptr) return stat;
    ++at;
  }
  stat.start_time = std::strtoull(at, nullptr, 10);
  return stat;
}

}  // namespace

ProcessIdentity this_process() {
  ProcessIdentity self;
  self.pid = getpid();
  struct stat info {};
  if (stat("/proc/self/ns/pid", &info) == 0) self.pid_namespace = info.st_ino;
  // Not by pid: /proc may be that of an outer namespace, where the pid is another.
  self.start_time = read_proc_stat("/proc/self/stat").start_time;
  return self;
}

bool may_be_alive(const ProcessIdentity& process, const ProcessIdentity& self) {
  if (process.pid <= 0 || process.pid_namespace == 0) return true;
  if (process.pid_namespace != self.pid_namespace || process.pid == self.pid) return true;
  if (kill(process.pid, 0) != 0 && errno == ESRCH) return false;
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/%d/stat", process.pid);
  const ProcStat stat = read_proc_stat(path);
  if (stat.state == 'Z' || stat.state == 'X') return false;  // nobody has reaped it yet
  return stat.start_time == 0 || process.start_time == 0 || stat.start_time == process.start_time;
}

}  // namespace shoal

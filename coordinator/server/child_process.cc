#include "coordinator/server/child_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fmt/core.h>

#include "base/descriptor.h"

namespace shoal {
namespace {

// Descriptors the child needs until it is another program lie above all it gets.
constexpr int kFirstSpare = kInheritedDescriptor + 1;
// A program on a file system that hangs; the child then counts as started.
constexpr int kExecPatienceMs = 5000;
constexpr unsigned kCloseOnExec = 1U << 2;  // CLOSE_RANGE_CLOEXEC; glibc 2.36 wraps no flags

// ---- between fork and exec: the parent has threads, so only what is async-signal-safe

// As the kernel writes it for getdents64; glibc's dirent64 is the same but for the length of name.
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

// For kernels before 5.11: every descriptor that /proc lists.
void close_listed_on_exec(int first) {
  const int folder = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  alignas(DirectoryEntry) char buffer[4096];
  for (long bytes; (bytes = ::syscall(SYS_getdents64, folder, buffer, sizeof(buffer))) > 0;) {
    for (long at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const DirectoryEntry*>(buffer + at);
      at += entry->length;
      int fd = 0;
      const char* digit = entry->name;
      for (; *digit >= '0' && *digit <= '9'; ++digit) fd = fd * 10 + (*digit - '0');
      if (digit != entry->name && fd >= first) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
  }
}

void close_on_exec_from(int first) {
  if (::syscall(SYS_close_range, static_cast<unsigned>(first), ~0U, kCloseOnExec) != 0)
    close_listed_on_exec(first);
}

void reset_signals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// What the child is to have; −1: nothing, or its parent's.
struct Outfit {
  int input, output, inherited, report;
};

[[noreturn]] void become(char* const* argv, pid_t parent, const Outfit& outfit) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);  // the parent died in between
  // A terminal's Ctrl-C goes to the group: the parent decides how its children end.
  ::setpgid(0, 0);
  ::dup2(outfit.input, STDIN_FILENO);
  if (outfit.output >= 0) {
    ::dup2(outfit.output, STDOUT_FILENO);
    ::dup2(outfit.output, STDERR_FILENO);
  }
  if (outfit.inherited >= 0) ::dup2(outfit.inherited, kInheritedDescriptor);
  close_on_exec_from(outfit.inherited >= 0 ? kFirstSpare : kInheritedDescriptor);
  reset_signals();
  ::execv(argv[0], argv);
  const int error = errno;
  (void)!::write(outfit.report, &error, sizeof(error));
  ::_exit(127);
}

// ---- in the parent

// A copy above what the child gets, so that putting that in place overwrites nothing.
Descriptor spare_copy(int fd) { return Descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, kFirstSpare)); }

// What execv failed with; 0 once the program runs.
int exec_error(int report) {
  pollfd ready{report, POLLIN, 0};
  while (::poll(&ready, 1, kExecPatienceMs) < 0 && errno == EINTR) {
  }
  int error = 0;
  if (ready.revents == 0 || ::read(report, &error, sizeof(error)) != sizeof(error)) return 0;
  return error;
}

}  // namespace

Result<pid_t> start_child(const std::vector<std::string>& argv, int inherited, int output) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return unavailable(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  const Descriptor from(ends[0]);
  Descriptor low(ends[1]);
  Descriptor to = spare_copy(low.get());
  low.close();
  const Descriptor null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Descriptor spare_null = null.valid() ? spare_copy(null.get()) : Descriptor();
  const Descriptor gift = inherited >= 0 ? spare_copy(inherited) : Descriptor();
  const Descriptor spare_output = output >= 0 ? spare_copy(output) : Descriptor();
  if (!to.valid() || !spare_null.valid() || (inherited >= 0 && !gift.valid()) ||
      (output >= 0 && !spare_output.valid()))
    return unavailable(fmt::format("cannot open what a child needs: {}", std::strerror(errno)));

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return unavailable(fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (pid == 0)
    become(words.data(), parent, {spare_null.get(), spare_output.get(), gift.get(), to.get()});
  to.close();
  if (const int error = exec_error(from.get()); error != 0) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return failed_precondition(fmt::format("cannot execute {}: {}", argv[0], std::strerror(error)));
  }
  return pid;
}

Result<std::string> own_program() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) return path.string();
  return failed_precondition(fmt::format(
      "workers cannot be started: /proc/self/exe: {}; /proc must be mounted", error.message()));
}

}  // namespace shoal

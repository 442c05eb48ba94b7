#include "cli/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include <fmt/core.h>

#include "base/clock.h"
#include "base/log.h"

namespace shoal {
namespace {

using Steady = std::chrono::steady_clock;

std::string describe(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was killed by signal {}", WTERMSIG(status));
  return fmt::format("exited with {}", WEXITSTATUS(status));
}

// The process's descriptor, which polls readable when it ends (glibc 2.36 has no wrapper in
// <unistd.h>).
int open_pidfd(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

class SupervisorImpl final : public Supervisor {
 public:
  SupervisorImpl(std::vector<ChildSpec> specs, Options options) : options_(std::move(options)) {
    for (ChildSpec& spec : specs) children_.push_back({.spec = std::move(spec)});
  }

  ~SupervisorImpl() override { stop(1.0); }

  Status start_all() {
    if (::pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) return unavailable("cannot make a pipe");
    // PR_SET_PDEATHSIG follows the *thread* that forked: the watching thread must do it, and lives
    // as long as this object.
    std::unique_lock lock(mutex_);
    thread_ = std::thread([this] { watch(); });
    started_.wait(lock, [this] { return start_done_; });
    return start_status_;
  }

  void stop(double grace_seconds) override {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      stopping_ = true;
      grace_ = from_seconds(grace_seconds);
    }
    wake();
    if (thread_.joinable()) thread_.join();
    for (const int fd : wake_) {
      if (fd >= 0) ::close(fd);
    }
  }

  void kill(pid_t pid) override {
    std::lock_guard lock(mutex_);
    for (const Child& child : children_) {
      if (child.pid > 0 && child.pid == pid) ::kill(pid, SIGKILL);
    }
  }

  std::vector<pid_t> pids() const override {
    std::lock_guard lock(mutex_);
    std::vector<pid_t> out;
    for (const Child& child : children_) {
      if (child.pid > 0) out.push_back(child.pid);
    }
    return out;
  }

 private:
  struct Child {
    ChildSpec spec;
    pid_t pid = 0;  // 0: not running
    int pidfd = -1;
    Steady::time_point started{};
    Steady::time_point restart_at = Steady::time_point::max();
    int failures = 0;
  };

  void wake() {
    const char byte = 0;
    (void)!::write(wake_[1], &byte, 1);
  }

  Status spawn(Child& child) {
    std::vector<char*> argv;
    for (std::string& word : child.spec.argv) argv.push_back(word.data());
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0)
      return unavailable(fmt::format("cannot start {}: {}", child.spec.name, std::strerror(errno)));
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);  // the parent died in between
      // A terminal's Ctrl-C goes to the group: the parent decides how its children end.
      ::setpgid(0, 0);
      sigset_t none;
      sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    child.pid = pid;
    child.pidfd = open_pidfd(pid);
    child.started = Steady::now();
    child.restart_at = Steady::time_point::max();
    return Status::ok();
  }

  void watch() {
    {
      std::lock_guard lock(mutex_);
      for (Child& child : children_) {
        start_status_ = spawn(child);
        if (!start_status_) break;
      }
      start_done_ = true;
    }
    started_.notify_all();
    while (true) {
      wait_for_change();
      {
        std::lock_guard lock(mutex_);
        if (stopping_ || !start_status_) break;
      }
      for (const ChildExit& exit : reap()) {
        if (options_.on_exit) options_.on_exit(exit);
      }
      restart_due();
    }
    end_all();
  }

  void wait_for_change() {
    std::vector<pollfd> fds{{wake_[0], POLLIN, 0}};
    {
      std::lock_guard lock(mutex_);
      for (const Child& child : children_) {
        if (child.pid > 0 && child.pidfd >= 0) fds.push_back({child.pidfd, POLLIN, 0});
      }
    }
    // The timeout serves restarts that fall due, and kernels without pidfd_open.
    ::poll(fds.data(), fds.size(), 100);
    char drain[16];
    while (::read(wake_[0], drain, sizeof(drain)) > 0) {
    }
  }

  std::vector<ChildExit> reap() {
    std::vector<ChildExit> exits;
    std::lock_guard lock(mutex_);
    for (Child& child : children_) {
      int status = 0;
      if (child.pid <= 0 || ::waitpid(child.pid, &status, WNOHANG) != child.pid) continue;
      const auto now = Steady::now();
      if (to_seconds(now - child.started) >= options_.stable_seconds) child.failures = 0;
      ++child.failures;
      const bool restarts = child.failures < options_.max_failures;
      exits.push_back({child.spec.name, child.pid, describe(status), restarts});
      if (child.pidfd >= 0) ::close(child.pidfd);
      child.pid = 0;
      child.pidfd = -1;
      // 0.1, 0.2, 0.4 … seconds: a crash loop must not burn the machine.
      if (restarts)
        child.restart_at = now + from_seconds(0.1 * static_cast<double>(1 << (child.failures - 1)));
    }
    return exits;
  }

  void restart_due() {
    std::lock_guard lock(mutex_);
    const auto now = Steady::now();
    for (Child& child : children_) {
      if (child.pid > 0 || child.restart_at > now) continue;
      if (Status status = spawn(child); !status) {
        log_error(status.message());
        child.restart_at = now + std::chrono::seconds(1);
      }
    }
  }

  void end_all() {
    std::lock_guard lock(mutex_);
    const auto signal_all = [&](int signal) {
      for (const Child& child : children_) {
        if (child.pid > 0) ::kill(child.pid, signal);
      }
    };
    const auto any_left = [&] {
      for (Child& child : children_) {
        if (child.pid > 0 && ::waitpid(child.pid, nullptr, WNOHANG) != 0) {
          if (child.pidfd >= 0) ::close(child.pidfd);
          child.pid = 0;
        }
      }
      return std::any_of(children_.begin(), children_.end(),
                         [](const Child& c) { return c.pid > 0; });
    };
    signal_all(SIGTERM);
    const auto deadline = Steady::now() + grace_;
    while (any_left() && Steady::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    signal_all(SIGKILL);
    while (any_left()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable started_;
  std::vector<Child> children_;
  std::thread thread_;
  int wake_[2] = {-1, -1};
  bool start_done_ = false;
  bool stopping_ = false;
  Duration grace_ = std::chrono::seconds(1);
  Status start_status_;
};

}  // namespace

Result<std::unique_ptr<Supervisor>> Supervisor::start(std::vector<ChildSpec> children,
                                                      Options options) {
  auto supervisor = std::make_unique<SupervisorImpl>(std::move(children), std::move(options));
  SHOAL_TRY(supervisor->start_all());
  return std::unique_ptr<Supervisor>(std::move(supervisor));
}

}  // namespace shoal

#include "coordinator/server/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <fmt/core.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/server/child_output.h"
#include "coordinator/server/child_process.h"

namespace shoal {
namespace {

using Steady = std::chrono::steady_clock;

// After SIGKILL a process ends unless the kernel cannot let go of it.
constexpr Duration kKillPatience = std::chrono::seconds(5);
// A child's last words, once it has ended: they are in the pipe.
constexpr Duration kLastWords = std::chrono::milliseconds(200);
// Notice of a restart that is due, of hope, and of ends on kernels without pidfd_open.
constexpr int kTurnMs = 100;

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
    if (options_.on_line)
      output_ = std::make_unique<ChildOutput>(children_.size(), options_.on_line);
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
    output_.reset();  // with what they said last
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

  std::string waiting() const override {
    std::lock_guard lock(mutex_);
    const auto now = Steady::now();
    std::string text;
    for (const Child& child : children_) {
      if (child.pid > 0 || child.failures == 0) continue;
      text += fmt::format("{}worker {} failed {} time{}, next try in {:.0f} s",
                          text.empty() ? "" : "; ", child.spec.name, child.failures,
                          child.failures == 1 ? "" : "s",
                          std::max(0.0, std::ceil(to_seconds(child.restart_at - now))));
    }
    return text;
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
    int refusals = 0;
  };

  void wake() {
    const char byte = 0;
    (void)!::write(wake_[1], &byte, 1);
  }

  // Without the lock while the child starts, which may take as long as its disk does: children
  // change on this thread only, others wait for nothing but a look at them.
  Status spawn(Child& child) {
    Descriptor output;
    if (output_ != nullptr) {
      SHOAL_ASSIGN(output, output_->add(child.spec.name));
    }
    auto pid = start_child(child.spec.argv, child.spec.inherited ? child.spec.inherited->get() : -1,
                           output.get());
    if (!pid) return pid.status().annotate("worker " + child.spec.name);
    const int pidfd = open_pidfd(*pid);
    std::lock_guard lock(mutex_);
    child.pid = *pid;
    child.pidfd = pidfd;
    child.started = Steady::now();
    child.restart_at = Steady::time_point::max();
    return Status::ok();
  }

  // 0.1, 0.2, 0.4 … seconds: a crash loop must not burn the machine.
  double backoff_seconds(int failures) const {
    return std::min(options_.max_backoff_seconds,
                    options_.first_backoff_seconds * std::exp2(std::min(failures - 1, 60)));
  }

  void watch() {
    hope_ = options_.hope ? options_.hope() : 0;
    Status status;
    for (Child& child : children_) {
      status = spawn(child);
      if (!status) break;
    }
    {
      std::lock_guard lock(mutex_);
      start_status_ = status;
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
        if (output_ != nullptr) output_->drain(exit.name, kLastWords);
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
    ::poll(fds.data(), fds.size(), kTurnMs);
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
      const double lived = to_seconds(now - child.started);
      if (lived >= options_.stable_seconds) child.failures = 0;
      const bool refused = WIFEXITED(status) && WEXITSTATUS(status) == options_.refusal_code &&
                           lived <= options_.refusal_seconds;
      child.refusals = refused ? child.refusals + 1 : 0;
      const double pause = note_failure(child, now);
      exits.push_back(
          {child.spec.name, child.pid, describe(status), child.failures, child.refusals, pause});
      if (child.pidfd >= 0) ::close(child.pidfd);
      child.pid = 0;
      child.pidfd = -1;
    }
    return exits;
  }

  // REQUIRES: mutex_ held.
  double note_failure(Child& child, Steady::time_point now) {
    ++child.failures;
    const double pause = backoff_seconds(child.failures);
    child.restart_at = now + from_seconds(pause);
    return pause;
  }

  void restart_due() {
    const uint64_t hope = options_.hope ? options_.hope() : 0;
    for (Child& child : children_) {
      if (child.pid > 0) continue;
      if (hope != hope_) {
        std::lock_guard lock(mutex_);
        child.failures = child.refusals = 0;
        child.restart_at = Steady::now();
      }
      if (child.restart_at > Steady::now()) continue;
      if (Status status = spawn(child); !status) {
        std::lock_guard lock(mutex_);
        log_error(fmt::format("{}; next try in {:.1f} s", status.message(),
                              note_failure(child, Steady::now())));
      }
    }
    hope_ = hope;
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
          child.pidfd = -1;
        }
      }
      return std::any_of(children_.begin(), children_.end(),
                         [](const Child& c) { return c.pid > 0; });
    };
    const auto wait = [&](Duration patience) {
      const auto deadline = Steady::now() + patience;
      while (any_left() && Steady::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    };
    signal_all(SIGTERM);
    wait(grace_);
    signal_all(SIGKILL);
    wait(kKillPatience);
    if (any_left()) log_error("a worker cannot be killed; it is left to end by itself");
  }

  const Options options_;
  std::unique_ptr<ChildOutput> output_;  // null: children print where this process does
  mutable std::mutex mutex_;
  std::condition_variable started_;
  std::vector<Child> children_;
  std::thread thread_;
  int wake_[2] = {-1, -1};
  uint64_t hope_ = 0;  // watching thread only
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

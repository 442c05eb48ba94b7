#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <thread>

#include <fmt/core.h>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/server.h"

namespace shoal {

void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int wait_for_signal(double seconds) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  timespec time{};
  time.tv_sec = static_cast<time_t>(seconds);
  time.tv_nsec = static_cast<long>((seconds - static_cast<double>(time.tv_sec)) * 1e9);
  const int signal = ::sigtimedwait(&set, nullptr, &time);
  return signal > 0 ? signal : 0;
}

namespace {

double gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// One line that is rewritten while workers load: bytes, speed, time left.
class ProgressLine {
 public:
  void show(const EngineState& state) {
    if (!terminal_) return;
    uint64_t done = 0, total = 0;
    for (const WorkerState& worker : state.workers) {
      done += worker.load_bytes_done;
      total += worker.load_bytes_total;
    }
    const double seconds = to_seconds(std::chrono::steady_clock::now() - start_);
    if (total > 0) {
      const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
      const double left = rate > 0 ? static_cast<double>(total - done) / rate : 0;
      fmt::print(stderr, "\r\x1b[Kloading {:.2f} of {:.2f} GiB, {:.2f} GB/s, {:.0f} s left",
                 gib(done), gib(total), rate / 1e9, left);
    } else {
      fmt::print(stderr, "\r\x1b[K{}", state.not_ready_reason);
    }
    std::fflush(stderr);
    shown_ = true;
  }
  void clear() {
    if (shown_) fmt::print(stderr, "\r\x1b[K");
    shown_ = false;
  }

 private:
  const bool terminal_ = ::isatty(2) != 0;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

// The engine's loop must turn at least this often, or the process is of no use to anybody.
constexpr double kDeadLoopSeconds = 30;

int serve_until_signal(Server& server) {
  ProgressLine progress;
  bool announced = false;
  std::string last_reason;
  while (wait_for_signal(0.1) == 0) {
    const EngineState state = server.engine().state();
    if (state.seconds_since_loop > kDeadLoopSeconds) {
      log_error(fmt::format("the engine's loop has stood still for {:.0f} s; ending",
                            state.seconds_since_loop));
      ::_exit(kExitFailed);  // destructors would wait for the very thread that hangs
    }
    if (state.ready && !announced) {
      progress.clear();
      fmt::print("ready: {}  ({} worker{}, context {})\n", server.url(), state.workers.size(),
                 state.workers.size() == 1 ? "" : "s", server.engine().context_tokens());
      std::fflush(stdout);
      announced = true;
    } else if (!state.ready && !announced) {
      progress.show(state);
      if (state.not_ready_reason != last_reason) {
        last_reason = state.not_ready_reason;
        log_debug(last_reason);
      }
    }
  }
  progress.clear();
  return kExitOk;
}

}  // namespace

int run_server(const ServerOptions& options, const std::string& program) {
  auto server = Server::start(options);
  if (!server) {
    const Status status = server.status();
    fmt::print(stderr, "{}: {}\n", program, status.message());
    const bool input = status.code() == Code::kInvalidArgument ||
                       status.code() == Code::kUnsupported || status.code() == Code::kNotFound ||
                       status.code() == Code::kDataLoss || status.code() == Code::kOutOfRange ||
                       status.code() == Code::kFailedPrecondition;
    return input ? kExitUsage : kExitFailed;
  }
  const int code = serve_until_signal(**server);
  log_info("stopping: finishing what runs; a second signal ends at once");
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
  // A second signal must end the process even while this thread waits in stop().
  std::thread([] {
    if (wait_for_signal(86400) != 0) ::_exit(kExitFailed);
  }).detach();
  const size_t cut = (*server)->stop();
  if (cut > 0) log_warn(fmt::format("{} requests were cut off at the drain deadline", cut));
  return code;
}

}  // namespace shoal

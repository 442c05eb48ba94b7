#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>
#include <future>
#include <thread>

#include <fmt/core.h>

#include "base/console.h"
#include "base/exit_code.h"
#include "base/log.h"
#include "coordinator/server/server.h"
#include "coordinator/server/watchdog.h"

namespace shoal {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// For this thread and those it starts: wait_for_signal() takes those that ask for an end, no other
// ends or stops the process.
void block_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a client or a reader of the log who leaves
  std::signal(SIGTTOU, SIG_IGN);  // a terminal that stops who writes in the background
}

// Up to `seconds`; the signal, or 0.
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

[[noreturn]] void end_now(int code) {
  flush_log(milliseconds(200));
  ::_exit(code);
}

double gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// How far workers have loaded: a line that is rewritten on a terminal, elsewhere one in the log now
// and then.
class Progress {
 public:
  void show(const ServiceState& state) {
    const std::string text = text_of(state);
    if (log_shows_status()) return set_status_line(text);
    const TimePoint now = steady_clock::now();
    if (now < next_line_) return;
    next_line_ = now + kLogged;
    log_info(text);
  }

 private:
  static constexpr Duration kLogged = std::chrono::seconds(15);

  std::string text_of(const ServiceState& state) const {
    uint64_t done = 0, total = 0;
    for (const WorkerState& worker : state.workers) {
      done += worker.load_bytes_done;
      total += worker.load_bytes_total;
    }
    if (total == 0) return state.not_ready_reason;
    const double seconds = to_seconds(steady_clock::now() - start_);
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    const double left = rate > 0 ? static_cast<double>(total - done) / rate : 0;
    return fmt::format("loading {:.2f} of {:.2f} GiB, {:.2f} GB/s, {:.0f} s left", gib(done),
                       gib(total), rate / 1e9, left);
  }

  const TimePoint start_ = steady_clock::now();
  TimePoint next_line_ = start_ + kLogged;
};

// The core's loop and this file's must turn at least this often, or the process is of no use to
// anybody.
constexpr Duration kDeadLoop = std::chrono::seconds(30);
// Besides the drain: workers get 5 s to end, and 5 s more until they are killed.
constexpr Duration kStopGrace = std::chrono::seconds(30);
// A start that a signal has called off.
constexpr Duration kStartGrace = std::chrono::seconds(1);
// After a second signal: to tell streams, and to end workers.
constexpr Duration kHurriedEnd = std::chrono::seconds(3);
constexpr Duration kReadyLine = std::chrono::seconds(1);

using Started = Result<std::unique_ptr<Server>>;

// Starts the server on a thread of its own: files are read, and their disk may hang, but a signal
// is answered all the same. `asked`: one came.
Started start_server(const ServerOptions& options, bool& asked) {
  std::packaged_task<Started()> task([options] { return Server::start(options); });
  std::future<Started> started = task.get_future();
  std::thread(std::move(task)).detach();
  auto deadline = steady_clock::time_point::max();
  while (started.wait_for(milliseconds(0)) != std::future_status::ready) {
    const bool signalled = wait_for_signal(0.01) != 0;
    if (signalled && asked) end_now(kExitFailed);
    if (signalled) deadline = steady_clock::now() + kStartGrace;
    asked = asked || signalled;
    if (steady_clock::now() < deadline) continue;
    log_info("stopping: asked to while starting");
    end_now(kExitOk);  // workers go with this process, and nothing is on a disk
  }
  return started.get();
}

int serve_until_signal(Server& server, const std::string& program, std::atomic<uint64_t>& beat) {
  Progress progress;
  bool announced = false;
  std::string last_reason;
  int code = kExitOk;
  while (wait_for_signal(0.1) == 0) {
    ++beat;
    const ServiceState state = server.service().state();
    if (announced) continue;
    if (state.ready) {
      set_status_line("");
      flush_log(kReadyLine);  // which stands behind what was logged before
      const size_t workers = state.workers.size();
      write_within(STDOUT_FILENO,
                   fmt::format("ready: {}  ({} worker{}, context {})\n", server.url(), workers,
                               workers == 1 ? "" : "s", server.service().context_tokens()),
                   kReadyLine);
      announced = true;
      continue;
    }
    if (const std::string reason = server.permanent_failure(); !reason.empty()) {
      print_error(fmt::format("{}: {}", program, reason));
      code = kExitUsage;
      break;
    }
    progress.show(state);
    if (state.not_ready_reason != last_reason) {
      last_reason = state.not_ready_reason;
      log_debug(last_reason);
    }
  }
  set_status_line("");
  return code;
}

int exit_code(const Status& status) {
  const bool input = status.code() == Code::kInvalidArgument ||
                     status.code() == Code::kUnsupported || status.code() == Code::kNotFound ||
                     status.code() == Code::kDataLoss || status.code() == Code::kOutOfRange ||
                     status.code() == Code::kFailedPrecondition;
  return input ? kExitUsage : kExitFailed;
}

}  // namespace

int run_server(const ServerOptions& options, const std::string& program) {
  block_signals();
  bool asked = false;
  auto server = start_server(options, asked);
  if (!server) {
    print_error(fmt::format("{}: {}", program, server.status().message()));
    return exit_code(server.status());
  }
  std::atomic<uint64_t> beat{0};
  Watchdog watchdog({{"the core's loop", [&] { return (*server)->core_beat(); }},
                     {"the main thread", [&] { return beat.load(); }}},
                    {.limit = kDeadLoop, .exit_code = kExitFailed});
  const int code = asked ? kExitOk : serve_until_signal(**server, program, beat);
  watchdog.expect_end(options.config.timeouts.drain + kStopGrace);
  if (code == kExitOk) log_info("stopping: finishing what runs; a second signal cuts it off");
  // A second signal must end the process even while this thread waits in stop().
  static std::atomic<bool> hurry{false};
  std::thread([] {
    if (wait_for_signal(86400) == 0) return;
    hurry = true;
    wait_for_signal(to_seconds(kHurriedEnd));
    end_now(kExitFailed);
  }).detach();
  const size_t cut = (*server)->stop(&hurry);
  if (cut > 0) {
    log_warn(fmt::format("{} request{} cut off {}", cut, cut == 1 ? " was" : "s were",
                         hurry ? "by a second signal" : "at the drain deadline"));
  }
  server->reset();  // while the watchdog looks
  return hurry ? kExitFailed : code;
}

}  // namespace shoal

#include "coordinator/server/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <csignal>

#include <fmt/core.h>

#include "base/console.h"

namespace shoal {
namespace {

// The explanation gets this long; then SIGALRM ends the process if nothing else has.
constexpr unsigned kAlarmSeconds = 2;
constexpr Duration kLastWords = std::chrono::milliseconds(200);

}  // namespace

Watchdog::Watchdog(std::vector<Watched> watched, const Options& options) : options_(options) {
  const double limit = to_seconds(options.limit);
  for (Watched& entry : watched) {
    std::string words =
        fmt::format("shoal: {} has stood still for {:g} s; ending\n", entry.what, limit);
    const uint64_t beat = entry.beat();
    states_.push_back({std::move(entry), std::move(words), beat});
  }
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  stopping_.store(true);
  thread_.join();
}

void Watchdog::expect_end(Duration within) {
  end_words_ =
      fmt::format("shoal: stopping takes longer than {:g} s; ending\n", to_seconds(within));
  periods_to_end_.store(within / options_.period + 1);
  while (asking_.load()) std::this_thread::yield();  // not over a lock: beats take none either
}

void Watchdog::watch() {
  const auto limit = static_cast<uint64_t>(options_.limit / options_.period);
  while (!stopping_.load()) {
    std::this_thread::sleep_for(options_.period);
    asking_.store(true);
    const int64_t left = periods_to_end_.load();
    if (left < 0) look(limit);
    asking_.store(false);
    if (left == 0) end(end_words_);
    if (left > 0) periods_to_end_.store(left - 1);
  }
}

void Watchdog::look(uint64_t limit) {
  for (State& state : states_) {
    const uint64_t beat = state.watched.beat();
    state.still = beat == state.beat ? state.still + 1 : 0;
    state.beat = beat;
    if (state.still > limit) end(state.last_words);
  }
}

void Watchdog::end(const std::string& text) const {
  std::signal(SIGALRM, SIG_DFL);
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  ::pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
  ::alarm(kAlarmSeconds);
  write_within(STDERR_FILENO, text, kLastWords);
  ::_exit(options_.exit_code);
}

}  // namespace shoal

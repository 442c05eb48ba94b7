// How a rank waits for a peer: yield, then sleep. Yielding lets a peer that shares this core run at
// once and returns in a fraction of a microsecond if nobody else wants the core. Spinning instead,
// even for 5 us, was measured and rejected: with 4 ranks on 2 cores an all_reduce of 4 bytes took
// 20 us instead of 2, and with a core per rank it gained nothing; Gloo's own threads suffered too.
// Sleeping leaves the core to others while a peer computes for long.
//
//   Poller poller(deadline);
//   while (!ready()) {
//     switch (poller.next()) { … }
//   }
#pragma once

#include <algorithm>
#include <thread>

#include <sched.h>

#include "base/clock.h"

namespace shoal {

// CPUs this process may run on; at least 1.
inline int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(CPU_COUNT(&set), 1);
}

class Poller {
 public:
  static constexpr Duration kYield = std::chrono::milliseconds(1);
  static constexpr Duration kFirstSleep = std::chrono::microseconds(20);
  static constexpr Duration kLongestSleep = std::chrono::microseconds(500);
  static constexpr Duration kProbeInterval = std::chrono::milliseconds(10);
  static constexpr unsigned kFirstPolls = 16;

  enum class Next {
    kPoll,   // look again
    kCheck,  // look for an abort too
    kProbe,  // every 10 ms: look whether the peer lives
    kLate,   // the deadline has passed
  };

  explicit Poller(TimePoint deadline)
      : deadline_(deadline),
        start_(std::chrono::steady_clock::now()),
        next_probe_(start_ + kProbeInterval) {}

  Next next() {
    if (++polls_ < kFirstPolls) {
      pause();
      return Next::kPoll;
    }
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= deadline_) return Next::kLate;
    const Duration waited = now - start_;
    polls_ = kFirstPolls - 1;  // from here on every call yields or sleeps
    if (now >= next_probe_) {
      next_probe_ = now + kProbeInterval;
      return Next::kProbe;
    }
    if (waited < kYield) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::min(sleep_, deadline_ - now));
      sleep_ = std::min(sleep_ * 2, kLongestSleep);
    }
    return Next::kCheck;
  }

  Duration waited() const { return std::chrono::steady_clock::now() - start_; }

 private:
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  const TimePoint deadline_;
  const TimePoint start_;
  TimePoint next_probe_;
  Duration sleep_ = kFirstSleep;
  unsigned polls_ = 0;
};

}  // namespace shoal

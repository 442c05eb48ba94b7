// Ends the process when it is of no use to anybody any more: a thread that stands still, an end
// that does not come. It depends on nothing that may hang with them: no lock, no log, no
// allocation; the process is on its way out before it says why.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace shoal {

class Watchdog {
 public:
  struct Watched {
    std::string what;  // "the core's loop"
    // Changes whenever it turns. Called on the watchdog's thread; takes no lock.
    std::function<uint64_t()> beat;
  };
  struct Options {
    Duration period = std::chrono::milliseconds(100);
    // So long without a change. Counted in the watchdog's own periods: time in which the whole
    // process stood still (SIGSTOP, a suspended machine) does not count.
    Duration limit = std::chrono::seconds(30);
    int exit_code = 1;
  };

  Watchdog(std::vector<Watched> watched, const Options& options);
  ~Watchdog();  // watches no more
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From now on nothing has to turn, and no beat is asked for any more, but the process has to be
  // gone in time.
  void expect_end(Duration within);

 private:
  void watch();
  void look(uint64_t limit);  // in periods
  [[noreturn]] void end(const std::string& text) const;

  struct State {
    Watched watched;
    std::string last_words;
    uint64_t beat = 0;
    uint64_t still = 0;  // periods
  };

  const Options options_;
  std::vector<State> states_;  // watching thread only
  std::string end_words_;
  std::atomic<int64_t> periods_to_end_{-1};  // −1: not expected
  std::atomic<bool> asking_{false};          // for beats, just now
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace shoal

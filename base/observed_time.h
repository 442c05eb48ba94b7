// Time as far as this process was there to see it.
//
// Whoever waits for a sign of life must not count the time during which it could not have noticed
// one: a process that was stopped, a virtual machine that was paused, a host that swapped. Here a
// gap between two looks at the clock counts as `most` at most, so that after standing still itself
// a process gives everybody what is left of their deadlines, less one such step. Not thread-safe.
#pragma once

#include <algorithm>
#include <optional>

#include "base/clock.h"

namespace shoal {

class ObservedTime {
 public:
  // `most`: far above the usual gap, far below the deadlines.
  explicit ObservedTime(Duration most) : most_(most) {}

  // To be called often, with the clock's time, which never goes back. Returns this process's own
  // time: it starts with the clock's and falls behind by what was not seen.
  TimePoint advance(TimePoint now) {
    const TimePoint seen = at(now);
    if (last_) missed_ += std::max(now - *last_ - most_, Duration::zero());
    last_ = now;
    return seen;
  }
  // The same for a look in between, which changes nothing.
  TimePoint at(TimePoint now) const {
    if (!last_) return now;
    return *last_ - missed_ + std::min(now - *last_, most_);
  }
  // All that was not counted so far.
  Duration missed() const { return missed_; }

 private:
  const Duration most_;
  std::optional<TimePoint> last_;
  Duration missed_{};
};

}  // namespace shoal

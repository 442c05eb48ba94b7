// When a step is overdue. Pure.
//
// A step's deadline follows from what steps of its kind have cost lately, because nothing fixed
// fits: a decode step of a small model takes a millisecond, a prompt chunk behind 100,000 tokens on
// a few cores takes seconds, and a hung kernel or a cut cable must not stay unnoticed for as long
// as the slowest step imaginable. Kept are the last steps by number of rows, in powers of two. From
// the 99th percentile of those nearest to a step,
//
//   usual      = p99 · max(1, rows ÷ most rows seen there, context ÷ longest context seen there)
//   overdue    = 8 · usual, at least 1 s: readiness says so, nothing else happens
//   given up   = twice that: the group ends
//
// A step's cost is at most linear in its rows and in the positions they attend to, so the larger
// ratio bounds how much longer it may take than those seen. While fewer than 8 are known the usual
// is taken four times: the first steps of a group touch cold memory. Without any, and always at
// most, `most` applies, which is what the ranks' own collectives allow.
//
// Why 8 and 16: an overloaded machine stretches steps, several times over where there are more
// workers than cores; its own slow steps raise the p99 within two of them, and what is shorter than
// 2 s altogether never counts. A group that is ended without need costs its streams, so that side
// has the greater margin; a readiness that blinks costs nothing.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "base/clock.h"
#include "wire/messages.h"

namespace shoal {

struct StepCost {
  uint64_t rows = 0;
  uint64_t context = 0;  // positions its rows attend to, as if each saw everything before it
};
StepCost cost_of(const wire::Step& step);

class StepWatch {
 public:
  // A new group: everything before is forgotten. `most`: no step may take longer.
  void begin(Duration most);

  void sent(const StepCost& cost, TimePoint now);
  // The oldest `count` steps on their way have come back from every rank.
  void returned(uint64_t count, TimePoint now);

  // About the oldest step on its way; false if there is none. A step counts from when it could
  // begin: it was sent and the one before it had come back.
  bool overdue(TimePoint now) const { return !costs_.empty() && waited(now) > overdue_after_; }
  bool given_up(TimePoint now) const { return !costs_.empty() && waited(now) > given_up_after_; }
  Duration waited(TimePoint now) const { return now - began_; }

  // What a step of this cost is allowed.
  Duration overdue_after(const StepCost& cost) const;
  Duration given_up_after(const StepCost& cost) const;

 private:
  static constexpr size_t kKept = 128;    // per class
  static constexpr size_t kClasses = 16;  // rows below 2^16
  struct Sample {
    StepCost cost;
    Duration took{};
  };
  using Samples = std::deque<Sample>;

  const Samples* nearest(uint64_t rows) const;
  Duration usual(const StepCost& cost) const;
  void look_at_oldest(TimePoint now);

  Duration most_{};
  std::array<Samples, kClasses> samples_;
  std::deque<StepCost> costs_;  // of steps on their way
  TimePoint began_{};           // the oldest of them
  Duration overdue_after_{}, given_up_after_{};
};

}  // namespace shoal

// Steps sent and not yet returned by every rank. Ranks run steps in order, so each rank's
// acknowledgements come in order; a gap means the group is broken.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/core/token_service.h"

namespace shoal {

struct ExpectedResult {
  RequestId request = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  uint32_t draw = 0;      // tokens at most; at least one unless 0
  uint32_t scores = 0;    // prompt tokens that get a log-probability …
  uint32_t position = 0;  // … from this one on
};

struct SentStep {
  uint64_t step = 0;
  TimePoint sent{};
  std::vector<ExpectedResult> expected;  // in row order
  std::vector<uint32_t> ended;           // slots that are free once this step has returned
};

class StepWindow {
 public:
  void begin(uint32_t world);  // forgets everything; steps count from 1 again

  uint64_t next_step() const { return last_sent_ + 1; }
  uint64_t completed() const { return completed_; }  // newest step every rank has returned
  size_t in_flight() const { return steps_.size(); }
  const SentStep* oldest() const { return steps_.empty() ? nullptr : &steps_.front(); }

  void sent(SentStep step);  // REQUIRES: step.step == next_step()

  // What rank `rank` was to find in this step; an error if the step is not the rank's next one.
  // The pointer holds until the next call of retire().
  Result<const SentStep*> acknowledge(uint32_t rank, uint64_t step);
  // Steps that have come back from every rank since the last call, oldest first.
  std::vector<SentStep> retire();

  // Slots named as ended by steps in flight.
  std::vector<uint32_t> ended_in_flight() const;
  // Ranks that have not returned the oldest step in flight.
  std::vector<uint32_t> late_ranks() const;

 private:
  std::deque<SentStep> steps_;      // consecutive; front is completed_ + 1
  std::vector<uint64_t> returned_;  // [world] newest step returned
  uint64_t last_sent_ = 0;
  uint64_t completed_ = 0;
};

}  // namespace shoal

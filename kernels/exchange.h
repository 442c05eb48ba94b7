// What the ranks of a group do together, as ops like any other: void, in the order of the device's
// stream, on device memory. Errors do not interrupt a step; they are kept and come out of
// end_step(). All ranks call the same ops in the same order, from the thread of their device's ops.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/status.h"

namespace shoal {

struct ExchangeStep {
  uint64_t epoch = 0;
  uint64_t step = 0;     // ranks must agree, or an op fails
  TimePoint deadline{};  // of every op until end_step()
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;
  // Its ops are nothing but kernels in the stream: they may be recorded (OpRecorder).
  virtual bool in_stream() const = 0;

  virtual void begin_step(const ExchangeStep& step) = 0;
  // What the ops since begin_step() came to. After an error the group is dead, and what the step
  // computed means nothing. Errors of the device itself come out of Device::synchronize().
  virtual Status end_step() = 0;
  // An op has failed already: whatever follows in this step may as well be left out. What ops
  // leave behind then is no answer, but safe to compute with.
  virtual bool failed() const = 0;

  // data[i] = Σ over ranks 0, 1, …, in that order, of rank r's data[i]: the same bits everywhere.
  virtual void all_reduce(float* data, int64_t count) = 0;
  virtual void broadcast(void* data, uint64_t bytes, int root) = 0;
  // The same of indices, which are not believed: one outside [0, limit) is an error, and indices
  // are in range afterwards whatever happens.
  virtual void broadcast_ids(int32_t* ids, int64_t count, int32_t limit, int root) = 0;
};

}  // namespace shoal

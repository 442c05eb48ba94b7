// What the pure core reports about itself. The metrics registry implements it; the core neither
// knows nor waits for whoever listens.
#pragma once

#include <cstdint>
#include <string_view>

#include "coordinator/core/request_table.h"
#include "coordinator/core/token_service.h"
#include "wire/messages.h"

namespace shoal {

// Called on the core's thread, request_rejected() also on others; must not block. Times are
// seconds.
class CoreObserver {
 public:
  virtual ~CoreObserver() = default;
  virtual void request_started(const Request& /*request*/, double /*queued*/) {}
  // `since_last`: since the request's previous token; for the first one, since its arrival.
  virtual void token(const Request& /*request*/, bool /*first*/, double /*since_last*/) {}
  virtual void request_finished(const Request& /*request*/, FinishReason /*reason*/,
                                TimePoint /*now*/) {}
  virtual void request_rejected(std::string_view /*reason*/) {}
  virtual void preempted() {}
  virtual void replayed(uint64_t /*requests*/) {}  // ran in a group that is lost; start again
  // A request starts for the first time: so many tokens of its prompt were looked up in the prefix
  // cache and found there.
  virtual void prefix_lookup(uint32_t /*tokens*/, uint32_t /*hits*/) {}
  virtual void blocks_evicted(uint64_t /*blocks*/) {}  // from the prefix cache
  virtual void surplus_result() {}  // a sample computed for a request that had ended meanwhile
  virtual void step_returned(uint32_t /*rank*/, const wire::StepStats& /*stats*/,
                             double /*round_trip*/) {}
  virtual void step_sent(uint32_t /*decode_rows*/, uint32_t /*prefill_rows*/) {}
  // Tokens by mixture layer and expert since the epoch began.
  virtual void expert_load(const wire::ExpertLoad& /*load*/) {}
  // A step takes longer than steps of its kind ever do: see StepWatch.
  virtual void step_overdue() {}
  virtual void worker_failed(std::string_view /*reason*/) {}
};

}  // namespace shoal

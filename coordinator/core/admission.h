// Whether a request may enter. One pure function over a small copyable view, so that the gateway's
// threads can ask without the core's thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "coordinator/core/token_service.h"

namespace shoal {

struct QueueLimits {
  uint64_t requests = 512;     // waiting for their first step
  uint64_t tokens = 1u << 20;  // prompt tokens of those
};

struct AdmissionView {
  bool ready = false;
  bool draining = false;
  std::string not_ready_reason;
  QueueLimits limits;
  uint64_t waiting = 0;         // requests
  uint64_t waiting_tokens = 0;  // of their prompts
  uint32_t context_tokens = 0;
  uint64_t kv_tokens = 0;  // of the longest sequence that fits the KV cache alone
  int32_t vocab = 0;
};

// kInvalidArgument: malformed or larger than the context or the KV cache; kUnavailable: draining or
// no group of workers; kResourceExhausted: the queue is full, with its figures.
Status check_admission(const AdmissionView& view, const GenerationRequest& request);
// For metrics: "queue_full", "not_ready" or "invalid".
std::string_view rejection_reason(const Status& error);

}  // namespace shoal

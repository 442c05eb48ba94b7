// The truth about every request from admission to its last token: what workers hold can be rebuilt
// from here. Owned by the core; one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/core/kv_groups.h"
#include "coordinator/core/token_service.h"

namespace shoal {

enum class RequestState : uint8_t {
  kWaiting,    // never started
  kRunning,    // has a slot and blocks on the workers
  kPreempted,  // had them; starts again from prompt + emitted tokens, before anybody who waits
};             // a finished request leaves the table

struct Request {
  RequestId id = 0;
  uint64_t order = 0;           // of arrival
  std::vector<int32_t> tokens;  // prompt, then everything emitted
  uint32_t prompt_tokens = 0;
  wire::SamplingParams sampling;
  uint64_t seed = 0;
  uint32_t choice = 0;
  uint32_t max_tokens = 0;
  std::vector<int32_t> stop_tokens;
  bool ignore_eos = false;
  // Prompt tokens whose log-probability has come, or is not wanted: as many as there are, if so.
  uint32_t scored = 0;

  RequestState state = RequestState::kWaiting;
  TimePoint arrived{}, started{}, first_token{}, last_token{};
  uint32_t preemptions = 0;
  uint32_t groups_lost = 0;  // while it ran, but for goodbyes

  // Results the workers still owe. A preempted request keeps this count until they have come: the
  // tokens are valid, their blocks are freed only later.
  uint32_t samples_in_flight = 0;  // tokens, at most
  // A step that may draw several is on its way: how long the sequence is shows when it is back.
  bool open_span = false;
  uint32_t scores_in_flight = 0;  // groups of rows

  // While running.
  uint64_t admission = 0;  // increases with every start; the largest is preempted first
  uint32_t slot = 0;
  uint32_t generation = 0;
  uint32_t scheduled = 0;  // positions [0, scheduled) have been sent for computation
  uint32_t covered = 0;    // … and [0, covered) have blocks: a span may reach so far
  uint64_t last_step = 0;  // newest step that mentions the slot

  KvSequence kv;
  uint32_t cached_tokens = 0;  // of the prompt, found in the prefix cache when it first started

  uint32_t emitted() const { return static_cast<uint32_t>(tokens.size()) - prompt_tokens; }
  // Length including samples the coordinator does not know yet; at most, while a span is open.
  uint32_t length() const { return static_cast<uint32_t>(tokens.size()) + samples_in_flight; }
  uint32_t samples_left() const { return max_tokens - emitted() - samples_in_flight; }
  // Positions that can be computed now. The last token of a request is never fed back.
  uint32_t pending_rows() const {
    if (open_span || samples_left() == 0) return 0;
    return length() - scheduled;
  }
  // How many of the next `rows` rows are followed by a token whose log-probability is wanted.
  uint32_t scores_of(uint32_t rows) const {
    const uint32_t end = std::min(scheduled + rows + 1, prompt_tokens);
    return scored < end && scheduled + 1 < end ? end - scheduled - 1 : 0;
  }
  // The request may start from here, or before: what comes behind is to be computed.
  uint32_t latest_start() const {
    return scored < prompt_tokens ? scored - 1 : static_cast<uint32_t>(tokens.size()) - 1;
  }
  bool is_decoding() const { return scheduled > 0 && pending_rows() == 1; }
  KvProgress progress() const { return {tokens, scheduled, last_step, covered}; }
  // Positions whose K and V are ever written: all but the last token's.
  uint64_t max_positions() const { return uint64_t{prompt_tokens} + max_tokens - 1; }
};

class RequestTable {
 public:
  // REQUIRES: `id` is new, the request was checked (coordinator/admission.h).
  Request& add(RequestId id, GenerationRequest request, TimePoint now);
  Request* find(RequestId id);
  void erase(Request& request);  // destroys it

  // The request that starts next: the oldest preempted one, else the oldest waiting; null if none.
  Request* next_to_start() const;
  // kWaiting or kPreempted → kRunning. Slot and generation are the caller's business.
  void start(Request& request);
  // kRunning → kPreempted; forgets what the request held on the workers and in the pools.
  void preempt(Request& request);

  // By admission, oldest first.
  const std::map<uint64_t, Request*>& running() const { return running_; }
  uint64_t waiting() const { return waiting_.size(); }
  uint64_t preempted() const { return preempted_.size(); }
  uint64_t waiting_tokens() const { return waiting_tokens_; }
  std::vector<Request*> all() const;  // by arrival
  bool empty() const { return requests_.empty(); }
  uint64_t size() const { return requests_.size(); }

  void check_invariants() const;

 private:
  void unlink(Request& request);

  std::unordered_map<RequestId, std::unique_ptr<Request>> requests_;
  std::map<uint64_t, Request*> waiting_, preempted_;  // by order
  std::map<uint64_t, Request*> running_;              // by admission
  uint64_t waiting_tokens_ = 0;                       // of waiting_
  uint64_t last_order_ = 0;
  uint64_t last_admission_ = 0;
};

}  // namespace shoal

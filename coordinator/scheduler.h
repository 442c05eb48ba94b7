// Decides what every step computes. A function of the request table, the free KV blocks and the
// steps in flight: no clock, no transport, no randomness.
//
// Continuous batching. A step has first-come-first-served rows: one decode row of every sequence
// that decodes, then prompt chunks of those that do not yet, then new sequences while slots, rows
// and blocks last. Nobody overtakes: if the first in the queue does not fit, nobody behind it
// starts. Blocks are taken as a sequence grows; when they run out, the latest admitted sequence is
// preempted and starts again later from prompt + emitted tokens. The oldest sequence can take
// everybody else's blocks and every request fits the pool alone (checked at admission), so there is
// always progress.
//
// Step n+1 is built before n has returned: a decode row needs no token value. A sequence that step
// n turns out to have ended may therefore have a row in n+1; that result is dropped. What is known
// in advance (max_tokens) schedules no surplus.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/status.h"
#include "coordinator/block_pool.h"
#include "coordinator/observer.h"
#include "coordinator/request_table.h"
#include "coordinator/step_window.h"
#include "wire/messages.h"

namespace shoal {

struct SchedulerOptions {
  uint32_t max_rows = 512;      // tokens in one step; 1 … wire::kMaxRowsPerStep
  uint32_t max_sequences = 64;  // running at once; lowered to max_rows − 1 (≥ 1), so that decode
                                // rows always leave one for a prompt
  uint32_t max_slots = 128;      // on the workers; beyond max_sequences: ended ones linger a step
  uint32_t prefill_chunk = 256;  // prompt tokens of one sequence in one step; ≥ 1
  uint32_t depth = 2;            // steps in flight; ≥ 1
  uint32_t block_tokens = 32;
};

class Scheduler {
 public:
  // `table` and `observer` outlive the scheduler.
  Scheduler(const SchedulerOptions& options, RequestTable& table, CoreObserver& observer);

  // A group of `world` ranks with empty caches is ready. REQUIRES: nothing runs.
  void begin(uint64_t epoch, uint32_t world, uint32_t kv_blocks);
  // The group is gone, and all it owed: what ran is preempted and starts again in the next group.
  void end();

  // The next step, if there is something to do and fewer than `depth` steps are in flight.
  std::optional<wire::Step> next(TimePoint now);

  struct Sampled {
    Request* request = nullptr;            // still in the table
    const wire::RowResult* row = nullptr;  // into the StepResult
  };
  // Takes a rank's StepResult of the current epoch. Rank 0's carry the tokens; the caller appends
  // them to their requests. An error: the group cannot be trusted any more.
  Result<std::vector<Sampled>> returned(uint32_t rank, const wire::StepResult& result,
                                        TimePoint now);
  // The request has ended and is about to leave the table: its slot and blocks come back when the
  // last step that mentions them has returned.
  void release(Request& request);

  bool active() const { return world_ > 0; }
  bool idle() const { return window_.in_flight() == 0 && ending_slots_.empty(); }
  const StepWindow& window() const { return window_; }
  const BlockPool& pool() const { return pool_; }
  uint32_t free_slots() const { return static_cast<uint32_t>(free_slots_.size()); }
  uint64_t kv_tokens() const { return uint64_t{pool_.total()} * options_.block_tokens; }

  // Aborts if block references, slots or counts do not add up. O(blocks + requests).
  void check_invariants() const;

 private:
  struct Retired {  // blocks of an ended or preempted sequence
    std::vector<uint32_t> blocks;
    uint64_t last_step = 0;
  };
  struct Draft {  // a step being built
    wire::Step step;
    SentStep record;
    uint32_t rows_left = 0;
    uint32_t decode_rows = 0;
    bool short_of_blocks = false;
    uint64_t started_tokens = 0;
  };

  uint64_t blocks_for(uint64_t tokens) const {
    return (tokens + options_.block_tokens - 1) / options_.block_tokens;
  }
  void plan_running(Draft& draft);
  void plan_starts(Draft& draft, TimePoint now);
  bool can_start(const Request& request, uint64_t reserved_blocks) const;
  uint64_t reserved_blocks() const;
  void start(Request& request, Draft& draft, TimePoint now);
  // Adds up to `rows` rows; fewer, or none, when blocks are short. Returns how many.
  uint32_t place(Request& request, uint32_t rows, Draft& draft);
  // Preempts the latest admitted sequence for `request`. False: wait; there is nobody younger, or
  // blocks are on their way back already.
  bool reclaim_for(const Request& request);
  void preempt(Request& request);
  void give_back(Request& request);
  void free_returned(const std::vector<SentStep>& steps);
  Status check_rows(const SentStep& sent, const wire::StepResult& result) const;

  const SchedulerOptions options_;
  RequestTable& table_;
  CoreObserver& observer_;

  uint64_t epoch_ = 0;
  uint32_t world_ = 0;  // 0: no group
  BlockPool pool_;
  StepWindow window_;
  std::set<uint32_t> free_slots_;       // lowest first: deterministic
  std::vector<uint32_t> ending_slots_;  // to be named in the next step's `ended`
  std::vector<Retired> retired_;        // blocks that wait for steps to return
  uint32_t last_generation_ = 0;
};

}  // namespace shoal

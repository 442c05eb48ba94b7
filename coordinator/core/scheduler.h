// Decides what every step computes. A function of the request table, the KV blocks and the
// steps in flight: no clock, no transport, no randomness.
//
// Continuous batching. A step has first-come-first-served rows: one decode row of every sequence
// that decodes, then prompt chunks of those that do not yet, then new sequences while slots, rows
// and blocks last. Nobody overtakes: if the first in the queue does not fit, nobody behind it
// starts. A sequence starts behind the longest prefix whose K/V is still there. Blocks are taken as
// it grows; when they run out, the latest admitted sequence is preempted and starts again later
// from prompt + emitted tokens, and what is left of its blocks. The oldest sequence can take
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
#include <span>
#include <vector>

#include "base/status.h"
#include "coordinator/core/kv_groups.h"
#include "coordinator/core/observer.h"
#include "coordinator/core/request_table.h"
#include "coordinator/core/step_window.h"
#include "wire/messages.h"

namespace shoal {

struct SchedulerOptions {
  uint32_t max_rows = 512;      // tokens in one step; 1 … wire::kMaxRowsPerStep
  uint32_t max_sequences = 64;  // running at once; lowered to max_rows − 1 (≥ 1), so that decode
                                // rows always leave one for a prompt
  uint32_t max_slots = 128;      // on the workers; beyond max_sequences: ended ones linger a step
  uint32_t prefill_chunk = 256;  // prompt tokens of one sequence in one step; ≥ 1
  uint32_t depth = 2;            // steps in flight; ≥ 1
  // Tokens one sequence may draw in one step, 1 … wire::kMaxDraw. Above 1 it has no rows in the
  // steps behind until that one has returned.
  uint32_t draw = 1;
  uint32_t block_tokens = 32;
  std::vector<KvRule> kv_rules = {KvRule{}};  // by KV group
  bool prefix_cache = true;
  uint64_t cache_secret = 0;  // of this process: keys of cached blocks cannot be guessed
};

class Scheduler {
 public:
  // `table` and `observer` outlive the scheduler.
  Scheduler(const SchedulerOptions& options, RequestTable& table, CoreObserver& observer);

  // A group of `world` ranks with empty caches is ready. REQUIRES: nothing runs.
  // `kv_blocks`: by KV group.
  void begin(uint64_t epoch, uint32_t world, std::span<const uint32_t> kv_blocks);
  // The group is gone, and all it owed: what ran is preempted and starts again in the next group.
  void end();

  // The next step, if there is something to do and fewer than `depth` steps are in flight.
  std::optional<wire::Step> next(TimePoint now);

  struct Found {                                 // for a request: one of the two, or both
    Request* request = nullptr;                  // still in the table
    const wire::PromptScores* scores = nullptr;  // into the StepResult
    std::span<const wire::RowResult> drawn;      // likewise; consecutive tokens
  };
  // Takes a rank's StepResult of the current epoch. Rank 0's carry tokens and scores; the caller
  // gives them to their requests. An error: the group cannot be trusted any more.
  Result<std::vector<Found>> returned(uint32_t rank, const wire::StepResult& result, TimePoint now);
  // The request has ended and is about to leave the table: its slot and blocks come back when the
  // last step that mentions them has returned.
  void release(Request& request);
  // What it computed, and what it started from, is found by nobody any more.
  void forget(Request& request);

  bool active() const { return world_ > 0; }
  bool idle() const { return window_.in_flight() == 0 && ending_slots_.empty(); }
  const StepWindow& window() const { return window_; }
  const KvGroups& kv() const { return kv_; }
  uint32_t free_slots() const { return static_cast<uint32_t>(free_slots_.size()); }

  // Aborts if block references, slots or counts do not add up. O(blocks + requests).
  void check_invariants() const;

 private:
  struct Draft {  // a step being built
    wire::Step step;
    SentStep record;
    uint32_t rows_left = 0;
    uint32_t decode_rows = 0;
    bool short_of_blocks = false;
    uint64_t started_tokens = 0;
  };

  void plan_running(Draft& draft);
  void plan_starts(Draft& draft, TimePoint now);
  // From which position on, or nothing: it does not fit now.
  std::optional<uint32_t> can_start(Request& request, const std::vector<uint64_t>& reserved) const;
  void start(Request& request, uint32_t position, Draft& draft, TimePoint now);
  // Adds up to `rows` rows; fewer, or none, when blocks are short. Returns how many.
  uint32_t place(Request& request, uint32_t rows, Draft& draft);
  // Makes at least one row's room in every KV group, by preempting those admitted later. False:
  // wait; there is nobody younger, or blocks are on their way back already.
  bool make_room(const Request& request);
  uint64_t room(const Request& request) const;
  void report_evictions();
  void preempt(Request& request);
  void give_back(Request& request);
  void free_returned(const std::vector<SentStep>& steps);
  // What the request was owed has come, `drawn` tokens of it.
  void settle(Request& request, const ExpectedResult& expected, size_t drawn);
  // What each of sent.expected got; an error if that is not what was asked for.
  Result<std::vector<Found>> match(const SentStep& sent, const wire::StepResult& result) const;

  const SchedulerOptions options_;
  RequestTable& table_;
  CoreObserver& observer_;

  uint64_t epoch_ = 0;
  uint32_t world_ = 0;  // 0: no group
  KvGroups kv_;
  uint64_t evicted_reported_ = 0;
  StepWindow window_;
  std::set<uint32_t> free_slots_;       // lowest first: deterministic
  std::vector<uint32_t> ending_slots_;  // to be named in the next step's `ended`
  uint32_t last_generation_ = 0;
};

}  // namespace shoal

#include "coordinator/core/scheduler.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal {
namespace {

// Tokens of new sequences in one Step message, so that it stays far below wire::kMaxMessageBytes
// (5 bytes a token at most). One longer sequence alone is allowed.
constexpr uint64_t kMaxStartedTokens = 1u << 20;

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, RequestTable& table, CoreObserver& observer)
    : options_([&] {
        SchedulerOptions o = options;
        SHOAL_CHECK(o.max_rows >= 1 && o.max_rows <= wire::kMaxRowsPerStep, "max_rows");
        SHOAL_CHECK(o.prefill_chunk >= 1 && o.depth >= 1 && o.block_tokens >= 1,
                    "scheduler limits");
        SHOAL_CHECK(o.draw >= 1 && o.draw <= wire::kMaxDraw, "draw");
        SHOAL_CHECK(o.max_slots >= 1 && o.max_slots <= wire::kMaxSlots, "max_slots");
        o.max_sequences = std::min({o.max_sequences, o.max_slots, std::max(o.max_rows - 1, 1u)});
        SHOAL_CHECK(o.max_sequences >= 1, "max_sequences");
        return o;
      }()),
      table_(table),
      observer_(observer),
      kv_({.rules = options_.kv_rules,
           .block_tokens = options_.block_tokens,
           .rows_in_flight = options_.depth * std::min(options_.prefill_chunk, options_.max_rows) +
                             options_.draw - 1,
           .prefix_cache = options_.prefix_cache,
           .secret = options_.cache_secret}) {}

void Scheduler::begin(uint64_t epoch, uint32_t world, std::span<const uint32_t> kv_blocks) {
  SHOAL_CHECK(world_ == 0 && world >= 1 && table_.running().empty(), "a group is already active");
  epoch_ = epoch;
  world_ = world;
  kv_.begin(kv_blocks);
  evicted_reported_ = 0;
  window_.begin(world);
  for (uint32_t slot = 0; slot < options_.max_slots; ++slot) free_slots_.insert(slot);
}

void Scheduler::end() {
  world_ = 0;
  for (Request* request : table_.all()) {
    request->samples_in_flight = 0;
    request->scores_in_flight = 0;
    request->open_span = false;
    if (request->state == RequestState::kRunning) table_.preempt(*request);
  }
  kv_.end();
  window_.begin(0);
  free_slots_.clear();
  ending_slots_.clear();
}

std::optional<wire::Step> Scheduler::next(TimePoint now) {
  if (world_ == 0 || window_.in_flight() >= options_.depth) return std::nullopt;
  Draft draft;
  draft.rows_left = options_.max_rows;
  draft.record.step = window_.next_step();
  plan_running(draft);
  if (!draft.short_of_blocks) plan_starts(draft, now);
  // Only now: nobody starts on blocks that the same step writes.
  for (const auto& [admission, request] : table_.running()) {
    kv_.settle(request->kv, request->progress());
  }
  // Ends ride on the next step with rows; alone they go only when nothing else is on its way.
  if (draft.step.rows.empty() && (ending_slots_.empty() || window_.in_flight() > 0)) {
    return std::nullopt;
  }
  draft.step.epoch = epoch_;
  draft.step.step = draft.record.step;
  draft.step.ended = std::exchange(ending_slots_, {});
  draft.record.ended = draft.step.ended;
  draft.record.sent = now;
  window_.sent(std::move(draft.record));
  const uint32_t rows = options_.max_rows - draft.rows_left;
  observer_.step_sent(draft.decode_rows, rows - draft.decode_rows);
  report_evictions();
  return std::move(draft.step);
}

void Scheduler::plan_running(Draft& draft) {
  uint32_t decoding = 0;
  for (const auto& [admission, request] : table_.running()) decoding += request->is_decoding();
  uint32_t prefill_left = options_.max_rows - decoding;  // decode rows always fit: max_sequences
  // In order of admission, whatever the kind of row: a sequence that needs a block can only take it
  // from one admitted later, which has no rows in this step yet. place() may preempt, which erases
  // later elements only.
  for (auto it = table_.running().begin(); it != table_.running().end(); ++it) {
    Request& request = *it->second;
    if (request.is_decoding()) {
      draft.decode_rows += place(request, 1, draft);
      continue;
    }
    const uint32_t rows = std::min({request.pending_rows(), options_.prefill_chunk, prefill_left});
    if (rows > 0) prefill_left -= place(request, rows, draft);
  }
}

std::optional<uint32_t> Scheduler::can_start(Request& request,
                                             const std::vector<uint64_t>& reserved) const {
  // What is still on its way to a preempted request belongs to what it starts again from.
  if (request.samples_in_flight + request.scores_in_flight > 0) return std::nullopt;
  const uint32_t position = kv_.find_start(request.kv, request.tokens, request.latest_start());
  if (!kv_.fits(request.kv, request.tokens.size(), position, reserved)) return std::nullopt;
  return position;
}

void Scheduler::plan_starts(Draft& draft, TimePoint now) {
  std::vector<uint64_t> reserved(kv_.groups(), 0);
  for (const auto& [admission, running] : table_.running()) {
    kv_.reserve(running->kv, running->progress(), &reserved);
  }
  while (draft.rows_left > 0 && !free_slots_.empty() &&
         table_.running().size() < options_.max_sequences) {
    Request* request = table_.next_to_start();
    if (request == nullptr) return;
    const auto position = can_start(*request, reserved);
    if (!position) return;
    const uint64_t tokens = request->tokens.size();
    if (draft.started_tokens > 0 && draft.started_tokens + tokens > kMaxStartedTokens) return;
    draft.started_tokens += tokens;
    start(*request, *position, draft, now);
    place(*request, std::min({request->pending_rows(), options_.prefill_chunk, draft.rows_left}),
          draft);
    kv_.reserve(request->kv, request->progress(), &reserved);
  }
}

void Scheduler::start(Request& request, uint32_t position, Draft& draft, TimePoint now) {
  if (request.state == RequestState::kWaiting) {
    request.started = now;
    request.cached_tokens = position;
    observer_.request_started(request, to_seconds(now - request.arrived));
    if (options_.prefix_cache) observer_.prefix_lookup(request.prompt_tokens, position);
  }
  table_.start(request);
  request.scheduled = request.covered = position;
  kv_.start(request.kv, position);
  request.slot = *free_slots_.begin();
  free_slots_.erase(free_slots_.begin());
  request.generation = ++last_generation_;
  wire::NewSequence sequence;
  sequence.slot = request.slot;
  sequence.generation = request.generation;
  sequence.tokens = request.tokens;
  sequence.prompt_tokens = request.prompt_tokens;
  sequence.seed = request.seed;
  sequence.choice = request.choice;
  sequence.sampling = request.sampling;
  draft.step.started.push_back(std::move(sequence));
}

uint64_t Scheduler::room(const Request& request) const {
  uint64_t rows = kv_.room(request.kv, 0, request.scheduled);
  for (size_t group = 1; group < kv_.groups(); ++group) {
    rows = std::min(rows, kv_.room(request.kv, group, request.scheduled));
  }
  return rows;
}

bool Scheduler::make_room(const Request& request) {
  for (size_t group = 0; group < kv_.groups(); ++group) {
    while (kv_.room(request.kv, group, request.scheduled) == 0) {
      if (kv_.expects(group)) return false;
      Request& victim = *table_.running().rbegin()->second;
      if (&victim == &request) return false;  // everybody else is older
      preempt(victim);
    }
  }
  return true;
}

uint32_t Scheduler::place(Request& request, uint32_t rows, Draft& draft) {
  if (!make_room(request)) {
    draft.short_of_blocks = true;
    return 0;
  }
  const uint64_t most = room(request);
  if (most < rows) draft.short_of_blocks = true;
  rows = static_cast<uint32_t>(std::min<uint64_t>(rows, most));
  uint32_t draw = 0;
  if (rows == request.pending_rows()) {
    const uint64_t further = std::min<uint64_t>(most - rows, options_.draw - 1);
    draw = static_cast<uint32_t>(std::min<uint64_t>(further + 1, request.samples_left()));
  }
  request.covered = std::max(request.covered, request.scheduled + rows + std::max(draw, 1u) - 1);
  kv_.extend(request.kv, request.covered);
  kv_.announce(request.kv, request.slot, &draft.step.appended);

  wire::RowGroup group;
  group.slot = request.slot;
  group.position = request.scheduled;
  group.count = rows;
  group.draw = draw;
  ExpectedResult expected{request.id, request.slot, request.generation};
  expected.draw = draw;
  expected.scores = request.scores_of(rows);
  expected.position = request.scheduled + 1;
  group.score = expected.scores > 0;
  draft.step.rows.push_back(group);
  draft.rows_left -= rows;
  request.scheduled += rows;
  request.last_step = draft.record.step;
  request.samples_in_flight += draw;
  request.open_span = draw > 1;
  request.scores_in_flight += group.score ? 1 : 0;
  if (draw > 0 || group.score) draft.record.expected.push_back(expected);
  return rows;
}

void Scheduler::report_evictions() {
  uint64_t evicted = 0;
  for (size_t group = 0; group < kv_.groups(); ++group) evicted += kv_.pool(group).evicted();
  if (evicted > evicted_reported_) observer_.blocks_evicted(evicted - evicted_reported_);
  evicted_reported_ = evicted;
}

void Scheduler::preempt(Request& request) {
  give_back(request);
  table_.preempt(request);
  observer_.preempted();
}

void Scheduler::release(Request& request) {
  if (request.state == RequestState::kRunning) give_back(request);
}

void Scheduler::forget(Request& request) { kv_.forget(request.kv, request.progress()); }

void Scheduler::give_back(Request& request) {
  ending_slots_.push_back(request.slot);
  kv_.give_back(request.kv, request.progress());
}

Result<std::vector<Scheduler::Found>> Scheduler::match(const SentStep& sent,
                                                       const wire::StepResult& result) const {
  const std::span<const wire::RowResult> rows = result.rows;
  size_t row = 0, scores = 0, wanted_rows = 0, wanted_scores = 0;
  const auto is_of = [](const auto& found, const ExpectedResult& expected) {
    return found.slot == expected.slot && found.generation == expected.generation;
  };
  const auto wrong = [&](const auto& found, const ExpectedResult& expected) {
    return failed_precondition(
        fmt::format("step {} returned what it found for slot {} generation {}; slot {} generation "
                    "{} was asked for",
                    result.step, found.slot, found.generation, expected.slot, expected.generation));
  };
  std::vector<Found> all;
  for (const ExpectedResult& expected : sent.expected) {
    Found& found = all.emplace_back();
    wanted_rows += expected.draw;
    wanted_scores += expected.scores > 0 ? 1 : 0;
    if (expected.draw > 0 && row < rows.size()) {
      size_t count = 0;
      while (count < expected.draw && row + count < rows.size() &&
             is_of(rows[row + count], expected)) {
        ++count;
      }
      if (count == 0) return wrong(rows[row], expected);
      found.drawn = rows.subspan(row, count);
      row += count;
    }
    if (expected.scores == 0 || scores >= result.scores.size()) continue;
    found.scores = &result.scores[scores++];
    if (!is_of(*found.scores, expected)) return wrong(*found.scores, expected);
    if (found.scores->position == expected.position &&
        found.scores->tokens.size() == expected.scores) {
      continue;
    }
    return failed_precondition(fmt::format(
        "step {} returned {} scores from token {} of slot {} on; {} from token {} were asked for",
        result.step, found.scores->tokens.size(), found.scores->position, expected.slot,
        expected.scores, expected.position));
  }
  bool complete = row == rows.size() && scores == result.scores.size() && scores == wanted_scores;
  for (size_t i = 0; i < all.size(); ++i) {
    complete &= (sent.expected[i].draw > 0) == !all[i].drawn.empty();
  }
  if (complete) return all;
  return failed_precondition(
      fmt::format("step {} returned {} tokens and {} groups of scores; {} and {} were asked for",
                  result.step, rows.size(), result.scores.size(), wanted_rows, wanted_scores));
}

Result<std::vector<Scheduler::Found>> Scheduler::returned(uint32_t rank,
                                                          const wire::StepResult& result,
                                                          TimePoint now) {
  SHOAL_CHECK(world_ > 0 && result.epoch == epoch_, "a result of another epoch");
  SHOAL_ASSIGN(const SentStep* sent, window_.acknowledge(rank, result.step));
  observer_.step_returned(rank, result.stats, to_seconds(now - sent->sent));
  std::vector<Found> all;
  if (rank == 0) {
    SHOAL_ASSIGN(std::vector<Found> matched, match(*sent, result));
    for (size_t i = 0; i < matched.size(); ++i) {
      const ExpectedResult& expected = sent->expected[i];
      Found& found = matched[i];
      found.request = table_.find(expected.request);
      if (found.request == nullptr) {
        observer_.surplus_result();
        continue;
      }
      settle(*found.request, expected, found.drawn.size());
      all.push_back(found);
    }
  }
  free_returned(window_.retire());
  return all;
}

void Scheduler::settle(Request& request, const ExpectedResult& expected, size_t drawn) {
  SHOAL_CHECK(request.samples_in_flight >= expected.draw &&
                  request.scores_in_flight >= (expected.scores > 0 ? 1u : 0u),
              "a result that nobody waits for");
  request.samples_in_flight -= expected.draw;
  request.scores_in_flight -= expected.scores > 0 ? 1 : 0;
  if (expected.draw <= 1) return;
  request.open_span = false;
  // Unless it was preempted meanwhile, what it drew before the last has been computed.
  const bool runs =
      request.state == RequestState::kRunning && request.generation == expected.generation;
  if (runs) request.scheduled += static_cast<uint32_t>(drawn) - 1;
}

void Scheduler::free_returned(const std::vector<SentStep>& steps) {
  for (const SentStep& step : steps) free_slots_.insert(step.ended.begin(), step.ended.end());
  kv_.returned(window_.completed());
}

void Scheduler::check_invariants() const {
  table_.check_invariants();
  std::vector<std::pair<const KvSequence*, KvProgress>> holders;
  std::set<uint32_t> slots = free_slots_;
  const auto take_slot = [&](uint32_t slot) {
    SHOAL_CHECK(slot < options_.max_slots && slots.insert(slot).second, "a slot is used twice");
  };
  for (const auto& [admission, request] : table_.running()) {
    SHOAL_CHECK(world_ > 0, "a sequence runs without a group");
    holders.emplace_back(&request->kv, request->progress());
    take_slot(request->slot);
  }
  kv_.check_invariants(holders);
  for (const uint32_t slot : ending_slots_) take_slot(slot);
  for (const uint32_t slot : window_.ended_in_flight()) take_slot(slot);
  SHOAL_CHECK(slots.size() == (world_ > 0 ? options_.max_slots : 0), "a slot is lost");
  SHOAL_CHECK(window_.in_flight() <= options_.depth, "too many steps in flight");
}

}  // namespace shoal

#include "coordinator/core/core.h"

#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

namespace shoal {
namespace {

CoreOptions complete(CoreOptions options) {
  SHOAL_CHECK(options.context_tokens >= 2 && options.vocab > 0, "context and vocabulary");
  SHOAL_CHECK(options.context_tokens <= wire::kMaxSequenceTokens, "context");
  wire::Assign& terms = options.membership.terms;
  SHOAL_CHECK(terms.step_timeout_seconds > 0 && terms.form_timeout_seconds > 0, "plan time-outs");
  SHOAL_CHECK(!terms.kv_blocks.empty() || options.membership.planning, "KV blocks");
  terms.block_tokens = options.scheduler.block_tokens;
  terms.max_rows = options.scheduler.max_rows;
  terms.max_slots = options.scheduler.max_slots;
  terms.max_sequence_tokens = options.context_tokens;
  std::sort(options.end_tokens.begin(), options.end_tokens.end());
  return options;
}

// A request that ran in so many groups that were lost may be what ends them.
constexpr uint32_t kMostLost = 2;

// A death, or what cannot be told from one: a step that failed or hung because a peer is gone, and
// who is replaced without a goodbye. Who says goodbye did not die of a request.
bool may_be_death(Loss loss) { return loss != Loss::kLeft && loss != Loss::kOvertaken; }

}  // namespace

Core::Core(CoreOptions options, CoreObserver& observer)
    : options_(complete(std::move(options))),
      observer_(observer),
      membership_(options_.membership),
      scheduler_(options_.scheduler, table_, observer),
      observed_(options_.longest_pause) {}

Actions Core::handle(std::span<const Event> events, TimePoint now) {
  Actions actions;
  const Duration missed = observed_.missed();
  own_now_ = observed_.advance(now);
  if (observed_.missed() > missed) {
    membership_.on_standstill(observed_.missed() - missed, own_now_, actions);
  }
  for (const Event& event : events) {
    std::visit([&](const auto& e) { on(e, now, actions); }, event);
    follow_membership(now, actions);
  }
  schedule(now, actions);
#ifndef NDEBUG
  check_invariants();
#endif
  return actions;
}

void Core::on(const SubmitEvent& event, TimePoint now, Actions& actions) {
  if (Status status = check_admission(admission(), event.request); !status) {
    // The caller has asked before; the group may have gone in between.
    observer_.request_rejected(rejection_reason(status));
    FinishEvent finished;
    finished.reason = FinishReason::kError;
    finished.error = std::move(status);
    actions.emplace_back(FinishAction{event.id, std::move(finished)});
    return;
  }
  table_.add(event.id, event.request, now);
}

void Core::on(const CancelEvent& event, TimePoint now, Actions& actions) {
  Request* request = table_.find(event.id);
  if (request == nullptr) return;
  FinishEvent finished;
  finished.reason = FinishReason::kCancelled;
  finish(*request, std::move(finished), now, actions);
}

void Core::on(const wire::Incoming& incoming, TimePoint now, Actions& actions) {
  membership_.on_message(incoming, own_now_, actions);
  if (const auto* result = std::get_if<wire::StepResult>(&incoming.message)) {
    take_result(incoming.peer, *result, now, actions);
  } else if (const auto* load = std::get_if<wire::ExpertLoad>(&incoming.message)) {
    take_expert_load(incoming.peer, *load);
  }
}

void Core::on(const PeerGoneEvent& event, TimePoint, Actions& actions) {
  membership_.on_peer_gone(event.peer, event.reason, own_now_, actions);
}

void Core::on(const DisconnectedEvent& event, TimePoint, Actions&) {
  membership_.on_disconnected(event.peer, own_now_);
}

void Core::on(const WorkerDiedEvent& event, TimePoint, Actions& actions) {
  membership_.on_worker_died(event, own_now_, actions);
}

void Core::on(const DrainEvent&, TimePoint, Actions& actions) {
  if (draining_) return;
  draining_ = true;
  actions.emplace_back(LogAction{
      LogLevel::kInfo, fmt::format("draining: {} request(s) are still at work", table_.size())});
}

void Core::on(const StopEvent& event, TimePoint now, Actions& actions) {
  draining_ = true;
  fail_all(unavailable(event.reason), now, actions);
  membership_.stop(event.reason, actions);
}

void Core::on(const TickEvent&, TimePoint now, Actions& actions) {
  membership_.tick(own_now_, actions);
  follow_membership(now, actions);
  watch_recovery(now, actions);
  watch_steps(now, actions);
}

void Core::take_expert_load(const wire::PeerId& peer, const wire::ExpertLoad& load) {
  // Rank 0 speaks for all; what an older epoch counted has been reported or is lost with it.
  if (serving_epoch_ == 0 || load.epoch != serving_epoch_) return;
  if (membership_.rank_of(peer) == 0u) observer_.expert_load(load);
}

void Core::take_result(const wire::PeerId& peer, const wire::StepResult& result, TimePoint now,
                       Actions& actions) {
  // Late results of an older epoch, or of a worker that is no longer part of it, are dropped.
  if (serving_epoch_ == 0 || result.epoch != serving_epoch_) return;
  const auto rank = membership_.rank_of(peer);
  if (!rank) return;
  const uint64_t completed = scheduler_.window().completed();
  auto all = scheduler_.returned(*rank, result, now);
  watch_.returned(scheduler_.window().completed() - completed, own_now_);
  if (!all) {
    membership_.fail_group(
        Loss::kProtocol,
        fmt::format("rank {} broke the protocol: {}", *rank, all.status().message()), own_now_,
        actions);
    return;
  }
  for (const auto& [request, scores, drawn] : *all) {
    if (scores != nullptr && !take_scores(*request, *scores, now, actions)) continue;
    for (const wire::RowResult& row : drawn) {
      if (row.token < 0 || row.token >= options_.vocab) {
        membership_.fail_group(Loss::kProtocol,
                               fmt::format("rank {} sampled token {}, outside the vocabulary of {}",
                                           *rank, row.token, options_.vocab),
                               own_now_, actions);
        return;
      }
      if (!take_token(*request, row, now, actions)) break;
    }
  }
}

// The rows of others in the same step are as good as ever. What the sequence left in the cache may
// hold what broke it, and is computed anew for whoever starts alike.
void Core::fail_broken(Request& request, TimePoint now, Actions& actions) {
  actions.emplace_back(LogAction{
      LogLevel::kWarn,
      fmt::format("request {}: no finite logit for token {} of its sequence; it ends with an error",
                  request.id, request.tokens.size())});
  FinishEvent finished;
  finished.reason = FinishReason::kError;
  finished.error = internal_error(
      "the model produced no finite logits for this request (a damaged model file or an overflow)");
  scheduler_.forget(request);
  finish(request, std::move(finished), now, actions);
}

// False: the request has ended.
bool Core::take_scores(Request& request, const wire::PromptScores& scores, TimePoint now,
                       Actions& actions) {
  if (scores.broken) {
    fail_broken(request, now, actions);
    return false;
  }
  // Those it had before it was preempted are computed again, but told once.
  const uint32_t known = std::max(request.scored, scores.position) - scores.position;
  PromptEvent event;
  event.position = scores.position + known;
  event.tokens.assign(scores.tokens.begin() + known, scores.tokens.end());
  request.scored = event.position + static_cast<uint32_t>(event.tokens.size());
  actions.emplace_back(PromptAction{request.id, std::move(event)});
  return true;
}

// False: the request has ended.
bool Core::take_token(Request& request, const wire::RowResult& row, TimePoint now,
                      Actions& actions) {
  if (row.broken) {
    fail_broken(request, now, actions);
    return false;
  }
  const bool first = request.emitted() == 0;
  request.tokens.push_back(row.token);
  if (first) request.first_token = now;
  observer_.token(request, first, to_seconds(now - (first ? request.arrived : request.last_token)));
  request.last_token = now;

  const auto& stops = request.stop_tokens;
  const bool is_stop = (!request.ignore_eos && is_end_token(row.token)) ||
                       std::find(stops.begin(), stops.end(), row.token) != stops.end();
  TokenEvent token;
  token.token = row.token;
  token.is_stop = is_stop;
  token.logprob = row.logprob;
  token.top = row.top;
  actions.emplace_back(TokenAction{request.id, std::move(token)});

  if (!is_stop && request.emitted() < request.max_tokens) return true;
  FinishEvent finished;
  finished.reason = is_stop ? FinishReason::kStop : FinishReason::kLength;
  finished.stop_token = is_stop ? row.token : -1;
  finish(request, std::move(finished), now, actions);
  return false;
}

void Core::finish(Request& request, FinishEvent event, TimePoint now, Actions& actions) {
  observer_.request_finished(request, event.reason, now);
  event.cached_prompt_tokens = request.cached_tokens;
  actions.emplace_back(FinishAction{request.id, std::move(event)});
  scheduler_.release(request);
  table_.erase(request);
}

void Core::fail_all(const Status& error, TimePoint now, Actions& actions) {
  for (Request* request : table_.all()) {
    FinishEvent finished;
    finished.reason = FinishReason::kError;
    finished.error = error;
    finish(*request, std::move(finished), now, actions);
  }
}

void Core::follow_membership(TimePoint now, Actions& actions) {
  const uint64_t epoch = membership_.serving_epoch();
  if (epoch == serving_epoch_) return;
  if (serving_epoch_ != 0) on_group_lost(now, actions);
  serving_epoch_ = epoch;
  watch_.begin(from_seconds(options_.membership.terms.step_timeout_seconds) + options_.step_grace);
  overdue_step_ = 0;
  if (epoch == 0) return;
  scheduler_.begin(epoch, membership_.world(), membership_.kv_blocks());
  recover_by_.reset();
}

// The one place that decides what becomes of the requests a group leaves behind. The table has
// every token, so that the next group goes on where this one stopped; nothing its ranks still owe
// is taken any more.
void Core::on_group_lost(TimePoint now, Actions& actions) {
  std::vector<Request*> ran;
  for (const auto& [admission, request] : table_.running()) ran.push_back(request);
  scheduler_.end();
  const GroupLoss& loss = membership_.last_loss();
  observer_.worker_failed(loss_name(loss.loss));
  if (options_.recovery == Duration::zero()) {
    return fail_all(unavailable(loss.reason), now, actions);
  }
  if (may_be_death(loss.loss)) {
    for (Request* request : ran) ++request->groups_lost;
  }
  set_aside(ran, now, actions);
  recover_by_ = own_now_ + options_.recovery;
  if (table_.empty()) return;
  actions.emplace_back(LogAction{
      LogLevel::kWarn, fmt::format("{} request(s) wait for the next group, for at most {:.0f} s",
                                   table_.size(), to_seconds(options_.recovery))});
}

void Core::set_aside(const std::vector<Request*>& ran, TimePoint now, Actions& actions) {
  uint64_t replayed = 0;
  for (Request* request : ran) {
    if (request->groups_lost < kMostLost) {
      ++replayed;
      continue;
    }
    FinishEvent finished;
    finished.reason = FinishReason::kError;
    finished.error = internal_error(
        fmt::format("{} groups of workers were lost while they computed this request, so it is not "
                    "tried again; at last: {}",
                    request->groups_lost, membership_.last_loss().reason));
    actions.emplace_back(LogAction{
        LogLevel::kError, fmt::format("request {}: {}", request->id, finished.error.message())});
    finish(*request, std::move(finished), now, actions);
  }
  if (replayed > 0) observer_.replayed(replayed);
}

void Core::watch_recovery(TimePoint now, Actions& actions) {
  if (!recover_by_ || own_now_ < *recover_by_) return;
  recover_by_.reset();
  fail_all(unavailable(fmt::format("{}; no group of workers took over within {:.0f} s",
                                   membership_.last_loss().reason, to_seconds(options_.recovery))),
           now, actions);
}

bool Core::step_is_overdue() const {
  const SentStep* oldest = scheduler_.active() ? scheduler_.window().oldest() : nullptr;
  return oldest != nullptr && oldest->step == overdue_step_;
}

void Core::watch_steps(TimePoint now, Actions& actions) {
  const SentStep* oldest = scheduler_.active() ? scheduler_.window().oldest() : nullptr;
  if (oldest == nullptr || !watch_.overdue(own_now_)) return;
  const double waited = to_seconds(watch_.waited(own_now_));
  const std::vector<uint32_t> late = scheduler_.window().late_ranks();
  if (overdue_step_ != oldest->step) {
    overdue_step_ = oldest->step;
    observer_.step_overdue();
    actions.emplace_back(LogAction{
        LogLevel::kWarn, fmt::format("step {} is overdue after {:.1f} s; not back from rank(s) {}",
                                     oldest->step, waited, fmt::join(late, ", "))});
  }
  if (!watch_.given_up(own_now_)) return;
  const std::string reason =
      fmt::format("step {} did not return within {:.1f} s", oldest->step, waited);
  // One that hangs makes the others wait, and one whose peers are cut off waits as well: whoever
  // stays busy after the abort is the one that hangs.
  const std::string where = late.size() < membership_.world()
                                ? fmt::format("rank(s) {}", fmt::join(late, ", "))
                                : "any rank";
  membership_.fail_group(Loss::kHung, fmt::format("{} on {}", reason, where), own_now_, actions);
  follow_membership(now, actions);
}

void Core::schedule(TimePoint now, Actions& actions) {
  while (auto step = scheduler_.next(now)) {
    watch_.sent(cost_of(*step), own_now_);
    std::vector<wire::PeerId> ranks;
    for (uint32_t rank = 0; rank < membership_.world(); ++rank) {
      ranks.push_back(membership_.peer_of_rank(rank));
    }
    actions.emplace_back(SendAction{std::move(ranks), *std::move(step)});
  }
}

bool Core::is_end_token(int32_t token) const {
  return std::binary_search(options_.end_tokens.begin(), options_.end_tokens.end(), token);
}

AdmissionView Core::admission() const {
  AdmissionView view;
  view.ready = serving_epoch_ != 0 && membership_.ready();
  view.draining = draining_;
  if (!view.ready) view.not_ready_reason = membership_.not_ready_reason();
  view.limits = options_.queue;
  view.waiting = table_.waiting();
  view.waiting_tokens = table_.waiting_tokens();
  view.context_tokens = options_.context_tokens;
  view.kv_tokens = scheduler_.kv().max_positions();
  view.vocab = options_.vocab;
  return view;
}

ServiceState Core::state(TimePoint now) const {
  ServiceState state;
  state.ready = serving_epoch_ != 0 && membership_.ready() && !step_is_overdue();
  state.draining = draining_;
  if (!state.ready) state.not_ready_reason = not_ready_reason();
  state.permanent_failure = membership_.permanent_failure();
  state.workers = membership_.worker_states(observed_.at(now));
  update_counters(state);
  return state;
}

std::string Core::not_ready_reason() const {
  if (!step_is_overdue()) return membership_.not_ready_reason();
  return fmt::format("degraded: step {} is overdue; not back from rank(s) {}", overdue_step_,
                     fmt::join(scheduler_.window().late_ranks(), ", "));
}

void Core::update_counters(ServiceState& state) const {
  state.refused_hellos = membership_.refused_hellos();
  state.epoch = membership_.epoch();
  state.running = table_.running().size();
  state.waiting = table_.waiting() + table_.preempted();
  state.kv_blocks_total = state.kv_blocks_used = state.kv_blocks_cached = 0;
  state.kv_usage = 0;
  const KvGroups& kv = scheduler_.kv();
  for (size_t group = 0; group < kv.groups(); ++group) {
    const BlockPool& pool = kv.pool(group);
    if (pool.total() == 0) continue;  // no group of workers
    state.kv_blocks_total += pool.total();
    state.kv_blocks_used += pool.used();
    state.kv_blocks_cached += pool.cached();
    state.kv_usage = std::max(state.kv_usage, double{1} * pool.used() / pool.total());
  }
}

bool Core::idle() const {
  if (!table_.empty() || !scheduler_.idle()) return false;
  for (size_t group = 0; group < scheduler_.kv().groups(); ++group) {
    if (scheduler_.kv().pool(group).used() > 0) return false;
  }
  return true;
}

void Core::check_invariants() const {
  membership_.check_invariants();
  scheduler_.check_invariants();
  SHOAL_CHECK(serving_epoch_ == membership_.serving_epoch(), "core and membership disagree");
  if (serving_epoch_ != 0 && !table_.running().empty()) {
    SHOAL_CHECK(scheduler_.window().in_flight() > 0, "sequences run but no step is on its way");
  }
}

}  // namespace shoal

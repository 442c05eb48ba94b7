// The half of Membership that ends epochs and forms new ones.
#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/host.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "coordinator/membership.h"
#include "coordinator/placement.h"

namespace shoal {
namespace {

// Gloo connects addresses of one family only.
Status check_data_addresses(const std::vector<wire::Hello>& hellos) {
  for (const wire::Hello& hello : hellos) {
    if (hello.data_address.empty()) {
      return failed_precondition(
          fmt::format("worker '{}' on {} has no address for the data plane; give it one with "
                      "--data-address or --interface",
                      hello.name, hello.host_name));
    }
    if (is_ipv6(hello.data_address) == is_ipv6(hellos[0].data_address)) continue;
    return failed_precondition(
        fmt::format("the data plane needs addresses of one family: worker '{}' on {} has {}, "
                    "worker '{}' on {} has {}; choose with --data-address or --interface",
                    hellos[0].name, hellos[0].host_name, hellos[0].data_address, hello.name,
                    hello.host_name, hello.data_address));
  }
  return Status::ok();
}

}  // namespace

std::string_view loss_name(Loss loss) {
  switch (loss) {
    case Loss::kSilent:
      return "silent";
    case Loss::kDied:
      return "died";
    case Loss::kUnreachable:
      return "unreachable";
    case Loss::kLeft:
      return "left";
    case Loss::kReplaced:
      return "replaced";
    case Loss::kOvertaken:
      return "overtaken";
    case Loss::kHung:
      return "hung";
    case Loss::kFailed:
      return "failed";
    case Loss::kProtocol:
      return "protocol";
  }
  return "unknown";
}

void Membership::end_epoch(Loss loss, const std::string& why, bool permanent, TimePoint now,
                           Actions& actions) {
  if (phase_ != Phase::kForming && phase_ != Phase::kServing) return;
  const std::string reason = bounded_message(why);  // a worker's own words may be in it
  const bool served_long =
      phase_ == Phase::kServing && now - serving_since_ > options_.stable_after;
  const Duration to_idle =
      options_.abort_timeout + (phase_ == Phase::kForming
                                    ? from_seconds(options_.plan.form_timeout_seconds)
                                    : Duration::zero());
  for (auto& [name, worker] : workers_) {
    if (worker.rank < 0) continue;
    worker.rank = -1;
    worker.is_ready = false;
    if (!worker.connected) continue;
    worker.must_show_idle = true;
    worker.aborted_at = now;
    worker.idle_by = now + to_idle;
    actions.emplace_back(SendAction{{worker.peer}, wire::Abort{epoch_, reason}});
  }
  if (phase_ == Phase::kServing) last_loss_ = {loss, reason};
  last_failure_ = reason;
  if (permanent && !has_served_) permanent_failure_ = reason;
  members_.clear();
  rendezvous_.begin(0);
  phase_ = Phase::kIdle;
  failures_ = served_long ? 0 : failures_ + 1;
  form_not_before_ = now + (permanent ? options_.permanent_retry : backoff());
  form_not_before_after_join_ = std::min(form_not_before_, now + options_.join_backoff);
  joins_at_failure_ = joins_;
  actions.emplace_back(
      LogAction{LogLevel::kError, fmt::format("plan epoch {} ended: {}", epoch_, reason)});
}

Duration Membership::backoff() const {
  if (failures_ == 0) return Duration::zero();
  Duration wait = options_.first_backoff;
  for (uint32_t i = 1; i < failures_ && wait < options_.max_backoff; ++i) wait *= 2;
  return std::min(wait, options_.max_backoff);
}

uint32_t Membership::connected() const { return static_cast<uint32_t>(by_peer_.size()); }

std::vector<Membership::Worker*> Membership::candidates() {
  std::vector<Worker*> out;
  for (auto& [name, worker] : workers_) {
    if (worker.connected && !worker.must_show_idle) out.push_back(&worker);
  }
  return out;
}

void Membership::form_if_possible(TimePoint now, Actions& actions) {
  if (phase_ != Phase::kIdle) return;
  // The same workers are not asked again at once; a new one is reason to try sooner.
  const bool joined = joins_ != joins_at_failure_;
  if (now < (joined ? form_not_before_after_join_ : form_not_before_)) return;
  const std::vector<Worker*> available = candidates();
  std::vector<WorkerOffer> input;
  for (const Worker* worker : available) {
    input.push_back({&worker->hello, worker->last_rank, worker->loaded});
  }
  const auto ranks =
      place_ranks_by_role(input, options_.world, options_.names, options_.expert_names);
  if (!ranks) return;
  std::vector<Worker*> by_rank;
  for (const size_t index : *ranks) by_rank.push_back(available[index]);
  form(by_rank, now, actions);
}

Result<wire::Assign> Membership::make_plan(const std::vector<Worker*>& by_rank) const {
  std::vector<wire::Hello> hellos;
  std::vector<const wire::Hello*> pointers;
  for (const Worker* worker : by_rank) {
    wire::Hello& hello = hellos.emplace_back(worker->hello);
    hello.memory_bytes = hello.device_kind == "cpu" ? host_memory_.at(hello.host_id)
                                                    : hello.memory_bytes + hello.held_bytes;
    pointers.push_back(&worker->hello);
  }
  wire::Assign plan = options_.plan;
  plan.world = options_.world;
  plan.shares =
      options_.shares.empty() ? std::vector<double>(options_.world, 1.0) : options_.shares;
  plan.engine = options_.engine.value_or(choose_engine(pointers));
  if (options_.world == 1) plan.engine = wire::CollectiveEngine::kNone;
  if (plan.engine == wire::CollectiveEngine::kGloo) {
    SHOAL_TRY(check_data_addresses(hellos));
  }
  if (last_experts_) plan.experts = *last_experts_;
  if (options_.complete_plan) SHOAL_TRY(options_.complete_plan(hellos, &plan));
  return plan;
}

void Membership::form(const std::vector<Worker*>& by_rank, TimePoint now, Actions& actions) {
  auto plan = make_plan(by_rank);
  failed_at_file_ = false;
  epoch_ = std::max(epoch_, newest_seen_) + 1;
  members_.clear();
  const bool same_experts = plan && last_experts_ &&
                            last_experts_->shares == plan->experts.shares &&
                            last_experts_->ranks == plan->experts.ranks;
  if (plan) formed_experts_ = plan->experts;  // kept for the next plan once this one serves
  for (uint32_t rank = 0; rank < options_.world; ++rank) {
    Worker& worker = *by_rank[rank];
    members_.push_back(worker.hello.name);
    const bool same_shard = worker.last_rank == static_cast<int>(rank) && (same_experts || !plan);
    if (!same_shard) worker.loaded = false;
    worker.rank = worker.last_rank = static_cast<int>(rank);
    worker.is_ready = false;
    worker.bytes_done = worker.bytes_total = 0;
  }
  phase_ = Phase::kForming;
  if (!plan) return end_epoch(Loss::kFailed, plan.status().message(), true, now, actions);

  plan->epoch = epoch_;
  plan->segment = fmt::format("{}.{}", options_.segment_prefix, epoch_);
  kv_blocks_ = plan->kv_blocks;
  formed_progress_ = now;
  rendezvous_.begin(epoch_);
  for (uint32_t rank = 0; rank < options_.world; ++rank) {
    plan->rank = rank;
    actions.emplace_back(SendAction{{by_rank[rank]->peer}, *plan});
  }
  actions.emplace_back(LogAction{
      LogLevel::kInfo, fmt::format("plan epoch {} forms: {}", epoch_, fmt::join(members_, ", "))});
}

void Membership::check_formation(TimePoint now, Actions& actions) {
  if (phase_ != Phase::kForming) return;
  // A rank that is ready early waits for the others inside the collective, and says so when it
  // gives up; this is for the case that nobody says anything.
  const Duration patience =
      options_.load_timeout + from_seconds(options_.plan.form_timeout_seconds);
  if (now - formed_progress_ <= patience) return;
  std::vector<std::string> waiting_for;
  for (uint32_t rank = 0; rank < options_.world; ++rank) {
    if (!member(rank).is_ready) waiting_for.push_back(describe(member(rank)));
  }
  end_epoch(Loss::kHung,
            fmt::format("no progress for {:.0f} s while forming; not ready: {}",
                        to_seconds(now - formed_progress_), fmt::join(waiting_for, ", ")),
            false, now, actions);
}

std::string Membership::not_ready_reason() const {
  switch (phase_) {
    case Phase::kServing:
      return "";
    case Phase::kStopped:
      return last_failure_;
    case Phase::kForming: {
      std::vector<std::string> parts;
      for (uint32_t rank = 0; rank < options_.world; ++rank) {
        const Worker& worker = member(rank);
        if (worker.is_ready) continue;
        parts.push_back(worker.bytes_total == 0
                            ? describe(worker)
                            : fmt::format("{} {:.0f} %", describe(worker),
                                          100.0 * static_cast<double>(worker.bytes_done) /
                                              static_cast<double>(worker.bytes_total)));
      }
      return fmt::format("loading: {}", fmt::join(parts, ", "));
    }
    case Phase::kIdle:
      break;
  }
  std::string text = fmt::format("{} of {} workers connected", connected(), options_.world);
  std::vector<std::string> missing;
  for (const auto& names : {options_.names, options_.expert_names}) {
    for (const std::string& name : names) {
      const auto it = workers_.find(name);
      if (it == workers_.end() || !it->second.connected) missing.push_back(name);
    }
  }
  if (!missing.empty()) text += fmt::format(" (missing: {})", fmt::join(missing, ", "));
  if (!last_failure_.empty()) text = last_failure_ + "; " + text;
  return text;
}

std::vector<WorkerState> Membership::worker_states(TimePoint now) const {
  std::vector<WorkerState> out;
  for (const auto& [name, worker] : workers_) {
    WorkerState state;
    state.name = name;
    state.host = worker.hello.host_name;
    state.device = worker.hello.device;
    state.rank = worker.rank;
    state.pid = worker.hello.pid;
    state.seconds_since_heard = to_seconds(now - worker.heard);
    state.load_bytes_done = worker.bytes_done;
    state.load_bytes_total = worker.bytes_total;
    state.weight_bytes = worker.weight_bytes;
    state.kv_bytes = worker.kv_bytes;
    state.state = !worker.connected ? "lost"
                  : worker.rank < 0 ? "connected"
                  : worker.is_ready ? "ready"
                                    : "loading";
    out.push_back(std::move(state));
  }
  return out;
}

}  // namespace shoal

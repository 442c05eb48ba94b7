// The half of Membership that ends epochs and forms new ones.
#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/host.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "coordinator/core/membership.h"
#include "coordinator/core/placement.h"

namespace shoal {
namespace {

// Gloo connects addresses of one family only.
Status check_data_addresses(const std::vector<const wire::Hello*>& hellos) {
  const wire::Hello& first = *hellos[0];
  for (const wire::Hello* hello : hellos) {
    if (hello->data_address.empty()) {
      return failed_precondition(
          fmt::format("worker '{}' on {} has no address for the data plane; give it one with "
                      "--data-address or --interface",
                      hello->name, hello->host_name));
    }
    if (is_ipv6(hello->data_address) == is_ipv6(first.data_address)) continue;
    return failed_precondition(
        fmt::format("the data plane needs addresses of one family: worker '{}' on {} has {}, "
                    "worker '{}' on {} has {}; choose with --data-address or --interface",
                    first.name, first.host_name, first.data_address, hello->name, hello->host_name,
                    hello->data_address));
  }
  return Status::ok();
}

// The plan for all ranks alike.
wire::Assign encode(const Plan& plan, const wire::Assign& terms) {
  wire::Assign out = terms;
  out.world = static_cast<uint32_t>(plan.split.world);
  out.shares = plan.split.shares;
  out.experts = {plan.split.experts.shares, plan.split.experts.ranks};
  out.routing_rank = plan.routing_rank;
  out.kv_blocks.assign(plan.kv_blocks.begin(), plan.kv_blocks.end());
  return out;
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
                                    ? from_seconds(options_.terms.form_timeout_seconds)
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

Result<Plan> Membership::make_plan(const std::vector<Worker*>& by_rank) const {
  if (!options_.planning) {
    Plan plan;
    plan.split = even_plan(static_cast<int>(options_.world));
    plan.kv_blocks.assign(options_.terms.kv_blocks.begin(), options_.terms.kv_blocks.end());
    return plan;
  }
  std::vector<Offer> offers;
  for (const Worker* worker : by_rank) {
    const wire::Hello& hello = worker->hello;
    // Whatever workers hold of it at the moment.
    const uint64_t memory = hello.device_kind == "cpu" ? host_memory_.at(hello.host_id)
                                                       : hello.memory_bytes + hello.held_bytes;
    offers.push_back(
        {hello.name, hello.host_name, hello.host_id, hello.device_kind, hello.arithmetic, memory});
  }
  return shoal::make_plan(*options_.planning->model, options_.planning->wishes, offers,
                          last_experts_.value_or(ExpertPlan{}));
}

Result<wire::CollectiveEngine> Membership::engine_for(const std::vector<Worker*>& by_rank) const {
  if (options_.world == 1) return wire::CollectiveEngine::kNone;
  std::vector<const wire::Hello*> hellos;
  for (const Worker* worker : by_rank) hellos.push_back(&worker->hello);
  const wire::CollectiveEngine engine = options_.engine.value_or(choose_engine(hellos));
  if (engine == wire::CollectiveEngine::kGloo) SHOAL_TRY(check_data_addresses(hellos));
  return engine;
}

void Membership::form(const std::vector<Worker*>& by_rank, TimePoint now, Actions& actions) {
  const auto engine = engine_for(by_rank);
  const auto plan = engine ? make_plan(by_rank) : Result<Plan>(engine.status());
  failed_at_file_ = false;
  epoch_ = std::max(epoch_, newest_seen_) + 1;
  members_.clear();
  const bool same_experts = plan && last_experts_ && *last_experts_ == plan->split.experts;
  if (plan) formed_experts_ = plan->split.experts;  // kept for the next plan once this one serves
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

  wire::Assign assign = encode(*plan, options_.terms);
  assign.epoch = epoch_;
  assign.engine = *engine;
  assign.segment = fmt::format("{}.{}", options_.segment_prefix, epoch_);
  kv_blocks_ = assign.kv_blocks;
  formed_progress_ = now;
  rendezvous_.begin(epoch_);
  for (uint32_t rank = 0; rank < options_.world; ++rank) {
    assign.rank = rank;
    actions.emplace_back(SendAction{{by_rank[rank]->peer}, assign});
  }
  actions.emplace_back(LogAction{
      LogLevel::kInfo, fmt::format("plan epoch {} forms: {}", epoch_, fmt::join(members_, ", "))});
}

void Membership::check_formation(TimePoint now, Actions& actions) {
  if (phase_ != Phase::kForming) return;
  // A rank that is ready early waits for the others inside the collective, and says so when it
  // gives up; this is for the case that nobody says anything.
  const Duration patience =
      options_.load_timeout + from_seconds(options_.terms.form_timeout_seconds);
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

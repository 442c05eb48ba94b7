#include "coordinator/core/membership.h"

#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/quote.h"

namespace shoal {
namespace {

// Names seen, lost ones included: bounds what a flood of hellos can make the coordinator hold.
constexpr size_t kMaxWorkers = 256;
// A worker that insists must not fill the log.
constexpr Duration kRefusalLogInterval = std::chrono::seconds(1);

bool is_good_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

}  // namespace

Membership::Membership(MembershipOptions options) : options_(std::move(options)) {
  SHOAL_CHECK(options_.world >= 1 && options_.world <= wire::kMaxWorld, "world");
  SHOAL_CHECK(!options_.planning ||
                  options_.planning->wishes.split.world == static_cast<int>(options_.world),
              "a plan for this many ranks");
  const size_t named = options_.names.size() + options_.expert_names.size();
  SHOAL_CHECK(named == 0 || named >= options_.world, "worker names");
  SHOAL_CHECK(options_.expert_names.size() < options_.world, "ranks with attention");
}

const Membership::Worker& Membership::member(uint32_t rank) const {
  SHOAL_CHECK(rank < members_.size(), "no such rank in this epoch");
  return workers_.at(members_[rank]);
}

Membership::Worker* Membership::find_peer(const wire::PeerId& peer) {
  const auto it = by_peer_.find(peer);
  return it == by_peer_.end() ? nullptr : &workers_.at(it->second);
}

std::optional<uint32_t> Membership::rank_of(const wire::PeerId& peer) const {
  const auto it = by_peer_.find(peer);
  if (it == by_peer_.end()) return std::nullopt;
  const int rank = workers_.at(it->second).rank;
  return rank < 0 ? std::nullopt : std::optional<uint32_t>(rank);
}

std::string Membership::describe(const Worker& worker) const {
  return worker.rank < 0 ? fmt::format("worker '{}'", worker.hello.name)
                         : fmt::format("worker '{}' (rank {})", worker.hello.name, worker.rank);
}

void Membership::on_message(const wire::Incoming& incoming, TimePoint now, Actions& actions) {
  if (phase_ == Phase::kStopped) return;
  if (const auto* hello = std::get_if<wire::Hello>(&incoming.message)) {
    on_hello(incoming, *hello, now, actions);
  } else if (Worker* worker = find_peer(incoming.peer)) {
    // Anybody else is lost or unknown. It gets no answer: silence makes it say hello again.
    worker->heard = now;
    worker->spoke = true;
    std::visit([&](const auto& message) { on(*worker, message, now, actions); }, incoming.message);
  }
  form_if_possible(now, actions);
}

bool Membership::is_garbage(uint64_t epoch) const {
  return epoch > wire::kMaxEpoch && epoch > epoch_;
}

Status Membership::check_name(const wire::Hello& hello, const std::string& key) const {
  if (!is_good_name(hello.name)) {
    return invalid_argument("the worker's name must be 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  const auto is_listed = [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), hello.name) != names.end();
  };
  if (!options_.names.empty() && !is_listed(options_.names) && !is_listed(options_.expert_names)) {
    return not_found(fmt::format("worker '{}' is not in the configuration", hello.name));
  }
  if (const auto it = options_.keys.find(hello.name);
      it != options_.keys.end() && it->second != key) {
    return failed_precondition(fmt::format(
        "the name '{}' belongs to another key; check the worker's key pair", hello.name));
  }
  return Status::ok();
}

Status Membership::check_hello(const wire::Incoming& incoming, const wire::Hello& hello,
                               TimePoint now) const {
  if (hello.protocol_version != wire::kProtocolVersion) {
    return failed_precondition(
        fmt::format("protocol version {} here and {} there ({}); run the same build everywhere",
                    wire::kProtocolVersion, hello.protocol_version, hello.build));
  }
  SHOAL_TRY(check_name(hello, incoming.key));
  if (is_garbage(hello.newest_epoch)) {
    return invalid_argument(
        fmt::format("it says that it has seen plan epoch {}, which no coordinator can have made; "
                    "start it again",
                    hello.newest_epoch));
  }
  const auto known = workers_.find(hello.name);
  if (known == workers_.end() || !known->second.connected) return Status::ok();
  const Worker& holder = known->second;
  if (holder.key != incoming.key) {
    return failed_precondition(
        fmt::format("the name '{}' is in use by a worker with another key", hello.name));
  }
  if (holder.peer != incoming.peer && !is_gone(holder, now)) {
    return failed_precondition(fmt::format(
        "there is a live worker '{}', pid {} on {}, heard {:.1f} s ago; stop it or "
        "give this one another name",
        hello.name, holder.hello.pid, holder.hello.host_name, to_seconds(now - holder.heard)));
  }
  return Status::ok();
}

bool Membership::is_gone(const Worker& worker, TimePoint now) const {
  return worker.broken || now - worker.heard > options_.lost_after;
}

void Membership::on_hello(const wire::Incoming& incoming, const wire::Hello& hello, TimePoint now,
                          Actions& actions) {
  const auto refuse = [&](const std::string& reason) {
    ++refused_hellos_;
    actions.emplace_back(SendAction{{incoming.peer}, wire::Refused{reason}});
    if (now - last_refusal_logged_ < kRefusalLogInterval) return;
    last_refusal_logged_ = now;
    actions.emplace_back(
        LogAction{LogLevel::kWarn, fmt::format("refused a worker that calls itself '{}' on {}: {}",
                                               hello.name, hello.host_name, reason)});
  };
  if (Status status = check_hello(incoming, hello, now); !status) {
    return refuse(status.message());
  }
  const auto said = options_.settings.find(hello.name);
  const wire::Settings settings = said == options_.settings.end() ? wire::Settings{} : said->second;
  if (hello.settings_id != wire::settings_id(settings)) {
    // It comes again, by these, before it counts.
    actions.emplace_back(SendAction{{incoming.peer}, settings});
    return;
  }
  // One process, one name.
  if (Worker* other = find_peer(incoming.peer); other && other->hello.name != hello.name) {
    lose(*other, Loss::kReplaced, fmt::format("it now calls itself '{}'", hello.name), now,
         actions);
  }
  const auto known = workers_.find(hello.name);
  if (known == workers_.end() && !make_room()) return refuse("too many workers");
  if (known != workers_.end() && known->second.connected) {
    Worker& holder = known->second;
    if (holder.peer == incoming.peer) return on_hello_again(holder, hello, now, actions);
    const wire::PeerId old_peer = holder.peer;
    lose(holder, Loss::kReplaced, fmt::format("replaced by a newer process (pid {})", hello.pid),
         now, actions);
    actions.emplace_back(
        SendAction{{old_peer}, wire::Refused{"another process has taken over this name"}});
  }
  admit(incoming, hello, now, actions);
}

void Membership::on_hello_again(Worker& worker, const wire::Hello& hello, TimePoint now,
                                Actions& actions) {
  worker.heard = now;
  // Several hellos may be under way before the first answer arrives; only one that follows other
  // messages means that the worker has not heard from us and has given up what it did.
  if (worker.spoke && worker.rank >= 0) {
    end_epoch(Loss::kUnreachable, describe(worker) + " lost its connection and started over", false,
              now, actions);
  }
  worker.spoke = false;
  worker.hello = hello;
  note_memory(worker);
  actions.emplace_back(SendAction{{worker.peer}, wire::CoordinatorHeartbeat{epoch_}});
  note_epoch(worker, hello.newest_epoch, now, actions);
}

void Membership::note_memory(Worker& worker) {
  worker.held_bytes = worker.hello.held_bytes;
  if (worker.hello.device_kind != "cpu") return;  // a card is its worker's own
  uint64_t total = worker.hello.memory_bytes;
  for (const auto& [name, other] : workers_) {
    const bool neighbour = other.connected && other.hello.device_kind == "cpu" &&
                           other.hello.host_id == worker.hello.host_id;
    // A load that is under way takes what it has read.
    if (neighbour) total += std::max(other.held_bytes, other.bytes_done);
  }
  host_memory_[worker.hello.host_id] = total;
}

void Membership::admit(const wire::Incoming& incoming, const wire::Hello& hello, TimePoint now,
                       Actions& actions) {
  Worker& worker = workers_[hello.name];
  const bool same_process = worker.hello.incarnation == hello.incarnation;
  const int last_rank = worker.last_rank;
  const bool loaded = same_process && worker.loaded && !hello.model_digest.empty();
  worker = Worker{};
  worker.hello = hello;
  worker.peer = incoming.peer;
  worker.key = incoming.key;
  worker.connected = true;
  worker.heard = now;
  worker.last_rank = last_rank;
  worker.loaded = loaded;
  note_memory(worker);
  ++joins_;
  by_peer_[incoming.peer] = hello.name;
  note_epoch(worker, hello.newest_epoch, now, actions);
  actions.emplace_back(AcceptAction{incoming.peer});
  actions.emplace_back(SendAction{{incoming.peer}, wire::CoordinatorHeartbeat{epoch_}});
  actions.emplace_back(
      LogAction{LogLevel::kInfo, fmt::format("worker '{}' joined: {} on {}, pid {}", hello.name,
                                             hello.device, hello.host_name, hello.pid)});
}

bool Membership::make_room() {
  if (workers_.size() < kMaxWorkers) return true;
  const auto lost = std::find_if(workers_.begin(), workers_.end(),
                                 [](const auto& entry) { return !entry.second.connected; });
  if (lost == workers_.end()) return false;
  workers_.erase(lost);
  return true;
}

void Membership::on(Worker& worker, const wire::Goodbye& goodbye, TimePoint now, Actions& actions) {
  lose(worker, Loss::kLeft, "it said goodbye: " + excerpt(goodbye.reason), now, actions);
}

void Membership::on(Worker& worker, const wire::LoadProgress& progress, TimePoint now, Actions&) {
  if (worker.rank < 0 || progress.epoch != epoch_ || phase_ != Phase::kForming) return;
  if (progress.bytes_done > worker.bytes_done) formed_progress_ = now;
  worker.bytes_done = progress.bytes_done;
  worker.bytes_total = progress.bytes_total;
}

void Membership::on(Worker& worker, const wire::StoreSet& set, TimePoint now, Actions& actions) {
  if (worker.rank >= 0) check_store(rendezvous_.set(set, actions), now, actions);
}

void Membership::on(Worker& worker, const wire::StoreGet& get, TimePoint now, Actions& actions) {
  if (worker.rank >= 0) check_store(rendezvous_.get(worker.peer, get, actions), now, actions);
}

void Membership::check_store(const Status& status, TimePoint now, Actions& actions) {
  if (!status.is_ok()) end_epoch(Loss::kProtocol, status.message(), false, now, actions);
}

void Membership::on(Worker& worker, const wire::WorkerHeartbeat& beat, TimePoint now,
                    Actions& actions) {
  if (!beat.busy) worker.must_show_idle = false;
  note_epoch(worker, beat.epoch, now, actions);
}

void Membership::note_epoch(Worker& worker, uint64_t epoch, TimePoint now, Actions& actions) {
  if (epoch <= epoch_) return;
  const std::string what = fmt::format("has seen plan epoch {}", epoch);
  if (is_garbage(epoch)) {  // it would drop every plan of ours
    actions.emplace_back(
        SendAction{{worker.peer},
                   wire::Refused{fmt::format(
                       "it {}, which no coordinator can have made; start it again", what)}});
    return lose(worker, Loss::kProtocol, "it " + what, now, actions);
  }
  newest_seen_ = std::max(newest_seen_, epoch);
  if (worker.rank < 0) return;
  // It has dropped the plan in force, or will. The next is newer than what it has seen and forms at
  // once; only one that goes on claiming more has to wait.
  const bool again = failures_ > 0;
  end_epoch(Loss::kOvertaken, fmt::format("{} {}, of another coordinator", describe(worker), what),
            false, now, actions);
  if (!again) form_not_before_ = form_not_before_after_join_ = now;
}

void Membership::on(Worker& worker, const wire::Ready& ready, TimePoint now, Actions& actions) {
  if (worker.rank < 0 || ready.epoch != epoch_ || phase_ != Phase::kForming) return;
  worker.is_ready = true;
  worker.loaded = true;
  worker.weight_bytes = ready.weight_bytes;
  worker.kv_bytes = ready.kv_bytes;
  worker.held_bytes = ready.weight_bytes + ready.kv_bytes + ready.scratch_bytes;
  worker.bytes_done = worker.bytes_total;
  formed_progress_ = now;
  for (uint32_t rank = 0; rank < options_.world; ++rank) {
    if (!member(rank).is_ready) return;
  }
  phase_ = Phase::kServing;
  serving_since_ = now;
  has_served_ = true;
  permanent_failure_.clear();
  last_experts_ = formed_experts_;
  last_failure_.clear();
  actions.emplace_back(LogAction{
      LogLevel::kInfo, fmt::format("plan epoch {} serves: {} rank(s), {} KV blocks", epoch_,
                                   options_.world, fmt::join(kv_blocks_, " + "))});
}

void Membership::on(Worker& worker, const wire::Failed& failed, TimePoint now, Actions& actions) {
  if (worker.rank < 0 || failed.epoch != epoch_) return;
  // A group that has served once can be formed: whatever went wrong is worth another try.
  const bool permanent = failed.permanent && phase_ == Phase::kForming;
  const bool was_forming = phase_ == Phase::kForming;
  end_epoch(Loss::kFailed, describe(worker) + " failed: " + bounded_message(failed.message),
            permanent, now, actions);
  if (was_forming) failed_at_file_ = permanent && failed.kind == wire::FailureKind::kFile;
}

void Membership::on(Worker& worker, const wire::ModelChanged& changed, TimePoint now,
                    Actions& actions) {
  // Once per plan that failed: trying again costs a load.
  if (phase_ != Phase::kIdle || changed.epoch != epoch_ || !failed_at_file_) return;
  failed_at_file_ = false;
  form_not_before_ = form_not_before_after_join_ = now;
  actions.emplace_back(LogAction{
      LogLevel::kInfo,
      fmt::format("{} sees that the model's files have changed; trying again", describe(worker))});
}

void Membership::on_standstill(Duration missed, TimePoint now, Actions& actions) {
  forgive_until_ = now + options_.lost_after;
  actions.emplace_back(
      LogAction{LogLevel::kWarn,
                fmt::format("the coordinator stood still for {:.1f} s, which counts against nobody",
                            to_seconds(missed))});
}

void Membership::on_peer_gone(const wire::PeerId& peer, const std::string& reason, TimePoint now,
                              Actions& actions) {
  if (Worker* worker = find_peer(peer)) lose(*worker, Loss::kUnreachable, reason, now, actions);
  form_if_possible(now, actions);
}

void Membership::on_disconnected(const wire::PeerId& peer, TimePoint now) {
  Worker* worker = find_peer(peer);
  if (phase_ == Phase::kStopped || worker == nullptr) return;
  worker->broken = true;
  worker->probe_at = now + options_.probe_after;
}

void Membership::on_worker_died(const WorkerDiedEvent& event, TimePoint now, Actions& actions) {
  for (auto& [name, worker] : workers_) {
    const bool is_it = name == event.name && (event.pid == 0 || worker.hello.pid == event.pid);
    if (worker.connected && is_it) lose(worker, Loss::kDied, event.reason, now, actions);
  }
  form_if_possible(now, actions);
}

void Membership::lose(Worker& worker, Loss loss, const std::string& reason, TimePoint now,
                      Actions& actions) {
  const std::string text = fmt::format("{} was lost: {}", describe(worker), reason);
  by_peer_.erase(worker.peer);
  worker.connected = false;
  // A live process whose connection broke while we stood still comes back by itself.
  const bool comes_back = loss == Loss::kUnreachable && now < forgive_until_;
  if (!comes_back) {
    actions.emplace_back(
        WorkerLostAction{worker.hello.name, worker.hello.host_id, worker.hello.pid, reason});
  }
  if (worker.rank >= 0) {
    end_epoch(loss, text, false, now, actions);
  } else {
    actions.emplace_back(LogAction{LogLevel::kWarn, text});
  }
}

void Membership::fail_group(Loss loss, const std::string& reason, TimePoint now, Actions& actions) {
  if (phase_ == Phase::kServing) end_epoch(loss, reason, false, now, actions);
}

void Membership::tick(TimePoint now, Actions& actions) {
  if (phase_ == Phase::kStopped) return;
  for (auto& [name, worker] : workers_) {
    if (!worker.connected) continue;
    if (worker.broken && now >= worker.probe_at) {
      worker.broken = false;  // or the send fails
      actions.emplace_back(SendAction{{worker.peer}, wire::CoordinatorHeartbeat{epoch_}});
    }
    if (now - worker.heard > options_.lost_after) {
      lose(worker, Loss::kSilent,
           fmt::format("no sign of life for {:.1f} s", to_seconds(now - worker.heard)), now,
           actions);
    } else if (worker.must_show_idle && now > worker.idle_by) {
      actions.emplace_back(SendAction{{worker.peer}, wire::Shutdown{"still busy after an abort"}});
      lose(worker, Loss::kHung,
           fmt::format("it hangs: still busy {:.1f} s after its plan was withdrawn",
                       to_seconds(now - worker.aborted_at)),
           now, actions);
    }
  }
  check_formation(now, actions);
  if (phase_ == Phase::kServing && now - serving_since_ > options_.stable_after) failures_ = 0;
  if (now - last_heartbeat_ >= options_.heartbeat) {
    last_heartbeat_ = now;
    for (const auto& [peer, name] : by_peer_) {
      actions.emplace_back(SendAction{{peer}, wire::CoordinatorHeartbeat{epoch_}});
    }
  }
  form_if_possible(now, actions);
}

void Membership::stop(const std::string& reason, Actions& actions) {
  for (const auto& [peer, name] : by_peer_) {
    actions.emplace_back(SendAction{{peer}, wire::Shutdown{reason}});
  }
  for (auto& [name, worker] : workers_) worker.rank = -1;
  members_.clear();
  last_loss_ = {Loss::kLeft, reason};
  last_failure_ = reason;
  phase_ = Phase::kStopped;
}

void Membership::check_invariants() const {
  for (const auto& [peer, name] : by_peer_) {
    const Worker& worker = workers_.at(name);
    SHOAL_CHECK(worker.connected && worker.peer == peer, "a peer without a connected worker");
  }
  const bool has_group = phase_ == Phase::kForming || phase_ == Phase::kServing;
  uint32_t ranked = 0;
  for (const auto& [name, worker] : workers_) {
    SHOAL_CHECK(
        worker.connected == (by_peer_.count(worker.peer) == 1 && by_peer_.at(worker.peer) == name),
        "a connected worker without a peer");
    ranked += worker.rank >= 0 ? 1 : 0;
    SHOAL_CHECK(worker.rank < 0 || worker.connected, "a lost worker has a rank");
    SHOAL_CHECK(worker.rank < 0 || (has_group && members_[worker.rank] == name),
                "two workers with one rank");
  }
  if (has_group) SHOAL_CHECK(ranked == options_.world, "a group with a hole");
}

}  // namespace shoal

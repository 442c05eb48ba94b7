// Who belongs to the cluster, and which plan epoch is in force. Pure: events and the time come in,
// actions go out.
//
// A worker says hello, is checked and then watched: any message is a sign of life, silence beyond
// `lost_after` is a loss. When enough workers are there an epoch forms: ranks are placed, each gets
// an Assign; when all are Ready the group serves. Any loss, failure or time-out ends the epoch:
// Abort to the survivors, whose weights stay, and a new epoch forms from workers that have shown
// that they are idle since — one that stays busy after an Abort hangs and is lost. Messages of
// older epochs, and of processes that are lost, are dropped.
//
// A name belongs to the process whose hello was accepted for as long as it lives. Another one that
// comes with the same name and key takes it over only if the first said goodbye, was silent beyond
// `lost_after`, ended under our supervisor's eyes or lost its connection; else it is refused and
// told why, and the first notices nothing.
//
// Epochs count up from what is heard, never from a clock. A worker drops plans older than the
// newest it has seen, so every hello and heartbeat says which that is, and the next plan is newer
// than all of them. Should a member turn out to have seen a newer plan than the one in force (it
// was with another coordinator meanwhile), a new epoch forms at once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "coordinator/core/actions.h"
#include "coordinator/core/rendezvous.h"
#include "parallel/plan/plan.h"
#include "wire/link.h"

namespace shoal {

struct MembershipOptions {
  uint32_t world = 1;
  // Worker names in rank order; more than there are ranks are spares. Empty: any name may join.
  std::vector<std::string> names;
  // Workers that hold experts only, for the last ranks; part of `world`, not of `names`.
  std::vector<std::string> expert_names;
  std::map<std::string, std::string> keys;  // name → the only key it may come with; may be empty
  // What the configuration says of workers on other hosts, by name: told to one that goes by
  // anything else. Of a name that is not there nothing is said.
  std::map<std::string, wire::Settings> settings;
  std::optional<wire::CollectiveEngine> engine;  // empty: chosen from the hosts
  std::string segment_prefix;  // of shm names, unique per coordinator process: "/shoal.4711"

  // What all plans have in common: model, precision of KV, limits, time-outs.
  wire::Assign terms;
  // How plans are made of what workers offer. Empty: equal shares, terms.kv_blocks.
  std::optional<Planning> planning;

  Duration heartbeat = std::chrono::milliseconds(250);
  Duration lost_after = std::chrono::seconds(2);
  // Without any progress of any rank's load; the plan's own form_timeout_seconds comes on top.
  Duration load_timeout = std::chrono::minutes(30);
  Duration abort_timeout = std::chrono::seconds(10);        // to become idle after an Abort
  Duration first_backoff = std::chrono::milliseconds(250);  // doubles with every failure in a row
  Duration max_backoff = std::chrono::seconds(30);
  // After a permanent failure; at once if it was about a file and that has changed.
  Duration permanent_retry = std::chrono::seconds(60);
  Duration join_backoff = std::chrono::seconds(2);  // both at most this once a new worker joined
  Duration stable_after = std::chrono::seconds(5);  // of serving: failures are forgotten
  // A dying process breaks its connection first: its last words may still come, and whoever
  // supervises it says in a moment how it died. Only then is it asked whether it is still there.
  Duration probe_after = std::chrono::milliseconds(20);
};

// Why a worker or a group was lost; names for metrics in loss_name().
enum class Loss : uint8_t {
  kSilent,       // no message for too long
  kDied,         // the supervisor saw its process end
  kUnreachable,  // the connection is gone or does not drain
  kLeft,         // it said goodbye
  kReplaced,     // by a newer process of the same name
  kOvertaken,    // it has seen a newer plan, of another coordinator
  kHung,         // it answers but does not compute
  kFailed,       // it reported an error
  kProtocol,     // it sent what makes no sense
};
std::string_view loss_name(Loss loss);

// Why a group ended, as clients and metrics are told.
struct GroupLoss {
  Loss loss = Loss::kFailed;
  std::string reason;  // "worker 'w1' (rank 1) was lost: no sign of life for 2.0 s"
};

class Membership {
 public:
  explicit Membership(MembershipOptions options);

  void on_message(const wire::Incoming& incoming, TimePoint now, Actions& actions);
  void on_peer_gone(const wire::PeerId& peer, const std::string& reason, TimePoint now,
                    Actions& actions);
  // Its name is free for another process. After probe_after a message goes to it: if it is back
  // there is nothing to do, else the failed send says that it is gone.
  void on_disconnected(const wire::PeerId& peer, TimePoint now);
  void on_worker_died(const WorkerDiedEvent& event, TimePoint now, Actions& actions);
  void tick(TimePoint now, Actions& actions);
  void stop(const std::string& reason, Actions& actions);
  // The coordinator itself stood still for this long beyond what it can help. `now` does not count
  // it, but connections may have broken meanwhile: for a while that is no reason to end a process.
  void on_standstill(Duration missed, TimePoint now, Actions& actions);

  // The serving group: 0 if there is none.
  uint64_t serving_epoch() const { return phase_ == Phase::kServing ? epoch_ : 0; }
  uint32_t world() const { return options_.world; }
  const std::vector<uint32_t>& kv_blocks() const { return kv_blocks_; }  // of the epoch
  const wire::PeerId& peer_of_rank(uint32_t rank) const { return member(rank).peer; }
  // The rank of a member of the current epoch.
  std::optional<uint32_t> rank_of(const wire::PeerId& peer) const;
  // Why the last group ended. REQUIRES: one has.
  const GroupLoss& last_loss() const { return last_loss_; }

  // The serving group cannot go on, nobody in particular is to blame.
  void fail_group(Loss loss, const std::string& reason, TimePoint now, Actions& actions);

  // Every member has been heard within lost_after.
  bool ready() const { return phase_ == Phase::kServing; }
  std::string not_ready_reason() const;
  // See ServiceState.
  const std::string& permanent_failure() const { return permanent_failure_; }
  std::vector<WorkerState> worker_states(TimePoint now) const;
  uint64_t epoch() const { return epoch_; }
  uint64_t refused_hellos() const { return refused_hellos_; }

  void check_invariants() const;

 private:
  enum class Phase : uint8_t { kIdle, kForming, kServing, kStopped };

  struct Worker {
    wire::Hello hello;
    wire::PeerId peer;
    std::string key;
    bool connected = false;
    bool broken = false;   // its connection is, or was a moment ago
    TimePoint probe_at{};  // if broken
    TimePoint heard{};
    bool spoke = false;  // something besides hellos: a later hello means it has given up the epoch
    bool must_show_idle = false;  // since an Abort
    TimePoint aborted_at{};
    TimePoint idle_by{};  // later it hangs
    int rank = -1;        // in the current epoch
    int last_rank = -1;   // in the last epoch it took part in
    bool loaded = false;  // its weights of last_rank were up once in this process
    bool is_ready = false;
    uint64_t bytes_done = 0, bytes_total = 0;
    uint64_t weight_bytes = 0, kv_bytes = 0;
    uint64_t held_bytes = 0;  // as of its last hello or Ready
  };
  using WorkerMap = std::map<std::string, Worker>;  // by name; lost ones stay, for their rank

  void on_hello(const wire::Incoming& incoming, const wire::Hello& hello, TimePoint now,
                Actions& actions);
  // An error is the reason to refuse.
  Status check_hello(const wire::Incoming& incoming, const wire::Hello& hello, TimePoint now) const;
  Status check_name(const wire::Hello& hello, const std::string& key) const;
  // Whether another process may have the name of this connected worker.
  bool is_gone(const Worker& worker, TimePoint now) const;
  void on_hello_again(Worker& worker, const wire::Hello& hello, TimePoint now, Actions& actions);
  // Takes the hello's memory figures: what a host has is what is free there and what its workers
  // hold, all at one moment.
  void note_memory(Worker& worker);
  void admit(const wire::Incoming& incoming, const wire::Hello& hello, TimePoint now,
             Actions& actions);
  bool make_room();
  // One for each of wire::ToCoordinator. Most are about an epoch that the worker must be part of.
  void on(Worker& worker, const wire::WorkerHeartbeat& beat, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::Goodbye& goodbye, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::LoadProgress& progress, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::Ready& ready, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::Failed& failed, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::ModelChanged& changed, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::StoreSet& set, TimePoint now, Actions& actions);
  void on(Worker& worker, const wire::StoreGet& get, TimePoint now, Actions& actions);
  // On its own way: on_hello().
  void on(Worker&, const wire::Hello&, TimePoint, Actions&) {}
  // The core takes these.
  void on(Worker&, const wire::StepResult&, TimePoint, Actions&) {}
  void on(Worker&, const wire::ExpertLoad&, TimePoint, Actions&) {}
  // The newest plan a worker says it has seen.
  void note_epoch(Worker& worker, uint64_t epoch, TimePoint now, Actions& actions);
  bool is_garbage(uint64_t epoch) const;
  void check_store(const Status& status, TimePoint now, Actions& actions);

  void lose(Worker& worker, Loss loss, const std::string& reason, TimePoint now, Actions& actions);
  void end_epoch(Loss loss, const std::string& why, bool permanent, TimePoint now,
                 Actions& actions);
  void form_if_possible(TimePoint now, Actions& actions);
  std::vector<Worker*> candidates();
  void form(const std::vector<Worker*>& by_rank, TimePoint now, Actions& actions);
  Result<Plan> make_plan(const std::vector<Worker*>& by_rank) const;
  Result<wire::CollectiveEngine> engine_for(const std::vector<Worker*>& by_rank) const;
  Duration backoff() const;
  void check_formation(TimePoint now, Actions& actions);

  const Worker& member(uint32_t rank) const;
  Worker* find_peer(const wire::PeerId& peer);
  uint32_t connected() const;
  std::string describe(const Worker& worker) const;

  const MembershipOptions options_;
  WorkerMap workers_;
  std::map<wire::PeerId, std::string> by_peer_;
  Rendezvous rendezvous_;

  Phase phase_ = Phase::kIdle;
  uint64_t epoch_ = 0;                           // of the last plan sent
  uint64_t newest_seen_ = 0;                     // by any worker
  std::vector<std::string> members_;             // [world] names by rank while forming or serving
  std::map<std::string, uint64_t> host_memory_;  // by host id, of CPU workers: see note_memory()
  std::vector<uint32_t> kv_blocks_;
  std::optional<ExpertPlan> last_experts_;  // of the last plan that served
  ExpertPlan formed_experts_;               // of the current epoch
  TimePoint formed_progress_{};             // while forming: last sign of progress
  TimePoint serving_since_{};
  TimePoint last_heartbeat_{};
  TimePoint last_refusal_logged_{};

  GroupLoss last_loss_;
  bool has_served_ = false;
  std::string permanent_failure_;  // of forming, before anything has served
  std::string last_failure_;       // of forming or serving, for people; empty once serving
  uint32_t failures_ = 0;          // in a row
  bool failed_at_file_ =
      false;                   // the last epoch did: whoever watches the file says when it changes
  TimePoint forgive_until_{};  // see on_standstill()
  uint64_t refused_hellos_ = 0;
  TimePoint form_not_before_{};
  TimePoint form_not_before_after_join_{};
  uint64_t joins_ = 0;             // workers admitted so far
  uint64_t joins_at_failure_ = 0;  // … when the last epoch ended
};

}  // namespace shoal

// The coordinator without clocks, threads or sockets: events in, actions out, deterministic. It
// composes membership (who computes), the request table (what is to be computed) and the scheduler
// (when). core_loop.h drives it; tests drive it with fake workers and a fake clock.
//
// Deadlines of others (signs of life, loads, steps, aborts) run in the core's own time, which
// stands still while nobody calls handle(): a coordinator that was stopped does not blame its
// workers. Figures and arrival times are the clock's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/observed_time.h"
#include "coordinator/core/actions.h"
#include "coordinator/core/admission.h"
#include "coordinator/core/membership.h"
#include "coordinator/core/observer.h"
#include "coordinator/core/request_table.h"
#include "coordinator/core/scheduler.h"
#include "coordinator/core/step_watch.h"
#include "coordinator/core/token_service.h"

namespace shoal {

struct CoreOptions {
  // Of membership.terms only model_path, model_digest, kv, kv_blocks, int8_activations and the two
  // timeouts need to be set; what the fields below decide is filled in.
  MembershipOptions membership;
  SchedulerOptions scheduler;
  QueueLimits queue;
  uint32_t context_tokens = 0;      // prompt + output of one request; ≥ 2
  int32_t vocab = 0;                // ids are below
  std::vector<int32_t> end_tokens;  // the model's end-of-generation set
  // Requests outlive a group that is lost: those that ran start again in the next one, from their
  // prompt and what was emitted. They end with the group's error if there is none after this long;
  // zero: at once.
  Duration recovery{};
  // A step is given up at the latest this long after the ranks' own step timeout; usually long
  // before: see StepWatch.
  Duration step_grace = std::chrono::seconds(2);
  // handle() is called far more often than this, if only with ticks. What a longer pause has beyond
  // it does not count.
  Duration longest_pause = std::chrono::milliseconds(250);
};

class Core {
 public:
  // `observer` outlives the core.
  Core(CoreOptions options, CoreObserver& observer);

  // Takes events in order, then schedules once: what arrived together shares a step.
  Actions handle(std::span<const Event> events, TimePoint now);
  Actions handle(const Event& event, TimePoint now) { return handle({&event, 1}, now); }

  AdmissionView admission() const;
  ServiceState state(TimePoint now) const;
  void update_counters(ServiceState& state) const;  // the cheap part: epoch, requests, KV blocks
  uint32_t context_tokens() const { return options_.context_tokens; }

  // No request, no step in flight, every block and slot free.
  bool idle() const;
  // Aborts if anything does not add up. Debug builds run it after every handle().
  void check_invariants() const;

 private:
  void on(const SubmitEvent& event, TimePoint now, Actions& actions);
  void on(const CancelEvent& event, TimePoint now, Actions& actions);
  void on(const wire::Incoming& incoming, TimePoint now, Actions& actions);
  void on(const PeerGoneEvent& event, TimePoint now, Actions& actions);
  void on(const DisconnectedEvent& event, TimePoint now, Actions& actions);
  void on(const WorkerDiedEvent& event, TimePoint now, Actions& actions);
  void on(const DrainEvent& event, TimePoint now, Actions& actions);
  void on(const StopEvent& event, TimePoint now, Actions& actions);
  void on(const TickEvent& event, TimePoint now, Actions& actions);

  void take_expert_load(const wire::PeerId& peer, const wire::ExpertLoad& load);
  void take_result(const wire::PeerId& peer, const wire::StepResult& result, TimePoint now,
                   Actions& actions);
  void fail_broken(Request& request, TimePoint now, Actions& actions);
  bool take_scores(Request& request, const wire::PromptScores& scores, TimePoint now,
                   Actions& actions);
  bool take_token(Request& request, const wire::RowResult& row, TimePoint now, Actions& actions);
  void finish(Request& request, FinishEvent event, TimePoint now, Actions& actions);
  void fail_all(const Status& error, TimePoint now, Actions& actions);
  // Follows membership: what a group that ended leaves behind waits for a new one.
  void follow_membership(TimePoint now, Actions& actions);
  void on_group_lost(TimePoint now, Actions& actions);
  // Requests that ran when the group was lost. Those that have seen two groups go end here.
  void set_aside(const std::vector<Request*>& ran, TimePoint now, Actions& actions);
  void watch_recovery(TimePoint now, Actions& actions);
  void watch_steps(TimePoint now, Actions& actions);
  bool step_is_overdue() const;
  std::string not_ready_reason() const;
  void schedule(TimePoint now, Actions& actions);
  bool is_end_token(int32_t token) const;

  const CoreOptions options_;
  CoreObserver& observer_;
  Membership membership_;
  RequestTable table_;
  Scheduler scheduler_;
  StepWatch watch_;
  ObservedTime observed_;
  TimePoint own_now_{};                  // of this handle()
  uint64_t serving_epoch_ = 0;           // the scheduler's; 0: none
  uint64_t overdue_step_ = 0;            // the last one that was
  std::optional<TimePoint> recover_by_;  // requests of a lost group wait until then
  bool draining_ = false;
};

}  // namespace shoal

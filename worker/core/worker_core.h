// A worker's decisions without threads, clocks, sockets or a device: messages, the ends of jobs and
// the time come in, actions go out. agent.h is the threads around it; the tests of the coordinator
// drive it with a fake device and a fake clock.
//
// A plan is in force from its Assign until a newer one, the coordinator's Abort, its own failure or
// the coordinator's silence ends it. Jobs (loading, steps) run one at a time in the order given;
// those of a plan that is no longer in force are dropped, or end early. Whoever runs them says so
// of each: busy is who has not.
//
// Not thread-safe: the agent guards it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/observed_time.h"
#include "base/status.h"
#include "wire/messages.h"

namespace shoal::worker {

struct Options {
  Duration heartbeat = std::chrono::milliseconds(250);
  Duration progress = std::chrono::milliseconds(200);  // between reports of a load
  // Silence of the coordinator after which the plan in force is given up and hellos start again.
  // Longer than a coordinator takes to restart; weights stay. In the worker's own time: while it
  // stood still itself it could hear nobody.
  Duration coordinator_silence = std::chrono::seconds(5);
  uint64_t settings_id = 0;   // of the coordinator's Settings this worker was started by
  uint64_t newest_epoch = 0;  // seen before
  // Steps the coordinator may have in flight (two), plans, and room for both to be late.
  size_t most_jobs = 64;
};

// Events.
struct Tick {  // at least every 100 ms or so
  bool loading = false;
  uint64_t bytes_done = 0, bytes_total = 0;  // of the load
};
struct LoadOver {
  uint64_t epoch = 0;
  Result<wire::Ready> ready;
  bool at_loading = false;   // it failed over the file or the memory for it, not later
  bool device_lost = false;  // to this process
};
struct StepOver {
  uint64_t epoch = 0;
  Result<wire::StepResult> result;
  bool device_lost = false;
};
struct Dropped {};   // a job was not begun: its plan is not in force
struct Unsendable {  // what a step gave breaks a rule of the protocol
  uint64_t epoch = 0;
  Status why;
};
struct Stop {};  // whoever runs this process asks for its end
using Event = std::variant<Tick, wire::ToWorker, LoadOver, StepOver, Dropped, Unsendable, Stop>;

// Actions, in order.
struct Introduce {  // send a Hello; who this is and what it has is filled in
  uint64_t newest_epoch = 0;
};
struct Beat {  // memory is filled in
  wire::WorkerHeartbeat heartbeat;
};
struct Send {
  wire::ToCoordinator message;
};
struct Load {  // a job
  wire::Assign plan;
};
struct Compute {  // a job
  wire::Step step;
};
struct Withdraw {  // jobs of this epoch and of older ones end as soon as they can
  uint64_t epoch = 0;
  std::string reason;
};
struct OpenStore {  // the rendezvous store begins anew
  uint64_t epoch = 0;
};
struct Deliver {
  wire::StoreSet value;
};
struct WatchFiles {  // the load of this plan failed at its files: ModelChanged once they change
  uint64_t epoch = 0;
};
struct Log {
  LogLevel level = LogLevel::kInfo;
  std::string text;
};
struct End {  // of this agent
  Status status;
  std::string reason;
  std::optional<wire::Settings> settings;  // another agent is to go by these, over the same link
};
using Action = std::variant<Introduce, Beat, Send, Load, Compute, Withdraw, OpenStore, Deliver,
                            WatchFiles, Log, End>;
using Actions = std::vector<Action>;

class Core {
 public:
  explicit Core(const Options& options) : options_(options), epoch_(options.newest_epoch) {}

  // After End nothing does anything.
  Actions handle(const Event& event, TimePoint now);

  // Is the plan of this epoch in force? Asked before a job is begun.
  bool in_force(uint64_t epoch) const { return epoch == epoch_ && in_force_ && !ended_; }
  uint64_t newest_epoch() const { return epoch_; }
  bool busy() const { return jobs_ > 0; }
  bool ended() const { return ended_; }

 private:
  void on(const Tick& tick, TimePoint now, Actions& out);
  void on(const wire::ToWorker& message, TimePoint now, Actions& out);
  void on(const LoadOver& over, TimePoint now, Actions& out);
  void on(const StepOver& over, TimePoint now, Actions& out);
  void on(const Dropped& dropped, TimePoint now, Actions& out);
  void on(const Unsendable& unsendable, TimePoint now, Actions& out);
  void on(const Stop& stop, TimePoint now, Actions& out);

  // One for each of wire::ToWorker.
  void take(const wire::Assign& plan, Actions& out);
  void take(const wire::Step& step, Actions& out);
  void take(const wire::CoordinatorHeartbeat& beat, Actions& out);
  void take(const wire::Abort& abort, Actions& out);
  void take(const wire::Refused& refused, Actions& out);
  void take(const wire::Shutdown& shutdown, Actions& out);
  void take(const wire::Settings& settings, Actions& out);
  void take(const wire::StoreSet& value, Actions& out);

  bool has_room() const { return jobs_ < options_.most_jobs; }
  void beat_if_due(TimePoint now, Actions& out);
  void give_up(const std::string& reason, Actions& out);
  // The plan in force fails; of another nobody waits for anything.
  void fail(uint64_t epoch, const Status& error, wire::FailureKind kind, Actions& out);
  void lose_device(Actions& out);
  void end(End end, Actions& out);

  const Options options_;
  uint64_t epoch_ = 0;      // of the newest plan
  bool in_force_ = false;   // … which has not ended
  bool gave_up_ = false;    // … which ended without the coordinator's knowledge
  uint64_t last_step_ = 0;  // computed in epoch_
  size_t jobs_ = 0;         // given and not over
  bool welcome_ = false;    // the coordinator has answered since the last hello
  bool ended_ = false;
  bool beat_now_ = true;
  TimePoint heard_{};  // in observed_'s time
  TimePoint last_beat_{}, last_progress_{};
  ObservedTime observed_{std::chrono::milliseconds(250)};
};

}  // namespace shoal::worker

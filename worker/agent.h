// The worker process: introduces itself to the coordinator, takes a plan, loads its shard, runs
// steps until told otherwise. Two threads: control (this class's run(): messages, heartbeats,
// aborts) and compute (loading, forming the group, steps). Heartbeats go on while the compute
// thread works, and an abort reaches a collective that waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/observed_time.h"
#include "base/status.h"
#include "kernels/device.h"
#include "parallel/collective.h"
#include "wire/link.h"
#include "worker/file_watch.h"
#include "worker/rank.h"
#include "worker/store_client.h"

namespace shoal {

struct AgentOptions {
  std::string name;          // unique in the cluster
  std::string build;         // version string for the hello
  uint64_t incarnation = 0;  // random per process; the link's own
  std::string data_address;  // IP address of the data plane, or empty
  std::string device_kind = "cpu";
  uint32_t threads = 0;
  uint64_t settings_id = 0;  // of the coordinator's Settings it was started by
  int load_threads = 2;
  Duration heartbeat = std::chrono::milliseconds(250);
  // Silence of the coordinator after which the current epoch is given up and hellos start again.
  // Longer than a coordinator takes to restart; weights stay. In the agent's own time: while it
  // stood still itself it could hear nobody.
  Duration coordinator_silence = std::chrono::seconds(5);
  // What is left of a step or a load may take this long once the agent stops; then `on_hung` is
  // called, which must not return: a thread inside a device cannot be ended in any other way.
  Duration stop_grace = std::chrono::seconds(10);
  std::function<void()> on_hung;  // empty: wait on
};

class Agent {
 public:
  // `link` and `device` outlive the agent.
  Agent(const AgentOptions& options, wire::WorkerLink& link, Device& device);
  ~Agent();

  // Serves until stop() (ok), the coordinator's Shutdown (ok) or Refused (an error), until the
  // device is lost (kUnavailable), or until the coordinator wants another agent (ok;
  // new_settings()).
  Status run();
  // After run(): what another agent is to go by, over the same link.
  const std::optional<wire::Settings>& new_settings() const { return new_settings_; }
  // Thread- and signal-handler-safe.
  void stop() { stopping_.store(true); }

 private:
  using Job = std::variant<wire::Assign, wire::Step>;

  void say_hello();
  void heartbeat_if_due(TimePoint now);
  // One for each of wire::ToWorker.
  void handle(const wire::Assign& plan);
  void handle(const wire::Step& step);
  void handle(const wire::CoordinatorHeartbeat& beat);
  void handle(const wire::Abort& abort);
  void handle(const wire::Refused& refused);
  void handle(const wire::Shutdown& shutdown);
  void handle(const wire::Settings& settings);
  void handle(const wire::StoreSet& value);
  bool give(Job job);  // to the compute thread; false: there is no room
  void give_up(const std::string& reason);
  void compute_loop();
  void join(std::thread& compute);
  void take_plan(const wire::Assign& plan);
  void run_step(const wire::Step& step);
  void report_experts();  // compute thread, rank 0
  void report_failure(uint64_t epoch, const Status& error,
                      wire::FailureKind kind = wire::FailureKind::kOther);
  // Compute thread.
  void failed(uint64_t epoch, const Status& error,
              wire::FailureKind kind = wire::FailureKind::kOther);
  void report_progress(TimePoint now);
  void report_changed_files(TimePoint now);
  void watch_files(uint64_t epoch, std::vector<std::string> files, std::vector<FileStamp> seen);

  const AgentOptions options_;
  wire::WorkerLink& link_;
  Device& device_;
  const uint64_t incarnation_;
  StoreClient store_;
  Rank rank_;

  std::atomic<bool> stopping_{false};
  std::atomic<bool> device_lost_{false};
  std::atomic<uint64_t> epoch_{0};       // the newest plan; jobs of older ones are dropped
  std::atomic<uint64_t> last_step_{0};   // last step computed in epoch_
  std::atomic<uint32_t> unfinished_{0};  // jobs, those in the queue too
  std::atomic<bool> loading_{false};
  std::atomic<uint64_t> bytes_done_{0}, bytes_total_{0};
  std::atomic<bool> stop_loading_{false};
  BoundedQueue<Job> jobs_;

  // Control thread only.
  bool ended_ = false;  // by a message
  Status result_;       // of run()
  std::optional<wire::Settings> new_settings_;
  bool welcome_ = false;  // the coordinator has answered since the last hello
  TimePoint heard_{};     // in observed_'s time
  TimePoint last_heartbeat_{}, last_progress_{};
  ObservedTime observed_{std::chrono::milliseconds(250)};
  uint64_t changed_epoch_ = 0;  // its files have changed and the coordinator does not know; or 0

  std::mutex watch_mutex_;  // guards the next two
  FileWatch watch_;
  uint64_t watched_epoch_ = 0;

  std::mutex done_mutex_;
  std::condition_variable done_changed_;
  bool compute_done_ = false;
  // Compute thread only.
  static constexpr Duration kExpertReport = std::chrono::seconds(1);
  TimePoint last_expert_report_{};
  uint64_t reported_epoch_ = 0;
  std::vector<uint64_t> reported_experts_;
};

}  // namespace shoal

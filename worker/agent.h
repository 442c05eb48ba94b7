// The worker process: introduces itself to the coordinator, takes a plan, loads its shard, runs
// steps until told otherwise. What it decides is in core/worker_core.h; here are its two threads:
// control (run(): messages, heartbeats, aborts) and compute (loading, forming the group, steps).
// Heartbeats go on while the compute thread works, and an abort reaches a collective that waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/bounded_queue.h"
#include "base/status.h"
#include "kernels/device.h"
#include "model/file_watch.h"
#include "parallel/collective/collective.h"
#include "wire/link.h"
#include "worker/core/worker_core.h"
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
  int load_threads = 2;
  worker::Options core;
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
  const std::optional<wire::Settings>& new_settings() const { return end_.settings; }
  // Thread- and signal-handler-safe.
  void stop() { stopping_.store(true); }

 private:
  using Job = std::variant<worker::Load, worker::Compute>;

  // Tells the core and does what it says. Any thread.
  void dispatch(const worker::Event& event);
  bool in_force(uint64_t epoch) const;
  // One for each of worker::Action.
  void perform(const worker::Introduce& introduce);
  void perform(const worker::Beat& beat);
  void perform(const worker::Send& send);
  void perform(worker::Load&& load);
  void perform(worker::Compute&& compute);
  void perform(const worker::Withdraw& withdraw);
  void perform(const worker::OpenStore& open);
  void perform(const worker::Deliver& deliver);
  void perform(const worker::WatchFiles& watch);
  void perform(const worker::Log& entry);
  void perform(const worker::End& end);

  worker::Tick look() const;  // at how far the load is
  void report_changed_files(TimePoint now);
  void watch_files(uint64_t epoch, std::vector<std::string> files, std::vector<FileStamp> seen);
  void join(std::thread& compute);

  // Compute thread.
  void compute_loop();
  void run_job(const worker::Load& load);
  void run_job(const worker::Compute& compute);
  void report_experts();

  const AgentOptions options_;
  wire::WorkerLink& link_;
  Device& device_;
  const uint64_t incarnation_;
  StoreClient store_;
  Rank rank_;

  mutable std::mutex core_mutex_;  // guards core_
  worker::Core core_;

  std::atomic<bool> stopping_{false};  // asked to
  std::atomic<bool> ended_{false};
  std::atomic<bool> loading_{false};
  std::atomic<uint64_t> bytes_done_{0}, bytes_total_{0};
  std::atomic<bool> stop_loading_{false};
  BoundedQueue<Job> jobs_;

  std::mutex watch_mutex_;  // guards the next three
  FileWatch watch_;
  uint64_t watched_epoch_ = 0;
  worker::End end_;  // valid once ended_

  std::mutex done_mutex_;
  std::condition_variable done_changed_;
  bool compute_done_ = false;
  // Control thread only.
  uint64_t changed_epoch_ = 0;  // its files have changed and the coordinator does not know; or 0
  // Compute thread only.
  static constexpr Duration kExpertReport = std::chrono::seconds(1);
  std::vector<std::string> plan_files_;  // of the load that is under way or was the last
  std::vector<FileStamp> plan_stamps_;   // … as they were before it
  TimePoint last_expert_report_{};
  uint64_t reported_epoch_ = 0;
  std::vector<uint64_t> reported_experts_;
};

}  // namespace shoal

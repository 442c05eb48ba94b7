// A whole cluster in one thread: the pure core, fake workers, the in-memory network and a clock
// that moves only when everybody has done what was due. Same seed, same run.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/core/core.h"
#include "tests/coordinator/fake_worker.h"
#include "wire/memory_link.h"

namespace shoal::testing {

struct Stream {  // what a client saw
  GenerationRequest request;
  std::vector<int32_t> tokens;
  std::vector<float> scores;  // of the prompt, from its second token on
  int finishes = 0;
  FinishEvent finish;
  TimePoint finished_at{};
  bool cancelled = false;
};

struct SentStepRecord {
  wire::Step step;
  size_t in_flight = 0;  // with this one
};

class CountingObserver : public CoreObserver {
 public:
  void preempted() override { ++preemptions; }
  void replayed(uint64_t requests) override { replays += requests; }
  void surplus_result() override { ++surplus; }
  void worker_failed(std::string_view) override { ++failures; }
  void step_overdue() override { ++overdue; }
  void prefix_lookup(uint32_t tokens, uint32_t hits) override {
    lookup_tokens += tokens;
    hit_tokens += hits;
  }
  void blocks_evicted(uint64_t blocks) override { evicted += blocks; }
  void expert_load(const wire::ExpertLoad& load) override { expert_loads.push_back(load); }
  std::vector<wire::ExpertLoad> expert_loads;
  uint64_t preemptions = 0, replays = 0, surplus = 0, failures = 0, overdue = 0;
  uint64_t lookup_tokens = 0, hit_tokens = 0, evicted = 0;
};

// Small numbers that make every limit matter: blocks of 4 tokens, 8 rows a step.
CoreOptions small_core_options(uint32_t world);

class FakeCluster {
 public:
  FakeCluster(CoreOptions options, FakeModel model, uint64_t seed, wire::LinkFaults faults = {});

  FakeWorker& add_worker(FakeWorkerOptions options);
  FakeWorker& add_worker(const std::string& name);
  FakeWorker& worker(const std::string& name) { return *workers_.at(name).worker; }
  // kill -9: the connection breaks, the process is gone. A worker added under the same name later
  // is a new process.
  void kill(const std::string& name);
  bool alive(const std::string& name) const { return workers_.count(name) == 1; }

  RequestId submit(GenerationRequest request);
  RequestId submit(std::vector<int32_t> prompt, uint32_t max_tokens, uint64_t seed = 1);
  // In one event batch: they can share their first step.
  std::vector<RequestId> submit_together(const std::vector<GenerationRequest>& requests);
  void cancel(RequestId id);
  void handle(Event event);
  void handle(std::vector<Event> events);

  // Moves time. Invariants are checked after every event.
  void run_for(Duration duration);
  // True as soon as `done` holds, false after `limit`.
  bool run_until(const std::function<bool()>& done, Duration limit = std::chrono::seconds(30));
  bool run_until_ready() {
    return run_until([&] { return core.admission().ready; });
  }
  bool run_until_finished(RequestId id, Duration limit = std::chrono::seconds(30)) {
    return run_until([&] { return streams.at(id).finishes > 0; }, limit);
  }
  // Every stream that ended normally saw what the model says; no worker refused a step.
  void check_streams() const;

  FakeClock clock;
  FakeModel model;
  CountingObserver observer;
  wire::MemoryNetwork network;
  Core core;
  std::map<RequestId, Stream> streams;
  std::vector<SentStepRecord> steps;  // to rank 0
  std::vector<WorkerLostAction> lost;
  std::vector<std::string> log;
  std::vector<wire::Abort> aborts;

 private:
  struct Process {
    std::unique_ptr<wire::WorkerLink> link;
    std::unique_ptr<FakeWorker> worker;
    wire::PeerId peer;
  };
  void turn();
  void perform(const Actions& actions, std::vector<Event>& follow_up);
  void record(const SendAction& action);
  void on_finish(const FinishAction& finish);

  Rng rng_;
  std::map<std::string, Process> workers_;
  uint64_t last_incarnation_ = 0;
  RequestId last_id_ = 0;
  std::map<uint64_t, uint64_t> returned_;  // epoch → newest step rank 0 returned
};

}  // namespace shoal::testing

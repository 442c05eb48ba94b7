// The thread that owns the core and the control-plane link: turns what arrives into events for the
// core and performs its actions. Implements TokenService for the gateway's threads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "coordinator/core/core.h"
#include "coordinator/core/token_service.h"
#include "wire/link.h"

namespace shoal {

struct CoreLoopOptions {
  CoreOptions core;
  Duration tick = std::chrono::milliseconds(20);  // deadlines are noticed this late at most
  // A worker process is no longer part of the cluster (see WorkerLostAction). On the core's
  // thread; must not block. The local supervisor makes sure that the process is gone and starts
  // another.
  std::function<void(const WorkerLostAction&)> on_worker_lost;
  // What whoever supervises workers knows about missing ones; part of not_ready_reason.
  // Thread-safe, must not block; may be empty.
  std::function<std::string()> supervision;
};

class CoreLoop final : public TokenService {
 public:
  // `link`, `observer` and `clock` outlive the loop.
  CoreLoop(CoreLoopOptions options, wire::CoordinatorLink& link, CoreObserver& observer,
           const Clock& clock);
  ~CoreLoop() override;  // stops

  void start();
  // Ends every request with kUnavailable, tells the workers to exit, joins the thread. Idempotent;
  // from one thread.
  void stop(const std::string& reason);

  Result<RequestId> submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override;
  void cancel(RequestId id) override;
  ServiceState state() const override;
  // Changes with every turn of the loop. Takes no lock: for a watchdog.
  uint64_t beat() const {
    return static_cast<uint64_t>(last_turn_.load().time_since_epoch().count());
  }
  uint32_t context_tokens() const override { return options_.core.context_tokens; }
  void drain() override;

  // The local supervisor saw a process end: noticed at once instead of by its silence. Thread-safe.
  // pid 0: whichever process of that name is connected.
  void worker_died(const std::string& name, int64_t pid, const std::string& reason);

 private:
  struct Submission {
    SubmitEvent event;
    std::shared_ptr<TokenSink> sink;
  };

  void run();
  void turn();
  std::vector<Event> collect();
  void receive(std::vector<Event>& events, Duration timeout);
  void handle(std::vector<Event> events);
  void perform(Action& action, std::vector<Event>& follow_up);
  template <class Call>
  void tell(RequestId id, const Call& call);
  void send(const SendAction& action, std::vector<Event>& follow_up);
  void publish(TimePoint now);

  const CoreLoopOptions options_;
  wire::CoordinatorLink& link_;
  CoreObserver& observer_;
  const Clock& clock_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<TimePoint> last_turn_;

  // TokenService's thread only, once started.
  Core core_;
  std::unordered_map<RequestId, std::shared_ptr<TokenSink>> sinks_;
  TimePoint last_tick_{}, last_full_state_{};

  mutable std::mutex mutex_;  // guards everything below
  // Not yet in the core. Bounded by the queue limits: submit() counts them as waiting.
  std::vector<Submission> submissions_;
  uint64_t pending_requests_ = 0, pending_tokens_ = 0;  // of those, or in the loop's hands
  std::set<RequestId> cancels_;
  std::vector<Event> rare_events_;  // drain, deaths
  RequestId last_id_ = 0;
  AdmissionView view_;
  ServiceState state_;
  bool draining_ = false;
  bool closed_ = false;
};

}  // namespace shoal

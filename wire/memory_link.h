// An in-memory network between one coordinator and its workers, for tests: the same interfaces,
// codec and validator as the real one, but deterministic. Delay, loss and partitions come from a
// seed and a clock; with a FakeClock a whole cluster runs in one thread without waiting.
//
// Messages stay in order per direction (as over TCP): a delayed message holds up those behind it.
// Thread-safe, so that workers may also live on threads of their own (Options::blocking).
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/rng.h"
#include "wire/link.h"

namespace shoal::wire {

// What happens to messages on the way; may differ per worker and direction.
struct LinkFaults {
  Duration min_delay{};
  Duration max_delay{};  // uniform between both; ≥ min_delay
  double drop = 0;       // probability of losing a message, 0 … 1
  bool hold = false;     // one-way partition, healed in time: messages wait until it ends
  bool cut = false;      // one-way partition that loses what is sent into it
};

class MemoryNetwork {
 public:
  struct Options {
    uint64_t seed = 1;
    // receive() waits up to its timeout in real time (needs a SteadyClock and threads). Otherwise
    // it returns at once with what is due, and time is the caller's.
    bool blocking = false;
    // Frames queued for a worker beyond which send() says kResourceExhausted.
    size_t max_queued = 1024;
    LinkFaults faults;  // of every link that is not set otherwise
  };
  enum class Direction : uint8_t { kToWorker, kToCoordinator };

  // `clock` outlives the network; the network outlives its links.
  MemoryNetwork(const Clock& clock, const Options& options);
  ~MemoryNetwork();

  CoordinatorLink& coordinator();
  // A new connection: peer ids are "name#1", "name#2" …, one per call (a restarted worker is a new
  // peer). The peer is known to the coordinator once the first message from it has arrived.
  std::unique_ptr<WorkerLink> connect(const std::string& name);
  // The peer id of the latest connect(name).
  PeerId peer_of(const std::string& name) const;

  void set_faults(const PeerId& peer, Direction direction, const LinkFaults& faults);
  // Both directions of one worker.
  void set_faults(const PeerId& peer, const LinkFaults& faults);
  // The connection breaks: what is under way is lost, the coordinator's send() says kUnavailable.
  // reconnect() brings it back under the same peer id, as a real link would after an outage.
  void disconnect(const PeerId& peer);
  void reconnect(const PeerId& peer);

  // When the next message now under way becomes due, if any: where a simulation moves its clock.
  std::optional<TimePoint> next_delivery() const;
  // Messages under way (due or not) in both directions.
  size_t in_flight() const;
  uint64_t delivered() const;
  uint64_t dropped() const;
  // Puts raw bytes into the coordinator's queue as if `peer` had sent them.
  void inject(const PeerId& peer, std::string frame);

 private:
  class CoordinatorEnd;
  class WorkerEnd;
  struct Frame {
    TimePoint due;
    std::string bytes;
  };
  struct Lane {  // one direction of one connection
    LinkFaults faults;
    std::deque<Frame> frames;
    TimePoint last_due{};
    uint64_t sequence = 0;
  };
  struct Connection {
    Lane to_worker, to_coordinator;
    bool up = true;
    bool closed = false;      // the worker's link is gone
    bool introduced = false;  // the coordinator has heard from it
    bool woken = false;
  };

  template <class M>
  Status push(Lane& lane, const M& message);
  void push_frame(Lane& lane, std::string bytes);
  std::optional<Frame> pop_due(Lane& lane, TimePoint now);
  Status send_to_worker(const PeerId& peer, const ToWorker& message);
  Status send_to_coordinator(const PeerId& peer, const ToCoordinator& message);
  std::optional<Incoming> receive_any(Duration timeout);
  std::optional<ToWorker> receive_at(const PeerId& peer, Duration timeout);
  std::optional<Incoming> take_incoming(TimePoint now);
  Connection& at(const PeerId& peer);
  void report_disconnected(const PeerId& peer, const Connection& connection);

  const Clock& clock_;
  const Options options_;
  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  Rng rng_;
  std::map<PeerId, Connection> connections_;  // ordered: determinism
  std::map<std::string, int> incarnations_;
  std::deque<PeerId> disconnected_;  // for next_disconnected()
  PeerId last_served_;               // round robin between peers
  uint64_t rejected_ = 0, delivered_ = 0, dropped_ = 0;
  bool coordinator_woken_ = false;
  std::unique_ptr<CoordinatorEnd> coordinator_;
};

}  // namespace shoal::wire

#include "wire/memory_link.h"

#include <algorithm>

#include <fmt/core.h>

#include "base/check.h"
#include "base/log.h"
#include "wire/codec.h"
#include "wire/validate.h"

namespace shoal::wire {

class MemoryNetwork::CoordinatorEnd final : public CoordinatorLink {
 public:
  explicit CoordinatorEnd(MemoryNetwork& network) : network_(network) {}
  using CoordinatorLink::send;
  std::vector<Status> send(std::span<const PeerId> peers, const ToWorker& message) override {
    std::vector<Status> sent;
    for (const PeerId& peer : peers) sent.push_back(network_.send_to_worker(peer, message));
    return sent;
  }
  std::optional<Incoming> receive(Duration timeout) override {
    return network_.receive_any(timeout);
  }
  void wake() override {
    const std::lock_guard lock(network_.mutex_);
    network_.coordinator_woken_ = true;
    network_.changed_.notify_all();
  }
  LinkCounters counters() const override {
    const std::lock_guard lock(network_.mutex_);
    LinkCounters counters;
    counters.rejected_messages = network_.rejected_;
    return counters;
  }
  std::optional<PeerId> next_disconnected() override {
    const std::lock_guard lock(network_.mutex_);
    if (network_.disconnected_.empty()) return {};
    PeerId peer = std::move(network_.disconnected_.front());
    network_.disconnected_.pop_front();
    return peer;
  }

 private:
  MemoryNetwork& network_;
};

class MemoryNetwork::WorkerEnd final : public WorkerLink {
 public:
  WorkerEnd(MemoryNetwork& network, PeerId peer) : network_(network), peer_(std::move(peer)) {}
  ~WorkerEnd() override {  // a process that ends: its connection is gone, for good
    const std::lock_guard lock(network_.mutex_);
    Connection& connection = network_.at(peer_);
    if (connection.up) network_.report_disconnected(peer_, connection);
    connection.up = false;
    connection.closed = true;
    connection.to_worker.frames.clear();
  }
  Status send(const ToCoordinator& message) override {
    return network_.send_to_coordinator(peer_, message);
  }
  std::optional<ToWorker> receive(Duration timeout) override {
    return network_.receive_at(peer_, timeout);
  }
  void wake() override {
    const std::lock_guard lock(network_.mutex_);
    network_.at(peer_).woken = true;
    network_.changed_.notify_all();
  }

 private:
  MemoryNetwork& network_;
  const PeerId peer_;
};

MemoryNetwork::MemoryNetwork(const Clock& clock, const Options& options)
    : clock_(clock),
      options_(options),
      rng_(options.seed),
      coordinator_(std::make_unique<CoordinatorEnd>(*this)) {}

MemoryNetwork::~MemoryNetwork() = default;

CoordinatorLink& MemoryNetwork::coordinator() { return *coordinator_; }

MemoryNetwork::Connection& MemoryNetwork::at(const PeerId& peer) {
  const auto found = connections_.find(peer);
  SHOAL_CHECK(found != connections_.end(), "no such peer: " + peer);
  return found->second;
}

std::unique_ptr<WorkerLink> MemoryNetwork::connect(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const PeerId peer = fmt::format("{}#{}", name, ++incarnations_[name]);
  Connection& connection = connections_[peer];
  connection.to_worker.faults = options_.faults;
  connection.to_coordinator.faults = options_.faults;
  return std::make_unique<WorkerEnd>(*this, peer);
}

PeerId MemoryNetwork::peer_of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = incarnations_.find(name);
  SHOAL_CHECK(found != incarnations_.end(), "no such worker: " + name);
  return fmt::format("{}#{}", name, found->second);
}

void MemoryNetwork::set_faults(const PeerId& peer, Direction direction, const LinkFaults& faults) {
  SHOAL_CHECK(faults.min_delay <= faults.max_delay, "min_delay above max_delay");
  const std::lock_guard lock(mutex_);
  Connection& connection = at(peer);
  Lane& lane = direction == Direction::kToWorker ? connection.to_worker : connection.to_coordinator;
  lane.faults = faults;
  changed_.notify_all();
}

void MemoryNetwork::set_faults(const PeerId& peer, const LinkFaults& faults) {
  set_faults(peer, Direction::kToWorker, faults);
  set_faults(peer, Direction::kToCoordinator, faults);
}

void MemoryNetwork::disconnect(const PeerId& peer) {
  const std::lock_guard lock(mutex_);
  Connection& connection = at(peer);
  if (connection.up) report_disconnected(peer, connection);
  connection.up = false;
  dropped_ += connection.to_worker.frames.size() + connection.to_coordinator.frames.size();
  connection.to_worker.frames.clear();
  connection.to_coordinator.frames.clear();
}

void MemoryNetwork::report_disconnected(const PeerId& peer, const Connection& connection) {
  if (!connection.introduced) return;
  disconnected_.push_back(peer);
  changed_.notify_all();
}

void MemoryNetwork::reconnect(const PeerId& peer) {
  const std::lock_guard lock(mutex_);
  Connection& connection = at(peer);
  SHOAL_CHECK(!connection.closed, "the worker of this link is gone: " + peer);
  connection.up = true;
  connection.introduced = false;
}

template <class M>
Status MemoryNetwork::push(Lane& lane, const M& message) {
  const auto cleaned = with_clean_text(message);
  const M& outgoing = cleaned ? *cleaned : message;
  SHOAL_TRY(validate(outgoing));
  if (lane.frames.size() >= options_.max_queued) {
    return resource_exhausted(fmt::format("{} messages wait already", lane.frames.size()));
  }
  push_frame(lane, encode(outgoing, {kProtocolVersion, "memory", 1, ++lane.sequence, 0}));
  return Status::ok();
}

void MemoryNetwork::push_frame(Lane& lane, std::string bytes) {
  const LinkFaults& faults = lane.faults;
  // Drawn for every message, so that one fault more does not change the fate of all the others.
  const double luck = rng_.uniform();
  const double spread = rng_.uniform();
  if (faults.cut || luck < faults.drop) {
    ++dropped_;
    return;
  }
  const Duration delay =
      faults.min_delay + from_seconds(spread * to_seconds(faults.max_delay - faults.min_delay));
  const TimePoint due = std::max(lane.last_due, clock_.now() + delay);
  lane.last_due = due;
  lane.frames.push_back({due, std::move(bytes)});
  changed_.notify_all();
}

std::optional<MemoryNetwork::Frame> MemoryNetwork::pop_due(Lane& lane, TimePoint now) {
  if (lane.faults.hold || lane.frames.empty() || lane.frames.front().due > now) return {};
  Frame frame = std::move(lane.frames.front());
  lane.frames.pop_front();
  ++delivered_;
  return frame;
}

Status MemoryNetwork::send_to_worker(const PeerId& peer, const ToWorker& message) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(peer);
  if (found == connections_.end() || !found->second.up || !found->second.introduced) {
    return unavailable(fmt::format("worker {} is not connected", peer));
  }
  return push(found->second.to_worker, message);
}

Status MemoryNetwork::send_to_coordinator(const PeerId& peer, const ToCoordinator& message) {
  const std::lock_guard lock(mutex_);
  Connection& connection = at(peer);
  if (!connection.up) return unavailable("the coordinator is not connected");
  return push(connection.to_coordinator, message);
}

std::optional<Incoming> MemoryNetwork::take_incoming(TimePoint now) {
  // One message per peer in turn, so that a chatty worker does not starve the others.
  auto next = connections_.upper_bound(last_served_);
  for (size_t visited = 0; visited < connections_.size(); ++visited, ++next) {
    if (next == connections_.end()) next = connections_.begin();
    auto& [peer, connection] = *next;
    while (auto frame = pop_due(connection.to_coordinator, now)) {
      auto decoded = decode<ToCoordinator>(frame->bytes);
      if (!decoded) {
        ++rejected_;
        log_debug(fmt::format("dropped a message of {}: {}", peer, decoded.status().message()));
        continue;
      }
      connection.introduced = true;
      last_served_ = peer;
      return Incoming{peer, std::move(decoded->message)};
    }
  }
  return {};
}

std::optional<Incoming> MemoryNetwork::receive_any(Duration timeout) {
  const TimePoint deadline = clock_.now() + timeout;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (auto incoming = take_incoming(clock_.now())) return incoming;
    if (!options_.blocking || coordinator_woken_ || !disconnected_.empty() ||
        clock_.now() >= deadline) {
      break;
    }
    // Short naps: what is under way becomes due without anybody notifying.
    changed_.wait_until(lock, std::min(deadline, clock_.now() + std::chrono::milliseconds(1)));
  }
  coordinator_woken_ = false;
  return {};
}

std::optional<ToWorker> MemoryNetwork::receive_at(const PeerId& peer, Duration timeout) {
  const TimePoint deadline = clock_.now() + timeout;
  std::unique_lock lock(mutex_);
  Connection& connection = at(peer);
  for (;;) {
    if (auto frame = pop_due(connection.to_worker, clock_.now())) {
      auto decoded = decode<ToWorker>(frame->bytes);
      SHOAL_CHECK(decoded.is_ok(), "a message changed on its way: " + decoded.status().message());
      return std::move(decoded->message);
    }
    if (!options_.blocking || connection.woken || clock_.now() >= deadline) break;
    changed_.wait_until(lock, std::min(deadline, clock_.now() + std::chrono::milliseconds(1)));
  }
  connection.woken = false;
  return {};
}

std::optional<TimePoint> MemoryNetwork::next_delivery() const {
  const std::lock_guard lock(mutex_);
  std::optional<TimePoint> next;
  for (const auto& [peer, connection] : connections_) {
    for (const Lane* lane : {&connection.to_worker, &connection.to_coordinator}) {
      if (lane->faults.hold || lane->frames.empty()) continue;
      if (!next || lane->frames.front().due < *next) next = lane->frames.front().due;
    }
  }
  return next;
}

size_t MemoryNetwork::in_flight() const {
  const std::lock_guard lock(mutex_);
  size_t total = 0;
  for (const auto& [peer, connection] : connections_) {
    total += connection.to_worker.frames.size() + connection.to_coordinator.frames.size();
  }
  return total;
}

uint64_t MemoryNetwork::delivered() const {
  const std::lock_guard lock(mutex_);
  return delivered_;
}

uint64_t MemoryNetwork::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

void MemoryNetwork::inject(const PeerId& peer, std::string frame) {
  const std::lock_guard lock(mutex_);
  push_frame(at(peer).to_coordinator, std::move(frame));
}

}  // namespace shoal::wire

#include "wire/peer_table.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal::wire {
namespace {

// A peer of our own version sends none; a few tell a bug from a hostile program in the log.
constexpr int kMaxInvalidFrames = 8;
constexpr size_t kRememberedConnections = 256;
constexpr uint64_t kMaxAcknowledged = uint64_t{1} << 62;  // more is no count of messages

}  // namespace

PeerTable::Connection& PeerTable::connection(const std::string& routing, const std::string& name,
                                             int fd) {
  const auto found = connections_.find(routing);
  if (found != connections_.end() && found->second.name == name && found->second.fd == fd) {
    return found->second;
  }
  // A routing id or a descriptor that is new, or that was freed and taken by another connection.
  if (found != connections_.end()) {
    gone(routing);
    gone_.pop_back();  // the id lives on
  }
  if (fd >= 0) {
    closed(fd);
    routing_of_fd_[fd] = routing;
  }
  return connections_[routing] = Connection{name, fd, {}, 0, false};
}

Result<PeerTable::Arrival> PeerTable::arrived(const std::string& routing, const std::string& name,
                                              int fd, const EnvelopeInfo& envelope) {
  Connection closed_one{name, -1, {}, 0, false};
  const bool live = !is_gone(routing);
  Connection& from = live ? connection(routing, name, fd) : closed_one;
  if (from.blocked) return failed_precondition("its connection is cut off");
  const PeerId id = fmt::format("{}#{:016x}", name, envelope.incarnation);
  if (!from.peer.empty() && from.peer != id) {
    return invalid_argument("its connection belongs to another process");
  }
  Arrival arrival;
  auto found = peers_.find(id);
  if (found == peers_.end()) {
    arrival.evicted_routing = make_room(name);
    found = peers_.try_emplace(id).first;
    Peer& fresh = found->second;
    fresh.id = id;
    fresh.name = name;
    fresh.incarnation = envelope.incarnation;
    // A process that was forgotten and comes back takes nothing below what it has taken already.
    if (envelope.acknowledged < kMaxAcknowledged) fresh.sent = envelope.acknowledged;
  }
  Peer& peer = found->second;
  if (envelope.sequence <= peer.received) {
    return data_loss(fmt::format("sequence {} after {}", envelope.sequence, peer.received));
  }
  if (live &&
      peer.routing != routing) {  // a first or a new connection: what the old one held is lost
    peer.routing = routing;
    peer.outstanding.clear();
    peer.outstanding_bytes = 0;
  }
  from.peer = id;
  peer.heard = ++frames_;
  peer.received = envelope.sequence;
  acknowledge(peer, envelope.acknowledged);
  arrival.peer = &peer;
  return arrival;
}

std::string PeerTable::make_room(const std::string& name) {
  const auto accepted = accepted_.find(name);
  size_t candidates = 0;
  auto quietest = peers_.end();
  const auto goes_first = [](const Peer& a, const Peer& b) {
    if (a.routing.empty() != b.routing.empty()) return a.routing.empty();
    return a.heard < b.heard;
  };
  // Ids of one name are neighbours: '#' is in no name.
  for (auto peer = peers_.lower_bound(name + "#");
       peer != peers_.end() && peer->second.name == name; ++peer) {
    if (accepted != accepted_.end() && accepted->second == peer->first) continue;
    ++candidates;
    if (quietest == peers_.end() || goes_first(peer->second, quietest->second)) quietest = peer;
  }
  if (candidates < kMaxCandidates) return {};
  std::string routing = std::move(quietest->second.routing);
  peers_.erase(quietest);
  if (const auto old = connections_.find(routing); old != connections_.end()) {
    old->second.blocked = true;
  }
  return routing;
}

void PeerTable::accept(const PeerId& id) {
  if (const auto peer = peers_.find(id); peer != peers_.end()) accepted_[peer->second.name] = id;
}

void PeerTable::acknowledge(Peer& peer, uint64_t sequence) {
  if (sequence > peer.sent) return;  // left from before a restart of the coordinator
  while (!peer.outstanding.empty() && peer.outstanding.front().first <= sequence) {
    peer.outstanding_bytes -= peer.outstanding.front().second;
    peer.outstanding.pop_front();
  }
}

bool PeerTable::misbehaved(const std::string& routing, const std::string& name, int fd) {
  if (is_gone(routing)) return false;
  Connection& from = connection(routing, name, fd);
  if (from.blocked || ++from.invalid_frames < kMaxInvalidFrames) return false;
  from.blocked = true;
  return true;
}

bool PeerTable::is_blocked(const std::string& routing, const std::string& name) const {
  const auto found = connections_.find(routing);
  return found != connections_.end() && found->second.name == name && found->second.blocked;
}

bool PeerTable::is_gone(const std::string& routing) const {
  return std::ranges::find(gone_, routing) != gone_.end();
}

std::optional<PeerId> PeerTable::closed(int fd) {
  const auto found = routing_of_fd_.find(fd);
  if (found == routing_of_fd_.end()) return {};
  return gone(std::string(found->second));
}

std::optional<PeerId> PeerTable::gone(const std::string& routing) {
  const auto found = connections_.find(routing);
  if (found == connections_.end()) return {};
  const Connection connection = std::move(found->second);
  connections_.erase(found);
  gone_.push_back(routing);
  if (gone_.size() > kRememberedConnections) gone_.pop_front();
  if (const auto fd = routing_of_fd_.find(connection.fd);
      fd != routing_of_fd_.end() && fd->second == routing) {
    routing_of_fd_.erase(fd);
  }
  const auto peer = peers_.find(connection.peer);
  if (peer == peers_.end() || peer->second.routing != routing) return {};  // it has a newer one
  peer->second.routing.clear();
  peer->second.outstanding.clear();
  peer->second.outstanding_bytes = 0;
  return peer->first;
}

Result<PeerTable::Peer*> PeerTable::find_for_sending(const PeerId& id, uint64_t bytes) {
  const auto found = peers_.find(id);
  if (found == peers_.end() || found->second.routing.empty()) {
    return unavailable(fmt::format("worker {} is not connected", id));
  }
  Peer& peer = found->second;
  // A single message larger than the whole budget may go out alone.
  if (peer.outstanding.size() >= limits_.max_outstanding_frames ||
      (!peer.outstanding.empty() &&
       peer.outstanding_bytes + bytes > limits_.max_outstanding_bytes)) {
    return resource_exhausted(fmt::format("worker {} has {} messages ({} bytes) it does not read",
                                          id, peer.outstanding.size(), peer.outstanding_bytes));
  }
  return &peer;
}

void PeerTable::sent(Peer& peer, uint64_t bytes) {
  peer.outstanding.emplace_back(++peer.sent, bytes);
  peer.outstanding_bytes += bytes;
}

}  // namespace shoal::wire

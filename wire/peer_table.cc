#include "wire/peer_table.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal::wire {
namespace {

// A peer of our own version sends none; a few tell a bug from a hostile program in the log.
constexpr int kMaxInvalidFrames = 8;
constexpr size_t kRememberedIncarnations = 64;
constexpr size_t kRememberedConnections = 256;

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
  Key& key = keys_[name];
  Arrival arrival;
  if (key.current != id) {
    if (std::ranges::find(key.replaced, envelope.incarnation) != key.replaced.end()) {
      from.blocked = true;
      return failed_precondition("another process with its key has replaced it");
    }
    if (const auto old = peers_.find(key.current); old != peers_.end()) {
      arrival.replaced_routing = old->second.routing;
      key.replaced.push_back(old->second.incarnation);
      if (key.replaced.size() > kRememberedIncarnations) key.replaced.pop_front();
      peers_.erase(old);
    }
    if (const auto old = connections_.find(arrival.replaced_routing); old != connections_.end()) {
      old->second.blocked = old->first != routing;
    }
    key.current = id;
    Peer& fresh = peers_[id];
    fresh.id = id;
    fresh.name = name;
    fresh.incarnation = envelope.incarnation;
  }
  Peer& peer = peers_.at(id);
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
  peer.received = envelope.sequence;
  acknowledge(peer, envelope.acknowledged);
  arrival.peer = &peer;
  if (arrival.replaced_routing == routing) arrival.replaced_routing.clear();
  return arrival;
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

// Who is connected to the coordinator: ZeroMQ connections and the peers, one per process, behind
// them. Pure bookkeeping, without sockets; single-threaded.
//
// Several processes may come with one key: a restarted worker and its dying predecessor, or a
// duplicate somebody started by mistake. Each is a peer of its own and costs the others nothing.
// One per key can be accepted; beside it at most kMaxCandidates are remembered, and those that have
// been quiet the longest make room for new ones.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/status.h"
#include "wire/codec.h"
#include "wire/link.h"

namespace shoal::wire {

class PeerTable {
 public:
  struct Limits {
    uint64_t max_outstanding_bytes = 0;
    uint32_t max_outstanding_frames = 0;
  };
  explicit PeerTable(const Limits& limits) : limits_(limits) {}

  struct Peer {
    PeerId id;
    std::string name;     // of its key
    std::string routing;  // ZeroMQ routing id of its connection; empty: not connected
    uint64_t incarnation = 0;
    uint64_t heard = 0;                                     // when, in frames of the whole table
    uint64_t received = 0;                                  // last sequence taken
    uint64_t sent = 0;                                      // last sequence sent
    std::deque<std::pair<uint64_t, uint64_t>> outstanding;  // (sequence, bytes) not acknowledged
    uint64_t outstanding_bytes = 0;
  };

  struct Arrival {
    Peer* peer = nullptr;
    std::string evicted_routing;  // a connection that had to make room, to be told; may be empty
  };
  // A frame came over connection `routing` (descriptor `fd`), authenticated as `name`, with this
  // envelope. Finds or makes its peer. An error: drop the frame. kFailedPrecondition: and tell it.
  Result<Arrival> arrived(const std::string& routing, const std::string& name, int fd,
                          const EnvelopeInfo& envelope);

  // This peer is the one that counts among those of its key, instead of whichever was before.
  void accept(const PeerId& id);

  // A frame of this connection was invalid. True: once too often, it is cut off from now on.
  bool misbehaved(const std::string& routing, const std::string& name, int fd);
  bool is_blocked(const std::string& routing, const std::string& name) const;

  // The connection on this descriptor has closed. The peer that lost its only connection, if any.
  std::optional<PeerId> closed(int fd);
  // libzmq does not know this routing id any more.
  std::optional<PeerId> gone(const std::string& routing);

  // The peer to send to, or kUnavailable; kResourceExhausted: it owes too many acknowledgements.
  Result<Peer*> find_for_sending(const PeerId& id, uint64_t bytes);
  void sent(Peer& peer, uint64_t bytes);

  size_t connections() const { return connections_.size(); }  // that have sent a frame
  size_t peers() const { return peers_.size(); }

  static constexpr size_t kMaxCandidates = 4;  // peers of a key that are not accepted

 private:
  struct Connection {
    std::string name;
    int fd = -1;
    PeerId peer;  // empty until its first valid frame
    int invalid_frames = 0;
    bool blocked = false;
  };

  Connection& connection(const std::string& routing, const std::string& name, int fd);
  bool is_gone(const std::string& routing) const;
  void acknowledge(Peer& peer, uint64_t sequence);
  // Before a new peer of this name comes. Returns the connection of the one that had to go.
  std::string make_room(const std::string& name);

  const Limits limits_;
  std::unordered_map<std::string, Connection> connections_;  // by routing id
  std::unordered_map<int, std::string> routing_of_fd_;
  // Connections that closed lately. Frames they sent before may still come; they count, but give
  // the peer no connection. libzmq does not use an id twice.
  std::deque<std::string> gone_;
  std::map<PeerId, Peer> peers_;
  std::map<std::string, PeerId> accepted_;  // by name; bounded by the allow list
  uint64_t frames_ = 0;
};

}  // namespace shoal::wire

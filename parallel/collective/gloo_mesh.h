// TCP connections between all ranks, through Gloo's pairs and their bound buffers. This header
// keeps Gloo's own headers out of everything but gloo_mesh.cc.
//
// Why bound buffers and not Gloo's collectives or unbound buffers: sums must be in rank order; one
// message per peer and exchange instead of three (an unbound send is announced, asked for, then
// sent); a message that does not fit aborts the process inside Gloo, so every receiver must have
// room for the largest one; and a wait must end at any deadline or abort, while a bound buffer's
// own wait knows only the timeout of its pair. Hence waiting is done here: a message ends with a
// Trailer at a fixed place, and its sequence number is watched until it shows up. The number is
// only a hint that the message is complete; accept() then synchronises through Gloo's own wait.
//
// Each peer has channels with one or two halves. A half may be sent again only when the peer has
// consumed what it held: that is the caller's protocol (gloo_collective.cc).
//
// Threads: one thread calls everything but tell_abort().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/collective/collective.h"
#include "parallel/collective/collective_base.h"

namespace shoal {

struct Trailer {
  OpHeader header;
  uint64_t payload_bytes = 0;
  uint64_t sequence = 0;  // last in memory: arrives last
};
static_assert(sizeof(Trailer) == 80);

enum class Channel : int { kTurn = 0, kMail, kAck, kPing, kAbort };

class GlooMesh {
 public:
  static constexpr uint64_t kAbortBytes = 512;

  // Connects to every peer by options.deadline, bound to options.address. Runs on a thread of its
  // own, which is abandoned if it is still stuck inside Gloo at the deadline; it ends by itself.
  static Result<std::unique_ptr<GlooMesh>> connect(const GlooOptions& options,
                                                   uint64_t piece_bytes);
  ~GlooMesh();

  // Where to put `bytes` of payload before send(peer, channel, half, bytes, …).
  std::byte* outgoing(int peer, Channel channel, int half, uint64_t bytes);
  // Never blocks for the peer; an error means that the connection is gone. Waits for the half's
  // previous send to have left, which the protocol makes sure of.
  Status send(int peer, Channel channel, int half, uint64_t bytes, const OpHeader& header,
              uint64_t sequence);
  bool arrived(int peer, Channel channel, int half, uint64_t sequence) const;
  // After arrived(): makes the message readable.
  Status accept(int peer, Channel channel, int half);
  const Trailer& trailer(int peer, Channel channel, int half) const;
  // The payload, aligned for floats. REQUIRES trailer().payload_bytes within the channel's size.
  const std::byte* payload(int peer, Channel channel, int half) const;
  uint64_t capacity(Channel channel) const;

  // An error if the connection to the peer is known to be gone.
  Status probe(int peer);
  // Sends the reason to all peers, once. Any thread.
  void tell_abort(const std::string& reason);
  // The reason a peer sent, or nothing.
  std::optional<std::string> abort_of(int peer);
  // Waits until everything sent has been handed to the kernel.
  void flush();

 private:
  struct State;
  explicit GlooMesh(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace shoal

// Links carry wire messages between the coordinator and its workers. Two implementations: ZeroMQ
// ROUTER/DEALER with CURVE (wire/zmq_link.h) and an in-memory one for tests (wire/memory_link.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "wire/messages.h"

namespace shoal::wire {

using PeerId = std::string;  // opaque; one per worker process, stable while it lives

struct Incoming {
  PeerId peer;
  ToCoordinator message;
  // The sender's authenticated identity (its CURVE public key, Z85), empty without authentication.
  // A worker name belongs to the key that brought it: another key cannot take it over.
  std::string key = {};
};

// What a coordinator's link has turned away since it was made.
struct LinkCounters {
  uint64_t rejected_messages = 0;   // of authenticated connections: invalid, or out of turn
  uint64_t refused_handshakes = 0;  // something else than CURVE with our key
  uint64_t refused_keys = 0;        // a key that is not on the list
  uint64_t refused_names = 0;       // hellos under a name that belongs to another key
  uint64_t refused_processes = 0;   // too many processes with one key
};

// The coordinator's end. send/receive/accept from one thread; wake() and counters() from any.
//
// Whoever authenticates may speak: a link tells processes apart (PeerId) but does not judge them.
// Several processes with one key are several peers; which of them counts is decided above, by what
// their hellos say, and told to the link with accept().
class CoordinatorLink {
 public:
  virtual ~CoordinatorLink() = default;
  // To each of `peers`, encoded once; never blocks. One Status for each. kUnavailable: the peer is
  // gone; kResourceExhausted: it does not drain its queue.
  virtual std::vector<Status> send(std::span<const PeerId> peers, const ToWorker& message) = 0;
  Status send(const PeerId& peer, const ToWorker& message) {
    return send(std::span(&peer, 1), message).front();
  }
  // The next valid message, or nothing after `timeout` or wake(). Invalid or unauthenticated input
  // is dropped, counted and logged (rate-limited) inside.
  virtual std::optional<Incoming> receive(Duration timeout) = 0;
  virtual void wake() = 0;
  // This peer's hello was accepted. Of the processes with its key it is the one that the others
  // never push out, until another is accepted. Links without keys need not know.
  virtual void accept(const PeerId& /*peer*/) {}
  virtual LinkCounters counters() const = 0;
  // A peer whose connection broke since the last call: what was under way may be lost, and send()
  // fails until it is back (under the same id if the process lives). A fast hint that makes
  // receive() return early; silence still counts only by heartbeats, because a cut network breaks
  // no connection for seconds.
  virtual std::optional<PeerId> next_disconnected() { return std::nullopt; }
};

// A worker's end. send() is thread-safe; receive from one thread.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual Status send(const ToCoordinator& message) = 0;
  virtual std::optional<ToWorker> receive(Duration timeout) = 0;
  virtual void wake() = 0;
};

}  // namespace shoal::wire

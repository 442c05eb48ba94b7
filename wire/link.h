// Links carry wire messages between the coordinator and its workers. Two implementations: ZeroMQ
// ROUTER/DEALER with CURVE (wire/zmq_link.h) and an in-memory one for tests (wire/memory_link.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "wire/messages.h"

namespace shoal::wire {

using PeerId = std::string;  // opaque; stable while a worker process lives

struct Incoming {
  PeerId peer;
  Message message;
  // The sender's authenticated identity (its CURVE public key, Z85), empty without authentication.
  // A worker name belongs to the key that brought it: another key cannot take it over.
  std::string key = {};
};

// The coordinator's end. send/receive from one thread; wake() from any.
class CoordinatorLink {
 public:
  virtual ~CoordinatorLink() = default;
  // Never blocks. kUnavailable: the peer is gone; kResourceExhausted: it does not drain its queue.
  virtual Status send(const PeerId& peer, const Message& message) = 0;
  // The next valid message, or nothing after `timeout` or wake(). Invalid or unauthenticated input
  // is dropped, counted and logged (rate-limited) inside.
  virtual std::optional<Incoming> receive(Duration timeout) = 0;
  virtual void wake() = 0;
  virtual uint64_t rejected_messages() const = 0;
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
  virtual Status send(const Message& message) = 0;
  virtual std::optional<Message> receive(Duration timeout) = 0;
  virtual void wake() = 0;
};

}  // namespace shoal::wire

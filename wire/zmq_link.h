// The real links: ZeroMQ ROUTER (coordinator) and DEALER (workers) over TCP, with CURVE always on.
//
// Who may speak: only clients that own the secret of a key on the allow list (wire/zap.h). A peer's
// id is NAME#INCARNATION: the name comes from its key, the incarnation from its process; neither
// the ZeroMQ routing id nor a Hello can change the name, and a Hello under another name is refused.
//
// Processes that come with the same key are peers of their own: none takes another's connection
// away. Which of them is the worker of that name is the coordinator's decision (Membership): it
// accepts a newcomer only if the one before is gone, and tells the link with accept(). Beside the
// accepted one a few of a key are kept; when more come, the one quiet the longest is told (Refused)
// and cut off.
//
// Flow control: a ROUTER drops silently at its high-water mark, so it is never reached. Every frame
// carries the last sequence number its sender has taken; the coordinator keeps at most
// max_outstanding_bytes / _frames untaken per worker and says kResourceExhausted beyond.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "wire/curve_keys.h"
#include "wire/link.h"

namespace shoal::wire {

struct ZmqCoordinatorOptions {
  std::string host = "127.0.0.1";  // to bind: all its addresses (base/host.h)
  uint16_t port = 0;               // 0: any free port, see endpoint()
  CurveKeyPair keys;
  std::map<std::string, std::string> allowed;  // public key → worker name
  uint64_t incarnation = 0;                    // 0: random
  // A few steps with fresh million-token prompts; anything beyond means the worker is stuck.
  uint64_t max_outstanding_bytes = 64u << 20;
  uint32_t max_outstanding_frames = 1024;
};

class ZmqCoordinatorLink final : public CoordinatorLink {
 public:
  // Authentication runs before the socket binds. Errors: bad or documented keys, address in use.
  static Result<std::unique_ptr<ZmqCoordinatorLink>> bind(const ZmqCoordinatorOptions& options);
  ~ZmqCoordinatorLink() override;

  using CoordinatorLink::send;
  std::vector<Status> send(std::span<const PeerId> peers, const ToWorker& message) override;
  std::optional<Incoming> receive(Duration timeout) override;
  void wake() override;
  void accept(const PeerId& peer) override;
  LinkCounters counters() const override;  // as far as receive() has seen
  std::optional<PeerId> next_disconnected() override;

  // "tcp://127.0.0.1:41234", the port as bound; the first one of a name with several addresses.
  const std::string& endpoint() const;
  // Replaces the allow list; admitted connections stay. Thread-safe.
  Status set_allowed(const std::map<std::string, std::string>& allowed);
  // Nobody new is admitted from now on; the connected go on.
  void stop_admission();

 private:
  class Impl;
  explicit ZmqCoordinatorLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct ZmqWorkerOptions {
  std::string endpoint;      // "tcp://HOST:PORT"; IPv6 in brackets
  std::string server_key;    // the coordinator's public key
  CurveKeyPair keys;         // the worker's own
  uint64_t incarnation = 0;  // 0: random
};

// Connects in the background and again whenever the connection breaks (0.1 s … 5 s, jittered). The
// addresses of a name are tried one after the other and looked up again after each round.
// send() goes straight to the socket under a mutex, from any thread, in microseconds;
// kUnavailable: not connected; kResourceExhausted: the coordinator does not read. receive() waits
// outside the mutex.
class ZmqWorkerLink final : public WorkerLink {
 public:
  static Result<std::unique_ptr<ZmqWorkerLink>> connect(const ZmqWorkerOptions& options);
  ~ZmqWorkerLink() override;

  Status send(const ToCoordinator& message) override;
  std::optional<ToWorker> receive(Duration timeout) override;
  void wake() override;

  uint64_t rejected_messages() const;  // thread-safe
  // The connection is up and authenticated, as far as receive() has seen. Thread-safe.
  bool connected() const;

 private:
  class Impl;
  explicit ZmqWorkerLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The cluster id in every envelope: what tells two clusters apart is the coordinator's key.
std::string cluster_id(const std::string& coordinator_public_key);

}  // namespace shoal::wire

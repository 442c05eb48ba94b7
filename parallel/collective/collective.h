// Collective: what the ranks of one tensor-parallel group exchange. Engines: threads of one process
// (tests), shared memory between processes of one host, Gloo between hosts; more may follow.
//
// Every operation carries the plan epoch it belongs to and a deadline. After any error, or abort(),
// the collective is dead: every later operation fails with kUnavailable and the results of the
// failed one mean nothing. A new plan epoch makes a new collective.
//
// All ranks call the same operations in the same order, from one thread each. abort() and
// world/rank accessors are thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace shoal {

struct OpContext {
  uint64_t epoch = 0;
  TimePoint deadline{};
  // The step the operation belongs to, or 0. Ranks must agree: a rank that dropped a step is found
  // out even where the operations of both steps look alike.
  uint64_t step = 0;
};

struct CollectiveStats {  // since the collective was made
  uint64_t operations = 0;
  uint64_t bytes = 0;        // of this rank's contributions
  double total_seconds = 0;  // inside operations
  double wait_seconds = 0;   // of those, waiting for peers
};

class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;
  virtual std::string engine() const = 0;  // "local", "shm", "gloo"

  // data[i] = Σ over ranks r = 0, 1, …, world−1, in that order, of rank r's data[i]; bit-identical
  // on every rank. Float32, in place, host memory, any count ≥ 0.
  virtual Status all_reduce_sum(float* data, int64_t count, const OpContext& op) = 0;
  // out[r · bytes, (r+1) · bytes) = rank r's `in`. `out` holds world × bytes; same bytes
  // everywhere.
  virtual Status all_gather(const void* in, uint64_t bytes, void* out, const OpContext& op) = 0;
  virtual Status broadcast(void* data, uint64_t bytes, int root, const OpContext& op) = 0;
  // Point to point, messages of a pair in order; only the two take part. send() may return before
  // the message is received, or wait for recv() to take it. A recv of another size is an error.
  virtual Status send(const void* data, uint64_t bytes, int to, const OpContext& op) = 0;
  virtual Status recv(void* data, uint64_t bytes, int from, const OpContext& op) = 0;
  virtual Status barrier(const OpContext& op) = 0;

  // Makes running and later operations fail soon. Thread-safe, idempotent.
  virtual void abort(const std::string& reason) = 0;
  virtual CollectiveStats stats() const = 0;  // from the calling thread of operations only
};

// world = 1: every operation is a no-op that checks epoch and deadline.
std::unique_ptr<Collective> make_single_collective(uint64_t epoch);

// Ranks as threads of one process: make all `world` members at once.
std::vector<std::unique_ptr<Collective>> make_local_collectives(int world, uint64_t epoch);

struct ShmOptions {
  std::string
      name;  // shm_open name, the same on every rank, unique per cluster and epoch: "/shoal.x.7"
  int rank = 0;
  int world = 1;
  uint64_t epoch = 0;
  uint64_t slot_bytes = 0;  // per rank and slot; larger operations run in pieces. 0: by world
                            // (1 MiB to 8 ranks); the same on every rank
  TimePoint deadline{};     // for everybody to attach
  const std::atomic<bool>* stop = nullptr;  // set: give up waiting, with kCancelled
};
// Rank 0 creates the segment; it is unlinked as soon as all have attached, so a crash leaks nothing
// once the group has formed. What a dead predecessor left under the name is replaced. Refuses if
// /dev/shm is too small, naming the figure. Returns when all have attached. Waiting yields,
// then sleeps, so more ranks than cores are slow but not stuck. A peer that dies is
// named within about 20 ms where both live in one PID namespace.
Result<std::unique_ptr<Collective>> make_shm_collective(const ShmOptions& options);

// The rendezvous of an engine that connects over the network: a key/value store on the control
// plane. Keys are scoped to one epoch. Calls come from the engine's own thread.
class RendezvousStore {
 public:
  virtual ~RendezvousStore() = default;
  virtual Status set(const std::string& key, const std::string& value) = 0;
  virtual Result<std::string> get(const std::string& key, TimePoint deadline) = 0;  // waits for it
};

struct GlooOptions {
  std::string interface;  // network interface to bind ("eth0"), or empty
  std::string address;    // or an address of this host ("10.0.0.2", "fd00::2"); one of both
  // The connections are neither encrypted nor authenticated: public addresses are refused unless
  // this says otherwise.
  bool allow_public = false;
  int rank = 0;
  int world = 1;
  uint64_t epoch = 0;
  RendezvousStore* store = nullptr;  // outlives the collective
  TimePoint deadline{};              // for all pairs to connect
  // Set: give up waiting, with kCancelled, as soon as a call into the store returns.
  const std::atomic<bool>* stop = nullptr;
};
// Sets SIGPIPE to ignored if it is at its default: Gloo writes to sockets whose peer may be gone.
Result<std::unique_ptr<Collective>> make_gloo_collective(const GlooOptions& options);

}  // namespace shoal

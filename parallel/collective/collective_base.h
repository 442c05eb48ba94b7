// What all engines share: checks before an operation, death after an error, statistics, and the
// header by which ranks notice that they are not in the same operation.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "parallel/collective/collective.h"

namespace shoal {

enum class OpKind : uint32_t {
  kNone = 0,
  kAllReduce,
  kAllGather,
  kBroadcast,
  kBarrier,
  kMessage,  // send on one side, recv on the other
};

// Travels with every piece of data between ranks of equal build; compared, never trusted as a size.
struct OpHeader {
  uint64_t epoch = 0;
  uint64_t step = 0;     // OpContext::step
  uint64_t ordinal = 0;  // group operations since the collective was made; messages: 0
  uint64_t bytes = 0;    // of the whole operation
  uint64_t offset = 0;   // of this piece
  OpKind kind = OpKind::kNone;
  int32_t root = -1;  // broadcast: the root; message: the receiver; else −1
  uint64_t reserved[2] = {0, 0};
  friend bool operator==(const OpHeader&, const OpHeader&) = default;
};
static_assert(sizeof(OpHeader) == 64 && std::is_trivially_copyable_v<OpHeader>);

std::string op_name(OpKind kind);
// "all_reduce of 16384 bytes, operation 12, step 5, epoch 7"
std::string describe(const OpHeader& header);
// The error of a rank that expected `mine` and found that `rank` published `theirs`.
Status mismatch(const OpHeader& mine, int rank, const OpHeader& theirs);

// One operation in progress.
struct Op {
  OpHeader header;
  TimePoint deadline{};
};

class CollectiveBase : public Collective {
 public:
  CollectiveBase(std::string engine, int rank, int world, uint64_t epoch);

  int rank() const final { return rank_; }
  int world() const final { return world_; }
  std::string engine() const final { return engine_; }
  Status all_reduce_sum(float* data, int64_t count, const OpContext& op) final;
  Status all_gather(const void* in, uint64_t bytes, void* out, const OpContext& op) final;
  Status broadcast(void* data, uint64_t bytes, int root, const OpContext& op) final;
  Status send(const void* data, uint64_t bytes, int to, const OpContext& op) final;
  Status recv(void* data, uint64_t bytes, int from, const OpContext& op) final;
  Status barrier(const OpContext& op) final;
  void abort(const std::string& reason) final;
  CollectiveStats stats() const final { return stats_; }

 protected:
  // The engine's part; arguments are checked, world > 1, `out` of all_gather already holds this
  // rank's part.
  virtual Status do_all_reduce(const Op& op, float* data, int64_t count) = 0;
  virtual Status do_all_gather(const Op& op, const void* in, uint64_t bytes, void* out) = 0;
  virtual Status do_broadcast(const Op& op, void* data, uint64_t bytes) = 0;
  virtual Status do_send(const Op& op, const void* data, uint64_t bytes) = 0;
  virtual Status do_recv(const Op& op, void* data, uint64_t bytes, int from) = 0;
  virtual Status do_barrier(const Op& op) = 0;
  // Wakes this rank's blocked operation and, as far as the engine can, tells the peers. Called from
  // any thread, possibly several times; after a failed operation and by abort().
  virtual void interrupt(const std::string& reason) = 0;
  // An error (the group is known to be dead) stops the operation.
  virtual Status operation_starts(const OpHeader&) { return Status::ok(); }
  virtual void operation_ends(const OpHeader&) {}

  uint64_t epoch() const { return epoch_; }
  void add_wait(Duration waited) { stats_.wait_seconds += to_seconds(waited); }
  void forget_stats() { stats_ = {}; }
  // Why this rank is dead, or empty.
  std::string death() const;
  bool is_dead() const { return dead_.load(std::memory_order_acquire); }

 private:
  template <class Body>
  Status run(OpKind kind, uint64_t bytes, uint64_t contributed, int root, const OpContext& op,
             Body&& body);
  Status check(const OpHeader& header, const OpContext& op, bool peer_ok) const;
  Status fail(const OpHeader& header, Status status);
  // The first reason stays.
  void die(const std::string& reason);

  const std::string engine_;
  const int rank_;
  const int world_;
  const uint64_t epoch_;
  uint64_t group_operations_ = 0;
  CollectiveStats stats_;
  std::atomic<bool> dead_{false};
  mutable std::mutex mutex_;  // guards death_
  std::string death_;
};

}  // namespace shoal

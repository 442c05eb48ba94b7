#include "parallel/collective/collective_base.h"

#include <cstring>
#include <limits>

#include <fmt/core.h>

namespace shoal {

std::string op_name(OpKind kind) {
  switch (kind) {
    case OpKind::kNone:
      return "nothing";
    case OpKind::kAllReduce:
      return "all_reduce";
    case OpKind::kAllGather:
      return "all_gather";
    case OpKind::kBroadcast:
      return "broadcast";
    case OpKind::kBarrier:
      return "barrier";
    case OpKind::kMessage:
      return "message";
  }
  return fmt::format("operation kind {}", static_cast<uint32_t>(kind));
}

std::string describe(const OpHeader& header) {
  std::string text = op_name(header.kind);
  if (header.kind == OpKind::kBroadcast) text += fmt::format(" from rank {}", header.root);
  if (header.kind == OpKind::kMessage) text += fmt::format(" to rank {}", header.root);
  if (header.kind != OpKind::kBarrier) text += fmt::format(" of {} bytes", header.bytes);
  if (header.kind != OpKind::kMessage) text += fmt::format(", operation {}", header.ordinal);
  return text + fmt::format(", step {}, epoch {}", header.step, header.epoch);
}

Status mismatch(const OpHeader& mine, int rank, const OpHeader& theirs) {
  std::string found = describe(theirs);
  if (mine.offset != theirs.offset) found += fmt::format(", at byte {}", theirs.offset);
  std::string expected = describe(mine);
  if (mine.offset != theirs.offset) expected += fmt::format(", at byte {}", mine.offset);
  return failed_precondition(fmt::format(
      "rank {} is not in the same operation: expected {}, found {}", rank, expected, found));
}

CollectiveBase::CollectiveBase(std::string engine, int rank, int world, uint64_t epoch)
    : engine_(std::move(engine)), rank_(rank), world_(world), epoch_(epoch) {}

Status CollectiveBase::check(const OpHeader& header, const OpContext& op, bool peer_ok) const {
  if (!peer_ok) return invalid_argument(fmt::format("no such peer in a group of {}", world_));
  if (op.epoch != epoch_) {
    return failed_precondition(fmt::format(
        "the operation belongs to plan epoch {} but this group is of epoch {}", op.epoch, epoch_));
  }
  if (std::chrono::steady_clock::now() >= op.deadline) {
    return deadline_exceeded("the deadline had passed before it began");
  }
  if (header.bytes > (uint64_t{1} << 48)) return invalid_argument("the size is impossible");
  return Status::ok();
}

std::string CollectiveBase::death() const {
  std::lock_guard lock(mutex_);
  return death_;
}

void CollectiveBase::die(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (death_.empty()) death_ = reason.empty() ? "no reason given" : reason;
  dead_.store(true, std::memory_order_release);
}

Status CollectiveBase::fail(const OpHeader& header, Status status) {
  status = status.annotate(
      fmt::format("{}, rank {} of {} over {}", describe(header), rank_, world_, engine_));
  die(status.message());
  interrupt(status.message());
  return status;
}

void CollectiveBase::abort(const std::string& reason) {
  die("aborted: " + reason);
  interrupt(reason);
}

template <class Body>
Status CollectiveBase::run(OpKind kind, uint64_t bytes, uint64_t contributed, int root,
                           const OpContext& context, Body&& body) {
  if (dead_.load(std::memory_order_acquire)) {
    return unavailable(
        fmt::format("{}: the group of epoch {} is dead: {}", op_name(kind), epoch_, death()));
  }
  const TimePoint start = std::chrono::steady_clock::now();
  Op op;
  op.header.epoch = context.epoch;
  op.header.step = context.step;
  op.header.bytes = bytes;
  op.header.kind = kind;
  op.header.root = root;
  op.header.ordinal = kind == OpKind::kMessage ? 0 : ++group_operations_;
  op.deadline = context.deadline;
  const bool addressed = kind == OpKind::kMessage || kind == OpKind::kBroadcast;
  const bool peer_ok = !addressed || (root >= 0 && root < world_);
  Status status = check(op.header, context, peer_ok);
  if (status) status = operation_starts(op.header);
  if (status) {
    status = body(op);
    operation_ends(op.header);
  }
  ++stats_.operations;
  stats_.bytes += contributed;
  stats_.total_seconds += to_seconds(std::chrono::steady_clock::now() - start);
  return status ? status : fail(op.header, std::move(status));
}

Status CollectiveBase::all_reduce_sum(float* data, int64_t count, const OpContext& context) {
  const uint64_t bytes = count < 0 ? std::numeric_limits<uint64_t>::max()
                                   : static_cast<uint64_t>(count) * sizeof(float);
  return run(OpKind::kAllReduce, bytes, bytes, -1, context, [&](const Op& op) {
    return world_ == 1 ? Status::ok() : do_all_reduce(op, data, count);
  });
}

Status CollectiveBase::all_gather(const void* in, uint64_t bytes, void* out,
                                  const OpContext& context) {
  return run(OpKind::kAllGather, bytes, bytes, -1, context, [&](const Op& op) {
    if (bytes > 0) {
      std::memmove(static_cast<char*>(out) + static_cast<uint64_t>(rank_) * bytes, in, bytes);
    }
    return world_ == 1 ? Status::ok() : do_all_gather(op, in, bytes, out);
  });
}

Status CollectiveBase::broadcast(void* data, uint64_t bytes, int root, const OpContext& context) {
  return run(
      OpKind::kBroadcast, bytes, root == rank_ ? bytes : 0, root, context,
      [&](const Op& op) { return world_ == 1 ? Status::ok() : do_broadcast(op, data, bytes); });
}

Status CollectiveBase::send(const void* data, uint64_t bytes, int to, const OpContext& context) {
  return run(OpKind::kMessage, bytes, bytes, to, context, [&](const Op& op) {
    if (to == rank_) return invalid_argument("a rank cannot send to itself");
    return do_send(op, data, bytes);
  });
}

Status CollectiveBase::recv(void* data, uint64_t bytes, int from, const OpContext& context) {
  const bool exists = from >= 0 && from < world_;
  return run(OpKind::kMessage, bytes, 0, exists ? rank_ : -1, context, [&](const Op& op) {
    if (from == rank_) return invalid_argument("a rank cannot receive from itself");
    return do_recv(op, data, bytes, from);
  });
}

Status CollectiveBase::barrier(const OpContext& context) {
  return run(OpKind::kBarrier, 0, 0, -1, context,
             [&](const Op& op) { return world_ == 1 ? Status::ok() : do_barrier(op); });
}

}  // namespace shoal

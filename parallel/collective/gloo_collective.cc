// The collective across hosts: the slot protocol of slot_collective.h with messages instead of
// shared memory.
//
//  * A group operation is a sequence of turns, the same on every rank. In a turn every rank sends
//    one message to every peer and takes one from every peer. Turn t uses half t & 1.
//  * Why a half may be sent again: a rank sends turn t + 2 only after it has taken every peer's
//    message of turn t + 1, which a peer sends only after it is done with turn t and so with what
//    that half held.
//  * all_reduce of few bytes: everybody sends everything and sums in rank order. Of many (more than
//    two ranks): in one turn every rank sends every peer its slice, sums its own slice in rank
//    order, and in the next sends the sum: 2/world of the bytes, twice the latency.
//  * Messages (send, recv) have a channel per pair with two halves; the receiver acknowledges each,
//    and the sender reuses a half once its last message is acknowledged.
#include <algorithm>
#include <cstring>

#include <fmt/core.h>

#include "parallel/collective/collective_base.h"
#include "parallel/collective/data_address.h"
#include "parallel/collective/gloo_mesh.h"
#include "parallel/collective/poller.h"
#include "parallel/collective/single_collective.h"
#include "parallel/collective/slot_layout.h"
#include "parallel/collective/sum.h"

namespace shoal {
namespace {

constexpr uint64_t kTwoTurnBytes = 64 << 10;
// Every peer costs four pieces of memory for turns and four for messages.
constexpr uint64_t piece_bytes_for(int world) { return world <= 8 ? 256 << 10 : 64 << 10; }

class GlooCollective final : public CollectiveBase {
 public:
  GlooCollective(std::unique_ptr<GlooMesh> mesh, int rank, int world, uint64_t epoch)
      : CollectiveBase("gloo", rank, world, epoch),
        mesh_(std::move(mesh)),
        mail_sent_(static_cast<size_t>(world)),
        mail_taken_(static_cast<size_t>(world)) {}
  ~GlooCollective() override {
    if (death().empty()) mesh_->flush();
  }

  // A first turn with the largest message there is. Gloo takes whoever connects first to its port:
  // this shows that all are of this group. And Gloo sizes a socket's send buffer by the largest
  // message so far as the kernel reports it: after small ones only, a message of 4 KiB did not fit
  // and waited for the peer's delayed acknowledgement (2.2 ms instead of 25 us on loopback).
  Status greet(TimePoint deadline) {
    const std::vector<std::byte> mine(piece());
    std::vector<std::byte> all(piece() * static_cast<uint64_t>(world()));
    const Status status = all_gather(mine.data(), mine.size(), all.data(), {epoch(), deadline, 0});
    forget_stats();
    return status;
  }

 private:
  Status do_all_reduce(const Op& op, float* data, int64_t count) override;
  Status do_all_gather(const Op& op, const void* in, uint64_t bytes, void* out) override;
  Status do_broadcast(const Op& op, void* data, uint64_t bytes) override;
  Status do_send(const Op& op, const void* data, uint64_t bytes) override;
  Status do_recv(const Op& op, void* data, uint64_t bytes, int from) override;
  Status do_barrier(const Op& op) override;
  void interrupt(const std::string& reason) override { mesh_->tell_abort(reason); }
  Status operation_starts(const OpHeader&) override { return find_abort(); }

  int half() const { return static_cast<int>(turn_ & 1); }
  uint64_t piece() const { return mesh_->capacity(Channel::kTurn); }
  const std::byte* theirs(int peer) const { return mesh_->payload(peer, Channel::kTurn, half()); }

  // One turn: piece_of(peer) is what this rank sends a peer, `expected(peer)` how many bytes come.
  struct Piece {
    const void* data = nullptr;
    uint64_t bytes = 0;
  };
  template <class PieceOf, class Expected>
  Status take_turn(const Op& op, uint64_t offset, PieceOf&& piece_of, Expected&& expected);
  Status take(const Op& op, int peer, Channel channel, int which, uint64_t sequence);
  Status lost(int peer, Status why);
  Status find_abort();

  Status reduce_in_one_turn(const Op& op, uint64_t offset, float* data, int64_t count);
  Status reduce_in_two_turns(const Op& op, uint64_t offset, float* data, int64_t count);

  const std::unique_ptr<GlooMesh> mesh_;
  uint64_t turn_ = 0;
  std::vector<uint64_t> mail_sent_, mail_taken_;  // [world] messages to and from a rank
};

Status GlooCollective::find_abort() {
  if (is_dead()) return unavailable(death());
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank()) continue;
    if (const std::optional<std::string> reason = mesh_->abort_of(peer)) {
      return unavailable(fmt::format("rank {} aborted the group: {}", peer, *reason));
    }
  }
  return Status::ok();
}

// A connection breaks when its peer dies, leaves or aborts; the last says why.
Status GlooCollective::lost(int peer, Status why) {
  SHOAL_TRY(find_abort());
  return unavailable(
      fmt::format("rank {} died, left the group or is cut off: {}", peer, why.message()));
}

Status GlooCollective::take(const Op& op, int peer, Channel channel, int which, uint64_t sequence) {
  if (!mesh_->arrived(peer, channel, which, sequence)) {
    Poller poller(op.deadline);
    Status status;
    while (status && !mesh_->arrived(peer, channel, which, sequence)) {
      const Poller::Next next = poller.next();
      if (next == Poller::Next::kPoll) continue;
      status = find_abort();
      if (!status) break;
      if (next == Poller::Next::kLate) {
        status = deadline_exceeded(
            fmt::format("waited {:.3f} s for rank {}", to_seconds(poller.waited()), peer));
      } else if (next == Poller::Next::kProbe) {
        if (Status probed = mesh_->probe(peer);
            !probed && !mesh_->arrived(peer, channel, which, sequence)) {
          status = lost(peer, std::move(probed));
        }
      }
    }
    add_wait(poller.waited());
    SHOAL_TRY(status);
  }
  if (Status status = mesh_->accept(peer, channel, which); !status) {
    return lost(peer, std::move(status));
  }
  return Status::ok();
}

template <class PieceOf, class Expected>
Status GlooCollective::take_turn(const Op& op, uint64_t offset, PieceOf&& piece_of,
                                 Expected&& expected) {
  ++turn_;
  OpHeader header = op.header;
  header.offset = offset;
  for (int i = 1; i < world(); ++i) {
    const int peer = (rank() + i) % world();  // not all to rank 0 at once
    const Piece part = piece_of(peer);
    if (part.bytes > 0) {
      std::memcpy(mesh_->outgoing(peer, Channel::kTurn, half(), part.bytes), part.data, part.bytes);
    }
    if (Status s = mesh_->send(peer, Channel::kTurn, half(), part.bytes, header, turn_); !s) {
      return lost(peer, std::move(s));
    }
  }
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank()) continue;
    SHOAL_TRY(take(op, peer, Channel::kTurn, half(), turn_));
    const Trailer& trailer = mesh_->trailer(peer, Channel::kTurn, half());
    if (trailer.header != header) return mismatch(header, peer, trailer.header);
    if (trailer.payload_bytes != expected(peer)) {
      return data_loss(fmt::format("rank {} sent {} bytes of {}, expected {}", peer,
                                   trailer.payload_bytes, describe(header), expected(peer)));
    }
  }
  return Status::ok();
}

Status GlooCollective::do_all_reduce(const Op& op, float* data, int64_t count) {
  const auto per_piece = static_cast<int64_t>(piece() / sizeof(float));
  int64_t at = 0;
  do {
    const int64_t left = count - at;
    const uint64_t offset = static_cast<uint64_t>(at) * sizeof(float);
    const bool two = world() > 2 && static_cast<uint64_t>(left) * sizeof(float) >= kTwoTurnBytes;
    const int64_t n = std::min(two ? per_piece * world() : per_piece, left);
    SHOAL_TRY(two ? reduce_in_two_turns(op, offset, data + at, n)
                  : reduce_in_one_turn(op, offset, data + at, n));
    at += n;
  } while (at < count);
  return Status::ok();
}

Status GlooCollective::reduce_in_one_turn(const Op& op, uint64_t offset, float* data,
                                          int64_t count) {
  const uint64_t bytes = static_cast<uint64_t>(count) * sizeof(float);
  SHOAL_TRY(take_turn(
      op, offset,
      [&](int) {
        return Piece{data, bytes};
      },
      [&](int) { return bytes; }));
  const float* parts[kMaxRanks];
  for (int r = 0; r < world(); ++r) {
    parts[r] = r == rank() ? data : reinterpret_cast<const float*>(theirs(r));
  }
  sum_in_rank_order({parts, static_cast<size_t>(world())}, count, data);
  return Status::ok();
}

Status GlooCollective::reduce_in_two_turns(const Op& op, uint64_t offset, float* data,
                                           int64_t count) {
  const int64_t slice = (count + world() - 1) / world();
  const auto begin = [&](int r) { return std::min(slice * r, count); };
  const auto bytes_of = [&](int r) {
    return static_cast<uint64_t>(begin(r + 1) - begin(r)) * sizeof(float);
  };
  SHOAL_TRY(take_turn(
      op, offset,
      [&](int peer) {
        return Piece{data + begin(peer), bytes_of(peer)};
      },
      [&](int) { return bytes_of(rank()); }));
  float* mine = data + begin(rank());
  const float* parts[kMaxRanks];
  for (int r = 0; r < world(); ++r) {
    parts[r] = r == rank() ? mine : reinterpret_cast<const float*>(theirs(r));
  }
  sum_in_rank_order({parts, static_cast<size_t>(world())}, begin(rank() + 1) - begin(rank()), mine);
  SHOAL_TRY(take_turn(
      op, offset,
      [&](int) {
        return Piece{mine, bytes_of(rank())};
      },
      [&](int peer) { return bytes_of(peer); }));
  for (int r = 0; r < world(); ++r) {
    if (r != rank() && bytes_of(r) > 0) std::memcpy(data + begin(r), theirs(r), bytes_of(r));
  }
  return Status::ok();
}

Status GlooCollective::do_all_gather(const Op& op, const void* in, uint64_t bytes, void* out) {
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece(), bytes - at);
    SHOAL_TRY(take_turn(
        op, at,
        [&](int) {
          return Piece{static_cast<const std::byte*>(in) + at, n};
        },
        [&](int) { return n; }));
    for (int r = 0; r < world(); ++r) {
      if (r == rank() || n == 0) continue;
      std::memcpy(static_cast<std::byte*>(out) + static_cast<uint64_t>(r) * bytes + at, theirs(r),
                  n);
    }
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status GlooCollective::do_broadcast(const Op& op, void* data, uint64_t bytes) {
  const int root = op.header.root;
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece(), bytes - at);
    std::byte* part = static_cast<std::byte*>(data) + at;
    SHOAL_TRY(take_turn(
        op, at,
        [&](int) {
          return Piece{part, root == rank() ? n : 0};
        },
        [&](int peer) { return peer == root ? n : 0; }));
    if (root != rank() && n > 0) std::memcpy(part, theirs(root), n);
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status GlooCollective::do_barrier(const Op& op) {
  return take_turn(
      op, 0, [](int) { return Piece{}; }, [](int) { return uint64_t{0}; });
}

Status GlooCollective::do_send(const Op& op, const void* data, uint64_t bytes) {
  const int to = op.header.root;
  uint64_t& sent = mail_sent_[static_cast<size_t>(to)];
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece(), bytes - at);
    ++sent;
    const int which = static_cast<int>(sent & 1);
    if (sent > 2) SHOAL_TRY(take(op, to, Channel::kAck, which, sent - 2));
    OpHeader header = op.header;
    header.offset = at;
    if (n > 0) {
      std::memcpy(mesh_->outgoing(to, Channel::kMail, which, n),
                  static_cast<const std::byte*>(data) + at, n);
    }
    if (Status s = mesh_->send(to, Channel::kMail, which, n, header, sent); !s) {
      return lost(to, std::move(s));
    }
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status GlooCollective::do_recv(const Op& op, void* data, uint64_t bytes, int from) {
  uint64_t& taken = mail_taken_[static_cast<size_t>(from)];
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece(), bytes - at);
    ++taken;
    const int which = static_cast<int>(taken & 1);
    SHOAL_TRY(take(op, from, Channel::kMail, which, taken));
    OpHeader expected = op.header;
    expected.offset = at;
    const Trailer& trailer = mesh_->trailer(from, Channel::kMail, which);
    if (trailer.header != expected || trailer.payload_bytes != n) {
      return mismatch(expected, from, trailer.header);
    }
    if (n > 0) {
      std::memcpy(static_cast<std::byte*>(data) + at, mesh_->payload(from, Channel::kMail, which),
                  n);
    }
    if (Status s = mesh_->send(from, Channel::kAck, which, 0, OpHeader{}, taken); !s) {
      return lost(from, std::move(s));
    }
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status check_options(const GlooOptions& options) {
  if (options.world < 1 || options.world > kMaxRanks || options.rank < 0 ||
      options.rank >= options.world) {
    return invalid_argument(fmt::format("rank {} of {} in a Gloo group; 1 to {} ranks are possible",
                                        options.rank, options.world, kMaxRanks));
  }
  if (options.world == 1) return Status::ok();
  if (options.store == nullptr) return invalid_argument("Gloo needs a rendezvous store");
  if (std::chrono::steady_clock::now() >= options.deadline) {
    return deadline_exceeded("the deadline to connect had passed before it began");
  }
  return Status::ok();
}

}  // namespace

Result<std::unique_ptr<Collective>> make_gloo_collective(const GlooOptions& options) {
  SHOAL_TRY(check_options(options));
  if (options.world == 1) return make_single_collective("gloo", options.epoch);
  const std::string who = fmt::format("Gloo, rank {} of {}", options.rank, options.world);
  GlooOptions bound = options;
  auto address = resolve_data_address(options.interface, options.address, options.allow_public);
  if (!address) return address.status().annotate(who);
  bound.interface.clear();
  bound.address = *address;
  auto mesh = GlooMesh::connect(bound, piece_bytes_for(options.world));
  if (!mesh) return mesh.status().annotate(who + " on " + *address);
  auto group = std::make_unique<GlooCollective>(std::move(mesh).value(), options.rank,
                                                options.world, options.epoch);
  SHOAL_TRY(group->greet(options.deadline));
  return std::unique_ptr<Collective>(std::move(group));
}

}  // namespace shoal

#include "parallel/collective/slot_collective.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include <fmt/core.h>

#include "parallel/collective/poller.h"
#include "parallel/collective/sum.h"

namespace shoal {
namespace {

using std::chrono::microseconds;

constexpr uint64_t kTwoRoundBytes = 128 << 10;

void copy_bytes(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

uint64_t pack_current(const OpHeader& header, bool done) {
  return static_cast<uint64_t>(header.kind) << 57 | static_cast<uint64_t>(done) << 56 |
         (header.ordinal & ((uint64_t{1} << 56) - 1));
}

std::string unpack_current(uint64_t current) {
  const std::string name = op_name(static_cast<OpKind>(current >> 57));
  const bool done = (current >> 56 & 1) != 0;
  const uint64_t ordinal = current & ((uint64_t{1} << 56) - 1);
  if (current == 0) return "has not begun any operation";
  return done ? fmt::format("last finished {}, operation {}", name, ordinal)
              : fmt::format("is in {}, operation {}", name, ordinal);
}

}  // namespace

SlotCollective::SlotCollective(std::string engine, SegmentView view, std::shared_ptr<void> memory,
                               int rank, uint64_t epoch)
    : CollectiveBase(std::move(engine), rank, static_cast<int>(view.layout().world), epoch),
      view_(view),
      memory_(std::move(memory)),
      two_round_bytes_(kTwoRoundBytes),
      mail_received_(view.layout().world) {}

SlotCollective::~SlotCollective() {
  view_.control(rank()).left.store(1, std::memory_order_release);
}

std::string SlotCollective::name_of(int rank) const { return fmt::format("rank {}", rank); }

void SlotCollective::interrupt(const std::string& reason) {
  SegmentHeader& header = view_.header();
  uint32_t expected = 0;
  if (!header.abort_state.compare_exchange_strong(expected, 1, std::memory_order_acq_rel)) return;
  header.abort_rank = rank();
  const size_t length = std::min(reason.size(), sizeof(header.abort_reason) - 1);
  std::memcpy(header.abort_reason, reason.data(), length);
  header.abort_reason[length] = 0;
  header.abort_state.store(2, std::memory_order_release);
}

Status SlotCollective::aborted() const {
  if (const std::string own = death(); !own.empty()) return unavailable(own);
  const SegmentHeader& header = view_.header();
  // The aborting rank may be between claim and reason; if it died there the reason is lost.
  for (int i = 0; i < 20 && header.abort_state.load(std::memory_order_acquire) == 1; ++i) {
    std::this_thread::sleep_for(microseconds(500));
  }
  if (header.abort_state.load(std::memory_order_acquire) == 1) {
    return unavailable("another rank aborted the group");
  }
  const std::string reason(header.abort_reason,
                           strnlen(header.abort_reason, sizeof(header.abort_reason)));
  return unavailable(fmt::format("{} aborted the group: {}", name_of(header.abort_rank), reason));
}

Status SlotCollective::late(const Op& op, int rank, Duration waited) const {
  const uint64_t current = view_.control(rank).current.load(std::memory_order_relaxed);
  return deadline_exceeded(fmt::format("waited {:.3f} s for {}, which {}", to_seconds(waited),
                                       name_of(rank), unpack_current(current)) +
                           (op.header.offset ? fmt::format("; at byte {}", op.header.offset) : ""));
}

Status SlotCollective::operation_starts(const OpHeader& header) {
  // The others may have published this operation's round before one of them gave it up.
  if (view_.header().abort_state.load(std::memory_order_acquire) != 0) return aborted();
  view_.control(rank()).current.store(pack_current(header, false), std::memory_order_relaxed);
  return Status::ok();
}

void SlotCollective::operation_ends(const OpHeader& header) {
  view_.control(rank()).current.store(pack_current(header, true), std::memory_order_relaxed);
}

template <class Ready>
Status SlotCollective::wait(const Op& op, int rank, Ready&& ready) {
  if (ready()) return Status::ok();
  Poller poller(op.deadline);
  const auto finish = [&](Status status) {
    add_wait(poller.waited());
    return status;
  };
  while (!ready()) {
    const Poller::Next next = poller.next();
    if (next == Poller::Next::kPoll) continue;
    if (view_.header().abort_state.load(std::memory_order_acquire) != 0) return finish(aborted());
    if (next == Poller::Next::kLate) return finish(late(op, rank, poller.waited()));
    // A peer that has left or died may have published before; hence the second look.
    if (view_.control(rank).left.load(std::memory_order_acquire) != 0 && !ready()) {
      return finish(unavailable(name_of(rank) + " left the group"));
    }
    if (next == Poller::Next::kProbe) {
      const std::string trouble = trouble_with(rank);
      if (!trouble.empty() && !ready()) return finish(unavailable(trouble));
    }
  }
  return finish(Status::ok());
}

Status SlotCollective::publish_and_wait(const Op& op) {
  ++round_;
  view_.control(rank()).published.store(round_, std::memory_order_release);
  for (int peer = 0; peer < world(); ++peer) {
    if (peer == rank()) continue;
    const std::atomic<uint64_t>& published = view_.control(peer).published;
    SHOAL_TRY(wait(op, peer, [&] { return published.load(std::memory_order_acquire) >= round_; }));
  }
  return Status::ok();
}

Status SlotCollective::exchange(const Op& op, uint64_t offset, const void* data, uint64_t bytes) {
  ++turn_;
  OpHeader& header = view_.slot_header(rank(), half());
  header = op.header;
  header.offset = offset;
  copy_bytes(view_.slot(rank(), half()), data, bytes);
  SHOAL_TRY(publish_and_wait(op));
  for (int peer = 0; peer < world(); ++peer) {
    const OpHeader& theirs = view_.slot_header(peer, half());
    if (theirs != header) return mismatch(header, peer, theirs);
  }
  return Status::ok();
}

Status SlotCollective::do_all_reduce(const Op& op, float* data, int64_t count) {
  const auto piece = static_cast<int64_t>(view_.layout().slot_bytes / sizeof(float));
  int64_t at = 0;
  do {  // one round even for nothing: the others look for this rank
    const int64_t n = std::min(piece, count - at);
    const uint64_t offset = static_cast<uint64_t>(at) * sizeof(float);
    const bool two = world() > 2 && static_cast<uint64_t>(n) * sizeof(float) >= two_round_bytes_;
    SHOAL_TRY(two ? reduce_two_rounds(op, offset, data + at, n)
                  : reduce_one_round(op, offset, data + at, n));
    at += n;
  } while (at < count);
  return Status::ok();
}

Status SlotCollective::reduce_one_round(const Op& op, uint64_t offset, float* data, int64_t count) {
  SHOAL_TRY(exchange(op, offset, data, static_cast<uint64_t>(count) * sizeof(float)));
  const float* parts[kMaxRanks];
  for (int r = 0; r < world(); ++r) {
    parts[r] = r == rank() ? data : reinterpret_cast<const float*>(view_.slot(r, half()));
  }
  sum_in_rank_order({parts, static_cast<size_t>(world())}, count, data);
  return Status::ok();
}

Status SlotCollective::reduce_two_rounds(const Op& op, uint64_t offset, float* data,
                                         int64_t count) {
  SHOAL_TRY(exchange(op, offset, data, static_cast<uint64_t>(count) * sizeof(float)));
  // Parts end on cache lines so that two ranks never write one.
  const auto part = static_cast<int64_t>(
      round_up((static_cast<uint64_t>(count) + static_cast<uint64_t>(world()) - 1) /
                   static_cast<uint64_t>(world()),
               32));
  const auto begin = [&](int r) { return std::min(part * r, count); };
  const auto slot = [&](int r) { return reinterpret_cast<float*>(view_.slot(r, half())); };
  const int64_t mine = begin(rank());
  const int64_t mine_count = begin(rank() + 1) - mine;
  const float* parts[kMaxRanks];
  for (int r = 0; r < world(); ++r) parts[r] = slot(r) + mine;
  sum_in_rank_order({parts, static_cast<size_t>(world())}, mine_count, slot(rank()) + mine);
  SHOAL_TRY(publish_and_wait(op));
  for (int r = 0; r < world(); ++r) {
    copy_bytes(data + begin(r), slot(r) + begin(r),
               static_cast<uint64_t>(begin(r + 1) - begin(r)) * sizeof(float));
  }
  return Status::ok();
}

Status SlotCollective::do_all_gather(const Op& op, const void* in, uint64_t bytes, void* out) {
  const uint64_t piece = view_.layout().slot_bytes;
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece, bytes - at);
    SHOAL_TRY(exchange(op, at, static_cast<const std::byte*>(in) + at, n));
    for (int r = 0; r < world(); ++r) {
      if (r == rank()) continue;
      copy_bytes(static_cast<std::byte*>(out) + static_cast<uint64_t>(r) * bytes + at,
                 view_.slot(r, half()), n);
    }
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status SlotCollective::do_broadcast(const Op& op, void* data, uint64_t bytes) {
  const uint64_t piece = view_.layout().slot_bytes;
  const int root = op.header.root;
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece, bytes - at);
    std::byte* part = static_cast<std::byte*>(data) + at;
    SHOAL_TRY(exchange(op, at, part, root == rank() ? n : 0));
    if (root != rank()) copy_bytes(part, view_.slot(root, half()), n);
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status SlotCollective::do_barrier(const Op& op) { return exchange(op, 0, nullptr, 0); }

Status SlotCollective::do_send(const Op& op, const void* data, uint64_t bytes) {
  const uint64_t piece = view_.layout().mail_bytes;
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece, bytes - at);
    const int which = static_cast<int>(++mail_sequence_ & 1);
    MailControl& mail = view_.mail_control(rank(), which);
    const uint64_t last = mail_posted_[which];
    SHOAL_TRY(wait(op, static_cast<int>(last & 0xff),
                   [&] { return mail.taken.load(std::memory_order_acquire) == last; }));
    OpHeader& header = view_.mail_header(rank(), which);
    header = op.header;
    header.offset = at;
    copy_bytes(view_.mail(rank(), which), static_cast<const std::byte*>(data) + at, n);
    mail_posted_[which] = mail_sequence_ << 8 | static_cast<uint64_t>(op.header.root);
    mail.posted.store(mail_posted_[which], std::memory_order_release);
    at += n;
  } while (at < bytes);
  return Status::ok();
}

Status SlotCollective::do_recv(const Op& op, void* data, uint64_t bytes, int from) {
  // The posted word of a mail for this rank that it has not taken, or 0. Such a mail stays as it is
  // until taken. `taken` must not be asked: between the two loads another receiver may have taken
  // the mail's next content.
  uint64_t& last = mail_received_[static_cast<size_t>(from)];
  const auto waiting = [&](int which) -> uint64_t {
    const uint64_t posted = view_.mail_control(from, which).posted.load(std::memory_order_acquire);
    return posted > last && static_cast<int>(posted & 0xff) == rank() ? posted : 0;
  };
  const uint64_t piece = view_.layout().mail_bytes;
  uint64_t at = 0;
  do {
    const uint64_t n = std::min(piece, bytes - at);
    int which = -1;
    SHOAL_TRY(wait(op, from, [&] {
      for (int h = 0; h < 2; ++h) {
        const uint64_t found = waiting(h);
        if (found == 0) continue;
        // Mails are posted in order, so an older one in the other half is visible by now.
        const uint64_t other = waiting(1 - h);
        which = other != 0 && other < found ? 1 - h : h;
        return true;
      }
      return false;
    }));
    OpHeader expected = op.header;
    expected.offset = at;
    const OpHeader theirs = view_.mail_header(from, which);
    if (theirs != expected) return mismatch(expected, from, theirs);
    copy_bytes(static_cast<std::byte*>(data) + at, view_.mail(from, which), n);
    MailControl& mail = view_.mail_control(from, which);
    last = mail.posted.load(std::memory_order_relaxed);
    mail.taken.store(last, std::memory_order_release);
    at += n;
  } while (at < bytes);
  return Status::ok();
}

}  // namespace shoal

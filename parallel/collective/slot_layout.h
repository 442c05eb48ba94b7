// The memory that ranks of one host share: a heap block between threads, a POSIX segment between
// processes. Everything starts at zero. Counters that one rank writes and others poll have a cache
// line (a pair of them: the adjacent-line prefetcher) to themselves.
//
//   header | control[world] | per rank: slot 0, slot 1, mail 0, mail 1
//
// A slot is an OpHeader and slot_bytes of payload; a mail an OpHeader and mail_bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "parallel/collective/collective_base.h"

namespace shoal {

inline constexpr uint64_t kSegmentMagic = 0x314d48534c414f53;  // "SOALSHM1"
inline constexpr uint32_t kSegmentVersion = 1;
inline constexpr uint64_t kLine = 128;
inline constexpr int kMaxRanks = 64;  // a receiver fits 8 bits of a posted mail

struct SegmentHeader {
  std::atomic<uint64_t> magic;  // stored last by the creator
  uint32_t version;
  uint32_t world;
  uint64_t epoch;
  uint64_t slot_bytes;
  uint64_t total_bytes;
  std::atomic<uint32_t> formed;  // all attached and the name is gone

  // One rank aborts for all: 0 → 1 (it writes the reason) → 2.
  alignas(kLine) std::atomic<uint32_t> abort_state;
  int32_t abort_rank;
  char abort_reason[512];
};

struct RankControl {
  // Rounds this rank has entered: see slot_collective.h.
  alignas(kLine) std::atomic<uint64_t> published;
  // For messages only: what the rank is in, kind << 57 | done << 56 | ordinal.
  alignas(kLine) std::atomic<uint64_t> current;
  std::atomic<uint32_t> attached;
  std::atomic<uint32_t> left;
  int32_t pid;
  uint64_t pid_namespace;  // inode of /proc/self/ns/pid; 0: unknown
  uint64_t start_time;     // field 22 of /proc/PID/stat: tells a reused pid
};

// Each of a rank's two outgoing mails.
struct MailControl {
  alignas(kLine) std::atomic<uint64_t> posted;  // sequence << 8 | receiver; written by the owner
  alignas(kLine) std::atomic<uint64_t> taken;   // the last value of `posted` taken; by receivers
};

static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<uint32_t>::is_always_lock_free);

constexpr uint64_t round_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

// 1 MiB up to 8 ranks, then less, so that a group stays within 24 MiB or so of /dev/shm.
constexpr uint64_t default_slot_bytes(int world) {
  const uint64_t fair = (uint64_t{16} << 20) / (2 * static_cast<uint64_t>(world));
  const uint64_t bytes = fair > (1u << 20) ? (1u << 20) : fair;
  return round_up(bytes < (1u << 16) ? (1u << 16) : bytes, 4096);
}

struct SegmentLayout {
  uint32_t world = 0;
  uint64_t slot_bytes = 0;  // payload; a multiple of 64
  uint64_t mail_bytes = 0;

  static SegmentLayout make(int world, uint64_t slot_bytes) {
    const uint64_t slot = round_up(slot_bytes ? slot_bytes : default_slot_bytes(world), 64);
    return {static_cast<uint32_t>(world), slot, slot < (256u << 10) ? slot : (256u << 10)};
  }
  uint64_t control_offset() const { return round_up(sizeof(SegmentHeader), kLine); }
  uint64_t mail_control_offset() const { return control_offset() + world * sizeof(RankControl); }
  uint64_t data_offset() const {
    return round_up(mail_control_offset() + 2 * world * sizeof(MailControl), 4096);
  }
  uint64_t slot_stride() const { return round_up(sizeof(OpHeader) + slot_bytes, kLine); }
  uint64_t mail_stride() const { return round_up(sizeof(OpHeader) + mail_bytes, kLine); }
  uint64_t rank_stride() const { return round_up(2 * slot_stride() + 2 * mail_stride(), 4096); }
  uint64_t total_bytes() const { return data_offset() + world * rank_stride(); }
};

// Typed access to a mapped segment. Does not own the memory.
class SegmentView {
 public:
  SegmentView() = default;
  SegmentView(void* base, const SegmentLayout& layout)
      : base_(static_cast<std::byte*>(base)), layout_(layout) {}
  const SegmentLayout& layout() const { return layout_; }
  SegmentHeader& header() const { return at<SegmentHeader>(0); }
  RankControl& control(int rank) const {
    return at<RankControl>(layout_.control_offset() + index(rank) * sizeof(RankControl));
  }
  MailControl& mail_control(int rank, int half) const {
    return at<MailControl>(layout_.mail_control_offset() +
                           (2 * index(rank) + index(half)) * sizeof(MailControl));
  }
  OpHeader& slot_header(int rank, int half) const { return at<OpHeader>(slot_offset(rank, half)); }
  std::byte* slot(int rank, int half) const {
    return base_ + slot_offset(rank, half) + sizeof(OpHeader);
  }
  OpHeader& mail_header(int rank, int half) const { return at<OpHeader>(mail_offset(rank, half)); }
  std::byte* mail(int rank, int half) const {
    return base_ + mail_offset(rank, half) + sizeof(OpHeader);
  }

 private:
  static uint64_t index(int i) { return static_cast<uint64_t>(i); }
  template <class T>
  T& at(uint64_t offset) const {
    return *reinterpret_cast<T*>(base_ + offset);
  }
  uint64_t slot_offset(int rank, int half) const {
    return layout_.data_offset() + index(rank) * layout_.rank_stride() +
           index(half) * layout_.slot_stride();
  }
  uint64_t mail_offset(int rank, int half) const {
    return layout_.data_offset() + index(rank) * layout_.rank_stride() + 2 * layout_.slot_stride() +
           index(half) * layout_.mail_stride();
  }

  std::byte* base_ = nullptr;
  SegmentLayout layout_;
};

}  // namespace shoal

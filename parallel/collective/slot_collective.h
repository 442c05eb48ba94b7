// The collective over memory that all ranks map (slot_layout.h): threads of a process ("local") and
// processes of a host ("shm") run the same code.
//
// Protocol
//  * A group operation is a sequence of rounds, the same on every rank. In a round a rank writes
//  its
//    slot, increments `published` (release), and waits until every peer's `published` has come as
//    far (acquire). Then it reads the peers' slots.
//  * A piece of data uses slot half = turn & 1; the turn advances by one per piece. Small pieces
//  take
//    one round. A large all_reduce takes two per piece: after the first every rank sums its own
//    part of the piece out of all slots, in rank order, and writes the sum over that part of its
//    own slot (which nobody else reads in this round); after the second it reads the others' sums.
//  * Why a half may be overwritten: a rank writes half h for turn t + 2 only after it has finished
//    turn t + 1, in which it saw every peer publish the first round of t + 1. A peer publishes that
//    only after it has finished turn t, its last reads of half h included. So nobody reads the half
//    any more. This needs every rank to enter and to wait in every round, also those that only
//    receive (broadcast) or bring nothing (barrier).
//  * Every slot carries the OpHeader of its piece. A peer in another operation, size or step is an
//    error before any of its data is used.
//  * Messages (send, recv) do not take part in rounds. A sender has two outgoing mails; it posts
//    (sequence, receiver), the receiver copies and marks it taken; a mail is reused once taken.
//  * Any error sets the abort record of the segment, which every waiting rank polls.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/collective/collective_base.h"
#include "parallel/collective/slot_layout.h"

namespace shoal {

class SlotCollective : public CollectiveBase {
 public:
  // `memory` keeps the mapping alive.
  SlotCollective(std::string engine, SegmentView view, std::shared_ptr<void> memory, int rank,
                 uint64_t epoch);
  ~SlotCollective() override;

  // From this many bytes on an all_reduce of more than two ranks uses two rounds; for measurements.
  void set_two_round_bytes(uint64_t bytes) { two_round_bytes_ = bytes; }

 protected:
  // Called about every 10 ms while waiting for `rank`: "rank 2 (pid 77) died", or empty.
  virtual std::string trouble_with(int /*rank*/) { return {}; }
  virtual std::string name_of(int rank) const;

  const SegmentView& view() const { return view_; }

 private:
  Status do_all_reduce(const Op& op, float* data, int64_t count) override;
  Status do_all_gather(const Op& op, const void* in, uint64_t bytes, void* out) override;
  Status do_broadcast(const Op& op, void* data, uint64_t bytes) override;
  Status do_send(const Op& op, const void* data, uint64_t bytes) override;
  Status do_recv(const Op& op, void* data, uint64_t bytes, int from) override;
  Status do_barrier(const Op& op) override;
  void interrupt(const std::string& reason) override;
  Status operation_starts(const OpHeader& header) override;
  void operation_ends(const OpHeader& header) override;

  // Writes the header and `bytes` of data into this rank's slot of the next turn, publishes it and
  // waits for everybody; all slots of half() may be read afterwards.
  Status exchange(const Op& op, uint64_t offset, const void* data, uint64_t bytes);
  Status publish_and_wait(const Op& op);
  Status reduce_one_round(const Op& op, uint64_t offset, float* data, int64_t count);
  Status reduce_two_rounds(const Op& op, uint64_t offset, float* data, int64_t count);
  int half() const { return static_cast<int>(turn_ & 1); }

  // Waits until ready(), a failure of the group or the deadline.
  template <class Ready>
  Status wait(const Op& op, int rank, Ready&& ready);
  Status aborted() const;
  Status late(const Op& op, int rank, Duration waited) const;

  const SegmentView view_;
  const std::shared_ptr<void> memory_;
  uint64_t round_ = 0;  // rounds published
  uint64_t turn_ = 0;   // pieces exchanged
  uint64_t mail_sequence_ = 0;
  uint64_t mail_posted_[2] = {0, 0};
  uint64_t two_round_bytes_;
  std::vector<uint64_t> mail_received_;  // [world] posted word of the last mail taken from a rank
};

// Like make_local_collectives, with a slot size (0: default) so that tests cross pieces early.
std::vector<std::unique_ptr<SlotCollective>> make_local_slot_collectives(int world, uint64_t epoch,
                                                                         uint64_t slot_bytes);

}  // namespace shoal

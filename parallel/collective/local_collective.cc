// Ranks as threads of one process, and the group of one.
#include <cstdlib>
#include <cstring>

#include <fmt/core.h>

#include "base/check.h"
#include "parallel/collective/collective_base.h"
#include "parallel/collective/single_collective.h"
#include "parallel/collective/slot_collective.h"

namespace shoal {
namespace {

// CollectiveBase does everything a group of one needs.
class SingleCollective final : public CollectiveBase {
 public:
  SingleCollective(std::string engine, uint64_t epoch)
      : CollectiveBase(std::move(engine), 0, 1, epoch) {}

 private:
  static Status alone() { return internal_error("a group of one has no peers"); }
  Status do_all_reduce(const Op&, float*, int64_t) override { return alone(); }
  Status do_all_gather(const Op&, const void*, uint64_t, void*) override { return alone(); }
  Status do_broadcast(const Op&, void*, uint64_t) override { return alone(); }
  Status do_send(const Op&, const void*, uint64_t) override { return alone(); }
  Status do_recv(const Op&, void*, uint64_t, int) override { return alone(); }
  Status do_barrier(const Op&) override { return alone(); }
  void interrupt(const std::string&) override {}
};

}  // namespace

std::unique_ptr<Collective> make_single_collective(const std::string& engine, uint64_t epoch) {
  return std::make_unique<SingleCollective>(engine, epoch);
}

std::unique_ptr<Collective> make_single_collective(uint64_t epoch) {
  return make_single_collective("local", epoch);
}

std::vector<std::unique_ptr<SlotCollective>> make_local_slot_collectives(int world, uint64_t epoch,
                                                                         uint64_t slot_bytes) {
  SHOAL_CHECK(world >= 1 && world <= kMaxRanks, fmt::format("a local group of {} ranks", world));
  const SegmentLayout layout = SegmentLayout::make(world, slot_bytes);
  const uint64_t bytes = round_up(layout.total_bytes(), 4096);
  std::shared_ptr<void> memory(std::aligned_alloc(4096, bytes), std::free);
  SHOAL_CHECK(memory != nullptr, fmt::format("no memory for a local group ({} bytes)", bytes));
  std::memset(memory.get(), 0, bytes);
  const SegmentView view(memory.get(), layout);
  std::vector<std::unique_ptr<SlotCollective>> members;
  for (int rank = 0; rank < world; ++rank) {
    members.push_back(std::make_unique<SlotCollective>("local", view, memory, rank, epoch));
  }
  return members;
}

std::vector<std::unique_ptr<Collective>> make_local_collectives(int world, uint64_t epoch) {
  std::vector<std::unique_ptr<Collective>> members;
  for (auto& member : make_local_slot_collectives(world, epoch, 0)) {
    members.push_back(std::move(member));
  }
  return members;
}

}  // namespace shoal

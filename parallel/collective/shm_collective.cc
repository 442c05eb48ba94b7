#include <fmt/core.h>

#include "parallel/collective/process_identity.h"
#include "parallel/collective/shm_segment.h"
#include "parallel/collective/single_collective.h"
#include "parallel/collective/slot_collective.h"

namespace shoal {
namespace {

constexpr uint64_t kMinSlotBytes = 256;
constexpr uint64_t kMaxSlotBytes = uint64_t{1} << 40;

class ShmCollective final : public SlotCollective {
 public:
  ShmCollective(std::shared_ptr<ShmSegment> segment, int rank, uint64_t epoch,
                const ProcessIdentity& self)
      : SlotCollective("shm", segment->view(), segment, rank, epoch), self_(self) {}

 private:
  ProcessIdentity peer(int rank) const {
    const RankControl& control = view().control(rank);
    return {control.pid, control.pid_namespace, control.start_time};
  }
  std::string name_of(int rank) const override {
    if (rank < 0 || rank >= world()) return fmt::format("rank {}", rank);
    return fmt::format("rank {} (pid {})", rank, peer(rank).pid);
  }
  std::string trouble_with(int rank) override {
    return may_be_alive(peer(rank), self_) ? std::string() : name_of(rank) + " died";
  }

  const ProcessIdentity self_;
};

Status check_options(const ShmOptions& options) {
  if (options.world < 1 || options.world > kMaxRanks || options.rank < 0 ||
      options.rank >= options.world) {
    return invalid_argument(
        fmt::format("rank {} of {} in a shared memory group; 1 to {} ranks are possible",
                    options.rank, options.world, kMaxRanks));
  }
  const std::string& name = options.name;
  if (name.size() < 2 || name.size() > 200 || name[0] != '/' ||
      name.find('/', 1) != std::string::npos || name.find('\0') != std::string::npos) {
    return invalid_argument(fmt::format(
        "'{}' is no name for shared memory: one slash, then 1 to 199 other characters", name));
  }
  if (options.slot_bytes != 0 &&
      (options.slot_bytes < kMinSlotBytes || options.slot_bytes > kMaxSlotBytes)) {
    return invalid_argument(fmt::format("a slot of {} bytes; {} to 2^40 are possible",
                                        options.slot_bytes, kMinSlotBytes));
  }
  return Status::ok();
}

}  // namespace

Result<std::unique_ptr<Collective>> make_shm_collective(const ShmOptions& options) {
  SHOAL_TRY(check_options(options));
  if (options.world == 1) return make_single_collective("shm", options.epoch);
  const ProcessIdentity self = this_process();
  auto segment = ShmSegment::form(options, self);
  if (!segment) {
    return segment.status().annotate(fmt::format("rank {} of {}", options.rank, options.world));
  }
  return std::unique_ptr<Collective>(std::make_unique<ShmCollective>(
      std::move(segment).value(), options.rank, options.epoch, self));
}

}  // namespace shoal

// A thread's way from a file to the card: while a slot's rows travel and are put into tiles, the
// thread reads the next rows into the other slot.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "kernels/cuda/tile_launch.h"
#include "kernels/device.h"

namespace shoal::gpu {

struct GpuWeight;

// Backend::Lane is a stream with two slots of pinned memory, and as much of the card's beside each.
template <class Backend>
class GpuWeightLane final : public WeightLane {
 public:
  using Arch = typename Backend::Arch;

  explicit GpuWeightLane(std::unique_ptr<typename Backend::Lane> lane) : lane_(std::move(lane)) {}
  // Rows on their way need the slots.
  ~GpuWeightLane() override { (void)lane_->finish(); }

  Result<std::span<uint8_t>> memory() override { return lane_->next_slot(); }
  Status fill(Weight& target, int64_t first_row, std::span<const uint8_t> rows) override;
  Status finish() override { return lane_->finish(); }

 private:
  std::unique_ptr<typename Backend::Lane> lane_;
};

}  // namespace shoal::gpu

// Weights that came through a lane hold what fill_weight() puts there, whatever the rows per chunk.
#include <gtest/gtest.h>

#include "tests/simt/gpu_support.h"

namespace shoal::testing {
namespace {

std::vector<uint8_t> bits_of(Device& device, Weight& weight) {
  Buffer& memory = *static_cast<gpu::GpuWeight&>(weight).memory;
  std::vector<uint8_t> bits(memory.bytes());
  device.copy_to_host(bits.data(), memory.data(), bits.size());
  return bits;
}

struct Case {
  TensorType type;
  WeightUse use;
  int64_t rows, cols;
};

TEST(GpuLane, FillsAsTheDeviceDoes) {
  Rng rng(test_seed(17));
  for (const Case& c : {Case{TensorType::kQ4_K, WeightUse::kProducts, 37, 512},
                        Case{TensorType::kQ8_0, WeightUse::kProducts, 20, 96},
                        Case{TensorType::kQ8_0, WeightUse::kRows, 20, 96},  // rows are padded
                        Case{TensorType::kMXFP4, WeightUse::kProducts, 16, 64},
                        Case{TensorType::kIQ2_XXS, WeightUse::kProducts, 9, 256},
                        Case{TensorType::kF32, WeightUse::kRows, 5, 64},
                        Case{TensorType::kF16, WeightUse::kProducts, 33, 32}}) {
    SCOPED_TRACE(traits(c.type).name);
    const auto device = make_emulated_device(rng());
    WeightSlice slice{.type = c.type, .rows = c.rows, .cols = c.cols, .file_cols = c.cols};
    slice.use = c.use;
    const uint64_t row = slice.slice_row_bytes();
    std::vector<uint8_t> rows(row * static_cast<uint64_t>(c.rows));
    for (uint8_t& byte : rows) byte = static_cast<uint8_t>(rng());
    const auto one = device->create_weight(slice, "one").value();
    const auto two = device->create_weight(slice, "two").value();
    ASSERT_TRUE(device->fill_weight(*one, 0, rows).is_ok());

    const auto lane = device->make_weight_lane(rows.size() + 16).value();
    for (int64_t at = 0; at < c.rows;) {
      const auto count = std::min<int64_t>(1 + static_cast<int64_t>(rng.below(12)), c.rows - at);
      const auto memory = lane->memory();
      ASSERT_TRUE(memory.is_ok());
      const auto chunk = memory->subspan(rng.below(16), static_cast<uint64_t>(count) * row);
      std::copy_n(rows.data() + static_cast<uint64_t>(at) * row, chunk.size(), chunk.data());
      ASSERT_TRUE(lane->fill(*two, at, chunk).is_ok());
      at += count;
    }
    ASSERT_TRUE(lane->finish().is_ok());
    EXPECT_EQ(bits_of(*device, *one), bits_of(*device, *two));
    expect_clean(*device);
  }
}

}  // namespace
}  // namespace shoal::testing

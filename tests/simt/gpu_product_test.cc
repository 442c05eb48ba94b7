// Products of weights in rows, started as a launch of many rows would be: a block has several tiles
// of activation rows, one after the other, in the same shared memory.
#include <cmath>
#include <cstring>

#include "tests/simt/simt_support.h"

#include "base/rng.h"
#include "kernels/cuda/product_launch.h"
#include "kernels/formats/decode.h"
#include "kernels/formats/encode.h"

namespace shoal::emulator {
namespace {

struct Inputs {
  static constexpr int64_t kCols = 512, kOutputs = 6, kRows = 20;
  std::vector<uint8_t> weights;
  std::vector<float> decoded, values, scales, sums;
  std::vector<int8_t> codes;
  int64_t row_bytes_used, row_stride;

  explicit Inputs(TensorType type) {
    row_bytes_used = static_cast<int64_t>(row_bytes(type, kCols));
    row_stride = (row_bytes_used + 15) / 16 * 16;
    weights.resize(static_cast<size_t>(kOutputs * row_stride));
    decoded.resize(kOutputs * kCols);
    Rng rng(11);
    for (int64_t o = 0; o < kOutputs; ++o) {
      uint8_t* row = weights.data() + o * row_stride;
      random_row(type, rng, 0.5f, kCols, row);
      decode_row(type, row, kCols, decoded.data() + o * kCols);
    }
    for (int64_t i = 0; i < kRows * kCols; ++i) {
      if (i % 32 == 0) scales.push_back(0.01f * static_cast<float>(1 + rng.below(5)));
      codes.push_back(static_cast<int8_t>(static_cast<int>(rng.below(255)) - 127));
      values.push_back(scales.back() * codes.back());
      if (i % 32 == 31) {
        int total = 0;
        for (size_t j = codes.size() - 32; j < codes.size(); ++j) total += codes[j];
        sums.push_back(scales.back() * static_cast<float>(total));
      }
    }
  }
};

template <bool kChecked>
std::vector<float> multiply(TensorType type, const Inputs& in, bool use_codes, uint32_t tile_blocks,
                            uint64_t seed) {
  Memory memory;
  Stream<kChecked> stream(memory, {.seed = seed});
  const auto constant = [&](const auto& values, const char* name) {
    return memory.upload(values, name, MemoryKind::kConstant);
  };
  constexpr size_t kResults = Inputs::kRows * Inputs::kOutputs;
  gpu::ProductParams p;
  p.count = 1;
  p.weights[0].data.address = constant(in.weights, "weights").address;
  p.weights[0].out = memory.upload(std::vector<float>(kResults), "out");
  p.weights[0].row_stride = in.row_stride;
  p.weights[0].out_stride = p.weights[0].rows = Inputs::kOutputs;
  p.row_bytes = static_cast<uint64_t>(in.row_bytes_used);
  p.cols = p.x_stride = Inputs::kCols;
  p.values.address = constant(in.values, "values").address;
  p.codes.address = constant(in.codes, "codes").address;
  p.scales.address = constant(in.scales, "scales").address;
  p.sums.address = constant(in.sums, "sums").address;
  p.rows = Inputs::kRows;
  p.use_codes = use_codes ? 1 : 0;
  const uint32_t blocks = (Inputs::kOutputs + gpu::kProductWarps - 1) / gpu::kProductWarps;
  const Status status = gpu::launch_product<simt::Sm80>(stream, type, {blocks, tile_blocks}, p);
  EXPECT_TRUE(status.is_ok()) << status.to_string();
  return download(p.weights[0].out, kResults);
}

TEST(GpuProducts, TilesOneAfterTheOther) {
  for (const TensorType type :
       {TensorType::kQ8_0, TensorType::kQ4_1, TensorType::kQ4_K, TensorType::kQ2_K,
        TensorType::kQ6_K, TensorType::kIQ2_XXS, TensorType::kF16}) {
    const Inputs in(type);
    for (const bool use_codes : {false, true}) {
      SCOPED_TRACE(std::string(traits(type).name) + (use_codes ? ", codes" : ", floats"));
      const auto apart = multiply<false>(type, in, use_codes, 3, 1);
      for (int64_t r = 0; r < Inputs::kRows; ++r) {
        for (int64_t o = 0; o < Inputs::kOutputs; ++o) {
          double sum = 0, size = 0;
          for (int64_t i = 0; i < Inputs::kCols; ++i) {
            const double v = double{in.decoded[static_cast<size_t>(o * Inputs::kCols + i)]} *
                             double{in.values[static_cast<size_t>(r * Inputs::kCols + i)]};
            sum += v, size += std::fabs(v);
          }
          ASSERT_NEAR(apart[static_cast<size_t>(r * Inputs::kOutputs + o)], sum, 3e-6 * (size + 1))
              << "row " << r << ", output " << o;
        }
      }
      for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        const auto together = multiply<true>(type, in, use_codes, 1, seed);
        ASSERT_EQ(std::memcmp(together.data(), apart.data(), apart.size() * sizeof(float)), 0)
            << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace shoal::emulator

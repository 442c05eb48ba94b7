// Products of tiled weights are those of the decoded weights.
#include "tests/simt/emulator.h"

#include "kernels/cuda/tile_dispatch.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/rng.h"
#include "kernels/formats/decode.h"
#include "kernels/formats/encode.h"
#include "tests/simt/simt_support.h"

namespace shoal::emulator {
namespace {

using gpu::TileGemv;
using gpu::WeightTiles;

// A weight as a file holds it, cut to columns, and its decoded values.
struct Stored {
  WeightSlice slice;
  std::vector<uint8_t> bytes;
  std::vector<float> values;  // [rows, cols]

  Stored(TensorType type, int64_t rows, int64_t first_col, int64_t cols, int64_t file_cols,
         uint64_t seed)
      : slice{type, rows, cols, first_col, file_cols} {
    Rng rng(seed);
    const uint64_t row = row_bytes(type, static_cast<uint64_t>(file_cols));
    std::vector<uint8_t> whole(row);
    std::vector<float> decoded(static_cast<size_t>(file_cols));
    const uint64_t block = traits(type).block_bytes;
    for (int64_t r = 0; r < rows; ++r) {
      random_row(type, rng, 0.5f, file_cols, whole.data());
      decode_row(type, whole.data(), file_cols, decoded.data());
      const auto first = whole.begin() + slice.first_block() * static_cast<int64_t>(block);
      bytes.insert(bytes.end(), first, first + static_cast<int64_t>(slice.slice_row_bytes()));
      values.insert(values.end(), decoded.begin() + first_col, decoded.begin() + first_col + cols);
    }
  }
};

// Activation rows as GpuActivations has them, and the values they stand for.
struct Rows {
  int64_t count, stride;
  std::vector<float> values, scales, sums;
  std::vector<int8_t> codes;
  std::vector<double> exact;  // [count, stride], of the codes or of the floats

  Rows(int64_t n, int64_t cols, bool int8, uint64_t seed)
      : count(n), stride((cols + 31) / 32 * 32 + 32) {
    Rng rng(seed);
    values.assign(static_cast<size_t>(n * stride), 0);
    codes.assign(values.size(), 0);
    scales.assign(values.size() / 32, 0);
    sums.assign(values.size() / 32, 0);
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t i = 0; i < cols; ++i) {
        // Now and then an outlier; one block of zeros.
        const double v = i / 32 == 1 ? 0 : rng.normal() * (rng.below(97) == 0 ? 40 : 1);
        values[static_cast<size_t>(r * stride + i)] = static_cast<float>(v);
      }
    }
    exact.assign(values.begin(), values.end());
    for (size_t b = 0; b < scales.size() && int8; ++b) {
      float largest = 0;
      for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(values[32 * b + i]));
      scales[b] = gpu::code_scale(largest);
      int total = 0;
      for (size_t i = 32 * b; i < 32 * b + 32; ++i) {
        codes[i] =
            scales[b] == 0 ? int8_t{0} : static_cast<int8_t>(std::rint(values[i] / scales[b]));
        total += codes[i];
        exact[i] = double{scales[b]} * codes[i];
      }
      sums[b] = scales[b] * static_cast<float>(total);
    }
  }
};

struct Run {
  uint64_t seed = 1;
  int64_t multiprocessors = 2;
  int64_t runs = 0;  // 0: as many as a launch would have
  float scale = 1.0f;
  bool bias = false, accumulate = false;
};

bool is_float(TensorType type) { return !gpu::tile_takes_codes(type); }

// Of one weight, without memory.
gpu::TileProductParams params_of(const Stored& w, const Rows& x, const Run& run) {
  const WeightTiles tiles = gpu::weight_tiles(w.slice);
  gpu::TileProductParams p;
  p.weights[0].rows = w.slice.rows;
  p.weights[0].stored_tiles = static_cast<int32_t>(tiles.tiles);
  p.weights[0].out_stride = w.slice.rows + 1;
  p.weights[0].scale = run.scale;
  p.weights[0].accumulate = run.accumulate ? 1 : 0;
  p.count = 1;
  p.tiles = static_cast<int32_t>(tiles.tiles);
  p.units = static_cast<int32_t>(tiles.units);
  const int64_t total = tiles.tiles * tiles.units;
  p.runs = run.runs != 0
               ? gpu::cut_runs(total, run.runs)
               : gpu::tile_runs(total, gpu::tile_unit_bytes(w.slice.type), run.multiprocessors, 1);
  p.first_part = static_cast<int32_t>(
      (w.slice.first_col - w.slice.first_block() * traits(w.slice.type).block_elems) / 32);
  p.parts = static_cast<int32_t>((w.slice.cols + 31) / 32);
  p.x_rows = x.count;
  return p;
}

// out [x.count, rows + 1]: a column is left over on purpose. By the kernel for few rows; the one
// for many must give the same bits.
template <TensorType type, bool kChecked = true>
std::vector<float> multiply(const Stored& w, const Rows& x, const Run& run) {
  Memory memory;
  Stream<kChecked> stream(memory, {.seed = run.seed});
  gpu::TileProductParams p = params_of(w, x, run);
  std::vector<uint8_t> tiled(gpu::weight_tiles(w.slice).bytes());
  gpu::tile_rows(w.slice, 0, w.bytes, tiled.data());
  const auto constant = [&](const auto& values, const char* name) {
    return memory.upload(values, name, MemoryKind::kConstant);
  };
  const auto rows = static_cast<size_t>(w.slice.rows);
  std::vector<float> bias(rows);
  for (size_t i = 0; i < rows; ++i) bias[i] = static_cast<float>(i) - 3;
  p.weights[0].units.address = constant(tiled, "weights").address;
  p.x = {constant(x.values, "values"), {}, {}, {}, x.stride};
  if (!is_float(type)) {
    p.x.codes = constant(x.codes, "codes");
    p.x.scales = constant(x.scales, "scales");
    p.x.sums = constant(x.sums, "sums");
  }
  if (run.bias) p.weights[0].bias.address = constant(bias, "bias").address;
  const auto launch = [&](gpu::TileKernel kernel) {
    const int64_t most = gpu::set_rows(kernel, type), sets = (x.count + most - 1) / most;
    p.weights[0].out =
        memory.upload(std::vector<float>(static_cast<size_t>(x.count) * (rows + 1), 0.5f), "out");
    const auto places = static_cast<uint64_t>(sets * p.runs.count * 64);
    const auto counters = static_cast<size_t>(sets * p.tiles);
    p.partials = memory.allocate<simt::F32x4>(places, "partials");
    p.arrivals = memory.upload(std::vector<uint32_t>(counters), "arrivals");
    const Status status =
        gpu::launch_tiles_of<type, simt::Sm86>(stream, kernel, static_cast<uint32_t>(sets), p);
    EXPECT_TRUE(status) << traits(type).name << ": " << status.message();
    EXPECT_EQ(download(p.arrivals, counters), std::vector<uint32_t>(counters))
        << "not ready for the next launch";
    return download(p.weights[0].out, static_cast<size_t>(x.count) * (rows + 1));
  };
  const auto few = launch(gpu::TileKernel::kFewRows), many = launch(gpu::TileKernel::kManyRows);
  for (size_t i = 0; i < few.size(); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(few[i]), std::bit_cast<uint32_t>(many[i]))
        << traits(type).name << ", element " << i << ": " << few[i] << " and " << many[i];
  }
  return few;
}

void expect_product(const std::vector<float>& out, const Stored& w, const Rows& x, const Run& run) {
  const int64_t rows = w.slice.rows, cols = w.slice.cols;
  for (int64_t r = 0; r < x.count; ++r) {
    for (int64_t o = 0; o < rows; ++o) {
      double sum = 0, size = 0;
      for (int64_t i = 0; i < cols; ++i) {
        const double v = w.values[static_cast<size_t>(o * cols + i)] *
                         x.exact[static_cast<size_t>(r * x.stride + i)];
        sum += v, size += std::fabs(v);
      }
      sum = sum * run.scale + (run.bias ? static_cast<double>(o) - 3 : 0) +
            (run.accumulate ? 0.5 : 0);
      ASSERT_NEAR(out[static_cast<size_t>(r * (rows + 1) + o)], sum, 3e-6 * (size + 1))
          << traits(w.slice.type).name << " " << rows << " × " << cols << ", row " << r
          << ", output " << o << ", seed " << run.seed;
    }
    EXPECT_EQ(out[static_cast<size_t>(r * (rows + 1) + rows)], 0.5f) << "written beyond the rows";
  }
}

template <TensorType kTypeId>
struct Of {
  static constexpr TensorType kType = kTypeId;
};
template <class T>
class Tiles : public ::testing::Test {};
template <class List>
struct Typed;
template <TensorType... types>
struct Typed<gpu::TileTypeList<types...>> {
  using All = ::testing::Types<Of<types>...>;
};
struct TypeName {
  template <class T>
  static std::string GetName(int) {
    return std::string(traits(T::kType).name);
  }
};
using Types = Typed<gpu::TileTypes>::All;
TYPED_TEST_SUITE(Tiles, Types, TypeName);

TYPED_TEST(Tiles, ProductsOfEveryShapeAndSeed) {
  constexpr TensorType kType = TypeParam::kType;
  const int64_t unit = gpu::tile_unit_features(kType);
  struct Shape {
    int64_t rows, cols, x_rows, multiprocessors;
  };
  const Shape shapes[] = {
      {1, unit, 1, 1},      {16, 3 * unit, 2, 1}, {17, 2 * unit, 8, 2},
      {40, 5 * unit, 3, 1}, {33, unit, 7, 3},     {48, 6 * unit, 13, 1},
  };
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const Shape& s : shapes) {
      const Stored w(kType, s.rows, 0, s.cols, s.cols, seed);
      const Rows x(s.x_rows, s.cols, !is_float(kType), seed + 100);
      const Run run = {.seed = seed, .multiprocessors = s.multiprocessors};
      expect_product(multiply<kType>(w, x, run), w, x, run);
    }
  }
}

TYPED_TEST(Tiles, StagesAreUsedAgain) {
  constexpr TensorType kType = TypeParam::kType;
  // About five stages per warp.
  const int64_t cols = 10 * int64_t{TileGemv<kType>::kStageUnits} * gpu::tile_unit_features(kType);
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Stored w(kType, 64, 0, cols, cols, seed);
    const Rows x(2, cols, !is_float(kType), seed);
    const Run run = {.seed = seed, .runs = 8};
    expect_product(multiply<kType>(w, x, run), w, x, run);
  }
}

TYPED_TEST(Tiles, CutColumnsAreMasked) {
  constexpr TensorType kType = TypeParam::kType;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    // A shard that begins and ends inside blocks of 256.
    const Stored w(kType, 20, 96, 704, 1024, seed);
    const Rows x(3, 704, !is_float(kType), seed);
    const Run run = {.seed = seed};
    expect_product(multiply<kType>(w, x, run), w, x, run);
  }
}

TYPED_TEST(Tiles, ScaleBiasAndAccumulate) {
  constexpr TensorType kType = TypeParam::kType;
  const Stored w(kType, 40, 0, 512, 512, 5);
  const Rows x(5, 512, !is_float(kType), 6);
  const Run run = {.scale = 0.25f, .bias = true, .accumulate = true};
  expect_product(multiply<kType>(w, x, run), w, x, run);
}

TYPED_TEST(Tiles, ARowsResultDoesNotDependOnItsCompany) {
  constexpr TensorType kType = TypeParam::kType;
  const Stored w(kType, 40, 0, 1536, 1536, 7);
  const Rows all(11, 1536, !is_float(kType), 8);
  const auto together = multiply<kType>(w, all, {.seed = 1});
  for (const int64_t r : {0, 5, 10}) {
    Rows one(1, 1536, false, 0);
    const auto cut = [&](auto& to, const auto& from, int64_t per_row) {
      to.assign(from.begin() + r * per_row, from.begin() + (r + 1) * per_row);
    };
    cut(one.values, all.values, all.stride);
    cut(one.codes, all.codes, all.stride);
    cut(one.scales, all.scales, all.stride / 32);
    cut(one.sums, all.sums, all.stride / 32);
    const auto alone = multiply<kType>(w, one, {.seed = 2});
    for (int64_t o = 0; o < 40; ++o) {
      EXPECT_EQ(std::bit_cast<uint32_t>(alone[static_cast<size_t>(o)]),
                std::bit_cast<uint32_t>(together[static_cast<size_t>(r * 41 + o)]))
          << "row " << r << ", output " << o;
    }
  }
}

TYPED_TEST(Tiles, ABrokenActivationShowsInItsRowOnly) {
  constexpr TensorType kType = TypeParam::kType;
  const Stored w(kType, 16, 0, 512, 512, 9);
  Rows x(3, 512, !is_float(kType), 10);
  x.values[static_cast<size_t>(x.stride) + 70] = NAN;
  x.scales[static_cast<size_t>(x.stride) / 32 + 2] = NAN;
  x.sums[static_cast<size_t>(x.stride) / 32 + 2] = NAN;
  const auto out = multiply<kType>(w, x, {});
  for (int64_t o = 0; o < 16; ++o) {
    for (int64_t r = 0; r < 3; ++r) {
      EXPECT_EQ(std::isnan(out[static_cast<size_t>(r * 17 + o)]), r == 1);
    }
  }
}

TYPED_TEST(Tiles, LargerShapesUnchecked) {
  constexpr TensorType kType = TypeParam::kType;
  for (const int64_t cols : {1408, 2880}) {
    const int64_t file_cols = (cols + 255) / 256 * 256;
    const Stored w(kType, 130, 0, cols, file_cols, 11);
    const Rows x(4, cols, !is_float(kType), 12);
    const Run run = {.multiprocessors = 4};
    expect_product((multiply<kType, false>(w, x, run)), w, x, run);
  }
}

TEST(FloatTiles, RowsMayEndAnywhere) {
  for (const int64_t cols : {1, 31, 33, 100}) {
    const Stored w(TensorType::kF32, 5, 0, cols, cols, 13);
    const Stored h(TensorType::kF16, 5, 0, cols, cols, 14);
    const Rows x(2, cols, false, 15);
    expect_product(multiply<TensorType::kF32>(w, x, {}), w, x, {});
    expect_product(multiply<TensorType::kF16>(h, x, {}), h, x, {});
  }
}

}  // namespace
}  // namespace shoal::emulator

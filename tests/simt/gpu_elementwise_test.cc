// Embedding, norms, activations and copies of GpuDevice on the emulator, against the CPU device:
// odd shapes, eight orders of threads each, a row among many bit-equal to the row alone.
#include <algorithm>

#include "tests/simt/gpu_support.h"

namespace shoal {
namespace {

using namespace testing;

template <class F>
void for_every_seed(const F& f) {
  for (uint64_t seed = 0; seed < kEmulatorSeeds; ++seed) {
    const auto device = make_emulated_device(seed);
    f(*device, "seed " + std::to_string(seed));
    expect_clean(*device);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

std::vector<float> embedded(Device& device, const Matrix& table, const std::vector<int32_t>& ids,
                            float scale) {
  const auto weight = upload(device, table, 0, table.cols, WeightUse::kRows);
  DeviceArray<int32_t> d_ids(device, ids);
  DeviceArray<float> out(device,
                         std::vector<float>(ids.size() * static_cast<size_t>(table.cols), NAN));
  device.embed(*weight, d_ids.data(), static_cast<int64_t>(ids.size()), 100, scale, out.data());
  return out.values();
}

TEST(GpuEmbed, EveryTypeAndForeignIdsAreBitEqualToTheCpu) {
  const auto cpu = make_device("generic", true, 1);
  const std::vector<int32_t> ids = {100, 109, 99, 110, 0, 104, -1};
  for (const TensorType type : storable_types()) {
    Rng rng(static_cast<uint64_t>(type) + 1);
    const bool plain = traits(type).block_elems == 1;
    const Matrix table(type, 10, plain ? 2085 : 2304, rng);
    for (const float scale : {1.0f, 0.37f}) {
      const auto want = embedded(*cpu, table, ids, scale);
      for_every_seed([&](Device& gpu, const std::string& seed) {
        expect_same_bits(embedded(gpu, table, ids, scale), want,
                         seed + " " + std::string(tensor_type_name(type)));
      });
    }
  }
}

TEST(GpuEmbed, OneTokenAndManyOfNarrowAndWideTables) {
  const auto cpu = make_device("generic", true, 1);
  for (const auto& [type, cols] : {std::pair{TensorType::kQ8_0, 1408},
                                   {TensorType::kMXFP4, 2880},
                                   {TensorType::kQ4_0, 32},
                                   {TensorType::kF16, 1}}) {
    Rng rng(7);
    const Matrix table(type, 40, cols, rng);
    for (const size_t rows : {size_t{1}, size_t{129}}) {
      std::vector<int32_t> ids(rows);
      for (int32_t& id : ids) id = 90 + static_cast<int32_t>(rng.below(60));
      ids[0] = 139;
      const auto want = embedded(*cpu, table, ids, 12.0f);
      for_every_seed([&](Device& gpu, const std::string& seed) {
        expect_same_bits(embedded(gpu, table, ids, 12.0f), want, seed);
      });
    }
  }
}

// ---- norms

struct NormShape {
  int64_t rows, cols;
  NormKind form = NormKind::kRms;
  bool delta = false, delta_bias = false, delta_norm = false, index = false, bias = false;
  int64_t out_rows = -1;  // −1: all
};

std::string to_string(const NormShape& s) {
  return std::to_string(s.rows) + " × " + std::to_string(s.cols) +
         (s.form == NormKind::kRms ? " rms" : " layer") + (s.delta ? " delta" : "") +
         (s.delta_bias ? " delta_bias" : "") + (s.delta_norm ? " delta_norm" : "") +
         (s.index ? " index" : "") + (s.bias ? " bias" : "");
}

struct NormData {
  NormData(const NormShape& s, Rng& rng)
      : h(random_values(rng, s.rows * s.cols, 2.0)),
        delta(random_values(rng, s.rows * s.cols)),
        delta_bias(random_values(rng, s.cols)),
        delta_norm(random_values(rng, s.cols)),
        weight(random_values(rng, s.cols)),
        bias(random_values(rng, s.cols)) {
    for (int64_t i = 0; i < s.rows; i += 2) index.push_back(static_cast<int32_t>(s.rows - 1 - i));
  }
  std::vector<float> h, delta, delta_bias, delta_norm, weight, bias;
  std::vector<int32_t> index;
};

struct NormResult {
  std::vector<float> h, out;
};

// Rows [first, first + count) of the data.
NormResult run_norm(Device& device, const NormShape& s, const NormData& data, int64_t first,
                    int64_t count, GpuRows* rows = nullptr) {
  const auto part = [&](const std::vector<float>& all) {
    return std::vector<float>(all.begin() + first * s.cols, all.begin() + (first + count) * s.cols);
  };
  DeviceArray<float> h(device, part(data.h)), delta(device, part(data.delta)),
      delta_bias(device, data.delta_bias), delta_norm(device, data.delta_norm),
      weight(device, data.weight), bias(device, data.bias);
  DeviceArray<int32_t> index(device, data.index);
  ResidualNorm norm{.h = h.data(), .rows = count, .cols = s.cols};
  norm.delta = s.delta ? delta.data() : nullptr;
  norm.delta_bias = s.delta_bias ? delta_bias.data() : nullptr;
  norm.delta_norm = s.delta_norm ? delta_norm.data() : nullptr;
  norm.form = s.form;
  norm.weight = weight.data();
  norm.bias = s.bias ? bias.data() : nullptr;
  norm.eps = 1e-5f;
  norm.row_index = s.index ? index.data() : nullptr;
  norm.out_rows = s.out_rows >= 0 ? s.out_rows
                  : s.index       ? static_cast<int64_t>(data.index.size())
                                  : count;
  const auto out = activations(device, std::max<int64_t>(count, 1), s.cols);
  device.residual_norm(norm, *out);
  NormResult result{h.values(), read_values(device, *out, norm.out_rows)};
  if (rows != nullptr) *rows = read_gpu_rows(device, *out, norm.out_rows);
  return result;
}

const NormShape kNormShapes[] = {
    {.rows = 1, .cols = 1},
    {.rows = 3, .cols = 7, .delta = true},
    {.rows = 5, .cols = 64, .delta_bias = true},
    {.rows = 1, .cols = 1408, .delta = true, .delta_bias = true},
    {.rows = 2, .cols = 2880, .delta = true, .delta_norm = true},
    {.rows = 129, .cols = 33, .delta = true, .delta_bias = true, .delta_norm = true, .index = true},
    {.rows = 4, .cols = 288, .delta = true, .out_rows = 2},
    {.rows = 4, .cols = 288, .delta = true, .out_rows = 0},
    {.rows = 6, .cols = 96, .index = true},
    {.rows = 3, .cols = 1408, .form = NormKind::kLayer, .delta = true, .bias = true},
    {.rows = 2, .cols = 37, .form = NormKind::kLayer, .delta_bias = true, .index = true},
    {.rows = 1, .cols = 9000},
};

TEST(GpuNorm, EqualsTheCpu) {
  const auto cpu = make_device("generic", false, 1);
  for (const NormShape& shape : kNormShapes) {
    Rng rng(31);
    const NormData data(shape, rng);
    const NormResult want = run_norm(*cpu, shape, data, 0, shape.rows);
    for_every_seed([&](Device& gpu, const std::string& seed) {
      const NormResult got = run_norm(gpu, shape, data, 0, shape.rows);
      expect_close(got.h, want.h, 2e-6, seed + ", h of " + to_string(shape));
      expect_close(got.out, want.out, 4e-6, seed + ", norm of " + to_string(shape));
    });
  }
}

TEST(GpuNorm, ARowDoesNotDependOnItsCompanyOrTheSeed) {
  for (const NormShape& shape : kNormShapes) {
    if (shape.index || shape.out_rows >= 0) continue;
    Rng rng(32);
    const NormData data(shape, rng);
    GpuRows all;
    const auto first = make_emulated_device(0);
    const NormResult want = run_norm(*first, shape, data, 0, shape.rows, &all);
    for_every_seed([&](Device& gpu, const std::string& seed) {
      const int64_t row = static_cast<int64_t>(seed.back() - '0') * 17 % shape.rows;
      GpuRows alone;
      const NormResult got = run_norm(gpu, shape, data, row, 1, &alone);
      const auto of_row = [&](const auto& values, int64_t n) {
        return std::span(values).subspan(static_cast<size_t>(row * n), static_cast<size_t>(n));
      };
      expect_same_bits<float>(got.h, of_row(want.h, shape.cols), seed + " h");
      expect_same_bits<float>(alone.values, of_row(all.values, all.stride), seed + " values");
      expect_same_bits<int8_t>(alone.codes, of_row(all.codes, all.stride), seed + " codes");
      expect_same_bits<float>(alone.scales, of_row(all.scales, all.stride / 32), seed + " scales");
      expect_same_bits<float>(alone.sums, of_row(all.sums, all.stride / 32), seed + " sums");
    });
  }
}

// With and without row_index the sum and the norm are the same operations.
TEST(GpuNorm, AnIndexSelectsRowsAndChangesNothing) {
  NormShape shape{.rows = 5, .cols = 416, .delta = true};
  Rng rng(33);
  const NormData data(shape, rng);
  const auto device = make_emulated_device(1);
  const NormResult all = run_norm(*device, shape, data, 0, 5);
  shape.index = true;
  const NormResult some = run_norm(*device, shape, data, 0, 5);
  expect_same_bits(some.h, all.h, "h");
  for (size_t r = 0; r < data.index.size(); ++r) {
    const auto cols = static_cast<size_t>(shape.cols);
    expect_same_bits(std::span(some.out).subspan(r * cols, cols),
                     std::span(all.out).subspan(static_cast<size_t>(data.index[r]) * cols, cols),
                     "row " + std::to_string(r));
  }
}

TEST(GpuNorm, NanAndInfinityStayVisible) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const NormShape shape{.rows = 3, .cols = 70, .delta = true};
    Rng rng(34);
    NormData data(shape, rng);
    data.delta[70 + 41] = bad;
    for_every_seed([&](Device& gpu, const std::string& seed) {
      GpuRows rows;
      const NormResult got = run_norm(gpu, shape, data, 0, 3, &rows);
      for (size_t i = 0; i < 70; ++i) {
        EXPECT_TRUE(std::isfinite(got.out[i]) && std::isfinite(got.out[140 + i])) << seed;
        // x · 1/√∞ is 0: what an infinity leaves behind is the NaN at its own place.
        const bool broken = std::isnan(got.out[70 + i]);
        EXPECT_TRUE(broken || (std::isinf(bad) && i != 41)) << seed << " " << i;
      }
      const size_t block = static_cast<size_t>(rows.stride) / 32 + 1;
      EXPECT_TRUE(std::isnan(rows.scales[block]) && std::isnan(rows.sums[block])) << seed;
      EXPECT_TRUE(std::isfinite(rows.scales[block - 2]) && std::isfinite(rows.scales[2 * block]))
          << seed;
    });
  }
}

// ---- activations

// What the format says of every block: nearest codes, largest at ±127, sums of the codes.
void expect_format(const GpuRows& x, int64_t rows, int64_t width, const std::string& what) {
  for (int64_t at = 0; at < rows * x.stride; ++at) {
    const auto i = static_cast<size_t>(at);
    if (at % x.stride >= width) {
      ASSERT_EQ(x.values[i], 0.0f) << what << ", element " << at;
    }
    const float scale = x.scales[i / 32];
    ASSERT_NEAR(x.codes[i] * scale, x.values[i], 0.5001f * scale + 1e-36f) << what << ", " << at;
  }
  for (size_t b = 0; b < x.scales.size(); ++b) {
    float largest = 0;
    int total = 0, peak = 0;
    for (size_t i = 32 * b; i < 32 * b + 32; ++i) {
      largest = std::max(largest, std::fabs(x.values[i]));
      total += x.codes[i];
      peak = std::max(peak, std::abs(int{x.codes[i]}));
    }
    const float scale = gpu::code_scale(largest);
    ASSERT_EQ(x.scales[b], scale) << what << ", block " << b;
    ASSERT_NEAR(scale, largest / 127.0f, 0x1p-20f * scale + 1e-36f) << what << ", block " << b;
    ASSERT_EQ(peak, x.scales[b] > 0 ? 127 : 0) << what << ", block " << b;
    ASSERT_EQ(x.sums[b], x.scales[b] * static_cast<float>(total)) << what << ", block " << b;
  }
}

TEST(GpuActivations, LoadedRowsFollowTheFormat) {
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{1, 1}, {1, 32}, {129, 33}, {2, 1408}, {1, 2880}, {3, 4097}}) {
    Rng rng(41);
    const int64_t x_stride = cols + 5;
    auto x = random_values(rng, rows * x_stride, 3.0);
    for (int64_t i = 0; i < std::min<int64_t>(cols, 32); ++i) x[static_cast<size_t>(i)] = 0;
    x[static_cast<size_t>(rows * x_stride - 6)] = 9e4f;                         // outlier
    if (cols > 64) x[40] = 1e-37f, x[static_cast<size_t>(x_stride)] = -1e-40f;  // tiny
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = cols; i < x_stride; ++i) x[static_cast<size_t>(r * x_stride + i)] = NAN;
    }
    for_every_seed([&](Device& gpu, const std::string& seed) {
      DeviceArray<float> in(gpu, x);
      const auto out = activations(gpu, rows, cols);
      gpu.load_activations(in.data(), x_stride, rows, *out);
      const GpuRows got = read_gpu_rows(gpu, *out, rows);
      for (int64_t r = 0; r < rows; ++r) {
        expect_same_bits(
            std::span<const float>(got.values)
                .subspan(static_cast<size_t>(r * got.stride), static_cast<size_t>(cols)),
            std::span<const float>(x).subspan(static_cast<size_t>(r * x_stride),
                                              static_cast<size_t>(cols)),
            seed);
      }
      expect_format(got, rows, cols, seed);
    });
  }
}

TEST(GpuActivations, FloatsAloneWhereCodesAreOff) {
  Rng rng(42);
  const auto x = random_values(rng, 2 * 100);
  const auto gpu = make_emulated_device(3);
  gpu->use_int8_activations(false);
  DeviceArray<float> in(*gpu, x);
  const auto out = activations(*gpu, 2, 100);
  gpu->load_activations(in.data(), 100, 2, *out);
  const GpuRows got = read_gpu_rows(*gpu, *out, 2);
  EXPECT_TRUE(got.codes.empty());
  EXPECT_EQ(read_values(*gpu, *out, 2), x);
  expect_clean(*gpu);
}

// What an earlier, wider op left behind the columns is gone after a narrower one.
TEST(GpuActivations, ANarrowerOpLeavesZerosBehindIt) {
  for_every_seed([&](Device& gpu, const std::string& seed) {
    const auto out = activations(gpu, 2, 320);
    DeviceArray<float> wide(gpu, std::vector<float>(640, 5.0f));
    gpu.load_activations(wide.data(), 320, 2, *out);
    DeviceArray<float> h(gpu, std::vector<float>(100, 2.0f)),
        ones(gpu, std::vector<float>(50, 1.0f));
    gpu.residual_norm({.h = h.data(), .rows = 2, .cols = 50, .weight = ones.data(), .out_rows = 2},
                      *out);
    expect_format(read_gpu_rows(gpu, *out, 2), 2, 50, seed);
  });
}

TEST(GpuActivations, ABrokenValueBreaksItsBlockOnly) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x(100, 1.0f);
    x[77] = bad;
    for_every_seed([&](Device& gpu, const std::string& seed) {
      DeviceArray<float> in(gpu, x);
      const auto out = activations(gpu, 1, 100);
      gpu.load_activations(in.data(), 100, 1, *out);
      const GpuRows got = read_gpu_rows(gpu, *out, 1);
      for (size_t b = 0; b < got.scales.size(); ++b) {
        EXPECT_EQ(std::isnan(got.scales[b]), b == 2) << seed;
        EXPECT_EQ(std::isnan(got.sums[b]), b == 2) << seed;
      }
    });
  }
}

// ---- copies and caps

TEST(GpuCopies, HeadsGoWhereTheCpuPutsThem) {
  const auto cpu = make_device("generic", true, 1);
  for (const int64_t rows : {1, 129}) {
    HeadCopy task{.heads = 3, .features = 65, .x_stride = 300, .x_first = 7, .x_head_stride = 80};
    task.out_stride = 250, task.out_first = 11, task.out_head_stride = 70;
    Rng rng(51);
    const auto x = random_values(rng, rows * 300);
    const auto run = [&](Device& device) {
      DeviceArray<float> in(device, x),
          out(device, std::vector<float>(static_cast<size_t>(rows) * 250));
      HeadCopy copy = task;
      copy.x = in.data(), copy.out = out.data();
      device.copy_heads(copy, rows);
      return out.values();
    };
    const auto want = run(*cpu);
    for_every_seed(
        [&](Device& gpu, const std::string& seed) { expect_same_bits(run(gpu), want, seed); });
  }
}

TEST(GpuCopies, SoftCapEqualsTheCpu) {
  const auto cpu = make_device("generic", true, 1);
  for (const int64_t n : {1, 255, 257, 2880}) {
    Rng rng(52);
    auto x = random_values(rng, n, 40.0);
    if (n > 4) x[0] = NAN, x[1] = 1e30f, x[2] = -1e30f, x[3] = 0.0f, x[4] = 1e-3f;
    const auto run = [&](Device& device) {
      DeviceArray<float> values(device, x);
      device.soft_cap(values.data(), n, 30.0f);
      return values.values();
    };
    const auto want = run(*cpu);
    for_every_seed(
        [&](Device& gpu, const std::string& seed) { expect_close(run(gpu), want, 1e-6, seed); });
  }
}

TEST(GpuDevice, RowsOfNothingStartNothing) {
  const auto gpu = make_emulated_device(1);
  const auto out = activations(*gpu, 1, 32);
  gpu->load_activations(nullptr, 0, 0, *out);
  gpu->soft_cap(nullptr, 0, 30.0f);
  gpu->copy_heads({}, 0);
  gpu->residual_norm({.cols = 32}, *out);
  expect_clean(*gpu);
}

}  // namespace
}  // namespace shoal

// Matrix products of GpuDevice on the emulator against the CPU device, for every stored type.
#include <algorithm>
#include <set>

#include "tests/simt/gpu_support.h"

namespace shoal {
namespace {

using namespace testing;

// y[rows, outputs] of one task on either device.
std::vector<float> multiply(Device& device, const Weight& weight, const std::vector<float>& x,
                            int64_t cols, int64_t rows, const std::vector<float>* bias = nullptr) {
  const auto input = activations(device, rows, cols);
  DeviceArray<float> in(device, x), b(device, bias == nullptr ? std::vector<float>{} : *bias);
  device.load_activations(in.data(), cols, rows, *input);
  const int64_t outputs = weight.slice().rows;
  DeviceArray<float> y(device, std::vector<float>(static_cast<size_t>(rows * outputs), NAN));
  const MatmulTask task{&weight, bias == nullptr ? nullptr : b.data(), y.data(), outputs, 1.0f};
  device.matmul({&task, 1}, *input, rows);
  expect_clean(device);
  return y.values();
}

// Largest difference of got from want, relative to Σ |w x| of its output.
double worst(const Matrix& w, int64_t first, int64_t cols, const std::vector<float>& x,
             int64_t rows, const std::vector<float>& got, const std::vector<float>& want) {
  double largest = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < w.rows; ++o) {
      double size = 1e-30;
      for (int64_t i = 0; i < cols; ++i) {
        size +=
            std::fabs(static_cast<double>(w.values[static_cast<size_t>(o * w.cols + first + i)]) *
                      x[static_cast<size_t>(r * cols + i)]);
      }
      const auto at = static_cast<size_t>(r * w.rows + o);
      const double error = std::fabs(static_cast<double>(got[at]) - want[at]) / size;
      largest = std::isfinite(error) ? std::max(largest, error) : INFINITY;
    }
  }
  return largest;
}

// Types whose products are of int8 codes where the activations have them.
const std::set<TensorType> kCodeTypes = {
    TensorType::kQ4_0,  TensorType::kQ4_1,  TensorType::kQ5_0,   TensorType::kQ5_1,
    TensorType::kQ8_0,  TensorType::kQ2_K,  TensorType::kQ3_K,   TensorType::kQ4_K,
    TensorType::kQ5_K,  TensorType::kQ6_K,  TensorType::kIQ4_NL, TensorType::kIQ4_XS,
    TensorType::kTQ2_0, TensorType::kMXFP4, TensorType::kNVFP4};

// Two orders of additions of a few thousand terms.
constexpr double kFloatNoise = 1e-6;

std::unique_ptr<Device> card(uint64_t seed, bool int8, bool checked = true) {
  auto device = make_emulated_device(seed, checked);
  device->use_int8_activations(int8);
  return device;
}

// NaN behind the columns of every row.
void poison_behind(Device& device, Activations& activations, int64_t rows) {
  auto& x = static_cast<gpu::GpuActivations&>(activations);
  const std::vector<float> bad(static_cast<size_t>(x.stride - x.columns), NAN);
  for (int64_t r = 0; r < rows; ++r) {
    device.copy_to_device(x.values + r * x.stride + x.columns, bad.data(), bad.size() * 4);
    if (x.codes == nullptr) continue;
    const int64_t first = (r * x.stride + x.columns + 31) / 32, end = (r + 1) * x.stride / 32;
    for (float* to : {x.scales, x.sums}) {
      device.copy_to_device(to + first, bad.data(), static_cast<uint64_t>(end - first) * 4);
    }
  }
}

std::vector<float> run_heads(Device& device, const Weight& weight, int64_t heads, int64_t first,
                             int64_t x_stride, const std::vector<float>& x, int64_t width,
                             int64_t rows, int64_t stride, int64_t head_stride) {
  const auto input = activations(device, rows, width);
  DeviceArray<float> in(device, x),
      y(device, std::vector<float>(static_cast<size_t>(rows * stride), -7.0f));
  device.load_activations(in.data(), width, rows, *input);
  device.head_matmul({&weight, heads, first, x_stride, y.data(), stride, head_stride}, *input,
                     rows);
  expect_clean(device);
  return y.values();
}

// Against products of unrounded activations: codes are off by up to half a step of 1/127 of the
// largest of 32, in no particular direction.
double tolerance(bool int8) { return int8 ? 1e-2 : kFloatNoise; }

TEST(GpuMatmul, EveryTypeAndShapeInFloat) {
  Rng rng(11);
  const auto cpu = make_device("", false);
  const auto gpu = card(1, false);
  for (const TensorType type : storable_types()) {
    for (const int64_t cols : {7, 32, 33, 96, 256, 288, 1408, 2880, 2816}) {
      if (cols % traits(type).block_elems != 0) continue;
      const Matrix w(type, cols == 96 ? 1 : 13, cols, rng);
      const auto on_cpu = upload(*cpu, w), on_gpu = upload(*gpu, w);
      for (const int64_t rows : {1, 11}) {
        const auto x = random_values(rng, rows * cols);
        const auto want = multiply(*cpu, *on_cpu, x, cols, rows);
        const auto got = multiply(*gpu, *on_gpu, x, cols, rows);
        EXPECT_LE(worst(w, 0, cols, x, rows, got, want), kFloatNoise)
            << tensor_type_name(type) << " " << cols << " × " << rows;
      }
    }
  }
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Weights as products like them best, and all of them in rows.
class GpuLayouts : public ::testing::TestWithParam<WeightUse> {
 protected:
  // For rows: the types that otherwise would be in tiles.
  static std::vector<TensorType> types() {
    std::vector<TensorType> out;
    for (const TensorType type : storable_types()) {
      if (GetParam() == WeightUse::kProducts || gpu::tile_unit_features(type) > 0) {
        out.push_back(type);
      }
    }
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuLayouts, ::testing::Values(WeightUse::kProducts, WeightUse::kRows),
                         [](const auto& use) {
                           return use.param == WeightUse::kRows ? "Rows" : "Products";
                         });

// What the codes of activations stand for, and each feature's step.
struct Rounded {
  std::vector<float> values, steps;
};
Rounded rounded(Device& device, const Activations& activations, int64_t rows) {
  const GpuRows all = read_gpu_rows(device, activations, rows);
  Rounded out;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < activations.cols(); ++i) {
      const auto at = static_cast<size_t>(r * all.stride + i);
      out.values.push_back(all.scales[at / 32] * static_cast<float>(all.codes[at]));
      out.steps.push_back(all.scales[at / 32]);
    }
  }
  return out;
}

// Largest error of y against x · wᵀ in double, relative to Σ |w x|, beyond what half a step in each
// activation explains.
double excess(const Matrix& w, const std::vector<float>& x, const std::vector<float>& steps,
              int64_t rows, const std::vector<float>& y) {
  double largest = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < w.rows; ++o) {
      double sum = 0, size = 1e-30, allowed = 0;
      for (int64_t i = 0; i < w.cols; ++i) {
        const double a = w.values[static_cast<size_t>(o * w.cols + i)];
        const auto at = static_cast<size_t>(r * w.cols + i);
        sum += a * x[at], size += std::fabs(a * x[at]);
        if (!steps.empty()) allowed += std::fabs(a) * 0.501 * steps[at];
      }
      const double error = std::fabs(y[static_cast<size_t>(r * w.rows + o)] - sum);
      const double over = std::max(0.0, error - allowed) / size;
      largest = std::isfinite(over) ? std::max(largest, over) : INFINITY;
    }
  }
  return largest;
}

TEST_P(GpuLayouts, EveryTypeAndShapeWithInt8Activations) {
  Rng rng(22);
  const auto gpu = card(1, true);
  for (const TensorType type : types()) {
    for (const int64_t cols : {32, 96, 256, 288, 1408, 2880, 2816}) {
      if (cols % traits(type).block_elems != 0) continue;
      const Matrix w(type, cols == 96 ? 1 : 13, cols, rng);
      const auto weight = upload(*gpu, w, 0, w.cols, GetParam());
      for (const int64_t rows : {1, 11}) {
        const auto x = random_values(rng, rows * cols);
        const auto y = multiply(*gpu, *weight, x, cols, rows);
        const auto input = activations(*gpu, rows, cols);
        DeviceArray<float> in(*gpu, x);
        gpu->load_activations(in.data(), cols, rows, *input);
        const Rounded codes = rounded(*gpu, *input, rows);
        const auto where = std::string(tensor_type_name(type)) + " " + std::to_string(cols) +
                           " × " + std::to_string(rows);
        // Never farther from the truth than rounding each activation explains …
        EXPECT_LE(excess(w, x, codes.steps, rows, y), kFloatNoise) << where;
        // … and exact arithmetic on either the rounded or the given activations. Zero points are
        // subtracted after the sums: a few more units of rounding.
        const double noise =
            std::min(excess(w, codes.values, {}, rows, y), excess(w, x, {}, rows, y));
        EXPECT_LE(noise, 4 * kFloatNoise) << where;
        const bool meets_codes = excess(w, x, {}, rows, y) > 4 * kFloatNoise;
        if (kCodeTypes.contains(type) && cols > 32) {
          EXPECT_TRUE(meets_codes) << where;
        }
      }
    }
  }
}

// Whatever order threads run in: clean, and the same bits.
TEST(GpuMatmul, EveryTypeUnderEverySeed) {
  Rng rng(12);
  for (const bool int8 : {false, true}) {
    for (const TensorType type : storable_types()) {
      const int64_t cols = traits(type).block_elems == 1 ? 45 : 256 + traits(type).block_elems;
      const Matrix w(type, 5, cols, rng);
      const auto x = random_values(rng, 3 * cols);
      std::vector<float> first;
      for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed) {
        const auto gpu = card(seed, int8);
        const auto y = multiply(*gpu, *upload(*gpu, w), x, cols, 3);
        if (first.empty()) first = y;
        ASSERT_TRUE(same(first, y)) << tensor_type_name(type) << " seed " << seed;
      }
    }
  }
}

// Features of a shard's outer blocks that are not its own never count, nor does what stands behind
// the activations.
TEST_P(GpuLayouts, MaskedSlicesAtEveryOffset) {
  Rng rng(13);
  const auto cpu = make_device("", false);
  for (const bool int8 : {false, true}) {
    const auto gpu = card(2, int8);
    for (const TensorType type : types()) {
      const int64_t file_cols = 768, rows = 2;
      const Matrix w(type, 5, file_cols, rng);
      for (int64_t first = 0; first < 512; first += 96) {
        for (const int64_t cols : {32, 96, 256}) {
          const auto weight = upload(*gpu, w, first, cols, GetParam());
          const auto x = random_values(rng, rows * cols);
          const auto input = activations(*gpu, rows, cols);
          DeviceArray<float> in(*gpu, x);
          gpu->load_activations(in.data(), cols, rows, *input);
          poison_behind(*gpu, *input, rows);
          DeviceArray<float> y(*gpu, std::vector<float>(10, NAN));
          const MatmulTask task{weight.get(), nullptr, y.data(), 5, 1.0f};
          gpu->matmul({&task, 1}, *input, rows);
          expect_clean(*gpu);
          const auto want = multiply(*cpu, *upload(*cpu, w, first, cols), x, cols, rows);
          EXPECT_LE(worst(w, first, cols, x, rows, y.values(), want), tolerance(int8))
              << tensor_type_name(type) << " " << first << "+" << cols;
        }
      }
    }
  }
}

// Row r of many has the bits of row r alone.
TEST_P(GpuLayouts, RowsDoNotDependOnTheirCompany) {
  Rng rng(15);
  for (const bool int8 : {false, true}) {
    const auto gpu = card(3, int8, false);
    for (const TensorType type : types()) {
      const int64_t cols = 1536, rows = 129;
      const Matrix w(type, 7, cols, rng);
      const auto weight = upload(*gpu, w, 0, w.cols, GetParam());
      const auto x = random_values(rng, rows * cols);
      const auto all = multiply(*gpu, *weight, x, cols, rows);
      for (const int64_t count : {1, 7, 8, 9, 64}) {
        const auto from = static_cast<int64_t>(rng.below(static_cast<uint64_t>(rows - count + 1)));
        const std::vector<float> part(x.begin() + from * cols, x.begin() + (from + count) * cols);
        const auto some = multiply(*gpu, *weight, part, cols, count);
        ASSERT_EQ(std::memcmp(some.data(), all.data() + from * w.rows, some.size() * 4), 0)
            << tensor_type_name(type) << (int8 ? " int8" : "") << " rows " << from << "+" << count;
      }
    }
  }
}

TEST(GpuMatmul, TaskListBiasScaleAndEmptyShapes) {
  Rng rng(17);
  const Matrix a(TensorType::kQ8_0, 19, 64, rng), b(TensorType::kF32, 3, 64, rng),
      c(TensorType::kQ8_0, 6, 64, rng), none(TensorType::kQ4_0, 0, 64, rng);
  const auto x = random_values(rng, 5 * 64), bias = random_values(rng, 19);
  std::vector<std::vector<float>> results;
  for (const bool emulated : {false, true}) {
    const auto device = emulated ? card(4, false) : make_device("", false);
    const auto wa = upload(*device, a), wb = upload(*device, b), wc = upload(*device, c),
               wn = upload(*device, none);
    const auto input = activations(*device, 5, 64);
    DeviceArray<float> in(*device, x), on(*device, bias),
        ya(*device, std::vector<float>(5 * 24, -7.0f)), yb(*device, std::vector<float>(5 * 3)),
        yc(*device, std::vector<float>(5 * 6, 2.0f)), yd(*device, std::vector<float>(5 * 3, 1.0f));
    device->load_activations(in.data(), 64, 5, *input);
    const MatmulTask tasks[] = {{wa.get(), on.data(), ya.data(), 24, 0.5f},
                                {wn.get(), nullptr, nullptr, 0, 1.0f},
                                {wb.get(), nullptr, yb.data(), 3, 1.0f},
                                {wc.get(), on.data(), yc.data(), 6, -2.0f, true},
                                {wb.get(), nullptr, yd.data(), 3, 1.0f, true}};
    device->matmul(tasks, *input, 5);
    expect_clean(*device);
    results.push_back(ya.values());
    for (const auto& more : {yb.values(), yc.values(), yd.values()}) {
      results.back().insert(results.back().end(), more.begin(), more.end());
    }
  }
  expect_close(results[1], results[0], 2e-5, "tasks");
  EXPECT_EQ(results[1][23], -7.0f) << "wrote past its outputs";
}

// A rank that holds none of the input features contributes zero, plus a bias; no rows, no launch.
TEST(GpuMatmul, NoFeatures) {
  Rng rng(18);
  const auto gpu = card(5, false);
  for (const TensorType type : {TensorType::kQ8_0, TensorType::kF32, TensorType::kQ4_K}) {
    const Matrix thin(type, 4, 256, rng);
    const auto weight = upload(*gpu, thin, 256, 0);
    const std::vector<float> bias = {1, 2, 3, 4};
    EXPECT_EQ(multiply(*gpu, *weight, {}, 0, 2, &bias),
              (std::vector<float>{1, 2, 3, 4, 1, 2, 3, 4}));
    EXPECT_EQ(multiply(*gpu, *weight, {}, 0, 1), std::vector<float>(4, 0.0f));
    EXPECT_EQ(multiply(*gpu, *upload(*gpu, thin), {}, 256, 0), std::vector<float>());
  }
}

// A NaN or infinity comes out as one, in its row alone.
TEST_P(GpuLayouts, BrokenActivationsStayVisibleAndAlone) {
  Rng rng(19);
  for (const bool int8 : {false, true}) {
    const auto gpu = card(6, int8);
    for (const TensorType type : types()) {
      const Matrix w(type, 3, 256, rng);
      const auto weight = upload(*gpu, w, 0, w.cols, GetParam());
      for (const float bad : {NAN, INFINITY}) {
        auto x = random_values(rng, 2 * 256);
        x[256 + 77] = bad;
        const auto y = multiply(*gpu, *weight, x, 256, 2);
        for (size_t o = 0; o < 3; ++o) {
          EXPECT_TRUE(std::isfinite(y[o])) << "the clean row";
          EXPECT_FALSE(std::isfinite(y[3 + o])) << tensor_type_name(type) << (int8 ? " int8" : "");
        }
      }
    }
  }
}

struct Gated {
  GateFunction kind;
  TensorType gate, up;
  int64_t cols, features;
  bool gated = true, biases = false, row_gate = false;
};

// Values, codes and zeros behind them: what the next product reads.
TEST(GpuMatmul, GatedMatmulMatchesTheCpu) {
  Rng rng(21);
  using enum TensorType;
  for (const Gated& c : {Gated{GateFunction::kSilu, kQ8_0, kQ8_0, 64, 40},
                         Gated{GateFunction::kSilu, kQ4_K, kQ6_K, 512, 300, true, false, true},
                         Gated{GateFunction::kGeluTanh, kF32, kF16, 33, 7, true, true},
                         Gated{GateFunction::kSwigluClamp, kMXFP4, kMXFP4, 96, 257, true, true},
                         Gated{GateFunction::kGeluTanh, kQ5_1, kBF16, 64, 32, false, true, true},
                         Gated{GateFunction::kSilu, kQ8_0, kQ8_0, 64, 0}}) {
    const Matrix g(c.gate, c.features, c.cols, rng, 0.2f), u(c.up, c.features, c.cols, rng, 0.2f);
    const auto gate_bias = random_values(rng, c.features), up_bias = random_values(rng, c.features);
    for (const int64_t rows : {1, 9}) {
      const auto x = random_values(rng, rows * c.cols), row_gate = random_values(rng, rows);
      std::vector<std::vector<float>> results;
      for (const bool emulated : {false, true}) {
        const auto device = emulated ? card(7, false) : make_device("", false);
        const auto wg = upload(*device, g), wu = upload(*device, u);
        const auto input = activations(*device, rows, c.cols);
        const auto out = activations(*device, rows, c.features + 5);
        DeviceArray<float> in(*device, x), bg(*device, gate_bias), bu(*device, up_bias),
            factor(*device, row_gate);
        device->load_activations(in.data(), c.cols, rows, *input);
        GatedTask task;
        if (c.gated) task.gate = {wg.get(), c.biases ? bg.data() : nullptr, nullptr, 0, 0.5f};
        task.up = {wu.get(), c.biases ? bu.data() : nullptr, nullptr, 0, 2.0f};
        task.kind = c.kind;
        task.row_gate = c.row_gate ? factor.data() : nullptr;
        device->gated_matmul(task, *input, rows, *out);
        expect_clean(*device);
        results.push_back(read_values(*device, *out, rows));
      }
      // GELU rounds to half precision, so a last bit of its argument can be a step of it.
      const double allowed = c.kind == GateFunction::kGeluTanh ? 2e-3 : 1e-5;
      for (int64_t at = 0; at < rows * (c.features + 5); ++at) {
        const auto i = static_cast<size_t>(at);
        if (at % (c.features + 5) < c.features) {
          ASSERT_NEAR(results[1][i], results[0][i], allowed * (1 + std::fabs(results[0][i])))
              << tensor_type_name(c.gate) << " element " << at;
        } else {
          ASSERT_EQ(results[1][i], 0.0f) << "behind the features";
        }
      }
    }
  }
}

// Products of a few rows at a time: the same bits.
TEST(GpuMatmul, BandsOfRows) {
  Rng rng(23);
  constexpr int64_t kCols = 256, kFeatures = 40, kRows = 70;
  const Matrix g(TensorType::kQ4_K, kFeatures, kCols, rng),
      u(TensorType::kQ4_K, kFeatures, kCols, rng);
  const auto x = random_values(rng, kRows * kCols), row_gate = random_values(rng, kRows);
  std::vector<float> whole;
  for (const int64_t rows : {kRows, int64_t{64}, int64_t{9}, int64_t{1}}) {
    const auto device = card(9, true);
    limit_product_floats(*device, rows * 2 * kFeatures);
    const auto wg = upload(*device, g), wu = upload(*device, u);
    const auto input = activations(*device, kRows, kCols);
    const auto out = activations(*device, kRows, kFeatures);
    DeviceArray<float> in(*device, x), factor(*device, row_gate);
    device->load_activations(in.data(), kCols, kRows, *input);
    GatedTask task;
    task.gate.weight = wg.get();
    task.up.weight = wu.get();
    task.row_gate = factor.data();
    device->gated_matmul(task, *input, kRows, *out);
    expect_clean(*device);
    const auto got = read_values(*device, *out, kRows);
    if (whole.empty()) whole = got;
    ASSERT_TRUE(same(got, whole)) << rows << " rows at a time";
  }
}

struct Heads {
  TensorType type;
  int64_t heads, outputs, cols, first, stride;
  int64_t first_col = 0, file_cols = 0;  // a slice of a wider file row
};

// One small matrix per head, on every placement of the heads in a row; what stands between heads is
// NaN, so that one feature read too far shows.
TEST(GpuMatmul, HeadMatmulMatchesTheCpu) {
  Rng rng(20);
  using enum TensorType;
  const auto cpu = make_device("", false);
  for (const Heads& c : {Heads{kF16, 4, 24, 128, 0, 192}, Heads{kQ8_0, 20, 40, 192, 0, 256},
                         Heads{kQ8_0, 3, 512, 32, 64, 96}, Heads{kQ5_0, 3, 9, 96, 0, 96},
                         Heads{kQ4_K, 2, 16, 256, 512, 256}, Heads{kF32, 5, 7, 33, 3, 40},
                         Heads{kQ8_0, 4, 16, 64, 8, 72}, Heads{kMXFP4, 4, 16, 64, 32, 70},
                         Heads{kBF16, 3, 5, 20, 1, 21}, Heads{kQ4_K, 3, 8, 96, 0, 96, 64, 256},
                         Heads{kIQ4_XS, 1, 8, 256, 0, 0}, Heads{kQ8_0, 0, 0, 64, 0, 64}}) {
    const int64_t file_cols = c.file_cols > 0 ? c.file_cols : c.cols;
    const Matrix w(c.type, c.heads * c.outputs, file_cols, rng);
    const int64_t width = c.first + std::max<int64_t>(c.heads - 1, 0) * c.stride + c.cols + 5;
    const int64_t head_stride = c.outputs + 3, stride = c.heads * head_stride + 2;
    for (const int64_t rows : {1, 10}) {
      std::vector<float> x(static_cast<size_t>(rows * width), NAN);
      for (int64_t at = 0; at < rows * c.heads * c.cols; ++at) {
        const int64_t r = at / (c.heads * c.cols), h = at / c.cols % c.heads, i = at % c.cols;
        x[static_cast<size_t>(r * width + c.first + h * c.stride + i)] =
            static_cast<float>(rng.normal());
      }
      const auto on_cpu = upload(*cpu, w, c.first_col, c.cols);
      auto want =
          run_heads(*cpu, *on_cpu, c.heads, c.first, c.stride, x, width, rows, stride, head_stride);
      for (const bool int8 : {false, true}) {
        const auto gpu = card(8, int8);
        const auto on_gpu = upload(*gpu, w, c.first_col, c.cols, WeightUse::kRows);
        const auto got = run_heads(*gpu, *on_gpu, c.heads, c.first, c.stride, x, width, rows,
                                   stride, head_stride);
        double size = 1;
        for (const float v : want) size = std::max(size, std::fabs(static_cast<double>(v)));
        for (size_t i = 0; i < want.size(); ++i) {
          ASSERT_NEAR(got[i], want[i], tolerance(int8) * size)
              << tensor_type_name(c.type) << (int8 ? " int8" : "") << " element " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace shoal

// CPU matrix products against double precision, for every stored type and kernel set, and the
// promise that a row's result does not depend on its company.
#include <algorithm>

#include "tests/kernels/cpu_support.h"

namespace shoal {
namespace {

using namespace testing;

// The activation quantiser's rule, restated: groups of 32, scale = amax / (127 · 128), half away
// from zero.
std::vector<float> quantised(const std::vector<float>& x, int64_t cols, std::vector<float>* step) {
  std::vector<float> out(x.size());
  step->assign(x.size(), 0.0f);
  const auto total = static_cast<int64_t>(x.size());
  for (int64_t start = 0; start < total; start += 32) {
    if (start % cols + 32 > cols) continue;
    const auto at = [&](int64_t i) { return static_cast<size_t>(start + i); };
    float amax = 0;
    for (int64_t i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(x[at(i)]));
    const float scale = amax / (127.0f * 128.0f);
    for (int64_t i = 0; i < 32; ++i) {
      out[at(i)] = scale == 0 ? 0 : scale * std::round(x[at(i)] * (1.0f / scale));
      (*step)[at(i)] = scale;
    }
  }
  return out;
}

// Largest error of y against x · wᵀ in double, relative to Σ |w| (|x| + slack).
double worst(const Matrix& w, int64_t first, int64_t cols, const std::vector<float>& x,
             const std::vector<float>& y, int64_t rows, const std::vector<float>* slack = nullptr) {
  double largest = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < w.rows; ++o) {
      double sum = 0, weight_sum = 1e-30, allowed = 0;
      for (int64_t i = 0; i < cols; ++i) {
        const double a = w.values[static_cast<size_t>(o * w.cols + first + i)];
        const double b = x[static_cast<size_t>(r * cols + i)];
        sum += a * b;
        weight_sum += std::fabs(a * b);
        if (slack != nullptr) {
          allowed +=
              std::fabs(a) * 0.5 * static_cast<double>((*slack)[static_cast<size_t>(r * cols + i)]);
        }
      }
      const double error =
          std::fabs(static_cast<double>(y[static_cast<size_t>(r * w.rows + o)]) - sum);
      const double excess = std::max(0.0, error - allowed) / weight_sum;
      largest = std::isfinite(excess) ? std::max(largest, excess) : INFINITY;
    }
  }
  return largest;
}

std::vector<float> multiply(Device& device, const Weight& weight, const std::vector<float>& x,
                            int64_t cols, int64_t rows) {
  const auto input = activations(device, rows, cols);
  device.load_activations(x.data(), cols, rows, *input);
  const int64_t outputs = weight.slice().rows;
  std::vector<float> y(static_cast<size_t>(rows * outputs), NAN);
  const MatmulTask task{&weight, nullptr, y.data(), outputs, 1.0f};
  device.matmul({&task, 1}, *input, rows);
  return y;
}

// Float arithmetic alone: sums of a few thousand terms in 16 or more lanes.
constexpr double kFloatNoise = 1e-6;

TEST(CpuMatmul, EveryTypeAndShapeInFloat) {
  Rng rng(11);
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, false);
    for (const TensorType type : storable_types()) {
      for (const int64_t cols : {7, 32, 33, 96, 256, 288, 1408, 2880, 2816, 4608}) {
        if (cols % traits(type).block_elems != 0) continue;
        const Matrix w(type, cols == 96 ? 1 : cols > 4096 ? 3 : 13, cols, rng);
        const auto weight = upload(*device, w);
        for (const int64_t rows : {1, 3, 17}) {
          const auto x = random_values(rng, rows * cols);
          const auto y = multiply(*device, *weight, x, cols, rows);
          EXPECT_LE(worst(w, 0, cols, x, y, rows), kFloatNoise)
              << isa << " " << tensor_type_name(type) << " " << cols << " × " << rows;
        }
      }
    }
  }
}

TEST(CpuMatmul, EveryTypeAndShapeWithInt8Activations) {
  Rng rng(12);
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true);
    for (const TensorType type : storable_types()) {
      for (const int64_t cols : {32, 96, 256, 288, 1408, 2880, 2816, 4608}) {
        if (cols % traits(type).block_elems != 0) continue;
        const Matrix w(type, cols > 4096 ? 3 : 13, cols, rng);
        const auto weight = upload(*device, w);
        for (const int64_t rows : {1, 3, 17}) {
          const auto x = random_values(rng, rows * cols);
          const auto y = multiply(*device, *weight, x, cols, rows);
          std::vector<float> step;
          const auto rounded = quantised(x, cols, &step);
          const auto where = isa + " " + std::string(tensor_type_name(type)) + " " +
                             std::to_string(cols) + " × " + std::to_string(rows);
          // Never farther from the truth than rounding each activation to its step explains …
          EXPECT_LE(worst(w, 0, cols, x, y, rows, &step), kFloatNoise) << where;
          // … and exact arithmetic on either the rounded or the given activations.
          const double noise =
              std::min(worst(w, 0, cols, rounded, y, rows), worst(w, 0, cols, x, y, rows));
          EXPECT_LE(noise, 4 * kFloatNoise) << where;
        }
      }
    }
  }
}

TEST(CpuMatmul, MaskedSlicesAtEveryOffset) {
  Rng rng(13);
  for (const std::string& isa : usable_sets()) {
    for (const bool int8 : {false, true}) {
      const auto device = make_device(isa, int8);
      for (const TensorType type : storable_types()) {
        const int64_t file_cols = 768;
        const Matrix w(type, 5, file_cols, rng);
        for (int64_t first = 0; first < 512; first += 32) {
          for (const int64_t cols : {32, 96, 256}) {
            const auto weight = upload(*device, w, first, cols);
            const auto x = random_values(rng, 6 * cols);
            const auto y = multiply(*device, *weight, x, cols, 6);
            std::vector<float> step;
            quantised(x, cols, &step);
            EXPECT_LE(worst(w, first, cols, x, y, 6, int8 ? &step : nullptr), kFloatNoise)
                << isa << (int8 ? " int8 " : " ") << tensor_type_name(type) << " " << first << "+"
                << cols;
          }
        }
      }
    }
  }
}

// Two slices of a row add up to the row: what tensor parallelism relies on, with exact groups.
TEST(CpuMatmul, SlicesAddUp) {
  Rng rng(14);
  const auto device = make_device("", true);
  for (const TensorType type : storable_types()) {
    const Matrix w(type, 9, 512, rng);
    const auto x = random_values(rng, 512);
    const auto whole = multiply(*device, *upload(*device, w), x, 512, 1);
    for (const int64_t cut : {32, 160, 256, 480}) {
      const std::vector<float> head(x.begin(), x.begin() + cut), tail(x.begin() + cut, x.end());
      const auto a = multiply(*device, *upload(*device, w, 0, cut), head, cut, 1);
      const auto b = multiply(*device, *upload(*device, w, cut, 512 - cut), tail, 512 - cut, 1);
      for (size_t o = 0; o < whole.size(); ++o) {
        EXPECT_NEAR(a[o] + b[o], whole[o], 1e-3 + 1e-5 * std::fabs(whole[o]))
            << tensor_type_name(type) << " cut at " << cut;
      }
    }
  }
}

TEST(CpuMatmul, RowsDoNotDependOnTheirCompany) {
  Rng rng(15);
  for (const std::string& isa : usable_sets()) {
    for (const bool int8 : {false, true}) {
      for (const TensorType type : storable_types()) {
        const bool long_rows =
            type == TensorType::kQ4_K || type == TensorType::kF16 || type == TensorType::kQ3_K;
        const int64_t cols = long_rows ? 4608 : 512, rows = 33;
        const Matrix w(type, 21, cols, rng);
        const auto x = random_values(rng, rows * cols);
        std::vector<float> first;
        for (const int threads : {1, 2, 3}) {
          const auto device = make_device(isa, int8, threads);
          const auto weight = upload(*device, w);
          const auto y = multiply(*device, *weight, x, cols, rows);
          if (first.empty()) first = y;
          ASSERT_EQ(std::memcmp(first.data(), y.data(), y.size() * 4), 0)
              << isa << " " << tensor_type_name(type) << " threads " << threads;
          for (const int64_t count : {1, 2, 3, 5, 8}) {
            const int64_t from =
                static_cast<int64_t>(rng.below(static_cast<uint64_t>(rows - count)));
            const std::vector<float> part(x.begin() + from * cols,
                                          x.begin() + (from + count) * cols);
            const auto alone = multiply(*device, *weight, part, cols, count);
            ASSERT_EQ(std::memcmp(alone.data(), first.data() + from * w.rows, alone.size() * 4), 0)
                << isa << (int8 ? " int8 " : " ") << tensor_type_name(type) << " rows " << from
                << "+" << count;
          }
        }
      }
    }
  }
}

TEST(CpuMatmul, SetsAgree) {
  Rng rng(16);
  const auto sets = usable_sets();
  for (const TensorType type : storable_types()) {
    const Matrix w(type, 17, 768, rng);
    const auto x = random_values(rng, 4 * 768);
    for (const bool int8 : {false, true}) {
      std::vector<std::vector<float>> results;
      for (const std::string& isa : sets) {
        const auto device = make_device(isa, int8);
        results.push_back(multiply(*device, *upload(*device, w), x, 768, 4));
      }
      if (int8) continue;  // a set without an int8 path for a type uses float
      for (size_t s = 1; s < results.size(); ++s) {
        for (size_t i = 0; i < results[0].size(); ++i) {
          EXPECT_NEAR(results[s][i], results[0][i], 2e-4 * std::max(1.0f, std::fabs(results[0][i])))
              << sets[s] << " " << tensor_type_name(type);
        }
      }
    }
  }
}

TEST(CpuMatmul, TaskListBiasScaleAndEmptyShapes) {
  Rng rng(17);
  const auto device = make_device("", false);
  const Matrix a(TensorType::kQ8_0, 19, 64, rng), b(TensorType::kF32, 3, 64, rng);
  const Matrix none(TensorType::kQ4_0, 0, 64, rng);
  const auto wa = upload(*device, a), wb = upload(*device, b), wn = upload(*device, none);
  const auto x = random_values(rng, 5 * 64);
  const auto bias = random_values(rng, 19);
  const auto input = activations(*device, 5, 64);
  device->load_activations(x.data(), 64, 5, *input);
  std::vector<float> ya(5 * 24, -7.0f), yb(5 * 3);
  const MatmulTask tasks[] = {{wa.get(), bias.data(), ya.data(), 24, 0.5f},
                              {wn.get(), nullptr, nullptr, 0, 1.0f},
                              {wb.get(), nullptr, yb.data(), 3, 1.0f}};
  device->matmul(tasks, *input, 5);
  for (int r = 0; r < 5; ++r) {
    for (int o = 0; o < 19; ++o) {
      double sum = 0;
      for (int i = 0; i < 64; ++i) sum += static_cast<double>(a.values[o * 64 + i]) * x[r * 64 + i];
      EXPECT_NEAR(ya[r * 24 + o], 0.5 * sum + bias[o], 1e-4);
    }
    for (int o = 19; o < 24; ++o) EXPECT_EQ(ya[r * 24 + o], -7.0f) << "wrote past its outputs";
  }
  EXPECT_LE(worst(b, 0, 64, x, yb, 5), kFloatNoise);

  // A rank that holds none of the input features contributes zero (plus bias).
  const Matrix thin(TensorType::kQ8_0, 4, 64, rng);
  const auto no_cols = upload(*device, thin, 64, 0);
  const auto empty = activations(*device, 5, 0);
  device->load_activations(x.data(), 0, 5, *empty);
  std::vector<float> y(5 * 4, NAN);
  const MatmulTask zero{no_cols.get(), nullptr, y.data(), 4, 1.0f};
  device->matmul({&zero, 1}, *empty, 5);
  EXPECT_EQ(y, std::vector<float>(20, 0.0f));
}

TEST(CpuMatmul, GatedMatmulMatchesItsParts) {
  Rng rng(18);
  for (const std::string& isa : usable_sets()) {
    for (const GateFunction kind : {GateFunction::kSilu, GateFunction::kGeluTanh}) {
      for (const int64_t features : {0, 32, 40, 352}) {
        const auto device = make_device(isa, false, 3);
        const Matrix g(TensorType::kF32, features, 64, rng), u(TensorType::kF16, features, 64, rng);
        const auto wg = upload(*device, g), wu = upload(*device, u);
        const auto bias = random_values(rng, features);
        const auto x = random_values(rng, 9 * 64, 0.4);
        const auto input = activations(*device, 9, 64), out = activations(*device, 9, features);
        device->load_activations(x.data(), 64, 9, *input);
        device->gated_matmul({.gate = {wg.get(), bias.data(), nullptr, 0, 1.0f},
                              .up = {wu.get(), nullptr, nullptr, 0, 2.0f},
                              .kind = kind},
                             *input, 9, *out);
        const auto got = read_back(*out, 9);
        for (int64_t r = 0; r < 9; ++r) {
          for (int64_t i = 0; i < features; ++i) {
            double gate = bias[static_cast<size_t>(i)], up = 0;
            for (int64_t k = 0; k < 64; ++k) {
              const double in = x[static_cast<size_t>(r * 64 + k)];
              gate += in * g.values[static_cast<size_t>(i * 64 + k)];
              up += 2.0 * in * u.values[static_cast<size_t>(i * 64 + k)];
            }
            const double act = kind == GateFunction::kSilu
                                   ? gate / (1 + std::exp(-gate))
                                   : 0.5 * gate *
                                         (1 + std::tanh(std::sqrt(2 / M_PI) *
                                                        (gate + 0.044715 * gate * gate * gate)));
            EXPECT_NEAR(got[static_cast<size_t>(r * features + i)], act * up,
                        (kind == GateFunction::kSilu ? 2e-5 : 1e-3) * (1 + std::fabs(act * up)))
                << isa << " " << features;
          }
        }
      }
    }
  }
}

struct Heads {
  TensorType type;
  int64_t heads, outputs, cols, first, stride;
  int64_t first_col = 0, file_cols = 0;  // a slice of a wider file row
};

// One small matrix per head, on every placement of the heads in a row; gaps and other heads' values
// around a head's are huge, so that one read too far shows.
TEST(CpuMatmul, HeadMatmulMatchesItsDefinition) {
  Rng rng(20);
  using enum TensorType;
  for (const Heads& c : {Heads{kF16, 4, 24, 128, 0, 192}, Heads{kQ8_0, 20, 40, 192, 0, 256},
                         Heads{kQ8_0, 3, 512, 32, 64, 96}, Heads{kQ5_0, 3, 9, 96, 0, 96},
                         Heads{kQ4_K, 2, 16, 256, 512, 256}, Heads{kF32, 5, 7, 33, 3, 40},
                         Heads{kQ8_0, 4, 16, 64, 8, 72}, Heads{kMXFP4, 4, 16, 64, 32, 70},
                         Heads{kQ4_K, 3, 8, 96, 0, 96, 64, 256}, Heads{kIQ4_XS, 1, 8, 256, 0, 0},
                         Heads{kQ8_0, 0, 0, 64, 0, 64}}) {
    const int64_t file_cols = c.file_cols > 0 ? c.file_cols : c.cols;
    const Matrix w(c.type, c.heads * c.outputs, file_cols, rng);
    const int64_t width = c.first + std::max<int64_t>(c.heads - 1, 0) * c.stride + c.cols + 5;
    for (const std::string& isa : usable_sets()) {
      for (const bool int8 : {false, true}) {
        std::vector<float> first;
        for (const int64_t rows : {6, 1}) {
          std::vector<float> x(static_cast<size_t>(rows * width), 0.0f);
          Rng same(99);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t h = 0; h < c.heads; ++h) {
              for (int64_t i = 0; i < c.cols; ++i) {
                // Heads differ in size by orders of magnitude.
                x[static_cast<size_t>(r * width + c.first + h * c.stride + i)] =
                    static_cast<float>(same.normal() * std::pow(100.0, static_cast<double>(h % 3)));
              }
            }
          }
          const auto device = make_device(isa, int8, 3);
          const auto weight = upload(*device, w, c.first_col, c.cols);
          const auto input = activations(*device, rows, width);
          device->load_activations(x.data(), width, rows, *input);
          const int64_t head_stride = c.outputs + 3, stride = c.heads * head_stride + 2;
          std::vector<float> y(static_cast<size_t>(rows * stride), -7.0f);
          device->head_matmul(
              {weight.get(), c.heads, c.first, c.stride, y.data(), stride, head_stride}, *input,
              rows);
          if (first.empty()) first = y;
          ASSERT_EQ(std::memcmp(y.data(), first.data(), y.size() * 4), 0) << "batch of " << rows;
          for (int64_t at = 0; at < rows * stride; ++at) {
            const int64_t r = at / stride, h = at % stride / head_stride;
            const int64_t i = at % stride % head_stride;
            if (h >= c.heads || i >= c.outputs) {
              ASSERT_EQ(y[static_cast<size_t>(at)], -7.0f) << "wrote between heads";
              continue;
            }
            double want = 0, size = 0;
            for (int64_t j = 0; j < c.cols; ++j) {
              const double a =
                  w.values[static_cast<size_t>((h * c.outputs + i) * file_cols + c.first_col + j)];
              const double b = x[static_cast<size_t>(r * width + c.first + h * c.stride + j)];
              want += a * b, size += std::fabs(a * b);
            }
            ASSERT_NEAR(y[static_cast<size_t>(at)], want, (int8 ? 3e-4 : 2e-6) * size)
                << isa << (int8 ? " int8 " : " ") << tensor_type_name(c.type) << " head " << h;
          }
        }
      }
    }
  }
}

// A NaN or infinity must come out as one, not vanish in rounding.
TEST(CpuMatmul, BrokenActivationsStayVisible) {
  Rng rng(19);
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true);
    for (const TensorType type : {TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kF32}) {
      const Matrix w(type, 3, 256, rng);
      const auto weight = upload(*device, w);
      for (const float bad : {NAN, INFINITY}) {
        auto x = random_values(rng, 2 * 256);
        x[256 + 77] = bad;
        const auto y = multiply(*device, *weight, x, 256, 2);
        for (int o = 0; o < 3; ++o) {
          EXPECT_TRUE(std::isfinite(y[o])) << "the clean row";
          EXPECT_FALSE(std::isfinite(y[3 + o])) << isa << " " << tensor_type_name(type);
        }
      }
      // All zero, and too small to have a reciprocal.
      for (const float tiny : {0.0f, 1e-44f, 1e-38f}) {
        const std::vector<float> x(256, tiny);
        for (const float y : multiply(*device, *weight, x, 256, 1))
          EXPECT_NEAR(y, 0, 1e-30) << tiny;
      }
    }
  }
}

}  // namespace
}  // namespace shoal

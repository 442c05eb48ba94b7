// Experts on the CPU against double precision: every kernel set, stored types, layouts of experts
// over ranks, and what must not be read.
#include <sys/mman.h>

#include <algorithm>
#include <numeric>

#include "kernels/cpu/cpu_device.h"
#include "tests/kernels/expert_layer.h"

namespace shoal {
namespace {

using namespace testing;

using Shape = ExpertShape;
using Layer = ExpertLayer;

// Which experts a rank holds, in its order, and which of their features.
struct Share {
  std::vector<int32_t> experts;
  int64_t first = 0, features = -1;  // −1: all
  bool biases = true;
  std::vector<int32_t> replicas, replica;
};

Share all_of(const Shape& shape) {
  Share share;
  share.experts.resize(static_cast<size_t>(shape.experts));
  std::iota(share.experts.begin(), share.experts.end(), 0);
  return share;
}

// A rank's weights on its device.
struct Rank {
  Rank(Device& d, const Layer& layer, const Share& s) : device(d), share(s) {
    const Shape& shape = layer.shape;
    const int64_t n = s.features < 0 ? shape.features : s.features;
    const auto held = static_cast<int64_t>(s.experts.size());
    gate = make(layer.gate, held * n, 0, shape.width);
    up = make(layer.up, held * n, 0, shape.width);
    down = make(layer.down, held * shape.width, s.first, n);
    local.assign(static_cast<size_t>(shape.experts), -1);
    for (int64_t l = 0; l < held; ++l) {
      const int64_t e = s.experts[static_cast<size_t>(l)];
      local[static_cast<size_t>(e)] = static_cast<int32_t>(l);
      const int64_t from = e * shape.features + s.first;
      fill(*gate, layer.gate, l * n, from, n);
      fill(*up, layer.up, l * n, from, n);
      fill(*down, layer.down, l * shape.width, e * shape.width, shape.width);
      append(layer.gate_bias, from, n, &gate_bias);
      append(layer.up_bias, from, n, &up_bias);
      append(layer.down_bias, e * shape.width, shape.width, &down_bias);
    }
  }

  std::unique_ptr<Weight> make(const Matrix& m, int64_t rows, int64_t first, int64_t cols) {
    auto made = device.create_weight({m.type, rows, cols, first, m.cols}, "experts");
    SHOAL_CHECK(made.is_ok(), made.status().to_string());
    return std::move(made).value();
  }
  void fill(Weight& weight, const Matrix& m, int64_t to, int64_t from, int64_t n) {
    const WeightSlice& slice = weight.slice();
    const uint64_t offset = static_cast<uint64_t>(slice.first_block()) * traits(m.type).block_bytes;
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* row = m.bytes.data() + static_cast<uint64_t>(from + i) * m.row_size + offset;
      const Status filled = device.fill_weight(weight, to + i, {row, slice.slice_row_bytes()});
      SHOAL_CHECK(filled.is_ok(), filled.to_string());
    }
  }
  static void append(const std::vector<float>& from, int64_t at, int64_t n,
                     std::vector<float>* to) {
    to->insert(to->end(), from.begin() + at, from.begin() + at + n);
  }

  // The rows [first, first + count) of the layer's step; `out` set or added to.
  void run(const Layer& layer, int64_t first, int64_t count, std::vector<float>* out,
           bool accumulate = false) const {
    const Shape& s = layer.shape;
    const int64_t n = share.features < 0 ? s.features : share.features;
    const auto x = activations(device, count, s.width);
    device.load_activations(layer.x.data() + first * s.width, s.width, count, *x);
    const auto hidden = activations(device, count * s.top_k, n);
    const bool biased = s.biases && share.biases;
    ExpertTask task;
    task.experts = s.experts;
    task.count = static_cast<int64_t>(share.experts.size());
    task.top_k = s.top_k;
    if (s.gated) task.gate = {gate.get(), s.biases ? gate_bias.data() : nullptr};
    task.up = {up.get(), s.biases ? up_bias.data() : nullptr};
    task.down = {down.get(), biased ? down_bias.data() : nullptr, out->data(), s.width};
    task.down.accumulate = accumulate;
    task.kind = s.kind;
    task.scale_input = s.scale_input;
    task.local = local.data();
    if (!share.replicas.empty()) {
      task.replicas = share.replicas.data(), task.replica = share.replica.data();
      task.positions = layer.positions.data() + first;
    }
    task.ids = layer.ids.data() + first * s.top_k;
    task.weights = layer.weights.data() + first * s.top_k;
    device.experts(task, *x, count, *hidden);
  }
  std::vector<float> run(const Layer& layer, int64_t first, int64_t count) const {
    std::vector<float> out(static_cast<size_t>(count * layer.shape.width), NAN);
    run(layer, first, count, &out);
    return out;
  }

  Device& device;
  Share share;
  std::unique_ptr<Weight> gate, up, down;
  std::vector<float> gate_bias, up_bias, down_bias;
  std::vector<int32_t> local;
};

double gate_of(const Shape& s, double g, double u) {
  const auto gelu = [](double v) {
    return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
  };
  if (!s.gated) return gelu(u);
  if (s.kind == GateFunction::kSilu) return g / (1 + std::exp(-g)) * u;
  if (s.kind == GateFunction::kGeluTanh) return gelu(g) * u;
  g = std::min(g, 7.0), u = std::clamp(u, -7.0, 7.0);
  return g / (1 + std::exp(-1.702 * g)) * (u + 1);
}

// out[r, :] over the experts for which held(row, expert).
template <class Held>
std::vector<double> reference(const Layer& layer, const Held& held) {
  const Shape& s = layer.shape;
  std::vector<double> out(static_cast<size_t>(layer.rows * s.width)), hidden;
  const auto dot = [](const Matrix& m, int64_t row, const auto* x) {
    double sum = 0;
    const float* w = m.values.data() + row * m.cols;
    for (int64_t i = 0; i < m.cols; ++i)
      sum += static_cast<double>(w[i]) * static_cast<double>(x[i]);
    return sum;
  };
  for (int64_t p = 0; p < layer.rows * s.top_k; ++p) {
    const int64_t r = p / s.top_k, e = layer.ids[static_cast<size_t>(p)];
    if (!held(r, e)) continue;
    const auto weight = static_cast<double>(layer.weights[static_cast<size_t>(p)]);
    const double before = s.scale_input ? weight : 1, after = s.scale_input ? 1 : weight;
    hidden.assign(static_cast<size_t>(s.features), 0);
    for (int64_t i = 0; i < s.features; ++i) {
      const int64_t row = e * s.features + i;
      const auto at = static_cast<size_t>(row);
      const float* x = layer.x.data() + r * s.width;
      const double g = before * dot(layer.gate, row, x) + (s.biases ? layer.gate_bias[at] : 0);
      const double u = before * dot(layer.up, row, x) + (s.biases ? layer.up_bias[at] : 0);
      hidden[static_cast<size_t>(i)] = gate_of(s, g, u);
    }
    for (int64_t c = 0; c < s.width; ++c) {
      const int64_t row = e * s.width + c;
      const double bias = s.biases ? layer.down_bias[static_cast<size_t>(row)] : 0;
      out[static_cast<size_t>(r * s.width + c)] +=
          after * (dot(layer.down, row, hidden.data()) + bias);
    }
  }
  return out;
}
std::vector<double> reference(const Layer& layer) {
  return reference(layer, [](int64_t, int64_t) { return true; });
}

// Largest difference, relative to the largest magnitude.
double worst(const std::vector<float>& got, const std::vector<double>& want) {
  double largest = 0, scale = 1e-30;
  for (const double w : want) scale = std::max(scale, std::fabs(w));
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - want[i]) / scale;
    largest = std::isfinite(error) ? std::max(largest, error) : INFINITY;
  }
  return largest;
}

using enum TensorType;

const Shape kShapes[] = {
    {kF32, kF32, 4, 2, 64, 48},
    {kQ4_K, kQ6_K, 6, 3, 256, 256},
    {kQ8_0, kQ8_0, 8, 8, 96, 224},
    {kMXFP4, kMXFP4, 5, 4, 160, 96, GateFunction::kSwigluClamp, true},
    {kF16, kBF16, 3, 1, 72, 40, GateFunction::kGeluTanh, true},
    {kQ4_K, kQ5_0, 4, 2, 256, 1408},
    {kIQ3_S, kIQ4_NL, 4, 2, 256, 96},
    {kQ3_K, kQ5_1, 4, 1, 512, 32, GateFunction::kSilu, false, true},
    {kQ5_0, kQ4_0, 4, 2, 64, 64, GateFunction::kSwigluClamp, true, true},
    {kF32, kQ8_0, 4, 2, 33, 64, GateFunction::kGeluTanh, true, false, false},
    {kMXFP4, kMXFP4, 3, 2, 2880, 32, GateFunction::kSwigluClamp, true},
};

TEST(CpuExperts, MatchTheDefinition) {
  Rng rng(51);
  for (const Shape& shape : kShapes) {
    for (const int64_t rows : {1, 2, 19}) {
      const Layer layer(shape, rows, rng);
      const auto want = reference(layer);
      for (const std::string& isa : usable_sets()) {
        for (const bool int8 : {false, true}) {
          const auto device = make_device(isa, int8, 2);
          const Rank rank(*device, layer, all_of(shape));
          // int8 activations carry 15 bits: two roundings of 2^-15 of the largest of 32. GELU is
          // rounded to half precision.
          const bool gelu = shape.kind == GateFunction::kGeluTanh;
          EXPECT_LE(worst(rank.run(layer, 0, rows), want), gelu   ? 1e-3
                                                           : int8 ? 2e-4
                                                                  : 4e-6)
              << isa << (int8 ? " int8 " : " ") << tensor_type_name(shape.gate_up) << " "
              << shape.width << " × " << shape.features << ", rows " << rows;
        }
      }
    }
  }
}

// Ranks that hold some experts each, in any order, or slices of all: their outputs add up.
TEST(CpuExperts, RanksAddUp) {
  Rng rng(52);
  for (const Shape& shape : {Shape{kQ4_K, kQ4_K, 6, 4, 256, 512, GateFunction::kSilu, true},
                             Shape{kQ8_0, kQ5_0, 6, 4, 64, 96, GateFunction::kSwigluClamp, true}}) {
    const Layer layer(shape, 9, rng);
    const auto want = reference(layer);
    const std::vector<Share> placed = {{{5, 0, 2}}, {{3}}, {}, {{4, 1}}};
    const std::vector<Share> sliced = {{all_of(shape).experts, 0, 32},
                                       {all_of(shape).experts, 32, shape.features - 64, false},
                                       {all_of(shape).experts, shape.features - 32, 32, false},
                                       {all_of(shape).experts, shape.features, 0, false}};
    // Expert 1 on all three ranks, expert 4 on two.
    const std::vector<Share> replicated = {
        {{0, 1, 2}, 0, -1, true, {1, 3, 1, 1, 2, 1}, {0, 0, 0, 0, 0, 0}},
        {{3, 4, 1}, 0, -1, true, {1, 3, 1, 1, 2, 1}, {0, 1, 0, 0, 0, 0}},
        {{1, 5, 4}, 0, -1, true, {1, 3, 1, 1, 2, 1}, {0, 2, 0, 0, 1, 0}}};
    for (const auto* shares : {&placed, &sliced, &replicated}) {
      for (const std::string& isa : usable_sets()) {
        const auto device = make_device(isa, false, 2);
        std::vector<float> sum(static_cast<size_t>(layer.rows * shape.width), 0.0f);
        for (const Share& share : *shares) {
          const Rank rank(*device, layer, share);
          auto alone = rank.run(layer, 0, layer.rows);
          const auto before = sum;
          rank.run(layer, 0, layer.rows, &sum, true);
          for (size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], before[i] + alone[i]);
        }
        EXPECT_LE(worst(sum, want), 4e-6) << isa;
      }
    }
  }
}

TEST(CpuExperts, ReplicasShareRowsByPosition) {
  Rng rng(53);
  const Shape shape{kF32, kF32, 2, 1, 32, 32};
  Layer layer(shape, 8, rng);
  layer.ids.assign(8, 1);
  layer.positions = {0, 1, 2, 3, 7, 8, 9, 1000000};
  const auto device = make_device("", false);
  for (const int32_t replica : {0, 1, 2}) {
    const Share share{{1}, 0, -1, true, {1, 3}, {0, replica}};
    const auto got = Rank(*device, layer, share).run(layer, 0, 8);
    const auto want = reference(layer, [&](int64_t r, int64_t) {
      return layer.positions[static_cast<size_t>(r)] % 3 == replica;
    });
    EXPECT_LE(worst(got, want), 4e-6) << replica;
  }
}

TEST(CpuExperts, NothingHeldGivesZeros) {
  Rng rng(54);
  const Shape shape{kQ8_0, kQ8_0, 4, 2, 64, 32};
  const Layer layer(shape, 3, rng);
  const auto device = make_device("", true);
  const Rank rank(*device, layer, {});
  EXPECT_EQ(rank.run(layer, 0, 3), std::vector<float>(3 * 64, 0.0f));
  std::vector<float> kept(3 * 64, 5.0f);
  rank.run(layer, 0, 3, &kept, true);
  EXPECT_EQ(kept, std::vector<float>(3 * 64, 5.0f));
}

TEST(CpuExperts, RowsDoNotDependOnTheirCompany) {
  Rng rng(55);
  for (Shape shape : kShapes) {
    shape.experts = std::max<int64_t>(shape.experts, 4);
    const int64_t rows = 33, width = shape.width;
    const Layer layer(shape, rows, rng);
    for (const std::string& isa : usable_sets()) {
      for (const bool int8 : {false, true}) {
        std::vector<float> first;
        for (const int threads : {1, 2, 3}) {
          const auto device = make_device(isa, int8, threads);
          const Rank rank(*device, layer, all_of(shape));
          const auto all = rank.run(layer, 0, rows);
          if (first.empty()) first = all;
          ASSERT_EQ(std::memcmp(all.data(), first.data(), all.size() * 4), 0)
              << isa << " " << tensor_type_name(shape.gate_up) << " threads " << threads;
          for (const int64_t count : {1, 3, 8}) {
            const auto from = static_cast<int64_t>(rng.below(static_cast<uint64_t>(rows - count)));
            const auto some = rank.run(layer, from, count);
            ASSERT_EQ(std::memcmp(some.data(), first.data() + from * width, some.size() * 4), 0)
                << isa << (int8 ? " int8 " : " ") << tensor_type_name(shape.gate_up) << " rows "
                << from << "+" << count;
          }
        }
      }
    }
  }
}

// Weights of experts nobody chose are neither used (they are NaN) nor read (their pages are gone).
TEST(CpuExperts, InactiveExpertsAreNotTouched) {
  Rng rng(56);
  constexpr uint64_t kPage = 4096;
  for (const Shape& shape :
       {Shape{kQ4_K, kQ6_K, 8, 2, 512, 256}, Shape{kF32, kF32, 8, 2, 96, 72},
        Shape{kQ8_0, kMXFP4, 8, 2, 288, 160}, Shape{kIQ2_S, kQ5_1, 8, 2, 512, 96}}) {
    Layer layer(shape, 3, rng);
    layer.ids = {2, 5, 5, 2, 2, 7};
    for (const std::string& isa : usable_sets()) {
      const auto device = make_device(isa, true, 2);
      const Rank rank(*device, layer, all_of(shape));
      const auto want = rank.run(layer, 0, 3);
      std::vector<std::pair<void*, size_t>> hidden;
      for (Weight* weight : {rank.gate.get(), rank.up.get(), rank.down.get()}) {
        const auto& stored = static_cast<CpuWeight&>(*weight);
        const int64_t per_expert = stored.shape.rows / shape.experts;
        for (const int64_t e : {0, 1, 3, 4, 6}) {
          auto* begin = const_cast<uint8_t*>(stored.row(e * per_expert));
          auto* end = const_cast<uint8_t*>(stored.row((e + 1) * per_expert));
          std::fill(begin, end, uint8_t{0xff});
          // A vector load of the expert before may run 64 bytes past its end.
          const uint64_t from =
              (reinterpret_cast<uint64_t>(begin) + 64 + kPage - 1) / kPage * kPage;
          const uint64_t to = reinterpret_cast<uint64_t>(end) / kPage * kPage;
          ASSERT_LT(from + kPage, to) << "an expert of a few pages";
          hidden.emplace_back(reinterpret_cast<void*>(from), to - from);
        }
      }
      for (const auto& [at, size] : hidden) ASSERT_EQ(::mprotect(at, size, PROT_NONE), 0);
      const auto got = rank.run(layer, 0, 3), alone = rank.run(layer, 1, 1);
      for (const auto& [at, size] : hidden) {
        ASSERT_EQ(::mprotect(at, size, PROT_READ | PROT_WRITE), 0);
      }
      ASSERT_EQ(std::memcmp(got.data(), want.data(), want.size() * 4), 0) << isa;
      ASSERT_EQ(std::memcmp(alone.data(), want.data() + shape.width, alone.size() * 4), 0) << isa;
    }
  }
}

// A broken row shows it; the rows beside it that chose the same expert do not.
TEST(CpuExperts, BrokenRowsStayVisibleAndAlone) {
  Rng rng(57);
  const Shape shape{kQ4_K, kQ8_0, 4, 2, 256, 64};
  Layer layer(shape, 3, rng);
  layer.ids = {0, 1, 0, 1, 1, 0};
  layer.x[256 + 9] = NAN;
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true, 2);
    const auto got = Rank(*device, layer, all_of(shape)).run(layer, 0, 3);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(std::isnan(got[i]), i / 256 == 1) << isa << " row " << i / 256;
    }
  }
}

}  // namespace
}  // namespace shoal

// Routing and experts of GpuDevice on the emulator against the CPU device.
#include <algorithm>
#include <numeric>

#include "tests/kernels/expert_layer.h"
#include "tests/simt/gpu_support.h"

namespace shoal {
namespace {

using namespace testing;
using enum TensorType;

std::unique_ptr<Device> card(uint64_t seed, bool int8, bool checked = true) {
  auto device = make_emulated_device(seed, checked);
  device->use_int8_activations(int8);
  return device;
}

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Routed run_route(Device& device, RouteSpec spec, const std::vector<float>& logits,
                 const std::vector<float>& bias) {
  const auto rows = static_cast<int64_t>(logits.size()) / spec.experts;
  const auto choices = static_cast<size_t>(rows * spec.top_k);
  DeviceArray<float> in(device, logits), on(device, bias),
      weights(device, std::vector<float>(choices, NAN));
  DeviceArray<int32_t> ids(device, std::vector<int32_t>(choices, -7));
  if (!bias.empty()) spec.selection_bias = on.data();
  device.route(in.data(), rows, spec, ids.data(), weights.data());
  expect_clean(device);
  return {ids.values(), weights.values()};
}

TEST(GpuRoute, EveryGatingMatchesTheCpu) {
  Rng rng(61);
  const auto cpu = make_device("", false);
  for (const Gating gating :
       {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected, Gating::kSqrtSoftplus}) {
    for (const auto& [experts, top_k, groups, used] : {std::array<int64_t, 4>{4, 2, 1, 1},
                                                       {8, 8, 1, 1},
                                                       {160, 6, 8, 3},
                                                       {1, 1, 1, 1},
                                                       {40, 3, 40, 5},
                                                       {12288, 4, 1, 1},
                                                       {33, 33, 3, 2}}) {
      for (const bool biased : {false, true}) {
        RouteSpec spec{.experts = experts,
                       .top_k = top_k,
                       .gating = gating,
                       .groups = groups,
                       .groups_used = used};
        spec.normalise = biased;
        spec.scale = biased ? 2.5f : 1.0f;
        const int64_t rows = experts > 1000 ? 2 : 5;
        const auto logits = random_values(rng, rows * experts, 2.0);
        const auto bias = biased ? random_values(rng, experts) : std::vector<float>{};
        const Routed want = run_route(*cpu, spec, logits, bias);
        for (uint64_t seed = 1; seed <= (experts > 1000 ? 1 : kEmulatorSeeds); ++seed) {
          const auto gpu = card(seed, false);
          const Routed got = run_route(*gpu, spec, logits, bias);
          const std::string what = std::to_string(static_cast<int>(gating)) + ", " +
                                   std::to_string(experts) + " experts";
          EXPECT_EQ(got.ids, want.ids) << what;
          expect_close(got.weights, want.weights, 1e-5, what);
        }
      }
    }
  }
}

// Ties go to the lowest number; a NaN ranks last, names a valid expert and shows in the weights.
TEST(GpuRoute, TiesAndBrokenRows) {
  const auto cpu = make_device("", false);
  std::vector<float> logits(4 * 40, 1.0f);
  for (int i = 0; i < 40; ++i) logits[40 + i] = NAN;
  logits[80 + 35] = 2.0f, logits[80 + 3] = NAN;
  for (int i = 0; i < 40; ++i) logits[120 + i] = static_cast<float>(i % 3);
  for (const Gating gating :
       {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected, Gating::kSqrtSoftplus}) {
    for (const int64_t groups : {1, 4}) {
      const RouteSpec spec{.experts = 40,
                           .top_k = 5,
                           .gating = gating,
                           .normalise = true,
                           .groups = groups,
                           .groups_used = 2};
      const auto gpu = card(3, false);
      const Routed want = run_route(*cpu, spec, logits, {});
      const Routed got = run_route(*gpu, spec, logits, {});
      EXPECT_EQ(got.ids, want.ids) << static_cast<int>(gating);
      expect_close(got.weights, want.weights, 1e-5, "weights");
    }
  }
}

using Shape = ExpertShape;
using Layer = ExpertLayer;

// The experts a rank holds, in its order; replicas [experts] or empty.
struct Share {
  std::vector<int32_t> experts;
  std::vector<int32_t> replicas, replica;
};

Share all_of(const Shape& shape) {
  Share share;
  share.experts.resize(static_cast<size_t>(shape.experts));
  std::iota(share.experts.begin(), share.experts.end(), 0);
  return share;
}

// A rank's weights on its device.
class Rank {
 public:
  Rank(Device& d, const Layer& layer, const Share& s)
      : device(d),
        share(s),
        gate(take(layer.gate, layer.shape.features)),
        up(take(layer.up, layer.shape.features)),
        down(take(layer.down, layer.shape.width)),
        gate_bias(d, take(layer.gate_bias, layer.shape.features)),
        up_bias(d, take(layer.up_bias, layer.shape.features)),
        down_bias(d, take(layer.down_bias, layer.shape.width)),
        local(d, locals(layer.shape.experts)),
        replicas(d, s.replicas),
        replica(d, s.replica) {}

  // Rows [first, first + count) of the layer's step; `out` set or added to.
  void run(const Layer& layer, int64_t first, int64_t count, std::vector<float>* out,
           bool accumulate = false) {
    const Shape& s = layer.shape;
    const auto slice = [&](const auto& values, int64_t n) {
      return std::decay_t<decltype(values)>(values.begin() + first * n,
                                            values.begin() + (first + count) * n);
    };
    const auto x = activations(device, count, s.width);
    DeviceArray<float> in(device, slice(layer.x, s.width)), to(device, *out),
        weights(device, slice(layer.weights, s.top_k));
    DeviceArray<int32_t> ids(device, slice(layer.ids, s.top_k)),
        positions(device, slice(layer.positions, 1));
    device.load_activations(in.data(), s.width, count, *x);
    const auto hidden = activations(device, count * s.top_k, s.features);
    ExpertTask task;
    task.experts = s.experts;
    task.count = static_cast<int64_t>(share.experts.size());
    task.top_k = s.top_k;
    if (s.gated) task.gate = {gate.get(), s.biases ? gate_bias.data() : nullptr};
    task.up = {up.get(), s.biases ? up_bias.data() : nullptr};
    task.down = {down.get(), s.biases ? down_bias.data() : nullptr, to.data(), s.width};
    task.gate.out_scale = 0.5f, task.up.out_scale = 2.0f, task.down.out_scale = 1.5f;
    task.down.accumulate = accumulate;
    task.kind = s.kind;
    task.scale_input = s.scale_input;
    task.local = local.data();
    if (!share.replicas.empty()) {
      task.replicas = replicas.data(), task.replica = replica.data();
      task.positions = positions.data();
    }
    task.ids = ids.data();
    task.weights = weights.data();
    device.experts(task, *x, count, *hidden);
    expect_clean(device);
    *out = to.values();
  }
  std::vector<float> run(const Layer& layer, int64_t first, int64_t count) {
    std::vector<float> out(static_cast<size_t>(count * layer.shape.width), NAN);
    run(layer, first, count, &out);
    return out;
  }

  Device& device;
  Share share;
  std::unique_ptr<Weight> gate, up, down;

 private:
  std::unique_ptr<Weight> take(const Matrix& m, int64_t n) {
    const WeightSlice slice{m.type, static_cast<int64_t>(share.experts.size()) * n, m.cols, 0,
                            m.cols};
    auto weight = device.create_weight(slice, "experts");
    SHOAL_CHECK(weight.is_ok(), weight.status().to_string());
    const auto bytes = static_cast<uint64_t>(n) * m.row_size;
    for (size_t l = 0; l < share.experts.size(); ++l) {
      const uint8_t* from = m.bytes.data() + static_cast<uint64_t>(share.experts[l]) * bytes;
      const Status filled =
          device.fill_weight(**weight, static_cast<int64_t>(l) * n, {from, bytes});
      SHOAL_CHECK(filled.is_ok(), filled.to_string());
    }
    return std::move(weight).value();
  }
  std::vector<float> take(const std::vector<float>& bias, int64_t n) const {
    std::vector<float> out;
    for (const int32_t e : share.experts) {
      out.insert(out.end(), bias.begin() + e * n, bias.begin() + (e + 1) * n);
    }
    return out;
  }
  std::vector<int32_t> locals(int64_t experts) const {
    std::vector<int32_t> out(static_cast<size_t>(experts), -1);
    for (size_t l = 0; l < share.experts.size(); ++l) {
      out[static_cast<size_t>(share.experts[l])] = static_cast<int32_t>(l);
    }
    return out;
  }

  DeviceArray<float> gate_bias, up_bias, down_bias;
  DeviceArray<int32_t> local, replicas, replica;
};

// Largest difference, relative to the largest magnitude.
double worst(const std::vector<float>& got, const std::vector<float>& want) {
  double largest = 0, scale = 1e-30;
  for (const float w : want) scale = std::max(scale, std::fabs(static_cast<double>(w)));
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - want[i]) / scale;
    largest = std::isfinite(error) ? std::max(largest, error) : INFINITY;
  }
  return largest;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

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
    // Experts that begin and end within tiles.
    {kQ4_K, kF32, 3, 2, 256, 40, GateFunction::kSilu, false, true},
    {kF16, kBF16, 2, 2, 72, 17},
};

// Two products and a gate in other orders of additions; GELU is rounded to half precision; int8
// codes of input and hidden features are off by up to 1/254 of the largest of 32.
double tolerance(const Shape& shape, bool int8) {
  if (int8) return 3e-2;
  return shape.kind == GateFunction::kGeluTanh ? 1e-3 : 1e-5;
}

TEST(GpuExperts, MatchTheCpu) {
  Rng rng(51);
  const auto cpu = make_device("", false);
  for (const Shape& shape : kShapes) {
    for (const int64_t rows : {1, 19}) {
      if (rows > 1 && shape.width * shape.features > 1 << 16) continue;
      const Layer layer(shape, rows, rng);
      const auto want = Rank(*cpu, layer, all_of(shape)).run(layer, 0, rows);
      for (const bool int8 : {false, true}) {
        const auto gpu = card(1, int8);
        EXPECT_LE(worst(Rank(*gpu, layer, all_of(shape)).run(layer, 0, rows), want),
                  tolerance(shape, int8))
            << (int8 ? "int8 " : "") << tensor_type_name(shape.gate_up) << " " << shape.width
            << " × " << shape.features << ", rows " << rows;
      }
    }
  }
}

TEST(GpuExperts, EverySeed) {
  Rng rng(52);
  for (Shape shape : kShapes) {
    if (shape.width > 512) continue;
    shape.features = std::min<int64_t>(shape.features, shape.down == kQ6_K ? 256 : 64);
    const Layer layer(shape, 3, rng);
    std::vector<float> first;
    for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed) {
      const auto gpu = card(seed, true);
      const auto got = Rank(*gpu, layer, all_of(shape)).run(layer, 0, 3);
      if (first.empty()) first = got;
      ASSERT_TRUE(same(got, first)) << tensor_type_name(shape.gate_up) << " seed " << seed;
    }
  }
}

// Ranks that hold some experts each, in any order, one none, some shared by position.
TEST(GpuExperts, SharesAndReplicas) {
  Rng rng(53);
  const auto cpu = make_device("", false);
  for (const Shape& shape : {Shape{kQ4_K, kQ4_K, 6, 4, 256, 512, GateFunction::kSilu, true},
                             Shape{kQ8_0, kQ5_0, 6, 4, 64, 96, GateFunction::kSwigluClamp, true}}) {
    const Layer layer(shape, 9, rng);
    for (const Share& share : {Share{{5, 0, 2}, {}, {}}, Share{{3}, {}, {}}, Share{{}, {}, {}},
                               Share{{0, 1, 2}, {1, 3, 1, 1, 2, 1}, {0, 0, 0, 0, 0, 0}},
                               Share{{3, 4, 1}, {1, 3, 1, 1, 2, 1}, {0, 1, 0, 0, 0, 0}},
                               Share{{1, 5, 4}, {1, 3, 1, 1, 2, 1}, {0, 2, 0, 0, 1, 0}}}) {
      const auto gpu = card(2, false);
      Rank rank(*gpu, layer, share);
      const auto got = rank.run(layer, 0, layer.rows);
      EXPECT_LE(worst(got, Rank(*cpu, layer, share).run(layer, 0, layer.rows)), 1e-5);
      std::vector<float> sum(got.size(), 5.0f);
      rank.run(layer, 0, layer.rows, &sum, true);
      for (size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], 5.0f + got[i]);
    }
  }
}

// Row r of many has the bits of row r alone; several tiles per expert, experts without rows.
TEST(GpuExperts, RowsDoNotDependOnTheirCompany) {
  Rng rng(55);
  for (Shape shape : kShapes) {
    const int64_t rows = 37, width = shape.width;
    shape.features = std::min<int64_t>(shape.features, shape.down == kQ6_K ? 256 : 64);
    const Layer layer(shape, rows, rng);
    for (const bool int8 : {false, true}) {
      const auto gpu = card(3, int8, false);
      Rank rank(*gpu, layer, all_of(shape));
      const auto all = rank.run(layer, 0, rows);
      for (const int64_t count : {1, 3, 8}) {
        const auto from = static_cast<int64_t>(rng.below(static_cast<uint64_t>(rows - count)));
        const auto some = rank.run(layer, from, count);
        ASSERT_EQ(std::memcmp(some.data(), all.data() + from * width, some.size() * 4), 0)
            << (int8 ? "int8 " : "") << tensor_type_name(shape.gate_up) << " rows " << from << "+"
            << count;
      }
    }
  }
}

// Products of a few rows at a time: the same bits.
TEST(GpuExperts, BandsOfRows) {
  Rng rng(57);
  for (const Shape& shape :
       {Shape{kQ8_0, kQ8_0, 4, 2, 64, 96, GateFunction::kSilu, true},
        Shape{kQ4_K, kQ5_0, 4, 2, 256, 64, GateFunction::kSilu, false, true}}) {
    const Layer layer(shape, 37, rng);
    std::vector<float> whole;
    for (const int64_t rows : {37, 12, 1}) {
      const auto gpu = card(5, true);
      limit_product_floats(*gpu, rows * shape.top_k * std::max(2 * shape.features, shape.width));
      const auto got = Rank(*gpu, layer, all_of(shape)).run(layer, 0, 37);
      if (whole.empty()) whole = got;
      ASSERT_TRUE(same(got, whole)) << rows << " rows at a time";
    }
  }
}

// Weights of experts nobody chose do not count, even if they are NaN; a broken row stays alone.
TEST(GpuExperts, InactiveExpertsAndBrokenRows) {
  Rng rng(56);
  for (const Shape& shape : {Shape{kF32, kF32, 8, 2, 96, 72}, Shape{kQ8_0, kQ8_0, 8, 2, 96, 64}}) {
    Layer layer(shape, 3, rng);
    layer.ids = {2, 5, 5, 2, 2, 7};
    for (const bool int8 : {false, true}) {
      const auto gpu = card(4, int8);
      const auto want = Rank(*gpu, layer, all_of(shape)).run(layer, 0, 3);
      Layer bad = layer;
      for (Matrix* m : {&bad.gate, &bad.up, &bad.down}) {
        const auto bytes = static_cast<int64_t>(m->bytes.size()) / shape.experts;
        for (const int64_t e : {0, 1, 3, 4, 6}) {
          std::fill_n(m->bytes.begin() + e * bytes, bytes, uint8_t{0xff});
        }
      }
      ASSERT_TRUE(same(Rank(*gpu, bad, all_of(shape)).run(bad, 0, 3), want));
      bad.x[static_cast<size_t>(shape.width) + 9] = NAN;
      const auto got = Rank(*gpu, bad, all_of(shape)).run(bad, 0, 3);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(std::isnan(got[i]), i / static_cast<size_t>(shape.width) == 1);
      }
    }
  }
}

}  // namespace
}  // namespace shoal

// Embedding, residual + RMSNorm, rope and the KV write, against double precision.
#include <algorithm>

#include "kernels/body/half.h"
#include "tests/kernels/cpu_support.h"

namespace shoal {
namespace {

using namespace testing;

TEST(CpuOps, EmbedEveryTypeAndForeignIds) {
  Rng rng(21);
  const auto device = make_device("", true);
  for (const TensorType type : storable_types()) {
    const int64_t cols = traits(type).block_elems == 1 ? 37 : 256;
    const Matrix table(type, 10, cols, rng);
    const auto weight = upload(*device, table);
    const int32_t ids[] = {100, 109, 99, 110, 0, 104, -1};
    std::vector<float> out(7 * static_cast<size_t>(cols), NAN);
    device->embed(*weight, ids, 7, 100, 1.0f, out.data());
    for (int r = 0; r < 7; ++r) {
      const int64_t id = ids[r] - 100;
      for (int64_t i = 0; i < cols; ++i) {
        const float want =
            id >= 0 && id < 10 ? table.values[static_cast<size_t>(id * cols + i)] : 0.0f;
        ASSERT_EQ(out[static_cast<size_t>(r * cols + i)], want) << tensor_type_name(type);
      }
    }
  }
}

struct NormCase {
  bool delta, bias, index;
};

TEST(CpuOps, ResidualRmsNorm) {
  Rng rng(22);
  const float eps = 1e-5f;
  for (const std::string& isa : usable_sets()) {
    for (const int64_t cols : {7, 64, 288}) {
      for (const NormCase c : {NormCase{true, true, false},
                               {true, false, true},
                               {false, true, true},
                               {false, false, false}}) {
        const auto device = make_device(isa, false, 2);
        const int64_t rows = 6;
        const auto h0 = random_values(rng, rows * cols), delta = random_values(rng, rows * cols);
        const auto bias = random_values(rng, cols), weight = random_values(rng, cols);
        const std::vector<int32_t> index = {5, 0, 5};
        const int64_t out_rows = c.index ? 3 : rows;
        auto h = h0;
        const auto out = activations(*device, rows, cols);
        ResidualNorm norm{.h = h.data(), .rows = rows, .cols = cols};
        norm.delta = c.delta ? delta.data() : nullptr;
        norm.delta_bias = c.bias ? bias.data() : nullptr;
        norm.weight = weight.data();
        norm.eps = eps;
        norm.row_index = c.index ? index.data() : nullptr;
        norm.out_rows = out_rows;
        device->residual_norm(norm, *out);
        const auto got = read_back(*device, *out, out_rows);
        for (size_t i = 0; i < h.size(); ++i) {
          double want = h0[i];
          if (c.delta) want += delta[i];
          if (c.bias) want += bias[i % static_cast<size_t>(cols)];
          ASSERT_NEAR(h[i], want, 1e-5);
        }
        for (int64_t r = 0; r < out_rows; ++r) {
          const float* row = h.data() + (c.index ? index[static_cast<size_t>(r)] : r) * cols;
          double squares = 0;
          for (int64_t i = 0; i < cols; ++i) squares += static_cast<double>(row[i]) * row[i];
          const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + eps);
          for (int64_t i = 0; i < cols; ++i) {
            const double want = row[i] * factor * weight[static_cast<size_t>(i)];
            ASSERT_NEAR(got[static_cast<size_t>(r * cols + i)], want, 2e-6 * (1 + std::fabs(want)))
                << isa;
          }
        }
      }
    }
  }
}

TEST(CpuOps, NormWithoutOutputOnlyAdds) {
  const auto device = make_device("", true);
  const auto out = activations(*device, 1, 32);
  std::vector<float> h(64, 1.0f), delta(64, 2.0f);
  device->residual_norm({.h = h.data(), .rows = 2, .cols = 32, .delta = delta.data()}, *out);
  EXPECT_EQ(h, std::vector<float>(64, 3.0f));
}

TEST(CpuOps, NormOfARowDoesNotDependOnItsCompany) {
  Rng rng(23);
  const int64_t cols = 416, rows = 9;
  const auto h0 = random_values(rng, rows * cols), weight = random_values(rng, cols);
  const Matrix w(TensorType::kQ8_0, 8, cols, rng);
  for (const std::string& isa : usable_sets()) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      const auto device = make_device(isa, true, threads);
      const auto matrix = upload(*device, w);
      const auto run = [&](int64_t from, int64_t count) {
        std::vector<float> h(h0.begin() + from * cols, h0.begin() + (from + count) * cols);
        const auto out = activations(*device, count, cols);
        device->residual_norm({.h = h.data(),
                               .rows = count,
                               .cols = cols,
                               .weight = weight.data(),
                               .eps = 1e-6f,
                               .out_rows = count},
                              *out);
        std::vector<float> y(static_cast<size_t>(count * 8));
        const MatmulTask task{matrix.get(), nullptr, y.data(), 8, 1.0f};
        device->matmul({&task, 1}, *out, count);
        return y;
      };
      const auto all = run(0, rows);
      if (first.empty()) first = all;
      ASSERT_EQ(all, first);
      for (int64_t r = 0; r < rows; ++r) {
        const auto alone = run(r, 1);
        ASSERT_TRUE(std::equal(alone.begin(), alone.end(), first.begin() + r * 8));
      }
    }
  }
}

struct RopeCase {
  RopePairing pairing;
  int64_t dim, rope_dims;
  bool norm;
  KvType kv;
};

// What one head becomes, in double.
std::vector<double> prepared(const float* head, int64_t dim, const float* norm, float eps,
                             const RopeCase& c, const std::vector<float>& inv_freq, float magnitude,
                             int32_t position) {
  std::vector<double> x(head, head + dim);
  if (norm != nullptr) {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double factor =
        1 / std::sqrt(squares / static_cast<double>(dim) + static_cast<double>(eps));
    for (int64_t i = 0; i < dim; ++i) x[static_cast<size_t>(i)] *= factor * norm[i];
  }
  if (c.pairing == RopePairing::kNone) return x;
  for (int64_t p = 0; p < c.rope_dims / 2; ++p) {
    const bool pairs = c.pairing == RopePairing::kInterleaved;
    double& a = x[static_cast<size_t>(pairs ? 2 * p : p)];
    double& b = x[static_cast<size_t>(pairs ? 2 * p + 1 : p + c.rope_dims / 2)];
    const double angle =
        static_cast<double>(position) * static_cast<double>(inv_freq[static_cast<size_t>(p)]);
    const double cosine = std::cos(angle) * magnitude, sine = std::sin(angle) * magnitude;
    const double rotated = a * cosine - b * sine;
    b = a * sine + b * cosine;
    a = rotated;
  }
  return x;
}

// V goes in untouched; K is read out by attending to one position: softmax of one score is 1. To
// see K itself, the test stores it again as V of a second cache and compares the two caches' bytes.
void check_rope(const std::string& isa, const RopeCase& c, Rng& rng) {
  const auto device = make_device(isa, false, 2);
  const int64_t rows = 4, q_heads = 3, kv_heads = 2, block_tokens = 5, blocks = 3;
  KvLayer kv{nullptr, c.kv, blocks, block_tokens, kv_heads, c.dim};
  auto cache = device->allocate(device->kv_layer_bytes(kv), "kv");
  ASSERT_TRUE(cache.is_ok());
  kv.data = cache.value()->data();
  std::vector<float> inv_freq;
  for (int64_t p = 0; p < c.rope_dims / 2; ++p) {
    inv_freq.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(p) / static_cast<double>(c.rope_dims))));
  }
  const std::vector<int32_t> positions = {0, 1, 4097, 1000003};
  const std::vector<int64_t> slots = {0, 4, 7, 14};
  const auto q0 = random_values(rng, rows * q_heads * c.dim),
             k0 = random_values(rng, rows * kv_heads * c.dim);
  const auto v0 = random_values(rng, rows * kv_heads * c.dim);
  const auto q_norm = random_values(rng, c.dim), k_norm = random_values(rng, c.dim);
  auto q = q0, k = k0, v = v0;
  AttentionInput in;
  in.q = q.data(), in.k = k.data(), in.v = v.data();
  in.q_heads = q_heads, in.q_stride = q_heads * c.dim, in.kv_stride = kv_heads * c.dim;
  in.q_norm = c.norm ? q_norm.data() : nullptr, in.k_norm = c.norm ? k_norm.data() : nullptr;
  in.norm_eps = 1e-6f;
  in.rope = c.pairing, in.rope_dims = c.rope_dims, in.inv_freq = inv_freq.data(),
  in.rope_magnitude = 1.25f;
  StepView step{rows, positions.data(), slots.data(), nullptr, nullptr, 0};
  device->store_kv(in, step, kv);

  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < q_heads; ++h) {
      const int64_t at = (r * q_heads + h) * c.dim;
      const auto want = prepared(q0.data() + at, c.dim, in.q_norm, in.norm_eps, c, inv_freq,
                                 in.rope_magnitude, positions[static_cast<size_t>(r)]);
      for (int64_t i = 0; i < c.dim; ++i) {
        ASSERT_NEAR(q[static_cast<size_t>(at + i)], want[static_cast<size_t>(i)], 1e-5)
            << isa << " row " << r;
      }
    }
    // Attention over exactly this token returns its V.
    const std::vector<int32_t> table = {0, 1, 2};
    const int32_t slot = static_cast<int32_t>(slots[static_cast<size_t>(r)]), sequence = 0;
    AttentionSpec spec;
    spec.q_heads = kv_heads, spec.group = 1, spec.window = 1;
    const StepView look{1, &slot, nullptr, &sequence, table.data(), 3};
    const auto out = activations(*device, 1, kv_heads * c.dim);
    device->attention(k0.data() + r * kv_heads * c.dim, kv_heads * c.dim, spec, look, kv, *out);
    const auto got = read_back(*device, *out, 1);
    for (int64_t i = 0; i < kv_heads * c.dim; ++i) {
      const float given = v0[static_cast<size_t>(r * kv_heads * c.dim + i)];
      const float want =
          c.kv == KvType::kF32 ? given : body::half_to_float(body::float_to_half(given));
      ASSERT_EQ(got[static_cast<size_t>(i)], want) << isa;
    }
  }
}

TEST(CpuOps, RopeNormAndKvWrite) {
  Rng rng(24);
  for (const std::string& isa : usable_sets()) {
    for (const RopeCase& c : {RopeCase{RopePairing::kInterleaved, 64, 64, false, KvType::kF16},
                              RopeCase{RopePairing::kHalves, 80, 64, true, KvType::kF16},
                              RopeCase{RopePairing::kInterleaved, 40, 10, true, KvType::kF32},
                              RopeCase{RopePairing::kNone, 24, 0, true, KvType::kF32},
                              RopeCase{RopePairing::kHalves, 128, 128, false, KvType::kF32}}) {
      check_rope(isa, c, rng);
    }
  }
}

TEST(CpuDevice, OptionsAreChecked) {
  CpuOptions options;
  options.isa = "sse9";
  const auto device = make_cpu_device(options);
  ASSERT_FALSE(device.is_ok());
  EXPECT_EQ(device.status().code(), Code::kInvalidArgument);
  EXPECT_NE(device.status().message().find("generic"), std::string::npos)
      << device.status().message();
  options.isa = "generic";
  options.threads = 1 << 20;
  EXPECT_FALSE(make_cpu_device(options).is_ok());
  options.threads = 1;
  options.cores = {1 << 20};
  EXPECT_FALSE(make_cpu_device(options).is_ok()) << "a core that does not exist";
  options.cores = {};
  EXPECT_NE(make_cpu_device(options).value()->describe().find("generic"), std::string::npos);
  const std::string arithmetic = make_cpu_device(options).value()->arithmetic();
  EXPECT_TRUE(arithmetic.starts_with("cpu generic, glibc 2.")) << arithmetic;
  options.threads = 2;
  EXPECT_EQ(make_cpu_device(options).value()->arithmetic(), arithmetic);
}

TEST(CpuDevice, MemoryIsZeroedAlignedAndBounded) {
  const auto device = make_device("", true);
  EXPECT_GT(device->free_memory(), uint64_t{1} << 20);
  const auto buffer = device->allocate(12345, "test").value();
  EXPECT_EQ(buffer->bytes(), 12345u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
  const auto* bytes = static_cast<const uint8_t*>(buffer->data());
  EXPECT_TRUE(std::all_of(bytes, bytes + 12345, [](uint8_t b) { return b == 0; }));
  EXPECT_NE(device->allocate(0, "nothing").value()->data(), nullptr);
  const auto huge = device->allocate(uint64_t{1} << 60, "the moon");
  ASSERT_FALSE(huge.is_ok());
  EXPECT_NE(huge.status().message().find("the moon"), std::string::npos);
}

}  // namespace
}  // namespace shoal

// Norms of heads, rope, temperature and the write of K and V, against double precision. Attention
// tests read the cache through the interface; here the bytes themselves are looked at.
#include <algorithm>

#include "kernels/body/half.h"
#include "kernels/cpu/kv_layout.h"
#include "tests/kernels/cpu_support.h"
#include "tests/kernels/kv_cases.h"

namespace shoal {
namespace {

using namespace testing;
using namespace testing::kv_cases;

constexpr float kEps = 1e-6f, kMagnitude = 1.25f;
constexpr int64_t kLength = 8192, kOffset = 1;

// What one head becomes.
std::vector<double> prepared(const KvCase& c, const float* head, const float* weight, int64_t dims,
                             const std::vector<float>& inv_freq, int32_t position, bool query) {
  std::vector<double> x(head, head + c.dim);
  const auto norm = [&] {
    const auto n = static_cast<size_t>(dims);
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n && c.norm == kLayerPerHead; ++i) mean += x[i] / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double root = std::sqrt(squares / static_cast<double>(n) + static_cast<double>(kEps));
    for (size_t i = 0; i < n; ++i) {
      x[i] = (x[i] - mean) / root * (weight == nullptr ? 1.0 : static_cast<double>(weight[i]));
    }
  };
  if (c.norm != kRmsAfterRope && weight != nullptr) norm();
  for (int64_t p = 0; p < c.rope_dims / 2; ++p) {
    const int64_t first = c.rope_first + (c.pairing == kInterleaved ? 2 * p : p);
    const int64_t second = first + (c.pairing == kInterleaved ? 1 : c.rope_dims / 2);
    double &a = x[static_cast<size_t>(first)], &b = x[static_cast<size_t>(second)];
    const double angle =
        static_cast<double>(position) * static_cast<double>(inv_freq[static_cast<size_t>(p)]);
    const double cosine = std::cos(angle) * kMagnitude, sine = std::sin(angle) * kMagnitude;
    const double rotated = a * cosine - b * sine;
    b = a * sine + b * cosine;
    a = rotated;
  }
  if (c.norm == kRmsAfterRope) norm();
  if (query && c.temperature != 0) {
    const auto steps = static_cast<double>((int64_t{position} + kOffset) / kLength);
    for (double& v : x) v *= static_cast<double>(c.temperature) * std::log(steps + 1) + 1;
  }
  return x;
}

float stored(const KvLayer& kv, const uint8_t* row, int64_t i) {
  if (kv.type == KvType::kF32) return reinterpret_cast<const float*>(row)[i];
  return body::half_to_float(reinterpret_cast<const uint16_t*>(row)[i]);
}

void check(const std::string& isa, const KvCase& c, Rng& rng) {
  const std::string where = isa + ", " + c.name;
  const auto device = make_device(isa, false, 2);
  const int64_t rows = 5, q_heads = 3, kv_heads = c.latent > 0 ? 1 : 2, dim = c.dim;
  KvLayer kv{nullptr, c.type, 3, 5, kv_heads, dim, c.latent};
  const uint64_t bytes = device->kv_layer_bytes(kv);
  EXPECT_EQ(bytes, static_cast<uint64_t>(3 * 5 * kv_heads * dim) * (c.latent > 0 ? 1 : 2) *
                       (c.type == KvType::kF32 ? 4 : 2));
  auto cache = device->allocate(bytes, "kv");
  ASSERT_TRUE(cache.is_ok());
  kv.data = cache.value()->data();
  std::vector<float> inv_freq;
  for (int64_t p = 0; p < c.rope_dims / 2; ++p) {
    inv_freq.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(p) / static_cast<double>(c.rope_dims))));
  }
  const std::vector<int32_t> positions = {0, 1, 8191, 24575, 1000003};
  const std::vector<int64_t> slots = {0, 4, 7, 14, 5};
  // Rows are wider than their heads: what stands between must not change.
  const int64_t q_stride = q_heads * dim + 3, kv_stride = kv_heads * dim + 5;
  const auto q0 = random_values(rng, rows * q_stride), k0 = random_values(rng, rows * kv_stride);
  const auto v0 = random_values(rng, rows * kv_stride);
  const auto q_norm = random_values(rng, q_heads * dim),
             k_norm = random_values(rng, kv_heads * dim);
  auto q = q0, k = k0, v = v0;
  AttentionInput in;
  in.q = q.data(), in.k = k.data(), in.v = c.latent > 0 ? nullptr : v.data();
  in.q_heads = q_heads, in.q_stride = q_stride, in.kv_stride = kv_stride;
  in.norm = c.norm, in.k_norm_dims = c.k_norm_dims, in.norm_eps = kEps;
  in.q_norm = c.norm != kNoNorm && c.q_norm ? q_norm.data() : nullptr;
  in.k_norm = c.norm != kNoNorm && c.k_norm ? k_norm.data() : nullptr;
  in.rope = c.pairing, in.rope_first = c.rope_first, in.rope_dims = c.rope_dims;
  in.inv_freq = inv_freq.data(), in.rope_magnitude = kMagnitude;
  in.temperature_scale = c.temperature, in.temperature_length = kLength;
  in.temperature_offset = kOffset;
  device->store_kv(in, {rows, positions.data(), slots.data(), nullptr, nullptr, 0}, kv);

  const bool per_head = c.norm == kLayerPerHead;
  const auto weight_of = [&](const float* weights, int64_t h) {
    return weights != nullptr && per_head ? weights + h * dim : weights;
  };
  for (int64_t r = 0; r < rows; ++r) {
    const int32_t position = positions[static_cast<size_t>(r)];
    for (int64_t h = 0; h < q_heads; ++h) {
      const int64_t at = r * q_stride + h * dim;
      const auto want =
          prepared(c, q0.data() + at, weight_of(in.q_norm, h), dim, inv_freq, position, true);
      for (int64_t i = 0; i < dim; ++i) {
        ASSERT_NEAR(q[static_cast<size_t>(at + i)], want[static_cast<size_t>(i)], 2e-5)
            << where << ", q of row " << r << ", head " << h << ", feature " << i;
      }
    }
    for (int64_t i = q_heads * dim; i < q_stride; ++i) {
      const auto at = static_cast<size_t>(r * q_stride + i);
      ASSERT_EQ(q[at], q0[at]) << where;
    }
    const int64_t slot = slots[static_cast<size_t>(r)];
    for (int64_t h = 0; h < kv_heads; ++h) {
      const int64_t at = r * kv_stride + h * dim;
      const auto want =
          prepared(c, k0.data() + at, weight_of(in.k_norm, h),
                   c.k_norm_dims > 0 ? c.k_norm_dims : dim, inv_freq, position, false);
      const KvPlace place = kv_place(kv, slot / 5, h, slot % 5);
      for (int64_t i = 0; i < dim; ++i) {
        const double key = want[static_cast<size_t>(i)];
        ASSERT_NEAR(stored(kv, place.key, i), key,
                    2e-5 + (c.type == KvType::kF16 ? 1e-3 * std::fabs(key) : 0))
            << where << ", k of row " << r << ", head " << h << ", feature " << i;
        if (c.latent > 0) continue;
        const float value = v0[static_cast<size_t>(at + i)];
        ASSERT_EQ(stored(kv, place.value, i),
                  c.type == KvType::kF32 ? value : body::half_to_float(body::float_to_half(value)))
            << where;
      }
    }
  }
}

TEST(CpuKv, HeadsArePreparedAndStored) {
  Rng rng(24);
  for (const std::string& isa : usable_sets()) {
    for (const KvCase& c : kKvCases) check(isa, c, rng);
  }
}

// Places of different tokens, heads and blocks do not overlap and fill the layer.
TEST(CpuKv, PlacesTileTheLayer) {
  for (const int64_t latent : {0, 24}) {
    for (const KvType type : {kF16, kF32}) {
      const auto device = make_device("generic", false, 1);
      KvLayer kv{nullptr, type, 3, 5, 2, 40, latent};
      std::vector<uint8_t> bytes(device->kv_layer_bytes(kv));
      kv.data = bytes.data();
      const auto row = static_cast<size_t>(40) * kv_element_bytes(kv);
      const auto mark = [&](uint8_t* at) {
        ASSERT_GE(at, bytes.data());
        ASSERT_LE(at + row, bytes.data() + bytes.size());
        for (size_t i = 0; i < row; ++i) ++at[i];
      };
      for (int64_t place = 0; place < 3 * 2 * 5; ++place) {
        const KvPlace found = kv_place(kv, place / 10, place / 5 % 2, place % 5);
        mark(found.key);
        if (latent == 0) mark(found.value);
        EXPECT_EQ(found.key == found.value, latent > 0);
      }
      EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 1; }));
    }
  }
}

}  // namespace
}  // namespace shoal

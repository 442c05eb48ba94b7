// Norms of heads, rope, temperature and the write of K and V on the emulator, against the CPU.
#include "kernels/body/half.h"
#include "kernels/cpu/kv_layout.h"
#include "tests/kernels/kv_cases.h"
#include "tests/simt/gpu_attention_support.h"

namespace shoal {
namespace {

using namespace testing;
using namespace testing::kv_cases;

constexpr int64_t kQHeads = 3, kKvHeads = 2, kBlocks = 5, kBlockTokens = 7;

struct Written {
  std::vector<float> q;
  std::vector<float> keys, values;  // [rows][kv heads][dim]
};

struct Rows {
  std::vector<float> q, k, v, q_norm, k_norm, inv_freq;
  std::vector<int32_t> positions = {0, 1, 17, 4095, 8191, 65537, 999999, 1000000, 3};
  std::vector<int64_t> slots = {0, 34, 7, 8, 20, 33, 14, 6, 1};
};

// One element of a cache at a byte offset.
float element(const uint8_t* row, int64_t i, KvType type) {
  if (type == kF16) return body::load_half(row + 2 * i);
  return body::float_from_bits(body::load_u32(row + 4 * i));
}

Written run(Device& device, const KvCase& c, const Rows& rows) {
  KvLayer kv{nullptr, c.type, kBlocks, kBlockTokens, kKvHeads, c.dim, c.latent};
  auto made = device.allocate(device.kv_layer_bytes(kv), "kv");
  SHOAL_CHECK(made.is_ok(), made.status().to_string());
  kv.data = (*made)->data();
  DeviceArray<float> q(device, rows.q), k(device, rows.k), v(device, rows.v);
  DeviceArray<float> q_norm(device, rows.q_norm), k_norm(device, rows.k_norm);
  DeviceArray<float> inv_freq(device, rows.inv_freq);
  DeviceArray<int32_t> positions(device, rows.positions);
  DeviceArray<int64_t> slots(device, rows.slots);
  AttentionInput in;
  in.q = q.data(), in.k = k.data(), in.v = c.latent > 0 ? nullptr : v.data();
  in.q_heads = kQHeads;
  in.q_stride = kQHeads * c.dim + 3;
  in.kv_stride = kKvHeads * c.dim + 1;
  in.norm = c.norm;
  in.q_norm = c.q_norm && c.norm != kNoNorm ? q_norm.data() : nullptr;
  in.k_norm = c.k_norm && c.norm != kNoNorm ? k_norm.data() : nullptr;
  in.k_norm_dims = c.k_norm_dims;
  in.norm_eps = 1e-6f;
  in.rope_first = c.rope_first;
  in.rope = c.pairing;
  in.rope_dims = c.rope_dims;
  in.inv_freq = inv_freq.data();
  in.rope_magnitude = 1.25f;
  in.temperature_scale = c.temperature;
  in.temperature_length = 8192;
  in.temperature_offset = 1;
  const auto count = static_cast<int64_t>(rows.positions.size());
  device.store_kv(in, {count, positions.data(), slots.data(), nullptr, nullptr, 0}, kv);
  expect_clean(device);
  Written written{q.values(), {}, {}};
  std::vector<uint8_t> layer((*made)->bytes());
  device.copy_to_host(layer.data(), kv.data, layer.size());
  kv.data = layer.data();
  const bool on_cpu = device.host_visible();
  const auto places = gpu::KvPlaces::of(kv);
  for (const int64_t slot : rows.slots) {
    for (int64_t h = 0; h < kKvHeads; ++h) {
      const int64_t block = slot / kBlockTokens, token = slot % kBlockTokens;
      const uint8_t* key = layer.data() + places.key(block, h, token);
      const uint8_t* value = key + places.value_bytes;
      if (on_cpu) {
        const KvPlace place = kv_place(kv, block, h, token);
        key = place.key;
        value = place.value;
      }
      for (int64_t i = 0; i < c.dim; ++i) {
        written.keys.push_back(element(key, i, c.type));
        written.values.push_back(element(value, i, c.type));
      }
    }
  }
  return written;
}

Rows make_rows(const KvCase& c, uint64_t seed) {
  Rng rng(seed);
  Rows rows;
  const auto count = static_cast<int64_t>(rows.positions.size());
  rows.q = random_values(rng, count * (kQHeads * c.dim + 3));
  rows.k = random_values(rng, count * (kKvHeads * c.dim + 1));
  rows.v = random_values(rng, count * (kKvHeads * c.dim + 1));
  const bool per_head = c.norm == kLayerPerHead;
  rows.q_norm = random_values(rng, c.dim * (per_head ? kQHeads : 1));
  rows.k_norm = random_values(rng, c.dim * (per_head ? kKvHeads : 1));
  for (int64_t p = 0; p < c.rope_dims / 2; ++p) {
    rows.inv_freq.push_back(static_cast<float>(
        std::pow(10000.0, -2.0 * static_cast<double>(p) / static_cast<double>(c.rope_dims))));
  }
  return rows;
}

TEST(GpuStoreKv, MatchesTheCpu) {
  for (const KvCase& c : kKvCases) {
    for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed) {
      SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(seed));
      const Rows rows = make_rows(c, seed);
      const auto cpu = make_reference();
      const auto device = make_emulated_device(seed);
      const Written want = run(*cpu, c, rows), got = run(*device, c, rows);
      const auto expect_near = [&](const std::vector<float>& a, const std::vector<float>& b,
                                   const char* what, float relative) {
        ASSERT_EQ(a.size(), b.size());
        for (size_t i = 0; i < a.size(); ++i) {
          ASSERT_NEAR(a[i], b[i], 1e-5f + relative * std::fabs(b[i])) << what << " " << i;
        }
      };
      // A half may round to the neighbour where the floats differ.
      const float rounding = c.type == kF16 ? 0x1p-10f : 0.0f;
      expect_near(got.q, want.q, "q", 0);
      expect_near(got.keys, want.keys, "key", rounding);
      expect_near(got.values, want.values, "value", c.latent > 0 ? rounding : 0);
    }
  }
}

// Against angles in double, over the whole range of positions.
TEST(GpuStoreKv, RotationsAreExactAtAnyPosition) {
  Rng rng(5);
  for (int i = 0; i < 200000; ++i) {
    const auto position = static_cast<int32_t>(rng.below(i % 2 == 0 ? 1 << 20 : 1 << 24));
    const auto frequency = static_cast<float>(std::exp(-12.0 * rng.uniform()));
    const gpu::Rotation got = gpu::Rotation::of(position, frequency);
    const double angle = static_cast<double>(position) * static_cast<double>(frequency);
    ASSERT_NEAR(static_cast<double>(got.cosine), std::cos(angle), 4e-7) << position;
    ASSERT_NEAR(static_cast<double>(got.sine), std::sin(angle), 4e-7) << position;
  }
}

}  // namespace
}  // namespace shoal

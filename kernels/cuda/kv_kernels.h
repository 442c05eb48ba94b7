// Where K and V lie on a GPU, and the kernel that writes them: norms of heads, rope, temperature.
//
// Layout: [block][kv head][K: tokens × row | V: tokens × row]; a row is head_dim values, zeros up
// to a multiple of 16 bytes, so that it is read in 16-byte words. No V where a value is the front
// of its key (KvLayer::latent_dim).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/body/math.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"
#include "kernels/device.h"

namespace shoal::gpu {

struct KvPlaces {
  int64_t block_tokens = 0;
  int64_t kv_heads = 0;
  int64_t row_bytes = 0;
  int64_t head_bytes = 0;   // of one head in one block
  int64_t value_bytes = 0;  // from a key to its value

  static KvPlaces of(const KvLayer& kv) {
    KvPlaces places;
    places.block_tokens = kv.block_tokens;
    places.kv_heads = kv.kv_heads;
    places.row_bytes = (kv.head_dim * (kv.type == KvType::kF32 ? 4 : 2) + 15) / 16 * 16;
    places.value_bytes = kv.latent_dim > 0 ? 0 : kv.block_tokens * places.row_bytes;
    places.head_bytes = kv.block_tokens * places.row_bytes + places.value_bytes;
    return places;
  }
  SHOAL_BODY int64_t key(int64_t block, int64_t head, int64_t token) const {
    return (block * kv_heads + head) * head_bytes + token * row_bytes;
  }
};

// One rotation: the cosine and sine of position · frequency, to 4e-7 for positions below 2^24.
// A float product alone is off by 0.03 radians at position 10^6, so its rounding error is kept
// (fma) and added after the multiple of π/2 nearest to it is taken off in two parts.
struct Rotation {
  float cosine, sine;

  SHOAL_BODY static Rotation of(int32_t position, float frequency) {
    constexpr float kQuarter = 0x1.921fb6p0f;         // π/2, rounded
    constexpr float kQuarterRest = -0x1.777a5cp-25f;  // π/2 minus that
    const auto p = static_cast<float>(position);
    const float high = p * frequency;
    const float low = simt::fused_multiply_add(p, frequency, -high);
    const float quarters = std::rint(high * 0x1.45f306p-1f);
    float r = simt::fused_multiply_add(-quarters, kQuarter, high);  // exact
    r = simt::fused_multiply_add(-quarters, kQuarterRest, r) + low;
    const float more = std::rint(r * 0x1.45f306p-1f);  // `quarters` of a large product is one off
    r = simt::fused_multiply_add(-more, kQuarter, r);
    // Taylor series on [−π/4, π/4]: the first terms left out are 2e-9 and 3e-8.
    const float x = r * r;
    const float s =
        r + r * x * (-1.0f / 6 + x * (1.0f / 120 + x * (-1.0f / 5040 + x * (1.0f / 362880))));
    const float c = 1.0f + x * (-0.5f + x * (1.0f / 24 + x * (-1.0f / 720 + x * (1.0f / 40320))));
    switch ((static_cast<int64_t>(quarters) + static_cast<int64_t>(more)) & 3) {
      case 0:
        return {c, s};
      case 1:
        return {-s, c};
      case 2:
        return {-c, -s};
      default:
        return {s, -c};
    }
  }
};

// A warp per (row, head): query heads first, then KV heads, each staged in shared memory.
template <KvType kType>
struct StoreKv {
  static constexpr const char* kName = kType == KvType::kF32 ? "store_kv_f32" : "store_kv_f16";
  static constexpr uint32_t kWarps = 4;
  static constexpr uint32_t kMaxThreads = 32 * kWarps, kMinBlocks = 4;

  struct Params {
    simt::Global<float> q;           // [rows, q_stride]
    simt::Global<const float> k, v;  // [rows, kv_stride]
    simt::Global<const float> q_norm, k_norm;
    simt::Global<const float> inv_freq;     // [rope_dims / 2]
    simt::Global<const int32_t> positions;  // [rows]
    simt::Global<const int64_t> slots;      // [rows]
    simt::Global<uint8_t> cache;
    KvPlaces places;
    int64_t rows, q_heads, head_dim, q_stride, kv_stride, key_norm_dims;
    int64_t rope_first, rope_dims;
    int64_t temperature_length, temperature_offset;
    float temperature_scale, rope_magnitude, norm_eps;
    QkNorm norm;
    RopeStyle rope;
    bool has_q_norm, has_k_norm, has_values;
  };

  static uint32_t shared_bytes(int64_t head_dim) {
    return kWarps * static_cast<uint32_t>(head_dim) * sizeof(float);
  }

  template <class Ctx>
  SHOAL_SIMT static float sum(Ctx& ctx, float x) {
    for (uint32_t bits = 16; bits > 0; bits /= 2) x += ctx.shuffle_xor(x, bits);
    return x;
  }

  // The first n features, divided by their root mean square; kLayerPerHead: by their deviation.
  template <class Ctx, class Head, class Weight>
  SHOAL_SIMT static void apply_norm(Ctx& ctx, const Params& p, const Head& head, bool has_weight,
                                    const Weight& weight, int64_t n) {
    const auto count = static_cast<float>(n);
    float mean = 0;
    if (p.norm == QkNorm::kLayerPerHead) {
      float total = 0;
      for (int64_t i = ctx.lane(); i < n; i += 32) total += head[i];
      mean = sum(ctx, total) / count;
    }
    float squares = 0;
    for (int64_t i = ctx.lane(); i < n; i += 32) {
      const float x = head[i] - mean;
      squares += x * x;
    }
    const float factor = 1.0f / std::sqrt(sum(ctx, squares) / count + p.norm_eps);
    for (int64_t i = ctx.lane(); i < n; i += 32) {
      const float x = (head[i] - mean) * factor;
      head[i] = has_weight ? x * weight[i] : x;
    }
    ctx.sync_warp();
  }

  template <class Ctx, class Head>
  SHOAL_SIMT static void rotate(Ctx& ctx, const Params& p, const Head& head, int32_t position) {
    const auto inv_freq = ctx.global(p.inv_freq);
    const int64_t pairs = p.rope_dims / 2;
    const bool interleaved = p.rope == RopeStyle::kInterleaved;
    for (int64_t i = ctx.lane(); i < pairs; i += 32) {
      const int64_t first = p.rope_first + (interleaved ? 2 * i : i);
      const int64_t second = interleaved ? first + 1 : first + pairs;
      const Rotation by = Rotation::of(position, inv_freq[i]);
      float a = head[first], b = head[second];
      body::rotate(&a, &b, by.cosine * p.rope_magnitude, by.sine * p.rope_magnitude);
      head[first] = a;
      head[second] = b;
    }
    ctx.sync_warp();
  }

  // One row of the cache from values(i), i < head_dim; zeros behind them.
  template <class Ctx, class Values>
  SHOAL_SIMT static void store(Ctx& ctx, const Params& p, const Values& values, int64_t at) {
    const auto words = simt::vector_view<uint32_t>(ctx.global(p.cache) + at);
    const auto value = [&](int64_t i) -> float { return i < p.head_dim ? values[i] : 0.0f; };
    for (int64_t w = ctx.lane(); w < p.places.row_bytes / 4; w += 32) {
      if constexpr (kType == KvType::kF32) {
        words[w] = body::bits_from_float(value(w));
      } else {
        words[w] = simt::pack_halves(value(2 * w), value(2 * w + 1));
      }
    }
  }

  // Is every value a finite number where it is stored?
  template <class Ctx, class Values>
  SHOAL_SIMT static bool storable(Ctx& ctx, const Params& p, const Values& values) {
    constexpr float kLimit = kType == KvType::kF32 ? __builtin_inff() : 65520.0f;  // rounds to ∞
    uint32_t bad = 0;
    for (int64_t i = ctx.lane(); i < p.head_dim; i += 32) {
      const float x = values[i];
      if (!(x > -kLimit && x < kLimit)) bad = 1;
    }
    for (uint32_t bits = 16; bits > 0; bits /= 2) bad |= ctx.shuffle_xor(bad, bits);
    return bad == 0;
  }

  struct Everywhere {
    float value;
    SHOAL_SIMT float operator[](int64_t) const { return value; }
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t heads = p.q_heads + p.places.kv_heads;
    const int64_t item = int64_t{ctx.block().x} * kWarps + ctx.warp();
    if (item >= p.rows * heads) return;
    const int64_t row = item / heads, index = item % heads;
    const bool query = index < p.q_heads;
    const int64_t h = query ? index : index - p.q_heads;
    const int32_t position = ctx.global(p.positions)[row];
    const auto head = simt::shared_array<float>(
        ctx, uint64_t{ctx.warp()} * static_cast<uint64_t>(p.head_dim) * sizeof(float),
        static_cast<uint64_t>(p.head_dim));

    const auto q = ctx.global(p.q) + (row * p.q_stride + h * p.head_dim);
    const auto k = ctx.global(p.k) + (row * p.kv_stride + h * p.head_dim);
    for (int64_t i = ctx.lane(); i < p.head_dim; i += 32) {
      const float x = query ? static_cast<float>(q[i]) : static_cast<float>(k[i]);
      head[i] = x;
    }
    ctx.sync_warp();

    const bool has_weight = query ? p.has_q_norm : p.has_k_norm;
    const auto weight = ctx.global(query ? p.q_norm : p.k_norm) +
                        (p.norm == QkNorm::kLayerPerHead ? h * p.head_dim : 0);
    const int64_t dims = query ? p.head_dim : p.key_norm_dims;
    const bool after = p.norm == QkNorm::kRmsAfterRope;
    if (has_weight && !after && p.norm != QkNorm::kNone) {
      apply_norm(ctx, p, head, true, weight, dims);
    }
    if (p.rope != RopeStyle::kNone) rotate(ctx, p, head, position);
    if (after) apply_norm(ctx, p, head, false, weight, dims);

    if (query) {
      float factor = 1.0f;
      if (p.temperature_scale != 0) {
        factor = body::temperature(position, static_cast<double>(p.temperature_scale),
                                   p.temperature_offset, p.temperature_length);
      }
      for (int64_t i = ctx.lane(); i < p.head_dim; i += 32) q[i] = head[i] * factor;
      return;
    }
    const int64_t slot = ctx.global(p.slots)[row];
    const int64_t at = p.places.key(slot / p.places.block_tokens, h, slot % p.places.block_tokens);
    if (!p.has_values) return store(ctx, p, head, at);
    const auto v = ctx.global(p.v) + (row * p.kv_stride + h * p.head_dim);
    if (storable(ctx, p, v)) {
      store(ctx, p, head, at);
      store(ctx, p, v, at + p.places.value_bytes);
    } else {
      // Tensor cores multiply values that a row does not see by a weight of 0, which NaN and ∞
      // would survive; a score it does not see is replaced. So the damage moves to the key.
      store(ctx, p, Everywhere{__builtin_nanf("")}, at);
      store(ctx, p, Everywhere{0.0f}, at + p.places.value_bytes);
    }
  }
};

}  // namespace shoal::gpu

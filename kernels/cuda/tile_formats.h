// What a warp does with one unit of a tile (weight_tiles.h): TileFormat<type>, per type
//
//   kParts                       parts of 32 features in a unit
//   Sums<groups>                 what a lane adds up, for so many groups of 8 columns
//   add(ctx, unit, x, u, sums)   sums += unit u · x
//   collect(ctx, sums, out)      the lane's results, [group]: rows g, g, g + 8, g + 8, columns 2t,
//                                2t + 1, …
//
// A column is an activation row. x has kGroups groups of columns, columns() of them real; has(part)
// tells masked parts; fragment(part, group, b), scales(part, group), sums(part, group), or
// values(part, column, v) for floats, are what a lane needs of them. Integer types multiply
// unsigned codes with signed activations on tensor cores, one part (or half of it) at a time:
//
//   Σ_k w_k x_k = d_w d_x Σ_k (code_k − zero) a_k − minimum · Σ_k x_k
//
// The zero point comes from a first mma whose A is −zero everywhere. Sums start at 0x4b400000, so
// that their bits, read as a float, are 12582912 + sum: exact for |sum| < 2^22, and no conversion.
// Each column's sums see the same operations whatever the other columns are.
#pragma once

#include <cstdint>

#include "kernels/body/blocks_small.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"
#include "model/tensor_type.h"

namespace shoal::gpu {

using simt::F32x2;
using simt::F32x4;
using simt::U32x2;
using simt::U32x4;
using simt::vector_view;

template <TensorType type>
struct TileFormat;

// Of a lane and a group: rows g (0, 1) and g + 8 (2, 3), columns 2t and 2t + 1.
struct TileSums {
  float v[4] = {};
};
template <int kGroups>
struct TileGroups {
  TileSums group[kGroups];
};

namespace tile {

inline constexpr int32_t kStart = 0x4b400000;
SHOAL_SIMT float sum_of(int32_t c) {
  return body::float_from_bits(static_cast<uint32_t>(c)) - 12582912.0f;
}

// sums += weight scale of the row · activation scale of the column · integer sum.
SHOAL_SIMT void add_scaled(TileSums& sums, const int32_t (&c)[4], float scale_low, float scale_high,
                           const F32x2& x_scale) {
  using simt::fused_multiply_add;
  sums.v[0] = fused_multiply_add(scale_low, x_scale.x * sum_of(c[0]), sums.v[0]);
  sums.v[1] = fused_multiply_add(scale_low, x_scale.y * sum_of(c[1]), sums.v[1]);
  sums.v[2] = fused_multiply_add(scale_high, x_scale.x * sum_of(c[2]), sums.v[2]);
  sums.v[3] = fused_multiply_add(scale_high, x_scale.y * sum_of(c[3]), sums.v[3]);
}

SHOAL_SIMT void subtract_minima(TileSums& sums, float low, float high, const F32x2& x_sum) {
  using simt::fused_multiply_add;
  sums.v[0] = fused_multiply_add(-low, x_sum.x, sums.v[0]);
  sums.v[1] = fused_multiply_add(-low, x_sum.y, sums.v[1]);
  sums.v[2] = fused_multiply_add(-high, x_sum.x, sums.v[2]);
  sums.v[3] = fused_multiply_add(-high, x_sum.y, sums.v[3]);
}

SHOAL_SIMT float low_half(uint32_t word) {
  return simt::to_float(simt::Half{static_cast<uint16_t>(word)});
}
SHOAL_SIMT float high_half(uint32_t word) {
  return simt::to_float(simt::Half{static_cast<uint16_t>(word >> 16)});
}
SHOAL_SIMT float byte_of(uint32_t word, int i) {
  return static_cast<float>(static_cast<int32_t>((word >> (8 * i)) & 255));
}

// Formats whose sums are results already.
struct IntegerFormat {
  static constexpr bool kInteger = true;
  template <int kGroups>
  using Sums = TileGroups<kGroups>;
  template <class Ctx, int kGroups>
  SHOAL_SIMT static void collect(Ctx&, const TileGroups<kGroups>& sums, float (&out)[kGroups][4]) {
    SHOAL_UNROLL
    for (int n = 0; n < kGroups; ++n) {
      for (int i = 0; i < 4; ++i) out[n][i] = sums.group[n].v[i];
    }
  }
};

}  // namespace tile

template <>
struct TileFormat<TensorType::kQ4_K> : tile::IntegerFormat {
  static constexpr int kParts = 8;

  // Scales and minima of a row: bytes 0–3 in [0], 4–7 in [1].
  struct Header {
    float d, dmin;
    uint32_t scales[2], minima[2];
  };
  SHOAL_SIMT static Header header(const U32x4& h) {
    // body::k_scale and k_minimum, four at a time.
    return {tile::low_half(h.x),
            tile::high_half(h.x),
            {h.y & 0x3f3f3f3fu, (h.w & 0x0f0f0f0fu) | ((h.y >> 2) & 0x30303030u)},
            {h.z & 0x3f3f3f3fu, ((h.w >> 4) & 0x0f0f0f0fu) | ((h.z >> 2) & 0x30303030u)}};
  }

  template <class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int64_t u,
                             TileGroups<X::kGroups>& sums) {
    const auto words = vector_view<U32x4>(unit);
    const uint32_t lane = ctx.lane();
    const Header low = header(words[128 + lane / 4]), high = header(words[128 + 8 + lane / 4]);
    SHOAL_UNROLL
    for (int pair = 0; pair < 4; ++pair) {
      const U32x4 w = words[32 * pair + lane];
      SHOAL_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int part = 2 * pair + i;
        if (!x.has(u * kParts + part)) continue;
        const uint32_t rows[2] = {i == 0 ? w.x : w.z, i == 0 ? w.y : w.w};
        const uint32_t a[4] = {rows[0] & 0x0f0f0f0fu, rows[1] & 0x0f0f0f0fu,
                               (rows[0] >> 4) & 0x0f0f0f0fu, (rows[1] >> 4) & 0x0f0f0f0fu};
        const int word = part / 4, byte = part % 4;
        const float scale_low = low.d * tile::byte_of(low.scales[word], byte);
        const float scale_high = high.d * tile::byte_of(high.scales[word], byte);
        const float minimum_low = low.dmin * tile::byte_of(low.minima[word], byte);
        const float minimum_high = high.dmin * tile::byte_of(high.minima[word], byte);
        SHOAL_UNROLL
        for (int n = 0; n < X::kGroups; ++n) {
          uint32_t b[2];
          x.fragment(u * kParts + part, n, b);
          int32_t c[4] = {tile::kStart, tile::kStart, tile::kStart, tile::kStart};
          ctx.mma(simt::U8S8{}, c, a, b);
          tile::add_scaled(sums.group[n], c, scale_low, scale_high, x.scales(u * kParts + part, n));
          tile::subtract_minima(sums.group[n], minimum_low, minimum_high,
                                x.sums(u * kParts + part, n));
        }
      }
    }
  }
};

template <>
struct TileFormat<TensorType::kQ6_K> : tile::IntegerFormat {
  static constexpr int kParts = 8;

  // 16 features of a part: codes `a`, zero point 32.
  template <class Ctx, class X>
  SHOAL_SIMT static void add_half(Ctx& ctx, const X& x, int64_t part, int half,
                                  const uint32_t (&a)[2], float scale_low, float scale_high,
                                  TileGroups<X::kGroups>& sums) {
    const uint32_t minus_32[2] = {0xe0e0e0e0u, 0xe0e0e0e0u};
    SHOAL_UNROLL
    for (int n = 0; n < X::kGroups; ++n) {
      uint32_t b[2];
      x.fragment(part, n, b);
      const uint32_t own[1] = {b[half]};
      int32_t c[4] = {tile::kStart, tile::kStart, tile::kStart, tile::kStart};
      ctx.mma(simt::S8S8{}, c, minus_32, own);
      ctx.mma(simt::U8S8{}, c, a, own);
      tile::add_scaled(sums.group[n], c, scale_low, scale_high, x.scales(part, n));
    }
  }

  template <class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int64_t u,
                             TileGroups<X::kGroups>& sums) {
    const auto words = vector_view<U32x4>(unit);
    const auto halves = vector_view<uint16_t>(unit);
    const auto bytes = vector_view<int8_t>(unit) + 3072;
    const uint32_t lane = ctx.lane(), g = lane / 4;
    const float d_low = simt::to_float(simt::Half{halves[1664 + g]});
    const float d_high = simt::to_float(simt::Half{halves[1664 + 8 + g]});
    SHOAL_UNROLL
    for (int pair = 0; pair < 4; ++pair) {
      const U32x4 w = words[32 * pair + lane];
      const U32x4 two_pairs = words[128 + 32 * (pair / 2) + lane];
      const uint32_t high[2] = {pair % 2 == 0 ? two_pairs.x : two_pairs.z,
                                pair % 2 == 0 ? two_pairs.y : two_pairs.w};
      SHOAL_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int part = 2 * pair + i;
        if (!x.has(u * kParts + part)) continue;
        const uint32_t low[2] = {i == 0 ? w.x : w.z, i == 0 ? w.y : w.w};
        SHOAL_UNROLL
        for (int half = 0; half < 2; ++half) {  // 16 features with a scale of their own
          uint32_t a[2];
          for (int r = 0; r < 2; ++r) {
            a[r] = ((low[r] >> (4 * half)) & 0x0f0f0f0fu) |
                   ((high[r] >> (4 * i + 2 * half)) & 0x03030303u) << 4;
          }
          const auto scale = [&](uint32_t row) {
            return static_cast<float>(int8_t{bytes[16 * row + 2 * part + half]});
          };
          add_half(ctx, x, u * kParts + part, half, a, d_low * scale(g), d_high * scale(g + 8),
                   sums);
        }
      }
    }
  }
};

template <>
struct TileFormat<TensorType::kQ8_0> : tile::IntegerFormat {
  static constexpr int kParts = 1;

  template <class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int64_t u,
                             TileGroups<X::kGroups>& sums) {
    if (!x.has(u)) return;
    const U32x4 w = vector_view<U32x4>(unit)[ctx.lane()];
    const auto d = vector_view<uint16_t>(unit) + (256 + ctx.lane() / 4);
    const uint32_t a[4] = {w.x, w.y, w.z, w.w};
    const float d_low = simt::to_float(simt::Half{d[0]});
    const float d_high = simt::to_float(simt::Half{d[8]});
    SHOAL_UNROLL
    for (int n = 0; n < X::kGroups; ++n) {
      uint32_t b[2];
      x.fragment(u, n, b);
      int32_t c[4] = {tile::kStart, tile::kStart, tile::kStart, tile::kStart};
      ctx.mma(simt::S8S8{}, c, a, b);
      tile::add_scaled(sums.group[n], c, d_low, d_high, x.scales(u, n));
    }
  }
};

template <>
struct TileFormat<TensorType::kMXFP4> : tile::IntegerFormat {
  static constexpr int kParts = 1;

  // Twice the value plus 12 of four nibbles. A selector above 7 yields the sign of a byte, and no
  // table byte has one: 0.
  SHOAL_SIMT static uint32_t codes(uint32_t nibbles) {
    return simt::permute_bytes(0x0f0e0d0cu, 0x18141210u, nibbles) |
           simt::permute_bytes(0x090a0b0cu, 0x00040608u, nibbles ^ 0x8888u);
  }

  template <class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int64_t u,
                             TileGroups<X::kGroups>& sums) {
    if (!x.has(u)) return;
    const U32x2 w = vector_view<U32x2>(unit)[ctx.lane()];
    const auto scales = unit + (256 + ctx.lane() / 4);
    const uint32_t a[4] = {codes(w.x), codes(w.y), codes(w.x >> 16), codes(w.y >> 16)};
    const uint32_t minus_12[4] = {0xf4f4f4f4u, 0xf4f4f4f4u, 0xf4f4f4f4u, 0xf4f4f4f4u};
    const float scale_low = body::e8m0_halved(scales[0]);
    const float scale_high = body::e8m0_halved(scales[8]);
    SHOAL_UNROLL
    for (int n = 0; n < X::kGroups; ++n) {
      uint32_t b[2];
      x.fragment(u, n, b);
      int32_t c[4] = {tile::kStart, tile::kStart, tile::kStart, tile::kStart};
      ctx.mma(simt::S8S8{}, c, minus_12, b);
      ctx.mma(simt::U8S8{}, c, a, b);
      tile::add_scaled(sums.group[n], c, scale_low, scale_high, x.scales(u, n));
    }
  }
};

namespace tile {

// Plain numbers: float products, each lane a quarter of the features of its two rows for all
// columns.
template <class Self>
struct FloatFormat {
  static constexpr bool kInteger = false;
  static constexpr int kParts = 1;
  template <int kGroups>
  struct Sums {
    float v[2][8 * kGroups] = {};
  };

  template <class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int64_t u,
                             Sums<X::kGroups>& sums) {
    if (!x.has(u)) return;
    float w[2][8];
    Self::load(ctx, unit, w);
    SHOAL_UNROLL
    for (int m = 0; m < 8 * X::kGroups; ++m) {
      if (m >= x.columns()) break;
      float values[8];
      x.values(u, m, values);
      SHOAL_UNROLL
      for (int k = 0; k < 8; ++k) {
        sums.v[0][m] = simt::fused_multiply_add(w[0][k], values[k], sums.v[0][m]);
        sums.v[1][m] = simt::fused_multiply_add(w[1][k], values[k], sums.v[1][m]);
      }
    }
  }

  template <class Ctx, int kGroups>
  SHOAL_SIMT static void collect(Ctx& ctx, const Sums<kGroups>& sums, float (&out)[kGroups][4]) {
    const int t = static_cast<int>(ctx.lane() % 4);
    SHOAL_UNROLL
    for (int r = 0; r < 2; ++r) {
      SHOAL_UNROLL
      for (int m = 0; m < 8 * kGroups; ++m) {
        float v = sums.v[r][m];
        v += ctx.shuffle_xor(v, 1);
        v += ctx.shuffle_xor(v, 2);
        if (m % 8 / 2 == t) out[m / 8][2 * r + m % 2] = v;
      }
    }
  }
};

}  // namespace tile

template <>
struct TileFormat<TensorType::kF16> : tile::FloatFormat<TileFormat<TensorType::kF16>> {
  template <class Ctx, class Unit>
  SHOAL_SIMT static void load(Ctx& ctx, const Unit& unit, float (&w)[2][8]) {
    const auto words = vector_view<U32x4>(unit) + ctx.lane();
    SHOAL_UNROLL
    for (int r = 0; r < 2; ++r) {
      const U32x4 v = words[32 * r];
      const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
      SHOAL_UNROLL
      for (int i = 0; i < 4; ++i) {
        w[r][2 * i] = tile::low_half(pairs[i]);
        w[r][2 * i + 1] = tile::high_half(pairs[i]);
      }
    }
  }
};

template <>
struct TileFormat<TensorType::kF32> : tile::FloatFormat<TileFormat<TensorType::kF32>> {
  template <class Ctx, class Unit>
  SHOAL_SIMT static void load(Ctx& ctx, const Unit& unit, float (&w)[2][8]) {
    const auto words = vector_view<F32x4>(unit) + ctx.lane();
    SHOAL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const F32x4 v = words[32 * i];
      float* to = w[i / 2] + 4 * (i % 2);
      to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    }
  }
};

}  // namespace shoal::gpu

// What a warp does with one unit of a tile (weight_tiles.h): TileFormat<type>, per type
//
//   kParts                       parts of 32 features in a unit
//   put(blocks, row, unit)       puts a row's blocks of the file into a unit, row 0 … 15; rows in
//                                any order
//   Sums<groups>                 what a lane adds up, for so many groups of 8 columns
//   add<all>(ctx, unit, x, u, sums)   sums += unit u · x; all: no part of the unit is masked
//   add_row(ctx, unit, x, sums)  the same for a single column, of rows g and g + 8; where kSumParts
//   collect(ctx, sums, out)      the lane's results, [group]: rows g, g, g + 8, g + 8, columns 2t,
//                                2t + 1, …
//
// A column is an activation row. x has kGroups groups of columns, columns() of them real; has(part)
// tells masked parts; operands(ctx, part, group, out) for kTogether groups at a time, or
// values(part, column, v) for floats, is what a lane needs of them. Each column's sums see the same
// operations whatever the other columns are.
//
// A lane of a warp finds what it needs of a unit in one piece. g = lane / 4, t = lane % 4; the lane
// has rows g and g + 8 of the tile, and of every part of 32 features 4t … 4t + 3 and 16 + 4t …
// 16 + 4t + 3. Where the bits of a unit are, in planes:
//
//   nibbles   [lane] a word per row; byte j is feature 4t + j low, 16 + 4t + j high. 256 bytes, or
//             eight parts as [pair of parts][lane][part of the pair][row]: 2048 bytes
//   sequence  the same places; nibble j of the low half of a word is feature 4t + j, of the high
//             half 16 + 4t + j
//   pairs     two bits per feature: [half 2][lane][q 2][row] a word for parts 2q and 2q + 1 of the
//             half: byte j is features 4t + j and 16 + 4t + j of either from bit 0 up. 1024 bytes
//   bits      one bit per feature: [lane][half 2][row] a word for parts 0 … 3 of the half: bits 2p
//             and 2p + 1 of byte j are features 4t + j and 16 + 4t + j of part p. 512 bytes
//   [row] x   x of 16 rows as in the file
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/byte_codes.h"
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

// scale · the sum that c stands for (CodedFormat): scales of activations have 22 bits
// (activations.h), so 12582912 = 3 · 2^22 times one is exact, and the sum is rounded once, as the
// product would be. `off`: offset_of(scale).
SHOAL_SIMT float offset_of(float scale) { return -12582912.0f * scale; }
SHOAL_SIMT float scaled_sum(int32_t c, float scale, float off) {
  return simt::fused_multiply_add(body::float_from_bits(static_cast<uint32_t>(c)), scale, off);
}

// Activation scales of two columns.
struct ColumnScales {
  F32x2 scale, off;

  SHOAL_SIMT static ColumnScales of(const F32x2& scale) {
    return {scale, {offset_of(scale.x), offset_of(scale.y)}};
  }
};

// sums += weight scale of the row · activation scale of the column · integer sum.
SHOAL_SIMT void add_scaled(TileSums& sums, const int32_t (&c)[4], float scale_low, float scale_high,
                           const ColumnScales& x) {
  using simt::fused_multiply_add;
  const float left = x.scale.x, right = x.scale.y;
  sums.v[0] = fused_multiply_add(scale_low, scaled_sum(c[0], left, x.off.x), sums.v[0]);
  sums.v[1] = fused_multiply_add(scale_low, scaled_sum(c[1], right, x.off.y), sums.v[1]);
  sums.v[2] = fused_multiply_add(scale_high, scaled_sum(c[2], left, x.off.x), sums.v[2]);
  sums.v[3] = fused_multiply_add(scale_high, scaled_sum(c[3], right, x.off.y), sums.v[3]);
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

// A part as a lane has it.
struct TilePart {
  uint32_t a[4];       // A of m16n8k32: codes of rows g, g + 8; the first 16 features, the last
  float scales[2][2];  // [16 features; only 0 if a scale is for 32][row g, g + 8]
  float minima[2][2];
};

// A group of columns as a lane has it for a part.
struct Operands {
  uint32_t codes[2];   // B of m16n8k32: column g, features 4t … and 16 + 4t …
  F32x2 scales, sums;  // of columns 2t and 2t + 1
};

// A single activation row as a lane has it for a unit of eight parts. Masked parts are zeros.
struct SingleRow {
  uint32_t codes[2];  // B of m16n8k32 with part g in column g
  float scales[2];    // of parts 2t and 2t + 1
  float sums[2];
};

// Formats of integer codes on tensor cores:
//
//   Σ_k w_k x_k = d_w d_x Σ_k (code_k − zero) a_k − minimum · Σ_k x_k
//
// Self has, next to kParts: kSigned (codes), kZero, kHalves (16 features have a scale of their
// own), kMinima; head(unit, lane): what all parts share, and part(unit, lane, head, i, out). The
// zero point comes from a first mma whose A is −zero everywhere. Sums start at 0x4b400000, so that
// their bits, read as a float, are 12582912 + sum: exact for |sum| < 2^22, and no conversion.
template <class Self>
struct CodedFormat : IntegerFormat {
  static constexpr int kZero = 0;
  static constexpr bool kSigned = false, kHalves = false, kMinima = false;
  // Of units of eight parts: how many make a sum of their own first, 1 or 2 (fewer additions, more
  // registers), so that add_row() can have them in one lane; 0: units without add_row().
  static constexpr int kSumParts = 0;

  struct NoHead {};
  template <class Unit>
  SHOAL_SIMT static NoHead head(const Unit&, uint32_t) {
    return {};
  }

  template <class Ctx, int kWords>
  SHOAL_SIMT static void multiply(Ctx& ctx, int32_t (&c)[4], const uint32_t (&a)[kWords],
                                  const uint32_t (&b)[kWords / 2]) {
    for (int i = 0; i < 4; ++i) c[i] = kStart;
    if constexpr (Self::kZero != 0) {
      uint32_t zeros[kWords];
      for (int i = 0; i < kWords; ++i) zeros[i] = (256u - Self::kZero) * codes::kOnes;
      ctx.mma(simt::S8S8{}, c, zeros, b);
    }
    if constexpr (Self::kSigned) {
      ctx.mma(simt::S8S8{}, c, a, b);
    } else {
      ctx.mma(simt::U8S8{}, c, a, b);
    }
  }

  template <class Ctx>
  SHOAL_SIMT static void add_half(Ctx& ctx, const TilePart& w, int half, const uint32_t (&b)[2],
                                  const ColumnScales& x, TileSums& sums) {
    const uint32_t a[2] = {w.a[2 * half], w.a[2 * half + 1]}, own[1] = {b[half]};
    int32_t c[4];
    multiply(ctx, c, a, own);
    add_scaled(sums, c, w.scales[half][0], w.scales[half][1], x);
    if constexpr (Self::kMinima) {  // Σ a of 16 features: activations have it of 32 only
      const uint32_t ones[2] = {codes::kOnes, codes::kOnes};
      for (int i = 0; i < 4; ++i) c[i] = kStart;
      ctx.mma(simt::U8S8{}, c, ones, own);
      add_scaled(sums, c, -w.minima[half][0], -w.minima[half][1], x);
    }
  }

  // sums += part · x
  template <class Ctx>
  SHOAL_SIMT static void add_part(Ctx& ctx, const TilePart& w, const Operands& x, TileSums& sums) {
    const ColumnScales scales = ColumnScales::of(x.scales);
    if constexpr (Self::kHalves) {
      SHOAL_UNROLL
      for (int h = 0; h < 2; ++h) add_half(ctx, w, h, x.codes, scales, sums);
    } else {
      int32_t c[4];
      multiply(ctx, c, w.a, x.codes);
      add_scaled(sums, c, w.scales[0][0], w.scales[0][1], scales);
      if constexpr (Self::kMinima) {
        subtract_minima(sums, w.minima[0][0], w.minima[0][1], x.sums);
      }
    }
  }

  template <bool kAll, class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int32_t u,
                             TileGroups<X::kGroups>& sums) {
    constexpr bool kOwn = Self::kSumParts > 0;
    constexpr int kSum = kOwn ? Self::kSumParts : 1, kTogether = X::kTogether;
    const uint32_t lane = ctx.lane();
    auto head = Self::head(unit, lane);
    // Unrolled for many columns, formats of more than a scale per part would want more registers
    // than there are: then what all parts share is read again for each.
    constexpr bool kShort = Self::kSumParts == 1 && X::kGroups > 1;
    [[maybe_unused]] constexpr int kUnroll = kShort ? 1 : Self::kParts;
    SHOAL_UNROLL_BY(kUnroll)
    for (int i = 0; i < Self::kParts; i += kSum) {
      if constexpr (kShort) head = Self::head(unit, lane);
      TilePart w[kSum];
      bool has[kSum];
      SHOAL_UNROLL
      for (int j = 0; j < kSum; ++j) {
        has[j] = kAll || x.has(u * Self::kParts + i + j);
        Self::part(unit, lane, head, i + j, w[j]);
      }
      SHOAL_UNROLL
      for (int n = 0; n < X::kGroups; n += kTogether) {
        TileSums own[kTogether];
        SHOAL_UNROLL
        for (int j = 0; j < kSum; ++j) {
          if (!has[j]) continue;
          Operands operands[kTogether];
          x.operands(ctx, u * Self::kParts + i + j, n, operands);
          SHOAL_UNROLL
          for (int k = 0; k < kTogether; ++k) {
            add_part(ctx, w[j], operands[k], kOwn ? own[k] : sums.group[n + k]);
          }
        }
        if constexpr (kOwn) {
          SHOAL_UNROLL
          for (int k = 0; k < kTogether; ++k) {
            for (int e = 0; e < 4; ++e) sums.group[n + k].v[e] += own[k].v[e];
          }
        }
      }
    }
  }

  // One row of x has all eight columns of a mma to itself: column p takes part p, so that the lanes
  // of a row share the parts, 2t and 2t + 1 to each, instead of all doing all of them.
  template <class Ctx, class Unit>
  SHOAL_SIMT static void add_row(Ctx& ctx, const Unit& unit, const SingleRow& x, float (&sums)[2]) {
    static_assert(Self::kSumParts > 0 && Self::kParts == 8);
    const uint32_t lane = ctx.lane(), g = lane / 4;
    const auto head = Self::head(unit, lane);
    int32_t c[2][4], ones_c[2][4];  // [16 features; only 0 if a scale is for 32]
    start_row(ctx, x, c, ones_c);
    SHOAL_UNROLL
    for (uint32_t i = 0; i < 8; ++i) {
      TilePart w;
      Self::part(unit, lane, head, static_cast<int>(i), w);
      const uint32_t b[2] = {g == i ? x.codes[0] : 0, g == i ? x.codes[1] : 0};
      add_codes(ctx, w.a, b, c);
    }
    float own[2][2] = {};  // [part, or 0 for both][row]
    SHOAL_UNROLL
    for (int j = 0; j < 2; ++j) {
      float(&to)[2] = own[Self::kSumParts == 2 ? 0 : j];
      TilePart w;
      Self::part(unit, lane, head, static_cast<int>(2 * (lane % 4)) + j, w);
      const float off = offset_of(x.scales[j]);
      for (int r = 0; r < 2; ++r) {
        SHOAL_UNROLL
        for (int h = 0; h < (Self::kHalves ? 2 : 1); ++h) {
          const int32_t sum = c[h][2 * r + j];
          to[r] =
              simt::fused_multiply_add(w.scales[h][r], scaled_sum(sum, x.scales[j], off), to[r]);
          if constexpr (Self::kMinima) {
            const float of_ones =
                Self::kHalves ? scaled_sum(ones_c[h][2 * r + j], x.scales[j], off) : x.sums[j];
            to[r] = simt::fused_multiply_add(-w.minima[h][r], of_ones, to[r]);
          }
        }
      }
    }
    for (int r = 0; r < 2; ++r) {
      for (uint32_t t = 0; t < 4; ++t) {
        for (int j = 0; j < 2 / Self::kSumParts; ++j) {
          sums[r] += ctx.shuffle(own[j][r], lane / 4 * 4 + t);
        }
      }
    }
  }

 private:
  // Zero points of all parts at once, since column p of x.codes is part p; Σ a of halves likewise.
  template <class Ctx>
  SHOAL_SIMT static void start_row(Ctx& ctx, const SingleRow& x, int32_t (&c)[2][4],
                                   int32_t (&ones_c)[2][4]) {
    constexpr uint32_t kBelow = ((256u - Self::kZero) & 255u) * codes::kOnes;
    for (int i = 0; i < 8; ++i) c[i / 4][i % 4] = ones_c[i / 4][i % 4] = kStart;
    if constexpr (Self::kZero != 0) {
      const uint32_t zeros[4] = {kBelow, kBelow, kBelow, kBelow};
      add_signed(ctx, zeros, x.codes, c);
    }
    if constexpr (Self::kHalves && Self::kMinima) {
      const uint32_t ones[4] = {codes::kOnes, codes::kOnes, codes::kOnes, codes::kOnes};
      add_signed(ctx, ones, x.codes, ones_c);
    }
  }
  template <class Ctx>
  SHOAL_SIMT static void add_signed(Ctx& ctx, const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    int32_t (&c)[2][4]) {
    add_as(ctx, simt::S8S8{}, a, b, c);
  }
  template <class Ctx>
  SHOAL_SIMT static void add_codes(Ctx& ctx, const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   int32_t (&c)[2][4]) {
    using Kind = std::conditional_t<Self::kSigned, simt::S8S8, simt::U8S8>;
    add_as(ctx, Kind{}, a, b, c);
  }
  template <class Ctx, class Kind>
  SHOAL_SIMT static void add_as(Ctx& ctx, Kind kind, const uint32_t (&a)[4], const uint32_t (&b)[2],
                                int32_t (&c)[2][4]) {
    if constexpr (Self::kHalves) {
      for (int h = 0; h < 2; ++h) {
        const uint32_t rows[2] = {a[2 * h], a[2 * h + 1]}, own[1] = {b[h]};
        ctx.mma(kind, c[h], rows, own);
      }
    } else {
      ctx.mma(kind, c[0], a, b);
    }
  }
};

// Plain numbers: float products, each lane a quarter of the features of its two rows for all
// columns.
template <class Self>
struct FloatFormat {
  static constexpr bool kInteger = false;
  static constexpr int kSumParts = 0;
  static constexpr int kParts = 1;
  template <int kGroups>
  struct Sums {
    float v[2][8 * kGroups] = {};
  };

  template <bool kAll, class Ctx, class Unit, class X>
  SHOAL_SIMT static void add(Ctx& ctx, const Unit& unit, const X& x, int32_t u,
                             Sums<X::kGroups>& sums) {
    if (!kAll && !x.has(u)) return;
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

// ---- reading planes

// Words of rows g and g + 8.
struct RowWords {
  uint32_t row[2];
};

// Halves of rows g and g + 8 from a plane of one per row.
template <class Unit>
SHOAL_SIMT void row_halves(const Unit& unit, uint32_t first_byte, uint32_t lane, float (&out)[2]) {
  const auto halves = vector_view<uint16_t>(unit) + (first_byte / 2 + lane / 4);
  out[0] = simt::to_float(simt::Half{halves[0]});
  out[1] = simt::to_float(simt::Half{halves[8]});
}

// Of part `part` of nibbles, a sequence (eight parts) at the unit's start.
template <class Unit>
SHOAL_SIMT RowWords part_words(const Unit& unit, uint32_t lane, int part) {
  const U32x4 w = vector_view<U32x4>(unit)[static_cast<uint32_t>(32 * (part / 2)) + lane];
  if (part % 2 == 0) return {{w.x, w.y}};
  return {{w.z, w.w}};
}
// Of the quarter of pairs that has `part`, moved so that its first feature is at bit 0.
template <class Plane>
SHOAL_SIMT RowWords pair_words(const Plane& plane, uint32_t lane, int part) {
  const int q = part / 2;
  const U32x4 w = plane[static_cast<uint32_t>(32 * (q / 2)) + lane];
  const int shift = 4 * (part % 2);
  if (q % 2 == 0) return {{w.x >> shift, w.y >> shift}};
  return {{w.z >> shift, w.w >> shift}};
}
// Of the half of bits that has `part`, moved likewise.
SHOAL_SIMT RowWords bit_words(const U32x4& w, int part) {
  const int shift = 2 * (part % 4);
  if (part < 4) return {{w.x >> shift, w.y >> shift}};
  return {{w.z >> shift, w.w >> shift}};
}

SHOAL_SIMT void split_nibbles(const RowWords& w, uint32_t (&a)[4]) {
  for (int r = 0; r < 2; ++r) {
    a[r] = w.row[r] & codes::kNibbles;
    a[2 + r] = (w.row[r] >> 4) & codes::kNibbles;
  }
}
SHOAL_SIMT void split_pairs(const RowWords& w, uint32_t (&a)[4]) {
  for (int r = 0; r < 2; ++r) {
    a[r] = w.row[r] & codes::kPairs;
    a[2 + r] = (w.row[r] >> 2) & codes::kPairs;
  }
}
SHOAL_SIMT void look_up_sequence(const codes::Levels& table, const RowWords& w, uint32_t (&a)[4]) {
  for (int r = 0; r < 2; ++r) {
    a[r] = codes::look_up_four(table, w.row[r]);
    a[2 + r] = codes::look_up_four(table, w.row[r] >> 16);
  }
}
// Puts bits `at` above codes.
SHOAL_SIMT void add_bits(const RowWords& w, int at, uint32_t (&a)[4]) {
  for (int r = 0; r < 2; ++r) {
    a[r] |= (w.row[r] & codes::kOnes) << at;
    a[2 + r] |= ((w.row[r] >> 1) & codes::kOnes) << at;
  }
}

SHOAL_SIMT float signed_byte(uint32_t word, int i) {
  return static_cast<float>(static_cast<int8_t>(static_cast<uint8_t>(word >> (8 * i))));
}

// ---- putting rows into units

SHOAL_SIMT int lane_of(int row, int t) { return 4 * (row % 8) + t; }

// Where word `index` of the 16 bytes that a lane loads from a plane stands.
SHOAL_SIMT int lane_word(int row, int t, int index) { return 16 * lane_of(row, t) + 4 * index; }

template <class From, class To>
SHOAL_SIMT void copy_bytes(const To& to, const From& from, int count) {
  for (int i = 0; i < count; ++i) to[i] = uint8_t{from[i]};
}

// The planes, where code(part, feature) yields their bits of a feature.
template <class Plane, class Code>
SHOAL_SIMT void put_nibbles(const Plane& plane, int row, Code&& code) {
  for (int part = 0; part < 8; ++part) {
    for (int t = 0; t < 4; ++t) {
      const auto word = plane + (512 * (part / 2) + lane_word(row, t, 2 * (part % 2) + row / 8));
      for (int j = 0; j < 4; ++j) {
        word[j] = static_cast<uint8_t>(code(part, 4 * t + j) | code(part, 16 + 4 * t + j) << 4);
      }
    }
  }
}

template <class Plane, class Code>
SHOAL_SIMT void put_pairs(const Plane& plane, int row, Code&& code) {
  for (int q = 0; q < 4; ++q) {
    for (int t = 0; t < 4; ++t) {
      const auto word = plane + (512 * (q / 2) + lane_word(row, t, 2 * (q % 2) + row / 8));
      for (int j = 0; j < 4; ++j) {
        const int i = 4 * t + j;
        word[j] = static_cast<uint8_t>(code(2 * q, i) | code(2 * q, 16 + i) << 2 |
                                       code(2 * q + 1, i) << 4 | code(2 * q + 1, 16 + i) << 6);
      }
    }
  }
}

template <class Plane, class Code>
SHOAL_SIMT void put_bits(const Plane& plane, int row, Code&& code) {
  for (int i = 0; i < 2; ++i) {
    for (int t = 0; t < 4; ++t) {
      const auto word = plane + lane_word(row, t, 2 * i + row / 8);
      for (int j = 0; j < 4; ++j) {
        int byte = 0;
        for (int p = 0; p < 4; ++p) {
          byte |= code(4 * i + p, 4 * t + j) << (2 * p);
          byte |= code(4 * i + p, 16 + 4 * t + j) << (2 * p + 1);
        }
        word[j] = static_cast<uint8_t>(byte);
      }
    }
  }
}

// A word of a sequence from the 16 bytes of a part in the file: low nibbles first.
template <class Word, class Bytes>
SHOAL_SIMT void put_sequence(const Word& word, const Bytes& bytes, int t) {
  for (int j = 0; j < 4; j += 2) {
    const int first = uint8_t{bytes[4 * t + j]}, second = uint8_t{bytes[4 * t + j + 1]};
    word[j / 2] = static_cast<uint8_t>((first & 15) | (second & 15) << 4);
    word[2 + j / 2] = static_cast<uint8_t>(first >> 4 | (second >> 4) << 4);
  }
}

// ---- formats with blocks of 32: a unit is one part

template <class Self>
struct BlockOf32 : CodedFormat<Self> {
  static constexpr int kParts = 1;
};

// Of units of one part: the words it starts with.
template <class Unit>
SHOAL_SIMT RowWords first_words(const Unit& unit, uint32_t lane) {
  const U32x2 w = vector_view<U32x2>(unit)[lane];
  return {{w.x, w.y}};
}
template <class Blocks, class Unit>
SHOAL_SIMT void put_first_nibbles(const Blocks& nibbles, int row, const Unit& unit) {
  for (int t = 0; t < 4; ++t) {
    copy_bytes(unit + (8 * lane_of(row, t) + 4 * (row / 8)), nibbles + 4 * t, 4);
  }
}
template <class Blocks, class Unit>
SHOAL_SIMT void put_first_sequence(const Blocks& nibbles, int row, const Unit& unit) {
  for (int t = 0; t < 4; ++t) {
    put_sequence(unit + (8 * lane_of(row, t) + 4 * (row / 8)), nibbles, t);
  }
}

}  // namespace tile

}  // namespace shoal::gpu

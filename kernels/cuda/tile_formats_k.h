// Tiles of formats with blocks of 256 features: a unit is eight parts.
#pragma once

#include "kernels/body/blocks_iq.h"
#include "kernels/body/blocks_k.h"
#include "kernels/cuda/tile_format.h"

namespace shoal::gpu {

namespace tile {

template <class Self>
struct BlockOf256 : CodedFormat<Self> {
  static constexpr int kParts = 8;
  static constexpr int kSumParts = 1;
};

// Word n of a few, n not known to the compiler: an index would put them into memory.
SHOAL_SIMT uint32_t pick(const uint32_t (&words)[2], int n) { return n == 0 ? words[0] : words[1]; }
SHOAL_SIMT uint32_t pick(const uint32_t (&words)[4], int n) {
  const uint32_t low = n % 2 == 0 ? words[0] : words[1], high = n % 2 == 0 ? words[2] : words[3];
  return n < 2 ? low : high;
}

// The 16 bytes in front of Q4_K and Q5_K of rows g and g + 8.
struct FourOrFiveBitsHead {
  float d[2], dmin[2];
  // Scales and minima of a row: those of parts 0–3 in [0], of 4–7 in [1].
  uint32_t scales[2][2], minima[2][2];

  template <class Unit>
  SHOAL_SIMT static FourOrFiveBitsHead of(const Unit& unit, uint32_t first_byte, uint32_t lane) {
    FourOrFiveBitsHead out;
    const auto stored = vector_view<U32x4>(unit) + (first_byte / 16 + lane / 4);
    for (int r = 0; r < 2; ++r) {
      const U32x4 h = stored[8 * r];
      out.d[r] = low_half(h.x);
      out.dmin[r] = high_half(h.x);
      // body::k_scale and k_minimum, four at a time.
      out.scales[r][0] = h.y & 0x3f3f3f3fu;
      out.scales[r][1] = (h.w & codes::kNibbles) | ((h.y >> 2) & 0x30303030u);
      out.minima[r][0] = h.z & 0x3f3f3f3fu;
      out.minima[r][1] = ((h.w >> 4) & codes::kNibbles) | ((h.z >> 2) & 0x30303030u);
    }
    return out;
  }
  SHOAL_SIMT void take(int part, TilePart& out) const {
    for (int r = 0; r < 2; ++r) {
      out.scales[0][r] = d[r] * byte_of(pick(scales[r], part / 4), part % 4);
      out.minima[0][r] = dmin[r] * byte_of(pick(minima[r], part / 4), part % 4);
    }
  }
};

}  // namespace tile

// 1344 B: pairs; 1024: [row] scales[16]; 1280: [row] d, dmin.
template <>
struct TileFormat<TensorType::kQ2_K> : tile::BlockOf256<TileFormat<TensorType::kQ2_K>> {
  static constexpr bool kHalves = true, kMinima = true;

  struct Head {
    float d[2], dmin[2];
    uint32_t scales[2][4];
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    Head out;
    const auto scales = vector_view<U32x4>(unit) + (1024 / 16 + lane / 4);
    const auto both = vector_view<uint32_t>(unit) + (1280 / 4 + lane / 4);
    for (int r = 0; r < 2; ++r) {
      const U32x4 s = scales[8 * r];
      const uint32_t word = both[8 * r];
      out.scales[r][0] = s.x, out.scales[r][1] = s.y, out.scales[r][2] = s.z;
      out.scales[r][3] = s.w;
      out.d[r] = tile::low_half(word);
      out.dmin[r] = tile::high_half(word);
    }
    return out;
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::split_pairs(tile::pair_words(vector_view<U32x4>(unit), lane, i), out.a);
    for (int r = 0; r < 2; ++r) {
      for (int h = 0; h < 2; ++h) {
        const uint32_t s = tile::pick(head.scales[r], i / 2) >> (8 * (2 * (i % 2) + h));
        out.scales[h][r] = head.d[r] * codes::number(static_cast<int>(s & 15));
        out.minima[h][r] = head.dmin[r] * codes::number(static_cast<int>((s >> 4) & 15));
      }
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_pairs(unit, row,
                    [&](int part, int i) { return body::two_bit_code(block + 16, part, i); });
    tile::copy_bytes(unit + (1024 + 16 * row), block, 16);
    tile::copy_bytes(unit + (1280 + 4 * row), block + 80, 4);
  }
};

// 1760 B: pairs of low bits; 1024: bits, the high ones; 1536: [row] scales[12]; 1728: [row] d.
template <>
struct TileFormat<TensorType::kQ3_K> : tile::BlockOf256<TileFormat<TensorType::kQ3_K>> {
  static constexpr int kZero = 4;
  static constexpr bool kHalves = true;

  struct Head {
    float d[2];
    uint32_t scales[2][3];
    U32x4 high;
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    Head out;
    const uint32_t g = lane / 4;
    const auto words = vector_view<uint32_t>(unit) + 1536 / 4;
    for (uint32_t r = 0; r < 2; ++r) {
      for (uint32_t i = 0; i < 3; ++i) out.scales[r][i] = words[3 * (g + 8 * r) + i];
    }
    tile::row_halves(unit, 1728, lane, out.d);
    out.high = vector_view<U32x4>(unit)[1024 / 16 + lane];
    return out;
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::split_pairs(tile::pair_words(vector_view<U32x4>(unit), lane, i), out.a);
    tile::add_bits(tile::bit_words(head.high, i), 2, out.a);
    // body::Block<kQ3_K>::scale, four at a time.
    const int q = i / 2;
    for (int r = 0; r < 2; ++r) {
      const uint32_t first = q % 2 == 0 ? head.scales[r][0] : head.scales[r][1];
      const uint32_t low = (first >> (4 * (q / 2))) & codes::kNibbles;
      const uint32_t high = (head.scales[r][2] >> (2 * q)) & codes::kPairs;
      const uint32_t four = low | high << 4;
      for (int h = 0; h < 2; ++h) {
        out.scales[h][r] = head.d[r] * (tile::byte_of(four, 2 * (i % 2) + h) - 32.0f);
      }
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_pairs(unit, row,
                    [&](int part, int i) { return body::two_bit_code(block + 32, part, i); });
    tile::put_bits(unit + 1024, row,
                   [&](int part, int i) { return (uint8_t{block[i]} >> part) & 1; });
    tile::copy_bytes(unit + (1536 + 12 * row), block + 96, 12);
    tile::copy_bytes(unit + (1728 + 2 * row), block + 108, 2);
  }
};

// 2304 B: nibbles; 2048: [row] d, dmin, scales[12].
template <>
struct TileFormat<TensorType::kQ4_K> : tile::BlockOf256<TileFormat<TensorType::kQ4_K>> {
  static constexpr int kSumParts = 2;
  static constexpr bool kMinima = true;
  using Head = tile::FourOrFiveBitsHead;

  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    return Head::of(unit, 2048, lane);
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::split_nibbles(tile::part_words(unit, lane, i), out.a);
    head.take(i, out);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_nibbles(unit, row, [&](int part, int i) {
      return (uint8_t{block[16 + 32 * (part / 2) + i]} >> (4 * (part % 2))) & 15;
    });
    tile::copy_bytes(unit + (2048 + 16 * row), block, 16);
  }
};

// 2816 B: nibbles; 2048: bits, the fifth ones; 2560: [row] d, dmin, scales[12].
template <>
struct TileFormat<TensorType::kQ5_K> : tile::BlockOf256<TileFormat<TensorType::kQ5_K>> {
  static constexpr int kSumParts = 2;
  static constexpr bool kMinima = true;

  struct Head {
    tile::FourOrFiveBitsHead scales;
    U32x4 fifth;
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    return {tile::FourOrFiveBitsHead::of(unit, 2560, lane),
            vector_view<U32x4>(unit)[2048 / 16 + lane]};
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::split_nibbles(tile::part_words(unit, lane, i), out.a);
    tile::add_bits(tile::bit_words(head.fifth, i), 4, out.a);
    head.scales.take(i, out);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_nibbles(unit, row, [&](int part, int i) {
      return (uint8_t{block[48 + 32 * (part / 2) + i]} >> (4 * (part % 2))) & 15;
    });
    tile::put_bits(unit + 2048, row,
                   [&](int part, int i) { return (uint8_t{block[16 + i]} >> part) & 1; });
    tile::copy_bytes(unit + (2560 + 16 * row), block, 16);
  }
};

// 3360 B: nibbles; 2048: pairs of high bits; 3072: [row] scales[16]; 3328: [row] d.
template <>
struct TileFormat<TensorType::kQ6_K> : tile::BlockOf256<TileFormat<TensorType::kQ6_K>> {
  static constexpr int kZero = 32;
  static constexpr bool kHalves = true;

  struct Head {
    float d[2];
    uint32_t scales[2][4];
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    Head out;
    const auto scales = vector_view<U32x4>(unit) + (3072 / 16 + lane / 4);
    for (int r = 0; r < 2; ++r) {
      const U32x4 s = scales[8 * r];
      out.scales[r][0] = s.x, out.scales[r][1] = s.y, out.scales[r][2] = s.z;
      out.scales[r][3] = s.w;
    }
    tile::row_halves(unit, 3328, lane, out.d);
    return out;
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    uint32_t high[4];
    tile::split_nibbles(tile::part_words(unit, lane, i), out.a);
    tile::split_pairs(tile::pair_words(vector_view<U32x4>(unit) + 2048 / 16, lane, i), high);
    for (int j = 0; j < 4; ++j) out.a[j] |= high[j] << 4;
    for (int r = 0; r < 2; ++r) {
      for (int h = 0; h < 2; ++h) {
        out.scales[h][r] =
            head.d[r] * tile::signed_byte(tile::pick(head.scales[r], i / 2), 2 * (i % 2) + h);
      }
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    // As body::Block<kQ6_K> takes them apart.
    tile::put_nibbles(unit, row, [&](int part, int i) {
      return (uint8_t{block[64 * (part / 4) + 32 * (part % 2) + i]} >> (4 * (part % 4 / 2))) & 15;
    });
    tile::put_pairs(unit + 2048, row, [&](int part, int i) {
      return (uint8_t{block[128 + 32 * (part / 4) + i]} >> (2 * (part % 4))) & 3;
    });
    tile::copy_bytes(unit + (3072 + 16 * row), block + 192, 16);
    tile::copy_bytes(unit + (3328 + 2 * row), block + 208, 2);
  }
};

// 2176 B: sequence; 2048: [row] d, high bits of scales, low nibbles of scales[4].
template <>
struct TileFormat<TensorType::kIQ4_XS> : tile::BlockOf256<TileFormat<TensorType::kIQ4_XS>> {
  static constexpr int kSumParts = 2;
  static constexpr bool kSigned = true;

  struct Head {
    float d[2];
    uint32_t high[2], low[2];
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    Head out;
    const auto words = vector_view<U32x2>(unit) + (2048 / 8 + lane / 4);
    for (int r = 0; r < 2; ++r) {
      const U32x2 h = words[8 * r];
      out.d[r] = tile::low_half(h.x);
      out.high[r] = h.x >> 16;
      out.low[r] = h.y;
    }
    return out;
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::look_up_sequence(codes::iq4_levels(), tile::part_words(unit, lane, i), out.a);
    for (int r = 0; r < 2; ++r) {
      const uint32_t low = (head.low[r] >> (4 * i)) & 15, high = (head.high[r] >> (2 * i)) & 3;
      out.scales[0][r] = head.d[r] * codes::number(static_cast<int>(low | high << 4) - 32);
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    for (int part = 0; part < 8; ++part) {
      for (int t = 0; t < 4; ++t) {
        const int word = tile::lane_word(row, t, 2 * (part % 2) + row / 8);
        tile::put_sequence(unit + (512 * (part / 2) + word), block + (8 + 16 * part), t);
      }
    }
    tile::copy_bytes(unit + (2048 + 8 * row), block, 8);
  }
};

}  // namespace shoal::gpu

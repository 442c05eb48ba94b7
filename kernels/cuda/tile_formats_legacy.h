// Tiles of formats with blocks of 32 features: a unit is one part.
#pragma once

#include "kernels/body/blocks_legacy.h"
#include "kernels/cuda/tile_format.h"

namespace shoal::gpu {

namespace tile {

// Fifth bits behind the nibbles, 64 B: [lane] a byte per row: features 4t … at bits 0 … 3, 16 + 4t
// … at bits 4 … 7.
inline constexpr uint32_t kFifthBits = 256;
template <class Unit>
SHOAL_SIMT void add_fifth_bits(const Unit& unit, uint32_t lane, uint32_t (&a)[4]) {
  const uint32_t bits = vector_view<uint16_t>(unit)[kFifthBits / 2 + lane];
  for (int r = 0; r < 2; ++r) {
    a[r] |= codes::spread(bits >> (8 * r)) << 4;
    a[2 + r] |= codes::spread(bits >> (8 * r + 4)) << 4;
  }
}
template <class Blocks, class Unit>
SHOAL_SIMT void put_fifth_bits(const Blocks& stored, int row, const Unit& unit) {
  const uint32_t bits = body::load_u32(stored);
  for (int t = 0; t < 4; ++t) {
    unit[kFifthBits + 2 * lane_of(row, t) + row / 8] =
        static_cast<uint8_t>(((bits >> (4 * t)) & 15) | ((bits >> (16 + 4 * t)) & 15) << 4);
  }
}

// d and m of rows g and g + 8.
template <class Unit>
SHOAL_SIMT void scale_and_minimum(const Unit& unit, uint32_t first_byte, uint32_t lane,
                                  TilePart& out) {
  const auto words = vector_view<uint32_t>(unit) + (first_byte / 4 + lane / 4);
  for (int r = 0; r < 2; ++r) {
    const uint32_t both = words[8 * r];
    out.scales[0][r] = low_half(both);
    out.minima[0][r] = -high_half(both);
  }
}

}  // namespace tile

// 288 B: nibbles; 256: [row] d.
template <>
struct TileFormat<TensorType::kQ4_0> : tile::BlockOf32<TileFormat<TensorType::kQ4_0>> {
  static constexpr int kZero = 8;
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    tile::split_nibbles(tile::first_words(unit, lane), out.a);
    tile::row_halves(unit, 256, lane, out.scales[0]);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_first_nibbles(block + 2, row, unit);
    tile::copy_bytes(unit + (256 + 2 * row), block, 2);
  }
};

// 320 B: nibbles; 256: [row] d, m.
template <>
struct TileFormat<TensorType::kQ4_1> : tile::BlockOf32<TileFormat<TensorType::kQ4_1>> {
  static constexpr bool kMinima = true;
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    tile::split_nibbles(tile::first_words(unit, lane), out.a);
    tile::scale_and_minimum(unit, 256, lane, out);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_first_nibbles(block + 4, row, unit);
    tile::copy_bytes(unit + (256 + 4 * row), block, 4);
  }
};

// 352 B: nibbles; 256: fifth bits; 320: [row] d.
template <>
struct TileFormat<TensorType::kQ5_0> : tile::BlockOf32<TileFormat<TensorType::kQ5_0>> {
  static constexpr int kZero = 16;
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    tile::split_nibbles(tile::first_words(unit, lane), out.a);
    tile::add_fifth_bits(unit, lane, out.a);
    tile::row_halves(unit, 320, lane, out.scales[0]);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_first_nibbles(block + 6, row, unit);
    tile::put_fifth_bits(block + 2, row, unit);
    tile::copy_bytes(unit + (320 + 2 * row), block, 2);
  }
};

// 384 B: nibbles; 256: fifth bits; 320: [row] d, m.
template <>
struct TileFormat<TensorType::kQ5_1> : tile::BlockOf32<TileFormat<TensorType::kQ5_1>> {
  static constexpr bool kMinima = true;
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    tile::split_nibbles(tile::first_words(unit, lane), out.a);
    tile::add_fifth_bits(unit, lane, out.a);
    tile::scale_and_minimum(unit, 320, lane, out);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_first_nibbles(block + 8, row, unit);
    tile::put_fifth_bits(block + 4, row, unit);
    tile::copy_bytes(unit + (320 + 4 * row), block, 4);
  }
};

// 544 B: [lane] features 4t …: row g, row g + 8, features 16 + 4t …: row g, row g + 8; 512: [row]
// d.
template <>
struct TileFormat<TensorType::kQ8_0> : tile::BlockOf32<TileFormat<TensorType::kQ8_0>> {
  static constexpr bool kSigned = true;
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    const U32x4 w = vector_view<U32x4>(unit)[lane];
    out.a[0] = w.x, out.a[1] = w.y, out.a[2] = w.z, out.a[3] = w.w;
    tile::row_halves(unit, 512, lane, out.scales[0]);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      tile::copy_bytes(unit + tile::lane_word(row, t, row / 8), block + (2 + 4 * t), 4);
      tile::copy_bytes(unit + tile::lane_word(row, t, 2 + row / 8), block + (2 + 16 + 4 * t), 4);
    }
    tile::copy_bytes(unit + (512 + 2 * row), block, 2);
  }
};

// 288 B: sequence; 256: [row] d.
template <>
struct TileFormat<TensorType::kIQ4_NL> : tile::BlockOf32<TileFormat<TensorType::kIQ4_NL>> {
  static constexpr bool kSigned = true;
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    tile::look_up_sequence(codes::iq4_levels(), tile::first_words(unit, lane), out.a);
    tile::row_halves(unit, 256, lane, out.scales[0]);
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_first_sequence(block + 2, row, unit);
    tile::copy_bytes(unit + (256 + 2 * row), block, 2);
  }
};

}  // namespace shoal::gpu

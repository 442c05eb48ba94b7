// Tiles of plain numbers: a unit is 32 features, products are of floats.
#pragma once

#include "kernels/cuda/tile_format.h"

namespace shoal::gpu {

namespace tile {

// 1024 B: [row g, row g + 8][lane] features 8t … 8t + 7. Self::low and high: the numbers of a word.
template <class Self>
struct SixteenBits : FloatFormat<Self> {
  template <class Ctx, class Unit>
  SHOAL_SIMT static void load(Ctx& ctx, const Unit& unit, float (&w)[2][8]) {
    const auto words = vector_view<U32x4>(unit) + ctx.lane();
    SHOAL_UNROLL
    for (int r = 0; r < 2; ++r) {
      const U32x4 v = words[32 * r];
      const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
      SHOAL_UNROLL
      for (int i = 0; i < 4; ++i) {
        w[r][2 * i] = Self::low(pairs[i]);
        w[r][2 * i + 1] = Self::high(pairs[i]);
      }
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& numbers, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      copy_bytes(unit + (512 * (row / 8) + 16 * lane_of(row, t)), numbers + 16 * t, 16);
    }
  }
};

}  // namespace tile

template <>
struct TileFormat<TensorType::kF16> : tile::SixteenBits<TileFormat<TensorType::kF16>> {
  SHOAL_SIMT static float low(uint32_t word) { return tile::low_half(word); }
  SHOAL_SIMT static float high(uint32_t word) { return tile::high_half(word); }
};

template <>
struct TileFormat<TensorType::kBF16> : tile::SixteenBits<TileFormat<TensorType::kBF16>> {
  SHOAL_SIMT static float low(uint32_t word) { return body::float_from_bits(word << 16); }
  SHOAL_SIMT static float high(uint32_t word) { return body::float_from_bits(word & 0xffff0000u); }
};

// 2048 B: [row g, row g + 8][features 8t …, 8t + 4 …][lane] four of them.
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
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& numbers, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      for (int half = 0; half < 2; ++half) {
        tile::copy_bytes(unit + (1024 * (row / 8) + 512 * half + 16 * tile::lane_of(row, t)),
                         numbers + (32 * t + 16 * half), 16);
      }
    }
  }
};

}  // namespace shoal::gpu

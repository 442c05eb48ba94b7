// Tiles of ternary and micro-scaled 4-bit float formats.
#pragma once

#include "kernels/body/blocks_small.h"
#include "kernels/cuda/tile_format.h"

namespace shoal::gpu {

// 272 B: sequence; 256: [row] scale. Codes are twice the values plus 12.
template <>
struct TileFormat<TensorType::kMXFP4> : tile::BlockOf32<TileFormat<TensorType::kMXFP4>> {
  static constexpr int kZero = 12;
  // Of four nibbles. A selector above 7 yields the sign of a byte, and no table byte has one: 0.
  SHOAL_SIMT static uint32_t codes(uint32_t nibbles) {
    return simt::permute_bytes(0x0f0e0d0cu, 0x18141210u, nibbles) |
           simt::permute_bytes(0x090a0b0cu, 0x00040608u, nibbles ^ 0x8888u);
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, NoHead, int, tile::TilePart& out) {
    const tile::RowWords w = tile::first_words(unit, lane);
    const auto scales = unit + (256 + lane / 4);
    for (int r = 0; r < 2; ++r) {
      out.a[r] = codes(w.row[r]);
      out.a[2 + r] = codes(w.row[r] >> 16);
      out.scales[0][r] = body::e8m0_halved(uint8_t{scales[8 * r]});
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_first_sequence(block + 1, row, unit);
    unit[256 + row] = uint8_t{block[0]};
  }
};

// 576 B, two parts: sequence as [lane][part][row]; 512: [row] scales[4].
template <>
struct TileFormat<TensorType::kNVFP4> : tile::CodedFormat<TileFormat<TensorType::kNVFP4>> {
  static constexpr int kParts = 2;
  static constexpr bool kSigned = true, kHalves = true;

  struct Head {
    uint32_t scales[2];
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    const auto words = vector_view<uint32_t>(unit) + (512 / 4 + lane / 4);
    return {{words[0], words[8]}};
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::look_up_sequence(codes::e2m1_levels(), tile::part_words(unit, lane, i), out.a);
    for (int r = 0; r < 2; ++r) {
      for (int h = 0; h < 2; ++h) {
        out.scales[h][r] = body::ue4m3_halved((head.scales[r] >> (8 * (2 * i + h))) & 255);
      }
    }
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    for (int at = 0; at < 8; ++at) {  // parts × t
      const int part = at / 4, t = at % 4;
      // As body::Block<kNVFP4> takes them apart: eight bytes per 16 features.
      const auto bytes = block + (4 + 16 * part + 4 * (t % 2));
      const auto word = unit + tile::lane_word(row, t, 2 * part + row / 8);
      for (int j = 0; j < 4; ++j) {
        const auto nibble = [&](int half, int k) {
          return (uint8_t{bytes[8 * half + k]} >> (4 * (t / 2))) & 15;
        };
        const int half = j / 2, k = 2 * (j % 2);
        word[j] = static_cast<uint8_t>(nibble(half, k) | nibble(half, k + 1) << 4);
      }
    }
    tile::copy_bytes(unit + (512 + 4 * row), block, 4);
  }
};

// 1056 B: pairs; 1024: [row] d.
template <>
struct TileFormat<TensorType::kTQ2_0> : tile::CodedFormat<TileFormat<TensorType::kTQ2_0>> {
  static constexpr int kParts = 8, kZero = 1;
  static constexpr int kSumParts = 1;

  struct Head {
    float d[2];
  };
  template <class Unit>
  SHOAL_SIMT static Head head(const Unit& unit, uint32_t lane) {
    Head out;
    tile::row_halves(unit, 1024, lane, out.d);
    return out;
  }
  template <class Unit>
  SHOAL_SIMT static void part(const Unit& unit, uint32_t lane, const Head& head, int i,
                              tile::TilePart& out) {
    tile::split_pairs(tile::pair_words(vector_view<U32x4>(unit), lane, i), out.a);
    for (int r = 0; r < 2; ++r) out.scales[0][r] = head.d[r];
  }
  template <class Blocks, class Unit>
  SHOAL_SIMT static void put(const Blocks& block, int row, const Unit& unit) {
    tile::put_pairs(unit, row, [&](int part, int i) { return body::two_bit_code(block, part, i); });
    tile::copy_bytes(unit + (1024 + 2 * row), block + 64, 2);
  }
};

}  // namespace shoal::gpu

// How a row's blocks of the file go into a unit of a tile (weight_tiles.h has the layouts):
// TilePut<type>::row(blocks, row, unit), `row` of the tile, 0 … 15. Every row has bytes of its own
// in a unit, so rows may come in any order and at the same time. Pointers to bytes, of the host or
// of a kernel.
#pragma once

#include <cstdint>

#include "kernels/cuda/simt.h"
#include "kernels/cuda/weight_tiles.h"

namespace shoal::gpu {

template <TensorType type>
struct TilePut;

namespace tile {

SHOAL_SIMT int lane_of(int row, int t) { return 4 * (row % 8) + t; }

// Where word `index` of the 16 bytes that a lane loads from a plane stands.
SHOAL_SIMT int lane_word(int row, int t, int index) { return 16 * lane_of(row, t) + 4 * index; }

template <class From, class To>
SHOAL_SIMT void copy_bytes(const To& to, const From& from, int count) {
  for (int i = 0; i < count; ++i) to[i] = uint8_t{from[i]};
}

// Nibbles of parts 2 · pair and 2 · pair + 1 where code(part, feature) yields them.
template <class Unit, class Code>
SHOAL_SIMT void put_nibbles(const Unit& unit, int row, Code&& code) {
  for (int part = 0; part < 8; ++part) {
    for (int t = 0; t < 4; ++t) {
      const auto word = unit + (512 * (part / 2) + lane_word(row, t, 2 * (part % 2) + row / 8));
      for (int j = 0; j < 4; ++j) {
        word[j] = static_cast<uint8_t>(code(part, 4 * t + j) | code(part, 16 + 4 * t + j) << 4);
      }
    }
  }
}

}  // namespace tile

template <>
struct TilePut<TensorType::kQ4_K> {
  template <class Blocks, class Unit>
  SHOAL_SIMT static void row(const Blocks& block, int row, const Unit& unit) {
    tile::put_nibbles(unit, row, [&](int part, int i) {
      return (uint8_t{block[16 + 32 * (part / 2) + i]} >> (4 * (part % 2))) & 15;
    });
    tile::copy_bytes(unit + (2048 + 16 * row), block, 16);
  }
};

template <>
struct TilePut<TensorType::kQ6_K> {
  template <class Blocks, class Unit>
  SHOAL_SIMT static void row(const Blocks& block, int row, const Unit& unit) {
    // As body::Block<kQ6_K> takes them apart.
    tile::put_nibbles(unit, row, [&](int part, int i) {
      return (uint8_t{block[64 * (part / 4) + 32 * (part % 2) + i]} >> (4 * (part % 4 / 2))) & 15;
    });
    const auto high = [&](int part, int i) {
      return (uint8_t{block[128 + 32 * (part / 4) + i]} >> (2 * (part % 4))) & 3;
    };
    for (int q = 0; q < 4; ++q) {
      for (int t = 0; t < 4; ++t) {
        const auto word =
            unit + (2048 + 512 * (q / 2) + tile::lane_word(row, t, 2 * (q % 2) + row / 8));
        for (int j = 0; j < 4; ++j) {
          const int i = 4 * t + j;
          word[j] = static_cast<uint8_t>(high(2 * q, i) | high(2 * q, 16 + i) << 2 |
                                         high(2 * q + 1, i) << 4 | high(2 * q + 1, 16 + i) << 6);
        }
      }
    }
    tile::copy_bytes(unit + (3072 + 16 * row), block + 192, 16);
    tile::copy_bytes(unit + (3328 + 2 * row), block + 208, 2);
  }
};

template <>
struct TilePut<TensorType::kQ8_0> {
  template <class Blocks, class Unit>
  SHOAL_SIMT static void row(const Blocks& block, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      tile::copy_bytes(unit + tile::lane_word(row, t, row / 8), block + (2 + 4 * t), 4);
      tile::copy_bytes(unit + tile::lane_word(row, t, 2 + row / 8), block + (2 + 16 + 4 * t), 4);
    }
    tile::copy_bytes(unit + (512 + 2 * row), block, 2);
  }
};

template <>
struct TilePut<TensorType::kMXFP4> {
  template <class Blocks, class Unit>
  SHOAL_SIMT static void row(const Blocks& block, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      const auto word = unit + (8 * tile::lane_of(row, t) + 4 * (row / 8));
      for (int j = 0; j < 4; j += 2) {
        // Low nibbles: features 4t …; high: 16 + 4t …
        const int first = uint8_t{block[1 + 4 * t + j]}, second = uint8_t{block[2 + 4 * t + j]};
        word[j / 2] = static_cast<uint8_t>((first & 15) | (second & 15) << 4);
        word[2 + j / 2] = static_cast<uint8_t>(first >> 4 | (second >> 4) << 4);
      }
    }
    unit[256 + row] = uint8_t{block[0]};
  }
};

template <>
struct TilePut<TensorType::kF16> {
  template <class Blocks, class Unit>
  SHOAL_SIMT static void row(const Blocks& numbers, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      tile::copy_bytes(unit + (512 * (row / 8) + 16 * tile::lane_of(row, t)), numbers + 16 * t, 16);
    }
  }
};

template <>
struct TilePut<TensorType::kF32> {
  template <class Blocks, class Unit>
  SHOAL_SIMT static void row(const Blocks& numbers, int row, const Unit& unit) {
    for (int t = 0; t < 4; ++t) {
      for (int half = 0; half < 2; ++half) {
        tile::copy_bytes(unit + (1024 * (row / 8) + 512 * half + 16 * tile::lane_of(row, t)),
                         numbers + (32 * t + 16 * half), 16);
      }
    }
  }
};

// Rows [first_row, first_row + grid.x …) of a weight as the file has them, put into its units: a
// thread per row and unit.
struct PutRowsParams {
  simt::Global<const uint8_t> from;  // [count, row_bytes]
  simt::Global<uint8_t> to;          // the weight
  int64_t first_row = 0, count = 0;
  int64_t row_bytes = 0;
  int64_t units = 0;  // per tile
};

template <TensorType type>
struct PutRows {
  static constexpr const char* kName = "put_rows";
  static constexpr uint32_t kThreads = 128, kMaxThreads = kThreads, kMinBlocks = 1;
  static constexpr int64_t kUnitBytes = static_cast<int64_t>(tile_unit_bytes(type));
  static constexpr int64_t kShare = kUnitBytes / kTileRows;  // of a row in a unit
  using Params = PutRowsParams;

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t at = int64_t{ctx.block().x} * kThreads + ctx.thread().x;
    if (at >= p.count * p.units) return;
    const int64_t r = at / p.units, u = at % p.units, row = p.first_row + r;
    const auto from = ctx.global(p.from) + (r * p.row_bytes + u * kShare);
    const auto unit = ctx.global(p.to) + (row / kTileRows * p.units + u) * kUnitBytes;
    const int64_t left = p.row_bytes - u * kShare;
    if (left >= kShare) return TilePut<type>::row(from, static_cast<int>(row % kTileRows), unit);
    uint8_t last[kShare] = {};  // plain numbers whose row ends within a unit
    for (int64_t i = 0; i < left; ++i) last[i] = uint8_t{from[i]};
    TilePut<type>::row(static_cast<const uint8_t*>(last), static_cast<int>(row % kTileRows), unit);
  }
};

}  // namespace shoal::gpu

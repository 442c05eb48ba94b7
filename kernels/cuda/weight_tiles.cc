#include "kernels/cuda/weight_tiles.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace shoal::gpu {
namespace {

// One row's share of a unit: blocks of the file, the row within the tile, the unit.
using PutRow = void (*)(const uint8_t* blocks, int row, uint8_t* unit);

int lane_of(int row, int t) { return 4 * (row % 8) + t; }

// Word `index` of the 16 bytes that a lane loads from `plane`.
uint8_t* lane_word(uint8_t* plane, int row, int t, int index) {
  return plane + 16 * lane_of(row, t) + 4 * index;
}

// Nibbles of parts 2 · pair and 2 · pair + 1 where code(part, feature) yields them.
template <class Code>
void put_nibbles(uint8_t* unit, int row, Code&& code) {
  for (int part = 0; part < 8; ++part) {
    for (int t = 0; t < 4; ++t) {
      uint8_t* word = lane_word(unit + 512 * (part / 2), row, t, 2 * (part % 2) + row / 8);
      for (int j = 0; j < 4; ++j) {
        word[j] = static_cast<uint8_t>(code(part, 4 * t + j) | code(part, 16 + 4 * t + j) << 4);
      }
    }
  }
}

void put_q4_k(const uint8_t* block, int row, uint8_t* unit) {
  put_nibbles(unit, row, [&](int part, int i) {
    return (block[16 + 32 * (part / 2) + i] >> (4 * (part % 2))) & 15;
  });
  std::memcpy(unit + 2048 + 16 * row, block, 16);
}

void put_q6_k(const uint8_t* block, int row, uint8_t* unit) {
  // As body::Block<kQ6_K> takes them apart.
  put_nibbles(unit, row, [&](int part, int i) {
    const uint8_t* low = block + 64 * (part / 4) + 32 * (part % 2);
    return (low[i] >> (4 * (part % 4 / 2))) & 15;
  });
  const auto high = [&](int part, int i) {
    return (block[128 + 32 * (part / 4) + i] >> (2 * (part % 4))) & 3;
  };
  for (int q = 0; q < 4; ++q) {
    for (int t = 0; t < 4; ++t) {
      uint8_t* word = lane_word(unit + 2048 + 512 * (q / 2), row, t, 2 * (q % 2) + row / 8);
      for (int j = 0; j < 4; ++j) {
        const int i = 4 * t + j;
        word[j] = static_cast<uint8_t>(high(2 * q, i) | high(2 * q, 16 + i) << 2 |
                                       high(2 * q + 1, i) << 4 | high(2 * q + 1, 16 + i) << 6);
      }
    }
  }
  std::memcpy(unit + 3072 + 16 * row, block + 192, 16);
  std::memcpy(unit + 3328 + 2 * row, block + 208, 2);
}

void put_q8_0(const uint8_t* block, int row, uint8_t* unit) {
  for (int t = 0; t < 4; ++t) {
    std::memcpy(lane_word(unit, row, t, row / 8), block + 2 + 4 * t, 4);
    std::memcpy(lane_word(unit, row, t, 2 + row / 8), block + 2 + 16 + 4 * t, 4);
  }
  std::memcpy(unit + 512 + 2 * row, block, 2);
}

void put_mxfp4(const uint8_t* block, int row, uint8_t* unit) {
  for (int t = 0; t < 4; ++t) {
    uint8_t* word = unit + 8 * lane_of(row, t) + 4 * (row / 8);
    for (int j = 0; j < 4; j += 2) {
      const uint8_t* pair = block + 1 + 4 * t + j;  // low nibbles: features 4t …; high: 16 + 4t …
      word[j / 2] = static_cast<uint8_t>((pair[0] & 15) | (pair[1] & 15) << 4);
      word[2 + j / 2] = static_cast<uint8_t>(pair[0] >> 4 | (pair[1] >> 4) << 4);
    }
  }
  unit[256 + row] = block[0];
}

void put_f16(const uint8_t* numbers, int row, uint8_t* unit) {
  for (int t = 0; t < 4; ++t) {
    std::memcpy(unit + 512 * (row / 8) + 16 * lane_of(row, t), numbers + 16 * t, 16);
  }
}

void put_f32(const uint8_t* numbers, int row, uint8_t* unit) {
  for (int t = 0; t < 4; ++t) {
    for (int half = 0; half < 2; ++half) {
      std::memcpy(unit + 1024 * (row / 8) + 512 * half + 16 * lane_of(row, t),
                  numbers + 32 * t + 16 * half, 16);
    }
  }
}

PutRow put_row(TensorType type) {
  switch (type) {
    case TensorType::kQ4_K:
      return put_q4_k;
    case TensorType::kQ6_K:
      return put_q6_k;
    case TensorType::kQ8_0:
      return put_q8_0;
    case TensorType::kMXFP4:
      return put_mxfp4;
    case TensorType::kF16:
      return put_f16;
    case TensorType::kF32:
      return put_f32;
    default:
      return nullptr;
  }
}

}  // namespace

WeightTiles weight_tiles(const WeightSlice& slice) {
  const int64_t features = tile_unit_features(slice.type);
  SHOAL_CHECK(features > 0, "a type without a tiled layout");
  const int64_t stored = slice.block_count() * traits(slice.type).block_elems;
  return {.type = slice.type,
          .rows = slice.rows,
          .tiles = (slice.rows + kTileRows - 1) / kTileRows,
          .units = (stored + features - 1) / features};
}

void tile_rows(const WeightSlice& slice, int64_t first_row, std::span<const uint8_t> rows,
               uint8_t* out) {
  const WeightTiles tiles = weight_tiles(slice);
  const PutRow put = put_row(slice.type);
  const uint64_t row_bytes = slice.slice_row_bytes();
  if (rows.empty() || row_bytes == 0) return;
  const uint64_t count = rows.size() / row_bytes;
  SHOAL_CHECK(first_row >= 0 && count * row_bytes == rows.size() &&
                  static_cast<uint64_t>(first_row) + count <= static_cast<uint64_t>(slice.rows),
              "rows outside the weight");
  const uint64_t unit_bytes = tile_unit_bytes(slice.type);
  const uint64_t share = unit_bytes / kTileRows;  // of a row in a unit
  for (uint64_t r = 0; r < count; ++r) {
    const uint8_t* from = rows.data() + r * row_bytes;
    const int64_t row = first_row + static_cast<int64_t>(r);
    uint8_t* unit = out + static_cast<uint64_t>(row / kTileRows * tiles.units) * unit_bytes;
    const int in_tile = static_cast<int>(row % kTileRows);
    for (int64_t u = 0; u < tiles.units; ++u, unit += unit_bytes) {
      const uint64_t at = static_cast<uint64_t>(u) * share;
      if (at + share <= row_bytes) {
        put(from + at, in_tile, unit);
        continue;
      }
      uint8_t last[128] = {};  // plain numbers whose row ends within a unit
      SHOAL_CHECK(share <= sizeof(last), "a block that ends within a unit");
      std::memcpy(last, from + at, row_bytes - at);
      put(last, in_tile, unit);
    }
  }
}

}  // namespace shoal::gpu

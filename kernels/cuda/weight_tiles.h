// Weights in the order tensor cores take them (WeightLayout::kTiles), and how file rows get there.
//
// A tile is 16 rows; along the features it is cut into units of 256 (types with blocks of 256) or
// 32 features, each exactly as large as the file's 16 blocks: memory does not grow, every unit
// starts at a multiple of 16 bytes, and a unit is one sequential read. Tile after tile, unit after
// unit. Rows beyond the last are zeros.
//
// Inside a unit a lane of a warp finds what it needs in one piece. g = lane / 4, t = lane % 4; the
// lane has rows g and g + 8 of the tile; "nibbles of part p": a word for row g, a word for row g +
// 8, whose byte j holds feature 32p + 4t + j low and 32p + 16 + 4t + j high.
//
//   Q4_K   2304 B  0: [pair of parts 4][lane] nibbles of both parts; 2048: [row] d, dmin,
//   scales[12] Q6_K   3360 B  0: low nibbles as Q4_K; 2048: [half 2][lane] two words per row: the
//   one of parts
//                  2q, 2q + 1 holds in byte j, from bit 0 up, the high bits of features 64q + 4t +
//                  j, … + 16, … + 32, … + 48, as [q][row]; 3072: [row] scales[16]; 3328: [row] d
//   Q8_0    544 B  0: [lane] features 4t …: row g, row g + 8, features 16 + 4t …: row g, row g + 8;
//                  512: [row] d
//   MXFP4   272 B  0: [lane] a word per row, nibble j of its low half feature 4t + j, of its high
//   half
//                  16 + 4t + j; 256: [row] scale
//   F16    1024 B  [row g, row g + 8][lane] features 8t … 8t + 7
//   F32    2048 B  [row g, row g + 8][features 8t …, 8t + 4 …][lane] four of them
#pragma once

#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "model/tensor_type.h"

namespace shoal::gpu {

inline constexpr int kTileRows = 16;

template <TensorType... types>
struct TileTypeList {};
using TileTypes = TileTypeList<TensorType::kQ4_K, TensorType::kQ6_K, TensorType::kQ8_0,
                               TensorType::kMXFP4, TensorType::kF16, TensorType::kF32>;

// Features of a unit; 0 for types without this layout.
constexpr int tile_unit_features(TensorType type) {
  switch (type) {
    case TensorType::kQ4_K:
    case TensorType::kQ6_K:
      return 256;
    case TensorType::kQ8_0:
    case TensorType::kMXFP4:
    case TensorType::kF16:
    case TensorType::kF32:
      return 32;
    default:
      return 0;
  }
}

constexpr uint64_t tile_unit_bytes(TensorType type) {
  const TensorTypeTraits& t = kTensorTypes[static_cast<uint32_t>(type)];
  return tile_unit_features(type) == 0 ? 0
                                       : static_cast<uint64_t>(tile_unit_features(type)) /
                                             t.block_elems * t.block_bytes * kTileRows;
}

// Where the units of a weight lie.
struct WeightTiles {
  TensorType type = TensorType::kF32;
  int64_t rows = 0;
  int64_t tiles = 0;  // of kTileRows rows
  int64_t units = 0;  // per tile

  uint64_t bytes() const {
    return static_cast<uint64_t>(tiles) * static_cast<uint64_t>(units) * tile_unit_bytes(type);
  }
};

// Types whose products with tiles take int8 codes of the activations, never their floats.
constexpr bool tile_takes_codes(TensorType type) {
  return type != TensorType::kF16 && type != TensorType::kF32;
}

// REQUIRES: tile_unit_features(slice.type) > 0.
WeightTiles weight_tiles(const WeightSlice& slice);

// Puts rows [first_row, first_row + n), `rows` holding slice_row_bytes() × n bytes as in the file,
// into `out`, which is the whole weight and started as zeros. Host memory; thread-safe for
// disjoint rows.
void tile_rows(const WeightSlice& slice, int64_t first_row, std::span<const uint8_t> rows,
               uint8_t* out);

}  // namespace shoal::gpu

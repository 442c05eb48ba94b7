// Weights in the order tensor cores take them (WeightLayout::kTiles), and how file rows get there.
//
// A tile is 16 rows; along the features it is cut into units of one block of the file, at least 32
// features. A unit is exactly as large as the file's blocks of its 16 rows: memory does not grow,
// every unit starts at a multiple of 16 bytes and is one sequential read. Tile after tile, unit
// after unit. Rows beyond the last are zeros. What is where in a unit: tile_format.h and the
// formats in tile_formats_*.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "model/tensor_type.h"

namespace shoal::gpu {

inline constexpr int kTileRows = 16;

template <TensorType... types>
struct TileTypeList {};
using TileTypes =
    TileTypeList<TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kQ4_0,
                 TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ8_0,
                 TensorType::kIQ4_NL, TensorType::kMXFP4, TensorType::kQ2_K, TensorType::kQ3_K,
                 TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K, TensorType::kIQ4_XS,
                 TensorType::kTQ2_0, TensorType::kNVFP4>;

template <TensorType... types>
constexpr bool is_in(TileTypeList<types...>, TensorType type) {
  return ((type == types) || ...);
}

// Features of a unit; 0 for types without this layout.
constexpr int tile_unit_features(TensorType type) {
  if (!is_in(TileTypes{}, type)) return 0;
  return std::max(32, static_cast<int>(kTensorTypes[static_cast<uint32_t>(type)].block_elems));
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
  return kTensorTypes[static_cast<uint32_t>(type)].block_elems > 1;
}

// REQUIRES: tile_unit_features(slice.type) > 0.
WeightTiles weight_tiles(const WeightSlice& slice);

// Puts rows [first_row, first_row + n), `rows` holding slice_row_bytes() × n bytes as in the file,
// into `out`, which is the whole weight and started as zeros. Host memory; thread-safe for
// disjoint rows.
void tile_rows(const WeightSlice& slice, int64_t first_row, std::span<const uint8_t> rows,
               uint8_t* out);

}  // namespace shoal::gpu

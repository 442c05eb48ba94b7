#include "kernels/cuda/weight_tiles.h"

#include <cstring>

#include "base/check.h"
#include "kernels/cuda/tile_formats.h"

namespace shoal::gpu {
namespace {

using PutRow = void (*)(const uint8_t* blocks, int row, uint8_t* unit);

template <TensorType type>
void put(const uint8_t* blocks, int row, uint8_t* unit) {
  static_assert(tile_unit_features(type) == 32 * TileFormat<type>::kParts);
  static_assert(tile_takes_codes(type) == TileFormat<type>::kInteger);
  TileFormat<type>::put(blocks, row, unit);
}

template <TensorType... types>
PutRow put_row(TileTypeList<types...>, TensorType type) {
  PutRow found = nullptr;
  ((found = type == types ? put<types> : found), ...);
  return found;
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
  const PutRow put_blocks = put_row(TileTypes{}, slice.type);
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
        put_blocks(from + at, in_tile, unit);
        continue;
      }
      uint8_t last[128] = {};  // plain numbers whose row ends within a unit
      SHOAL_CHECK(share <= sizeof(last), "a block that ends within a unit");
      std::memcpy(last, from + at, row_bytes - at);
      put_blocks(last, in_tile, unit);
    }
  }
}

}  // namespace shoal::gpu

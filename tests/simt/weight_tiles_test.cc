// Tiles hold the file's bits, each at one place of its own, and nothing else.
#include "kernels/cuda/weight_tiles.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/formats/encode.h"

namespace shoal::gpu {
namespace {

template <TensorType... types>
std::vector<TensorType> values_of(TileTypeList<types...>) {
  return {types...};
}

// Where bit b of a row's share of a unit stands in the unit: bit [row][b].
using Places = std::vector<std::vector<uint64_t>>;

WeightSlice one_unit(TensorType type) {
  const int64_t features = tile_unit_features(type);
  return {type, kTileRows, features, 0, features};
}

// Found by tiling rows that have one bit set. Fails unless every bit of a unit is that of one
// place.
Places find_places(TensorType type) {
  const WeightSlice slice = one_unit(type);
  const uint64_t row = slice.slice_row_bytes(), unit = tile_unit_bytes(type);
  std::vector<bool> taken(8 * unit);
  Places places(kTileRows, std::vector<uint64_t>(8 * row));
  for (int64_t r = 0; r < kTileRows; ++r) {
    for (uint64_t b = 0; b < 8 * row; ++b) {
      std::vector<uint8_t> bytes(row), tiled(unit);
      bytes[b / 8] = static_cast<uint8_t>(1 << b % 8);
      tile_rows(slice, r, bytes, tiled.data());
      uint64_t found = 0, at = 0;
      for (uint64_t i = 0; i < unit; i += 8) {
        uint64_t word;
        std::memcpy(&word, tiled.data() + i, 8);
        if (word == 0) continue;
        found += static_cast<uint64_t>(std::popcount(word));
        at = 8 * i + static_cast<uint64_t>(std::countr_zero(word));
      }
      EXPECT_EQ(found, 1u) << "row " << r << ", bit " << b;
      EXPECT_FALSE(taken[at]) << "row " << r << ", bit " << b << " has the place of another";
      taken[at] = true;
      places[static_cast<size_t>(r)][b] = at;
    }
  }
  EXPECT_EQ(std::count(taken.begin(), taken.end(), true), static_cast<int64_t>(8 * unit));
  return places;
}

// The rows a tiled weight was made of.
std::vector<uint8_t> rows_of(const WeightSlice& slice, const std::vector<uint8_t>& tiled,
                             const Places& places) {
  const WeightTiles tiles = weight_tiles(slice);
  const uint64_t share = tile_unit_bytes(slice.type) / kTileRows, row = slice.slice_row_bytes();
  std::vector<uint8_t> out(static_cast<size_t>(slice.rows) * row);
  for (int64_t r = 0; r < slice.rows; ++r) {
    const auto& of_row = places[static_cast<size_t>(r % kTileRows)];
    for (uint64_t byte = 0; byte < row; ++byte) {
      const auto unit = static_cast<uint64_t>(r / kTileRows * tiles.units) + byte / share;
      const uint8_t* from = tiled.data() + unit * tile_unit_bytes(slice.type);
      int value = 0;
      for (uint64_t b = 0; b < 8; ++b) {
        const uint64_t at = of_row[8 * (byte % share) + b];
        value |= ((from[at / 8] >> (at % 8)) & 1) << b;
      }
      out[static_cast<uint64_t>(r) * row + byte] = static_cast<uint8_t>(value);
    }
  }
  return out;
}

class WeightTilesTest : public ::testing::TestWithParam<TensorType> {};

TEST_P(WeightTilesTest, UnitsAreWholeVectorsOfTheFilesBytes) {
  const TensorType type = GetParam();
  const auto features = static_cast<uint64_t>(tile_unit_features(type));
  EXPECT_EQ(features % 32, 0u);
  EXPECT_EQ(tile_unit_bytes(type), kTileRows * row_bytes(type, features));
  EXPECT_EQ(tile_unit_bytes(type) % 16, 0u);
}

// Rows of a shard, in pieces and in any order: they come back, and rows beyond the last are zeros.
TEST_P(WeightTilesTest, RowsComeBack) {
  const TensorType type = GetParam();
  const Places places = find_places(type);
  const int64_t features = tile_unit_features(type);
  const bool plain = traits(type).block_elems == 1;
  Rng rng(1);
  for (const int64_t rows : {1, 15, 16, 37}) {
    // Plain numbers may end within a unit.
    const int64_t cols = 3 * features - (plain ? 5 : 0);
    const WeightSlice slice = {type, rows, cols, 0, cols};
    const uint64_t row = slice.slice_row_bytes();
    std::vector<uint8_t> file(static_cast<size_t>(rows) * row);
    for (int64_t r = 0; r < rows; ++r) {
      random_row(type, rng, 1.0f, cols, file.data() + static_cast<uint64_t>(r) * row);
    }
    std::vector<int64_t> pieces;  // first rows
    for (int64_t r = 0; r < rows; r += 3) pieces.push_back(r);
    for (size_t i = pieces.size(); i > 1; --i) std::swap(pieces[i - 1], pieces[rng.below(i)]);
    std::vector<uint8_t> tiled(weight_tiles(slice).bytes());
    for (const int64_t first : pieces) {
      const auto count = static_cast<uint64_t>(std::min<int64_t>(3, rows - first));
      tile_rows(slice, first, {file.data() + static_cast<uint64_t>(first) * row, count * row},
                tiled.data());
    }
    EXPECT_TRUE(rows_of(slice, tiled, places) == file) << rows << " rows";
    // Bits of rows that do not exist.
    uint64_t set = 0, stored = 0;
    for (const uint8_t byte : tiled) set += static_cast<uint64_t>(std::popcount(byte));
    for (const uint8_t byte : file) stored += static_cast<uint64_t>(std::popcount(byte));
    EXPECT_EQ(set, stored) << rows << " rows";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, WeightTilesTest, ::testing::ValuesIn(values_of(TileTypes{})),
                         [](const auto& type) { return std::string(traits(type.param).name); });

}  // namespace
}  // namespace shoal::gpu

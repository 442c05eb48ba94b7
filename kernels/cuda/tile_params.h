// What the kernels of tiled weights are told: products (tile_product.h), rows to put into tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/activations.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/simt.h"
#include "kernels/cuda/weight_tiles.h"

namespace shoal::gpu {

inline constexpr int kMaxTileWeights = 4;  // of one launch

// The units of a launch, cut into runs: the first `longer` have `units` + 1, the others `units`.
struct TileRuns {
  int32_t count = 0, units = 0, longer = 0;

  SHOAL_SIMT int32_t first(int32_t run) const {
    return run * units + (run < longer ? run : longer);
  }
  SHOAL_SIMT int32_t owner(int32_t unit) const {
    const auto in_longer = static_cast<uint32_t>(longer * (units + 1));
    const auto u = static_cast<uint32_t>(unit), size = static_cast<uint32_t>(units);
    if (u < in_longer) return static_cast<int32_t>(u / (size + 1));
    return longer + static_cast<int32_t>((u - in_longer) / size);
  }
};

// At most `most` runs of `units` in all.
inline TileRuns cut_runs(int64_t units, int64_t most) {
  const int64_t count = units < most ? units : most;
  if (count == 0) return {};
  return {static_cast<int32_t>(count), static_cast<int32_t>(units / count),
          static_cast<int32_t>(units % count)};
}

// As many as fill a card, but of 8 KiB at least: whoever adds up a small weight's runs would take
// longer than they do. `share`: launches like it that the card has at a time.
inline TileRuns tile_runs(int64_t units, uint64_t unit_bytes, int64_t multiprocessors,
                          int64_t share) {
  constexpr int64_t kRunsPerMultiprocessor = 16;
  constexpr uint64_t kLeastBytes = 8192;
  const auto least = static_cast<int64_t>((kLeastBytes + unit_bytes - 1) / unit_bytes);
  return cut_runs(units, std::min((multiprocessors * kRunsPerMultiprocessor + share - 1) / share,
                                  (units + least - 1) / least));
}

// A weight of a launch. Experts: all of them.
struct TileWeight {
  Global<const uint8_t> units;  // [stored_tiles, units]
  Global<const float> bias;     // [rows] of every expert, or null
  Global<float> out;            // [activation rows or slots, out_stride]
  int64_t out_stride = 0;
  int64_t rows = 0;  // outputs; of one expert
  int32_t stored_tiles = 0;
  int32_t first_tile = 0;  // in the launch
  float scale = 1.0f;
  uint32_t accumulate = 0;
};

struct TileProductParams {
  TileWeight weights[kMaxTileWeights];
  int32_t count = 0;  // of weights
  int32_t tiles = 0;  // of all weights; of one expert of each
  int32_t units = 0;  // per tile
  TileRuns runs;
  int32_t first_part = 0;  // parts of 32 stored features in front of column 0: masked
  int32_t parts = 0;       // that count
  ActivationRows x;        // feature 0 = column 0
  int64_t x_rows = 0;
  // Experts, or null: tiles of slots, each of one expert; the activation row of a slot (null: the
  // slot itself), what multiplies its products (null: 1).
  Global<const ExpertTile> slots;
  Global<const int32_t> slot_tiles;
  Global<const int32_t> slot_rows;
  Global<const float> slot_scales;
  int32_t first_set = 0;  // the launch's first group of rows, or tile of slots
  // tile_gemv.h
  Global<F32x4> partials;     // [grid.y, runs, 2, 32]
  Global<uint32_t> arrivals;  // [grid.y, tiles]; zeros before and after
};

// Tiles that any expert's rows touch.
constexpr int64_t expert_tiles(int64_t rows) {
  return rows % kTileRows == 0 ? rows / kTileRows : (rows + kTileRows - 2) / kTileRows + 1;
}

// Rows [first_row, first_row + count) of a weight as the file has them, put into its units
// (tile_put.h).
struct PutRowsParams {
  simt::Global<const uint8_t> from;  // [count, row_bytes]
  simt::Global<uint8_t> to;          // the weight
  int64_t first_row = 0, count = 0;
  int64_t row_bytes = 0;
  int64_t units = 0;  // per tile
};

}  // namespace shoal::gpu

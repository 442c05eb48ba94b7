// Puts rows into the units of tiles, on the card.
#pragma once

#include <cstdint>

#include "kernels/cuda/simt.h"
#include "kernels/cuda/tile_formats.h"
#include "kernels/cuda/weight_tiles.h"

namespace shoal::gpu {

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
    if (left >= kShare) return TileFormat<type>::put(from, static_cast<int>(row % kTileRows), unit);
    uint8_t last[kShare] = {};  // plain numbers whose row ends within a unit
    for (int64_t i = 0; i < left; ++i) last[i] = uint8_t{from[i]};
    TileFormat<type>::put(static_cast<const uint8_t*>(last), static_cast<int>(row % kTileRows),
                          unit);
  }
};

}  // namespace shoal::gpu

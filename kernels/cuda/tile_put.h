// Puts rows into the units of tiles, on the card.
#pragma once

#include <cstdint>

#include "kernels/cuda/simt.h"
#include "kernels/cuda/tile_formats.h"
#include "kernels/cuda/tile_params.h"

namespace shoal::gpu {

// A thread per row and unit.
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
    const int in_tile = static_cast<int>(row % kTileRows);
    const int64_t left = p.row_bytes - u * kShare;
    if constexpr (traits(type).block_elems == 1) {
      if (left < kShare) {  // a row that ends within a unit
        uint8_t last[kShare] = {};
        for (int64_t i = 0; i < left; ++i) last[i] = uint8_t{from[i]};
        return TileFormat<type>::put(static_cast<const uint8_t*>(last), in_tile, unit);
      }
    }
    TileFormat<type>::put(from, in_tile, unit);
  }
};

}  // namespace shoal::gpu

// Products of tiled weights (weight_tiles.h): what the kernels for few rows (tile_gemv.h) and for
// many (tile_gemm.h) share.
//
//   out[r, o] (+)= scale · slot scale · Σ_k W[o, k] · x[r, k] + bias[o]
//
// The tiles of a launch's weights, one weight behind the other, and of a tile its units, are one
// sequence; it is cut into equal runs, ± 1 unit. What falls to one run is added up unit by
// unit; what a tile has from several runs is added in their order. The cuts follow from the weights
// and the card only. Both kernels keep to this order, so a row's result depends neither on its
// company nor on which of them computed it.
#pragma once

#include <cstdint>

#include "kernels/cuda/tile_formats.h"
#include "kernels/cuda/tile_params.h"

namespace shoal::gpu {

// Activation rows that meet the weights together.
struct TileRows {
  int64_t first = 0;  // of the results
  int32_t count = 0;
  int32_t expert = 0;
};

// Set `number` of at most `most` rows. Experts: `most` is that of the plan.
template <class Ctx>
SHOAL_SIMT TileRows take_rows(Ctx& ctx, const TileProductParams& p, int64_t number, int32_t most) {
  if (p.slots.address != nullptr) {
    if (number >= int32_t{ctx.global(p.slot_tiles)[0]}) return {};
    const ExpertTile stored = ctx.global(p.slots)[number];
    return {stored.first, stored.count, stored.expert};
  }
  const int64_t first = number * most, left = p.x_rows - first;
  if (left <= 0) return {};
  return {first, left < most ? static_cast<int32_t>(left) : most, 0};
}

// The activation row of column m < rows.count.
template <class Ctx>
SHOAL_SIMT int64_t x_row(Ctx& ctx, const TileProductParams& p, const TileRows& rows, int32_t m) {
  if (p.slot_rows.address == nullptr) return rows.first + m;
  return int32_t{ctx.global(p.slot_rows)[rows.first + m]};
}

// A tile of the launch: its weight, and output 0 of its row 0, which is negative or beyond the last
// where a neighbour's rows share the tile.
struct TilePlace {
  int32_t weight = 0;
  int32_t stored = 0;
  int32_t output = 0;
};

SHOAL_SIMT TilePlace find_tile(const TileProductParams& p, int32_t tile, int32_t expert) {
  TilePlace place;
  for (int32_t i = 1; i < kMaxTileWeights; ++i) {
    if (i < p.count && tile >= p.weights[i].first_tile) place.weight = i;
  }
  const TileWeight& w = p.weights[place.weight];
  const auto before = static_cast<uint64_t>(w.rows) * static_cast<uint32_t>(expert);
  const int32_t local = tile - w.first_tile;
  place.stored = static_cast<int32_t>(before / kTileRows) + local;
  place.output = kTileRows * local - static_cast<int32_t>(before % kTileRows);
  // Where an expert's rows touch fewer tiles than another's: no output is in this one.
  if (place.stored >= w.stored_tiles) place.stored = w.stored_tiles - 1;
  return place;
}

// A lane's results for columns [column, + 8) of a tile.
template <class Ctx>
SHOAL_SIMT void put_results(Ctx& ctx, const TileProductParams& p, const TilePlace& place,
                            const TileRows& rows, int32_t column, const float (&sums)[4]) {
  const TileWeight& w = p.weights[place.weight];
  const auto out = ctx.global(w.out);
  SHOAL_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int32_t m = column + static_cast<int32_t>(2 * (ctx.lane() % 4)) + i % 2;
    const int64_t o = place.output + static_cast<int32_t>(ctx.lane() / 4) + 8 * (i / 2);
    if (m >= rows.count || o < 0 || o >= w.rows) continue;
    float v = sums[i] * w.scale;
    if (p.slot_scales.address != nullptr) v *= float{ctx.global(p.slot_scales)[rows.first + m]};
    if (w.bias.address != nullptr) v += float{ctx.global(w.bias)[w.rows * rows.expert + o]};
    const auto at = out + ((rows.first + m) * w.out_stride + o);
    if (w.accumulate != 0) v += float{*at};
    *at = v;
  }
}

}  // namespace shoal::gpu

// Products of tiled weights (weight_tiles.h) with 1 … 8 activation rows; more rows in groups of 8.
//
//   out[r, o] (+)= scale · Σ_k W[o, k] · x[r, k] + bias[o]
//
// Every warp gets an equal run of units, ± 1, of the whole weight, tile after tile: no warp waits
// for a last round. A tile whose units are spread over several warps is added up by the last of
// them to arrive, in the order of the warps. Which warp has what follows from the shape and the
// number of warps only, so a row's result depends neither on its company nor on who was last.
// Weights come through a ring of stages per warp; no block-wide barrier.
#pragma once

#include <cstdint>

#include "kernels/cuda/activations.h"
#include "kernels/cuda/simt.h"
#include "kernels/cuda/tile_formats.h"
#include "kernels/cuda/weight_tiles.h"

namespace shoal::gpu {

using simt::Global;

struct TileGemvParams {
  Global<const uint8_t> weights;  // tiles · units
  int64_t rows = 0;               // of the weight
  int64_t tiles = 0, units = 0;
  int64_t first_part = 0;  // parts of 32 stored features in front of column 0: masked
  int64_t parts = 0;       // that count
  ActivationRows x;        // [x_rows, …], feature 0 = column 0
  int64_t x_rows = 0;
  Global<const float> bias;  // [rows] or null
  Global<float> out;         // [x_rows, out_stride]
  int64_t out_stride = 0;
  float scale = 1.0f;
  uint32_t accumulate = 0;
  Global<F32x4> partials;     // [grid.y, warps of the grid, 2, 32]
  Global<uint32_t> arrivals;  // [grid.y, tiles]; zeros before and after
};

template <TensorType type>
struct TileGemv {
  static constexpr const char* kName = "tile_gemv";
  static constexpr uint32_t kWarps = 8, kThreads = 32 * kWarps;
  static constexpr uint32_t kMaxThreads = kThreads, kMinBlocks = 2;
  static constexpr int kColumns = 8;
  static constexpr uint32_t kStages = 2;
  using Format = TileFormat<type>;
  static constexpr uint32_t kUnitBytes = static_cast<uint32_t>(tile_unit_bytes(type));
  // About 2 KiB under way per stage whatever the unit.
  static constexpr uint32_t kStageUnits = kUnitBytes >= 2048 ? 1 : 2048 / kUnitBytes;
  static constexpr uint32_t kStageBytes = kStageUnits * kUnitBytes;
  static constexpr uint32_t kSharedBytes = kWarps * kStages * kStageBytes;
  using Params = TileGemvParams;

  // The blocks of a launch that fills `multiprocessors`.
  static uint32_t blocks(const WeightTiles& tiles, uint32_t multiprocessors) {
    const int64_t units = tiles.tiles * tiles.units;
    const int64_t wanted = int64_t{multiprocessors} * kMinBlocks;
    const int64_t most = (units + kWarps - 1) / kWarps;
    return static_cast<uint32_t>(wanted < most ? wanted : most);
  }

  // Units of all warps, as runs.
  struct Split {
    int64_t total, warps;
    SHOAL_SIMT int64_t first(int64_t warp) const { return total * warp / warps; }
    SHOAL_SIMT int64_t owner(int64_t unit) const { return ((unit + 1) * warps - 1) / total; }
  };

  // The activations as a lane meets them: columns are rows of x.
  template <class Rows>
  struct Columns {
    Rows x;
    int64_t row;  // of column 0
    int64_t first_part, parts;
    static constexpr int kGroups = 1;
    int count;  // columns that exist, ≤ kColumns
    uint32_t lane;

    SHOAL_SIMT int columns() const { return count; }
    SHOAL_SIMT bool has(int64_t part) const {
      return part >= first_part && part < first_part + parts;
    }
    // B of m16n8k32: column g, features 4t … and 16 + 4t ….
    SHOAL_SIMT void fragment(int64_t part, int, uint32_t (&b)[2]) const {
      const int g = static_cast<int>(lane / 4);
      b[0] = b[1] = 0;
      if (g >= count) return;
      const auto words =
          vector_view<uint32_t>(x.codes + ((row + g) * x.stride + 32 * (part - first_part)));
      b[0] = words[lane % 4];
      b[1] = words[4 + lane % 4];
    }
    // Of columns 2t and 2t + 1.
    template <class Floats>
    SHOAL_SIMT F32x2 two(const Floats& per_part, int64_t part) const {
      const int column = static_cast<int>(2 * (lane % 4));
      F32x2 v = {0, 0};
      const int64_t stride = x.stride / kActivationBlock;
      const int64_t at = (row + column) * stride + part - first_part;
      if (column < count) v.x = per_part[at];
      if (column + 1 < count) v.y = per_part[at + stride];
      return v;
    }
    SHOAL_SIMT F32x2 scales(int64_t part, int) const { return two(x.scales, part); }
    SHOAL_SIMT F32x2 sums(int64_t part, int) const { return two(x.sums, part); }
    // Features 8t … 8t + 7 of a part.
    SHOAL_SIMT void values(int64_t part, int column, float (&v)[8]) const {
      const auto at = vector_view<F32x4>(
          x.values + ((row + column) * x.stride + 32 * (part - first_part) + 8 * (lane % 4)));
      const F32x4 a = at[0], b = at[1];
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
      v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    }
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const Split split = split_of(p, ctx.grid_dim().x);
    const int64_t warp = int64_t{ctx.block().x} * kWarps + ctx.warp();
    if (warp >= split.warps) return;
    const int64_t begin = split.first(warp), end = split.first(warp + 1);
    const int64_t row = int64_t{ctx.block().y} * kColumns;
    const int64_t left = p.x_rows - row;
    auto open = open_activations(ctx, p.x);
    const Columns<decltype(open)> x = {
        open,      row, p.first_part, p.parts, static_cast<int>(left < kColumns ? left : kColumns),
        ctx.lane()};
    const auto ring =
        simt::shared_array<uint8_t>(ctx, ctx.warp() * kStages * kStageBytes, kStages * kStageBytes);
    const auto weights = ctx.global(p.weights);
    int64_t next = begin;  // unit to fetch
    const auto fetch = [&](uint32_t stage) {
      const uint32_t bytes = stage_units(p, next, end) * kUnitBytes;
      for (uint32_t i = 16 * ctx.lane(); i < bytes; i += 512) {
        ctx.copy_async_16(ring + (stage * kStageBytes + i), weights + (next * kUnitBytes + i));
      }
      ctx.copy_async_commit();
      next += bytes / kUnitBytes;
    };
    for (uint32_t stage = 0; stage < kStages; ++stage) fetch(stage);

    using Sums = typename Format::template Sums<1>;
    Sums sums;
    uint32_t stage = 0;
    for (int64_t unit = begin; unit < end;) {
      const uint32_t count = stage_units(p, unit, end);
      ctx.copy_async_wait(kStages - 1);
      ctx.sync_warp();
      const int64_t in_tile = unit % p.units;
      for (uint32_t i = 0; i < count; ++i) {
        Format::add(ctx, ring + (stage * kStageBytes + i * kUnitBytes), x, in_tile + i, sums);
      }
      ctx.sync_warp();
      fetch(stage);
      stage = (stage + 1) % kStages;
      unit += count;
      if (in_tile + count == p.units || unit == end) {
        finish(ctx, p, split, warp, (unit - 1) / p.units, row, x.count, sums);
        sums = Sums{};
      }
    }
    ctx.copy_async_wait(0);
  }

  // A warp without a unit takes no part: the sums of a tile count on everybody between.
  SHOAL_SIMT static Split split_of(const Params& p, uint32_t blocks) {
    const int64_t total = p.tiles * p.units, warps = int64_t{blocks} * kWarps;
    return {total, warps < total ? warps : total};
  }

  // Units of the stage that starts with this one: a stage ends with its tile.
  SHOAL_SIMT static uint32_t stage_units(const Params& p, int64_t unit, int64_t end) {
    const int64_t in_tile = p.units - unit % p.units, own = end - unit;
    const int64_t most = in_tile < own ? in_tile : own;
    return static_cast<uint32_t>(most < kStageUnits ? most : kStageUnits);
  }

  // A tile, or the warp's part of it, is done.
  template <class Ctx, class Sums>
  SHOAL_SIMT static void finish(Ctx& ctx, const Params& p, const Split& split, int64_t warp,
                                int64_t tile, int64_t row, int columns, const Sums& sums) {
    float collected[1][4];
    Format::collect(ctx, sums, collected);
    const float(&own)[4] = collected[0];
    const int64_t from = split.owner(tile * p.units), to = split.owner((tile + 1) * p.units - 1);
    if (from == to) return store(ctx, p, tile, row, columns, own);

    // Two places per warp: of the tile it began in, of the one it ended in.
    const int64_t group = ctx.block().y;
    const auto partials = ctx.global(p.partials) + group * split.warps * 64;
    const auto place = [&](int64_t w) {
      return (2 * w + (split.first(w) / p.units == tile ? 0 : 1)) * 32 + ctx.lane();
    };
    const bool used = static_cast<int>(2 * (ctx.lane() % 4)) < columns;
    if (used) partials[place(warp)] = F32x4{own[0], own[1], own[2], own[3]};
    ctx.sync_warp();
    const auto arrived = ctx.global(p.arrivals) + (group * p.tiles + tile);
    uint32_t last = 0;
    if (ctx.lane() == 0) {
      last = simt::arrive_last(ctx, arrived, static_cast<uint32_t>(to - from + 1)) ? 1 : 0;
    }
    if (ctx.shuffle(last, 0) == 0) return;
    ctx.sync_warp();
    float total[4] = {};
    if (used) {
      for (int64_t w = from; w <= to; ++w) {
        const F32x4 v = partials[place(w)];
        total[0] += v.x, total[1] += v.y, total[2] += v.z, total[3] += v.w;
      }
    }
    store(ctx, p, tile, row, columns, total);
    if (ctx.lane() == 0) arrived[0] = 0u;
  }

  template <class Ctx>
  SHOAL_SIMT static void store(Ctx& ctx, const Params& p, int64_t tile, int64_t row, int columns,
                               const float (&sums)[4]) {
    const auto out = ctx.global(p.out);
    const auto bias = ctx.global(p.bias);
    SHOAL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int column = static_cast<int>(2 * (ctx.lane() % 4)) + i % 2;
      const int64_t o = tile * kTileRows + ctx.lane() / 4 + 8 * (i / 2);
      if (column >= columns || o >= p.rows) continue;
      float v = sums[i] * p.scale;
      if (p.bias.address != nullptr) v += bias[o];
      const int64_t at = (row + column) * p.out_stride + o;
      if (p.accumulate != 0) v += out[at];
      out[at] = v;
    }
  }
};

}  // namespace shoal::gpu

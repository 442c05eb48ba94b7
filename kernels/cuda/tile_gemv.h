// Products of tiled weights (tile_product.h) with 1 … 8 activation rows at a time.
//
// Every warp has one run. A tile whose units fall to several runs is added up by the last of their
// warps to arrive, in the order of the runs. Weights come through a ring of stages per warp; there
// is no block-wide barrier.
#pragma once

#include <cstdint>

#include "kernels/cuda/tile_product.h"

namespace shoal::gpu {

// Up to 8 activation rows as a lane meets them, straight from memory.
template <class Rows, class Slots>
struct GemvColumns {
  static constexpr int kGroups = 1;

  Rows x;
  Slots slot_rows;
  bool slots;
  int64_t first;  // row of column 0, or its slot
  int64_t first_part;
  uint64_t parts;
  int count;  // columns that exist
  uint32_t lane;
  int64_t own, left, right;  // rows of columns g, 2t, 2t + 1

  template <class Ctx>
  SHOAL_SIMT GemvColumns(Ctx& ctx, const TileProductParams& p, const TileRows& rows,
                         const Rows& opened)
      : x(opened),
        slot_rows(ctx.global(p.slot_rows)),
        slots(p.slot_rows.address != nullptr),
        first(rows.first),
        first_part(p.first_part),
        parts(static_cast<uint64_t>(p.parts)),
        count(rows.count),
        lane(ctx.lane()) {
    own = row(static_cast<int>(lane / 4));
    left = row(static_cast<int>(2 * (lane % 4)));
    right = row(static_cast<int>(2 * (lane % 4)) + 1);
  }

  // −1: the column does not exist.
  SHOAL_SIMT int64_t row(int column) const {
    if (column >= count) return -1;
    return slots ? int64_t{int32_t{slot_rows[first + column]}} : first + column;
  }
  SHOAL_SIMT int columns() const { return count; }
  SHOAL_SIMT bool has(int64_t part) const {
    return static_cast<uint64_t>(part - first_part) < parts;
  }
  // B of m16n8k32: column g, features 4t … and 16 + 4t ….
  SHOAL_SIMT void fragment(int64_t part, int, uint32_t (&b)[2]) const {
    b[0] = b[1] = 0;
    if (own < 0) return;
    const auto words = vector_view<uint32_t>(x.codes + (own * x.stride + 32 * (part - first_part)));
    b[0] = words[lane % 4];
    b[1] = words[4 + lane % 4];
  }
  // Of columns 2t and 2t + 1.
  template <class Floats>
  SHOAL_SIMT F32x2 two(const Floats& per_part, int64_t part) const {
    F32x2 v = {0, 0};
    const int64_t stride = x.stride / kActivationBlock;
    if (left >= 0) v.x = per_part[left * stride + part - first_part];
    if (right >= 0) v.y = per_part[right * stride + part - first_part];
    return v;
  }
  SHOAL_SIMT F32x2 scales(int64_t part, int) const { return two(x.scales, part); }
  SHOAL_SIMT F32x2 sums(int64_t part, int) const { return two(x.sums, part); }
  // Features 8t … 8t + 7 of a part.
  SHOAL_SIMT void values(int64_t part, int column, float (&v)[8]) const {
    const auto at = vector_view<F32x4>(
        x.values + (row(column) * x.stride + 32 * (part - first_part) + 8 * (lane % 4)));
    const F32x4 a = at[0], b = at[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  }
};

template <TensorType type>
struct TileGemv {
  static constexpr const char* kName = "tile_gemv";
  static constexpr uint32_t kWarps = 8, kThreads = 32 * kWarps;
  static constexpr uint32_t kMaxThreads = kThreads, kMinBlocks = 2;
  static constexpr int kColumns = 8;
  static constexpr uint32_t kStages = 2;
  using Format = TileFormat<type>;
  using Sums = typename Format::template Sums<1>;
  static constexpr uint32_t kUnitBytes = static_cast<uint32_t>(tile_unit_bytes(type));
  // About 2 KiB under way per stage whatever the unit.
  static constexpr int32_t kStageUnits = kUnitBytes >= 2048 ? 1 : 2048 / kUnitBytes;
  static constexpr uint32_t kStageBytes = kStageUnits * kUnitBytes;
  static constexpr uint32_t kSharedBytes = kWarps * kStages * kStageBytes;
  using Params = TileProductParams;

  // A place in a run, and how many units of the run are left. Stages end with their tile.
  struct Cursor {
    int32_t tile, in_tile, left;

    SHOAL_SIMT int32_t stage(int32_t units) const {
      const int32_t most = units - in_tile < left ? units - in_tile : left;
      return most < kStageUnits ? most : kStageUnits;
    }
    SHOAL_SIMT void advance(int32_t count, int32_t units) {
      left -= count;
      in_tile += count;
      if (in_tile < units) return;
      in_tile = 0;
      ++tile;
    }
  };

  // Brings the units of a run into the warp's ring.
  template <class Ring, class Units>
  struct Fetch {
    Ring ring;
    Cursor at;
    Units units;   // of the tile
    int32_t tile;  // whose units these are
    int32_t expert;

    template <class Ctx>
    SHOAL_SIMT void stage(Ctx& ctx, const Params& p, uint32_t number) {
      const int32_t count = at.stage(p.units);
      if (count > 0) {
        if (tile != at.tile) open(ctx, p);
        const auto from = units + int64_t{at.in_tile} * kUnitBytes;
        for (uint32_t i = 16 * ctx.lane(); i < static_cast<uint32_t>(count) * kUnitBytes;
             i += 512) {
          ctx.copy_async_16(ring + (number * kStageBytes + i), from + i);
        }
        at.advance(count, p.units);
      }
      ctx.copy_async_commit();
    }
    template <class Ctx>
    SHOAL_SIMT void open(Ctx& ctx, const Params& p) {
      tile = at.tile;
      const TilePlace place = find_tile(p, tile, expert);
      units =
          ctx.global(p.weights[place.weight].units) + int64_t{place.stored} * p.units * kUnitBytes;
    }
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int32_t run = static_cast<int32_t>(ctx.block().x * kWarps + ctx.warp());
    if (run >= p.runs) return;
    const TileRows rows = take_rows(ctx, p, int64_t{p.first_set} + ctx.block().y, kColumns);
    if (rows.count == 0) return;
    const TileSplit split(p);
    const int32_t begin = split.first(run), end = split.first(run + 1);
    const auto opened = open_activations(ctx, p.x);
    using X = GemvColumns<std::remove_const_t<decltype(opened)>, decltype(ctx.global(p.slot_rows))>;
    const X x(ctx, p, rows, opened);
    const auto ring =
        simt::shared_array<uint8_t>(ctx, ctx.warp() * kStages * kStageBytes, kStages * kStageBytes);
    Cursor at = {begin / p.units, begin % p.units, end - begin};
    const auto none = ctx.global(p.weights[0].units);
    Fetch<std::remove_const_t<decltype(ring)>, std::remove_const_t<decltype(none)>> fetch = {
        ring, at, none, -1, rows.expert};
    for (uint32_t stage = 0; stage < kStages; ++stage) fetch.stage(ctx, p, stage);

    Sums sums;
    for (uint32_t stage = 0; at.left > 0; stage = (stage + 1) % kStages) {
      const int32_t count = at.stage(p.units), tile = at.tile;
      ctx.copy_async_wait(kStages - 1);
      ctx.sync_warp();
      for (int32_t i = 0; i < count; ++i) {
        Format::add(ctx, ring + (stage * kStageBytes + static_cast<uint32_t>(i) * kUnitBytes), x,
                    at.in_tile + i, sums);
      }
      ctx.sync_warp();
      fetch.stage(ctx, p, stage);
      at.advance(count, p.units);
      if (at.tile != tile || at.left == 0) {
        finish(ctx, p, split, run, tile, rows, sums);
        sums = Sums{};
      }
    }
    ctx.copy_async_wait(0);
  }

  // A tile, or the run's part of it, is done.
  template <class Ctx>
  SHOAL_SIMT static void finish(Ctx& ctx, const Params& p, const TileSplit& split, int32_t run,
                                int32_t tile, const TileRows& rows, const Sums& sums) {
    float collected[1][4];
    Format::collect(ctx, sums, collected);
    const float(&own)[4] = collected[0];
    const int32_t first_unit = tile * p.units;
    const int32_t from = split.owner(first_unit), to = split.owner(first_unit + p.units - 1);
    const TilePlace where = find_tile(p, tile, rows.expert);
    if (from == to) return put_results(ctx, p, where, rows, 0, own);

    // Two places per run: of the tile it began in, of the one it ended in.
    const int64_t set = ctx.block().y;
    const auto partials = ctx.global(p.partials) + set * p.runs * 64;
    const auto place = [&](int32_t r) {
      return int64_t{2 * r + (split.first(r) >= first_unit ? 0 : 1)} * 32 + ctx.lane();
    };
    const bool used = static_cast<int32_t>(2 * (ctx.lane() % 4)) < rows.count;
    if (used) partials[place(run)] = F32x4{own[0], own[1], own[2], own[3]};
    ctx.sync_warp();
    const auto arrived = ctx.global(p.arrivals) + (set * p.tiles + tile);
    uint32_t last = 0;
    if (ctx.lane() == 0) {
      last = simt::arrive_last(ctx, arrived, static_cast<uint32_t>(to - from + 1)) ? 1 : 0;
    }
    if (ctx.shuffle(last, 0) == 0) return;
    ctx.sync_warp();
    float total[4] = {};
    for (int32_t r = from; used && r <= to; ++r) {
      const F32x4 v = partials[place(r)];
      const float part[4] = {v.x, v.y, v.z, v.w};
      for (int i = 0; i < 4; ++i) total[i] = r == from ? part[i] : total[i] + part[i];
    }
    put_results(ctx, p, where, rows, 0, total);
    if (ctx.lane() == 0) arrived[0] = 0u;
  }
};

}  // namespace shoal::gpu

// Products of tiled weights (tile_product.h) with 1 … 8 activation rows at a time.
//
// With a single row its parts are the columns (CodedFormat::add_row); the sums are the same bits.
// Every warp has one run. A tile whose units fall to several runs is added up by the last of their
// warps to arrive, in the order of the runs. Weights come through a ring of stages per warp; there
// is no block-wide barrier.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/tile_product.h"

namespace shoal::gpu {

// Up to 8 activation rows as a lane meets them, straight from memory. Columns that do not exist
// are column 0 again: nothing is asked per load, and nobody stores them.
template <class Rows, class Words, class Floats, class Slots>
struct GemvColumns {
  static constexpr int kGroups = 1, kTogether = 1;

  Rows x;
  Slots slot_rows;
  bool slots;
  int64_t first;  // row of column 0, or its slot
  int32_t first_part;
  uint32_t parts;
  int count;  // columns that exist
  uint32_t lane;
  // Of part first_part: the lane's codes of column g, scales and sums of columns 2t and 2t + 1.
  Words codes;
  Floats left_scales, right_scales, left_sums, right_sums;

  SHOAL_SIMT int64_t row(int column) const {
    if (column >= count) column = 0;
    return slots ? int64_t{int32_t{slot_rows[first + column]}} : first + column;
  }
  SHOAL_SIMT int columns() const { return count; }
  SHOAL_SIMT bool has(int32_t part) const {
    return static_cast<uint32_t>(part - first_part) < parts;
  }
  template <class Ctx>
  SHOAL_SIMT void operands(Ctx&, int32_t part, int, tile::Operands (&out)[1]) const {
    const int32_t at = part - first_part;
    const auto words = simt::still_global(codes) + 8 * at;
    out[0] = {{words[0], words[4]},
              {simt::still_global(left_scales)[at], simt::still_global(right_scales)[at]},
              {simt::still_global(left_sums)[at], simt::still_global(right_sums)[at]}};
  }
  // Features 8t … 8t + 7 of a part.
  SHOAL_SIMT void values(int32_t part, int column, float (&v)[8]) const {
    const auto at =
        vector_view<F32x4>(simt::still_global(x.values) +
                           (row(column) * x.stride + 32 * (part - first_part) + 8 * (lane % 4)));
    const F32x4 a = at[0], b = at[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  }
};

template <class Ctx, class Rows>
SHOAL_SIMT auto gemv_columns(Ctx& ctx, const TileProductParams& p, const TileRows& rows,
                             const Rows& x) {
  const auto slot_rows = ctx.global(p.slot_rows);
  const auto words = vector_view<uint32_t>(x.codes);
  using Words = std::remove_const_t<decltype(words)>;
  using Floats = decltype(x.scales + 0);
  GemvColumns<Rows, Words, Floats, std::remove_const_t<decltype(slot_rows)>> out = {
      x,          slot_rows,    p.slot_rows.address != nullptr,
      rows.first, p.first_part, static_cast<uint32_t>(p.parts),
      rows.count, ctx.lane(),   words,
      x.scales,   x.scales,     x.sums,
      x.sums};
  if (!x.int8) return out;
  const int t = static_cast<int>(out.lane % 4);
  const int64_t left = out.row(2 * t), right = out.row(2 * t + 1);
  const int64_t blocks = x.stride / kActivationBlock;
  out.codes = words + (out.row(static_cast<int>(out.lane / 4)) * (x.stride / 4) + t);
  out.left_scales = x.scales + left * blocks;
  out.right_scales = x.scales + right * blocks;
  out.left_sums = x.sums + left * blocks;
  out.right_sums = x.sums + right * blocks;
  return out;
}

// The only activation row of a set, for units of eight parts.
template <class Words, class Floats>
struct GemvRow {
  int32_t first_part;
  uint32_t parts;
  uint32_t lane;
  Words codes;  // the lane's of part first_part
  Floats scales, sums;

  SHOAL_SIMT tile::SingleRow unit(int32_t u) const {
    const int32_t base = 8 * u - first_part;
    const auto of_column = base + static_cast<int32_t>(lane / 4);
    const auto of_lane = base + static_cast<int32_t>(2 * (lane % 4));
    const auto has = [&](int32_t part) { return static_cast<uint32_t>(part) < parts; };
    tile::SingleRow out = {};
    if (has(of_column)) {
      const auto words = simt::still_global(codes) + 8 * of_column;
      out.codes[0] = words[0];
      out.codes[1] = words[4];
    }
    SHOAL_UNROLL
    for (int j = 0; j < 2; ++j) {
      if (!has(of_lane + j)) continue;
      out.scales[j] = simt::still_global(scales)[of_lane + j];
      out.sums[j] = simt::still_global(sums)[of_lane + j];
    }
    return out;
  }
};

template <class Ctx, class Rows>
SHOAL_SIMT auto gemv_row(Ctx& ctx, const TileProductParams& p, const TileRows& rows,
                         const Rows& x) {
  const int64_t row = x_row(ctx, p, rows, 0), blocks = x.stride / kActivationBlock;
  const auto words = vector_view<uint32_t>(x.codes) +
                     (row * (x.stride / 4) + static_cast<int32_t>(ctx.lane() % 4));
  const auto scales = x.scales + row * blocks, sums = x.sums + row * blocks;
  return GemvRow<std::remove_const_t<decltype(words)>, std::remove_const_t<decltype(scales)>>{
      p.first_part, static_cast<uint32_t>(p.parts), ctx.lane(), words, scales, sums};
}

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
    if (run >= p.runs.count) return;
    const TileRows rows = take_rows(ctx, p, int64_t{p.first_set} + ctx.block().y, kColumns);
    if (rows.count == 0) return;
    const int32_t begin = p.runs.first(run), end = p.runs.first(run + 1);
    const auto x = open_activations(ctx, p.x);
    const auto ring =
        simt::shared_array<uint8_t>(ctx, ctx.warp() * kStages * kStageBytes, kStages * kStageBytes);
    Cursor at = {begin / p.units, begin % p.units, end - begin};
    const auto none = ctx.global(p.weights[0].units);
    Fetch<std::remove_const_t<decltype(ring)>, std::remove_const_t<decltype(none)>> fetch = {
        ring, at, none, -1, rows.expert};
    for (uint32_t stage = 0; stage < kStages; ++stage) fetch.stage(ctx, p, stage);
    if constexpr (Format::kSumParts > 0) {
      if (rows.count == 1) {
        walk(ctx, p, run, rows, at, fetch, OneRow(gemv_row(ctx, p, rows, x)));
        return;
      }
    }
    walk(ctx, p, run, rows, at, fetch, ManyRows(gemv_columns(ctx, p, rows, x)));
  }

  // What a warp adds up, a stage at a time. begin() with the first unit; turn() in front of each
  // stage, with the unit behind it.
  template <class X>
  struct ManyRows {
    X x;
    Sums sums;

    SHOAL_SIMT explicit ManyRows(const X& columns) : x(columns) {}
    SHOAL_SIMT void begin(int32_t) {}
    SHOAL_SIMT void turn(int32_t) {}
    template <class Ctx, class Units>
    SHOAL_SIMT void add(Ctx& ctx, const Units& units, int32_t first, int32_t count) {
      add_stage(ctx, units, x, first, count, sums);
    }
    // The lane's results of a tile, or of the run's part of it; the next tile begins at zero.
    template <class Ctx>
    SHOAL_SIMT void collect(Ctx& ctx, float (&out)[1][4]) {
      Format::collect(ctx, sums, out);
      sums = Sums{};
    }
  };
  template <class X>
  struct OneRow {
    X x;
    tile::SingleRow now, next;
    float sums[2] = {};  // of rows g and g + 8, the same in all four lanes

    SHOAL_SIMT explicit OneRow(const X& row) : x(row), now{}, next{} {}
    SHOAL_SIMT void begin(int32_t unit) { next = x.unit(unit); }
    SHOAL_SIMT void turn(int32_t unit) {  // its x is on the way while this one's is multiplied
      now = next;
      next = x.unit(unit);
    }
    template <class Ctx, class Units>
    SHOAL_SIMT void add(Ctx& ctx, const Units& units, int32_t, int32_t) {
      static_assert(kStageUnits == 1);
      Format::add_row(ctx, units, now, sums);
    }
    template <class Ctx>
    SHOAL_SIMT void collect(Ctx&, float (&out)[1][4]) {
      for (int i = 0; i < 4; ++i) out[0][i] = sums[i / 2];  // column 0 is that of lanes with t = 0
      sums[0] = sums[1] = 0;
    }
  };

  template <class Ctx, class F, class Adder>
  SHOAL_SIMT static void walk(Ctx& ctx, const Params& p, int32_t run, const TileRows& rows,
                              Cursor at, F& fetch, Adder adder) {
    adder.begin(at.in_tile);
    for (uint32_t stage = 0; at.left > 0; stage = (stage + 1) % kStages) {
      const int32_t count = at.stage(p.units), tile = at.tile;
      adder.turn(at.in_tile + count < p.units ? at.in_tile + count : 0);
      ctx.copy_async_wait(kStages - 1);
      ctx.sync_warp();
      adder.add(ctx, fetch.ring + stage * kStageBytes, at.in_tile, count);
      ctx.sync_warp();
      fetch.stage(ctx, p, stage);
      at.advance(count, p.units);
      if (at.tile == tile && at.left > 0) continue;
      float own[1][4];
      adder.collect(ctx, own);
      finish(ctx, p, run, tile, rows, own[0]);
    }
  }

  // Where nothing is masked, loads of later parts need not wait for the question about earlier
  // ones.
  template <class Ctx, class Units, class X>
  SHOAL_SIMT static void add_stage(Ctx& ctx, const Units& units, const X& x, int32_t first,
                                   int32_t count, Sums& sums) {
    constexpr int32_t kParts = Format::kParts;
    if (count == kStageUnits && x.has(first * kParts) && x.has((first + count) * kParts - 1)) {
      SHOAL_UNROLL
      for (int32_t i = 0; i < kStageUnits; ++i) {
        const auto unit = units + static_cast<uint32_t>(i) * kUnitBytes;
        Format::template add<true>(ctx, unit, x, first + i, sums);
      }
      return;
    }
    for (int32_t i = 0; i < count; ++i) {
      const auto unit = units + static_cast<uint32_t>(i) * kUnitBytes;
      Format::template add<false>(ctx, unit, x, first + i, sums);
    }
  }

  // A tile, or the run's part of it, is done.
  template <class Ctx>
  SHOAL_SIMT static void finish(Ctx& ctx, const Params& p, int32_t run, int32_t tile,
                                const TileRows& rows, float (&own)[4]) {
    const int32_t first_unit = tile * p.units;
    const int32_t from = p.runs.owner(first_unit), to = p.runs.owner(first_unit + p.units - 1);
    if (from != to && !add_runs(ctx, p, run, tile, from, to, rows.count, own)) return;
    put_results(ctx, p, find_tile(p, tile, rows.expert), rows, 0, own);
  }

  // A tile of several runs: true for the last to arrive, which then has them all in `sums`.
  template <class Ctx>
  SHOAL_SIMT static bool add_runs(Ctx& ctx, const Params& p, int32_t run, int32_t tile,
                                  int32_t from, int32_t to, int32_t columns, float (&sums)[4]) {
    // Two places per run: of the tile it began in, of the one it ended in.
    const int64_t set = ctx.block().y;
    const auto partials = ctx.global(p.partials) + set * p.runs.count * 64;
    const auto place = [&](int32_t r) {
      return (2 * r + (p.runs.first(r) >= tile * p.units ? 0 : 1)) * 32 +
             static_cast<int32_t>(ctx.lane());
    };
    const bool used = static_cast<int32_t>(2 * (ctx.lane() % 4)) < columns;
    if (used) partials[place(run)] = F32x4{sums[0], sums[1], sums[2], sums[3]};
    ctx.sync_warp();
    const auto arrived = ctx.global(p.arrivals) + (set * p.tiles + tile);
    uint32_t last = 0;
    if (ctx.lane() == 0) {
      last = simt::arrive_last(ctx, arrived, static_cast<uint32_t>(to - from + 1)) ? 1 : 0;
    }
    if (ctx.shuffle(last, 0) == 0) return false;
    ctx.sync_warp();
    constexpr int32_t kAtOnce = 4;  // loads under way: parts one by one would wait for each
    for (int32_t first = from; used && first <= to; first += kAtOnce) {
      F32x4 parts[kAtOnce];
      SHOAL_UNROLL
      for (int32_t i = 0; i < kAtOnce; ++i) {
        parts[i] = partials[place(first + i <= to ? first + i : first)];
      }
      SHOAL_UNROLL
      for (int32_t i = 0; i < kAtOnce; ++i) {
        if (first + i > to) break;
        const float part[4] = {parts[i].x, parts[i].y, parts[i].z, parts[i].w};
        for (int k = 0; k < 4; ++k) sums[k] = first + i == from ? part[k] : sums[k] + part[k];
      }
    }
    if (ctx.lane() == 0) arrived[0] = 0u;
    return true;
  }
};

}  // namespace shoal::gpu

// Products of tiled weights (tile_product.h) with many activation rows: a block takes 8 tiles, one
// per warp, and 64 rows (32 for plain numbers) through all units. Weights and activations come
// through shared memory in a ring of two stages; a lane takes a weight apart once for all columns.
// Activations of masked parts are zeros there, so that codes of weights need not be asked.
// The additions are those of tile_gemv.h: where a run ends, a warp adds up what it has.
#pragma once

#include <cstdint>

#include "kernels/cuda/tile_product.h"

namespace shoal::gpu {

// Where scale and sum of a column stand, so that a lane's four of two groups lie side by side.
SHOAL_SIMT int scale_place(int column) {
  return column / 16 * 16 + column % 8 / 2 * 4 + column / 8 % 2 * 2 + column % 2;
}

// Columns in shared memory, as a lane meets them in one stage.
template <int kColumnGroups, class Bytes, class Floats>
struct GemmColumns {
  static constexpr int kGroups = kColumnGroups, kTogether = 2;

  Bytes codes;                    // [column][code_stride]
  Floats part_scales, part_sums;  // [part][scale_place(column)]
  Floats plain;                   // [column][value_stride]
  int code_stride, value_stride;  // of bytes, of floats
  int32_t stage_part;             // the stage's first
  int32_t first_part;
  uint32_t parts;
  int count;  // columns that exist
  uint32_t lane;

  SHOAL_SIMT int columns() const { return count; }
  SHOAL_SIMT bool has(int32_t part) const {
    return static_cast<uint32_t>(part - first_part) < parts;
  }
  // Of groups `group` and group + 1: four matrices of 8 columns × 16 features.
  template <class Ctx>
  SHOAL_SIMT void operands(Ctx& ctx, int32_t part, int group, tile::Operands (&out)[2]) const {
    const int l = static_cast<int>(lane), in_stage = part - stage_part;
    const int column = 8 * (group + l / 16) + l % 8;
    uint32_t words[4];
    ctx.ldmatrix(words, codes + (column * code_stride + 32 * in_stage + l / 8 % 2 * 16));
    const int at = 8 * kGroups * in_stage + 8 * group + 4 * (l % 4);
    const F32x4 scales = *vector_view<F32x4>(part_scales + at);
    const F32x4 sums = *vector_view<F32x4>(part_sums + at);
    out[0] = {{words[0], words[1]}, {scales.x, scales.y}, {sums.x, sums.y}};
    out[1] = {{words[2], words[3]}, {scales.z, scales.w}, {sums.z, sums.w}};
  }
  // Features 8t … 8t + 7 of a part.
  SHOAL_SIMT void values(int32_t part, int column, float (&v)[8]) const {
    const auto at = vector_view<F32x4>(plain + (column * value_stride + 32 * (part - stage_part) +
                                                8 * static_cast<int>(lane % 4)));
    const F32x4 a = at[0], b = at[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
  }
};

template <TensorType type>
struct TileGemm {
  static constexpr const char* kName = "tile_gemm";
  static constexpr uint32_t kWarps = 8, kThreads = 32 * kWarps;
  static constexpr uint32_t kMaxThreads = kThreads, kMinBlocks = 1;
  static constexpr uint32_t kStages = 2;
  using Format = TileFormat<type>;
  static constexpr int kGroups = Format::kInteger ? 8 : 4;
  static constexpr int kColumns = 8 * kGroups;
  using Sums = typename Format::template Sums<kGroups>;
  using Params = TileProductParams;

  // A stage.
  static constexpr uint32_t kUnitBytes = static_cast<uint32_t>(tile_unit_bytes(type));
  static constexpr int kUnits = Format::kParts == 8 ? 1 : Format::kInteger ? 4 : 2;
  static constexpr int kParts = kUnits * Format::kParts;
  static constexpr uint32_t kWarpBytes = kUnits * kUnitBytes;
  // 16 bytes more than a row takes: neighbouring columns meet different banks.
  static constexpr uint32_t kCodeBytes = Format::kInteger ? 32 * kParts + 16 : 0;
  static constexpr uint32_t kValueBytes = Format::kInteger ? 0 : 128 * kParts + 16;
  static constexpr uint32_t kScaleFloats = Format::kInteger ? kParts * kColumns : 0;
  // The arena: the columns' rows of x; then weights, codes, values, scales, sums of all stages.
  static constexpr uint32_t kWeightsAt = kColumns * sizeof(int32_t);
  static constexpr uint32_t kCodesAt = kWeightsAt + kStages * kWarps * kWarpBytes;
  static constexpr uint32_t kValuesAt = kCodesAt + kStages * kColumns * kCodeBytes;
  static constexpr uint32_t kScalesAt = kValuesAt + kStages * kColumns * kValueBytes;
  static constexpr uint32_t kSumsAt = kScalesAt + kStages * kScaleFloats * sizeof(float);
  static constexpr uint32_t kSharedBytes = kSumsAt + kStages * kScaleFloats * sizeof(float);
  static_assert(kSharedBytes <= simt::Sm86::max_shared_bytes);

  // Results of the runs before.
  struct Totals {
    float v[kGroups][4];
    bool any = false;

    template <class Ctx>
    SHOAL_SIMT void add(Ctx& ctx, const Sums& sums) {
      float own[kGroups][4];
      Format::collect(ctx, sums, own);
      SHOAL_UNROLL
      for (int n = 0; n < kGroups; ++n) {
        for (int i = 0; i < 4; ++i) v[n][i] = any ? v[n][i] + own[n][i] : own[n][i];
      }
      any = true;
    }
  };

  // What a block brings in.
  template <class Ints, class Bytes, class Codes, class Floats>
  struct Stages {
    Ints rows;  // of x, per column
    Bytes weights;
    Codes codes;
    Floats values, scales, sums;
  };
  template <class Ints, class Bytes, class Codes, class Floats>
  SHOAL_SIMT static Stages<Ints, Bytes, Codes, Floats> stages_of(Ints rows, Bytes weights,
                                                                 Codes codes, Floats values,
                                                                 Floats scales, Floats sums) {
    return {rows, weights, codes, values, scales, sums};
  }
  template <class Ctx>
  SHOAL_SIMT static auto open_stages(Ctx& ctx) {
    using simt::shared_array;
    return stages_of(shared_array<int32_t>(ctx, 0, kColumns),
                     shared_array<uint8_t>(ctx, kWeightsAt, kCodesAt - kWeightsAt),
                     shared_array<int8_t>(ctx, kCodesAt, kValuesAt - kCodesAt),
                     shared_array<float>(ctx, kValuesAt, (kScalesAt - kValuesAt) / 4),
                     shared_array<float>(ctx, kScalesAt, kStages * kScaleFloats),
                     shared_array<float>(ctx, kSumsAt, kStages * kScaleFloats));
  }

  // The parts of x from `first` on. A column that does not exist is zeros.
  template <class Ctx, class S, class X>
  SHOAL_SIMT static void load_columns(Ctx& ctx, const Params& p, const S& to, const X& x,
                                      int32_t count, uint32_t stage, int32_t first) {
    constexpr int kVectors = (Format::kInteger ? 2 : 8) * kParts;  // of a column
    constexpr int kVectorFeatures = Format::kInteger ? 16 : 4;
    const auto has = [&](int32_t part) {
      return static_cast<uint32_t>(part - p.first_part) < static_cast<uint32_t>(p.parts);
    };
    for (int i = static_cast<int>(ctx.thread().x); i < kColumns * kVectors; i += kThreads) {
      const int column = i / kVectors, vector = i % kVectors;
      const bool real = column < count && has(first + vector / (kVectors / kParts));
      const int64_t row = int64_t{int32_t{to.rows[column]}} * x.stride +
                          (real ? 32 * (first - p.first_part) : -kVectorFeatures * vector);
      const uint32_t valid = real ? 16 : 0;
      const uint32_t at = stage * kColumns + static_cast<uint32_t>(column);
      if constexpr (Format::kInteger) {
        ctx.copy_async_16(to.codes + (at * kCodeBytes + 16 * static_cast<uint32_t>(vector)),
                          x.codes + (row + 16 * vector), valid);
      } else {
        ctx.copy_async_16(to.values + (at * (kValueBytes / 4) + 4 * static_cast<uint32_t>(vector)),
                          x.values + (row + 4 * vector), valid);
      }
    }
    if constexpr (Format::kInteger) {
      for (int i = static_cast<int>(ctx.thread().x); i < kColumns * kParts; i += kThreads) {
        const int column = i / kParts, part = i % kParts;
        const bool real = column < count && has(first + part);
        const int64_t from = int64_t{int32_t{to.rows[column]}} * (x.stride / kActivationBlock) +
                             (real ? first + part - p.first_part : 0);
        const uint32_t valid = real ? 4 : 0;
        const uint32_t at =
            stage * kScaleFloats + static_cast<uint32_t>(part * kColumns + scale_place(column));
        ctx.copy_async_4(to.scales + at, x.scales + from, valid);
        ctx.copy_async_4(to.sums + at, x.sums + from, valid);
      }
    }
  }

  template <class Ctx, class S, class X, class Units>
  SHOAL_SIMT static void load(Ctx& ctx, const Params& p, const S& to, const X& x,
                              const Units& units, int32_t own_units, int32_t count, uint32_t stage,
                              int32_t first) {
    if (first < p.units) load_columns(ctx, p, to, x, count, stage, first * Format::kParts);
    const int32_t left = own_units - first;
    const uint32_t bytes = left <= 0 ? 0 : (left < kUnits ? left : kUnits) * kUnitBytes;
    for (uint32_t i = 16 * ctx.lane(); i < bytes; i += 512) {
      ctx.copy_async_16(to.weights + ((stage * kWarps + ctx.warp()) * kWarpBytes + i),
                        units + (int64_t{first} * kUnitBytes + i));
    }
    ctx.copy_async_commit();
  }

  template <class Ctx, class S>
  SHOAL_SIMT static auto columns(Ctx& ctx, const Params& p, const S& in, int32_t count,
                                 uint32_t stage, int32_t first) {
    const auto codes = in.codes + stage * kColumns * kCodeBytes;
    const auto plain = in.values + stage * kColumns * (kValueBytes / 4);
    const auto scales = in.scales + stage * kScaleFloats, sums = in.sums + stage * kScaleFloats;
    using X = GemmColumns<kGroups, std::remove_const_t<decltype(codes)>,
                          std::remove_const_t<decltype(scales)>>;
    return X{codes,
             scales,
             sums,
             plain,
             static_cast<int>(kCodeBytes),
             static_cast<int>(kValueBytes / 4),
             first * Format::kParts,
             p.first_part,
             static_cast<uint32_t>(p.parts),
             count,
             ctx.lane()};
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const TileRows rows = take_rows(ctx, p, int64_t{p.first_set} + ctx.block().x, kColumns);
    if (rows.count == 0) return;
    const auto stages = open_stages(ctx);
    for (int m = static_cast<int>(ctx.thread().x); m < kColumns; m += kThreads) {
      stages.rows[m] = static_cast<int32_t>(x_row(ctx, p, rows, m < rows.count ? m : 0));
    }
    ctx.sync_threads();
    const int32_t tile = static_cast<int32_t>(ctx.block().y * kWarps + ctx.warp());
    const bool active = tile < p.tiles;
    const TilePlace place = find_tile(p, active ? tile : 0, rows.expert);
    const auto units =
        ctx.global(p.weights[place.weight].units) + int64_t{place.stored} * p.units * kUnitBytes;
    const int32_t own_units = active ? p.units : 0;
    const auto x = open_activations(ctx, p.x);
    for (uint32_t stage = 0; stage < kStages; ++stage) {
      load(ctx, p, stages, x, units, own_units, rows.count, stage,
           static_cast<int32_t>(stage) * kUnits);
    }

    int32_t run = active ? p.runs.owner(tile * p.units) : 0;
    int32_t cut = active ? p.runs.first(run + 1) - tile * p.units : 0;  // units of the tile
    Sums sums;
    Totals totals;
    uint32_t stage = 0;
    for (int32_t first = 0; first < p.units; first += kUnits) {
      ctx.copy_async_wait(kStages - 1);
      ctx.sync_threads();
      const auto columns_now = columns(ctx, p, stages, rows.count, stage, first);
      for (int32_t u = first; u < first + kUnits && u < own_units; ++u) {
        Format::template add<Format::kInteger>(
            ctx,
            stages.weights + ((stage * kWarps + ctx.warp()) * kWarpBytes +
                              static_cast<uint32_t>(u - first) * kUnitBytes),
            columns_now, u, sums);
        if (u + 1 != cut && u + 1 != p.units) continue;
        totals.add(ctx, sums);
        sums = Sums{};
        cut = p.runs.first(++run + 1) - tile * p.units;
      }
      ctx.sync_threads();
      load(ctx, p, stages, x, units, own_units, rows.count, stage,
           first + static_cast<int32_t>(kStages) * kUnits);
      stage = (stage + 1) % kStages;
    }
    if (!active) return;
    SHOAL_UNROLL
    for (int n = 0; n < kGroups; ++n) put_results(ctx, p, place, rows, 8 * n, totals.v[n]);
  }
};

}  // namespace shoal::gpu

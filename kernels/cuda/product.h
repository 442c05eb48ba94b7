// What all matrix products of a card share: their parameters, who computes what, the stream of a
// weight row through shared memory, and what becomes of a finished sum.
//
//   out[r, o] (+)= (scale · Σ_k W[o, k] · x[r, k]) · row_scale[r] + bias[o]
//
// A warp computes one output feature for a tile of up to kProductRows activation rows, so a weight
// row is read once per tile. Lane l adds the same features in the same order whatever the tile
// holds, and lanes are summed in one fixed tree: a row's result does not depend on its company.
//
// Stored features come in parts of 32. Parts in front of or behind the weight's columns (blocks of
// 256 that a shard only touches) are skipped, not multiplied by zero: what stands in the
// activations there does not matter.
#pragma once

#include <cstdint>

#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"

namespace shoal::gpu {

using simt::F32x4;
using simt::Global;
using simt::U32x4;

inline constexpr uint32_t kProductWarps = 4;  // of a block; each has an output feature of its own
inline constexpr int kProductRows = 8;        // activation rows of a tile
inline constexpr int kMaxProducts = 4;        // weights of one launch

// One weight of a launch. Experts: the first of them.
struct ProductWeight {
  Global<const uint8_t> data;  // rows of `row_stride` bytes, each a multiple of 16
  Global<const float> bias;    // [rows] or null
  Global<float> out;           // [activation rows, out_stride]
  int64_t row_stride = 0;      // bytes
  int64_t out_stride = 0;      // floats
  int64_t rows = 0;            // outputs; of one expert
  uint32_t first_block = 0;    // of the grid's x
  float scale = 1.0f;
  uint32_t accumulate = 0;
};

// Four words per tile of experts: expert, first slot, slots, 0.
struct alignas(16) ExpertTile {
  int32_t expert, first, count, unused;
};

struct ProductParams {
  ProductWeight weights[kMaxProducts];
  uint32_t count = 0;  // of weights
  // The stored row: `row_bytes` of blocks; columns are features [32 · first_part, + cols).
  uint64_t row_bytes = 0;
  int64_t first_part = 0;
  int64_t cols = 0;
  // Activations as GpuActivations has them. Column 0 of output o is feature x_first + h ·
  // x_head_stride, h = o / head_rows.
  Global<const float> values;
  Global<const int8_t> codes;
  Global<const float> scales, sums;
  int64_t x_stride = 0;
  int64_t rows = 0;
  int64_t x_first = 0, x_head_stride = 0, out_head_stride = 0;
  uint32_t head_rows = 0xffffffffu;
  uint32_t whole_vectors = 1;  // every column 0 is a multiple of 4 features
  uint32_t use_codes = 0;      // where the weight's type can: every column 0 a multiple of 32
  // Products of experts, or null: tiles of slots; the activation row of a slot (null: the slot
  // itself) and what multiplies its products (null: 1). Weights of an expert lie expert_rows
  // behind those of the one before.
  Global<const ExpertTile> tiles;
  Global<const int32_t> tile_count;
  Global<const int32_t> slot_rows;
  Global<const float> slot_scales;
  int64_t expert_rows = 0;
};

// Up to kProductRows activation rows as a weight row meets them.
struct ProductTile {
  int count = 0;
  int64_t expert = 0;
  int64_t first = 0;             // row of the first result
  int64_t x[kProductRows] = {};  // activation rows
};

template <class Ctx>
SHOAL_SIMT int64_t tile_count(Ctx& ctx, const ProductParams& p) {
  if (p.tiles.address != nullptr) return int32_t{ctx.global(p.tile_count)[0]};
  return (p.rows + kProductRows - 1) / kProductRows;
}

template <class Ctx>
SHOAL_SIMT ProductTile take_tile(Ctx& ctx, const ProductParams& p, int64_t number) {
  ProductTile tile;
  if (p.tiles.address != nullptr) {
    const ExpertTile stored = ctx.global(p.tiles)[number];
    tile.count = stored.count;
    tile.expert = stored.expert;
    tile.first = stored.first;
  } else {
    tile.first = number * kProductRows;
    const int64_t left = p.rows - tile.first;
    tile.count = left < kProductRows ? static_cast<int>(left) : kProductRows;
  }
  const auto rows = ctx.global(p.slot_rows);
  for (int r = 0; r < kProductRows; ++r) {
    if (r >= tile.count) break;
    tile.x[r] = tile.first + r;
    if (p.slot_rows.address != nullptr) tile.x[r] = int32_t{rows[tile.first + r]};
  }
  return tile;
}

// The output feature of the calling warp; `weight` < 0: none.
struct ProductOutput {
  int weight = -1;
  int64_t row = 0;     // in the weight; experts: in one expert's
  int64_t column = 0;  // of the activations, where the weight's column 0 is
  int64_t at = 0;      // in an output row
};

template <class Ctx>
SHOAL_SIMT ProductOutput find_output(Ctx& ctx, const ProductParams& p) {
  ProductOutput output;
  const uint32_t block = ctx.block().x;
  int weight = 0;
  for (int i = 1; i < kMaxProducts; ++i) {
    if (i < static_cast<int>(p.count) && block >= p.weights[i].first_block) weight = i;
  }
  const uint32_t row = (block - p.weights[weight].first_block) * kProductWarps + ctx.warp();
  if (row >= p.weights[weight].rows) return output;
  const uint32_t head = row / p.head_rows;
  output.weight = weight;
  output.row = row;
  output.column = p.x_first + head * p.x_head_stride;
  output.at = head * p.out_head_stride + row % p.head_rows;
  return output;
}

// The sum over a warp, in one order, in every lane.
template <class Ctx>
SHOAL_SIMT float warp_sum(Ctx& ctx, float value) {
  for (uint32_t bits = 16; bits > 0; bits /= 2) value += ctx.shuffle_xor(value, bits);
  return value;
}

// Sums the lanes' parts of a tile's results and writes them.
template <class Ctx>
SHOAL_SIMT void put_sums(Ctx& ctx, const ProductParams& p, const ProductTile& tile,
                         const ProductOutput& output, const float (&sums)[kProductRows]) {
  float mine = 0;
  for (int r = 0; r < kProductRows; ++r) {
    if (r >= tile.count) break;
    const float sum = warp_sum(ctx, sums[r]);
    if (static_cast<int>(ctx.lane()) == r) mine = sum;
  }
  const int64_t r = ctx.lane();
  if (r >= tile.count) return;
  const ProductWeight& w = p.weights[output.weight];
  mine *= w.scale;
  if (p.slot_scales.address != nullptr) {
    mine *= float{ctx.global(p.slot_scales)[tile.first + r]};
  }
  if (w.bias.address != nullptr) {
    mine += float{ctx.global(w.bias)[tile.expert * p.expert_rows + output.row]};
  }
  const auto out = ctx.global(w.out) + ((tile.first + r) * w.out_stride + output.at);
  if (w.accumulate != 0) mine = float{*out} + mine;
  *out = mine;
}

// Streams the bytes of one weight row through a warp's own shared memory: chunks of kChunkBytes in
// a ring of kStages. Copies are of 16 aligned bytes, so a chunk lies at its start's remainder of
// 16; what a copy takes beyond the row is its padding.
template <class Bytes, class Row, int kChunkBytes, int kStages>
struct RowStream {
  static constexpr uint32_t kStageBytes = (kChunkBytes + 15) / 16 * 16 + 16;

  Bytes ring;  // kStages · kStageBytes, aligned to 16
  Row row;     // its first byte, aligned to 16
  uint64_t row_bytes = 0;

  template <class Ctx>
  SHOAL_SIMT void fetch(Ctx& ctx, int64_t chunk) const {
    const uint64_t begin = static_cast<uint64_t>(chunk) * kChunkBytes;
    if (begin < row_bytes) {
      const uint64_t end = begin + kChunkBytes < row_bytes ? begin + kChunkBytes : row_bytes;
      const uint64_t from = begin / 16 * 16;
      const auto to = ring + static_cast<uint64_t>(chunk) % kStages * kStageBytes;
      for (uint64_t at = 16 * ctx.lane(); from + at < end; at += 16 * simt::kWarpSize) {
        ctx.copy_async_16(to + at, row + (from + at));
      }
    }
    ctx.copy_async_commit();
  }
  // Where a chunk's first byte is in the ring.
  SHOAL_SIMT uint32_t offset(int64_t chunk) const {
    const uint64_t begin = static_cast<uint64_t>(chunk) * kChunkBytes;
    return static_cast<uint32_t>(static_cast<uint64_t>(chunk) % kStages * kStageBytes + begin % 16);
  }
};

// Four floats at a multiple of four floats, or anywhere.
template <class Pointer>
SHOAL_SIMT F32x4 load_four(const Pointer& p, bool aligned) {
  if (aligned) return *simt::vector_view<F32x4>(p);
  F32x4 v;
  v.x = p[0];
  v.y = p[1];
  v.z = p[2];
  v.w = p[3];
  return v;
}

SHOAL_SIMT float add_four(F32x4 a, F32x4 b, float sum) {
  sum = simt::fused_multiply_add(a.x, b.x, sum);
  sum = simt::fused_multiply_add(a.y, b.y, sum);
  sum = simt::fused_multiply_add(a.z, b.z, sum);
  return simt::fused_multiply_add(a.w, b.w, sum);
}

}  // namespace shoal::gpu

// Matrix products over rows as the file holds them, with float activations: any storable type.
// Products with int8 activations: code_product.h. What all share: product.h.
#pragma once

#include "kernels/body/blocks.h"
#include "kernels/cuda/product.h"

namespace shoal::gpu {

// Formats of blocks: a chunk of 1024 features is decoded by the shared decoders, a part of 32 by
// each lane, into the warp's shared memory; from there lanes take neighbouring features, which
// makes their reads of the activations neighbours too.
template <TensorType type>
struct FloatProduct {
  static constexpr const char* kName = "float_product";
  static constexpr uint32_t kMaxThreads = kProductWarps * simt::kWarpSize, kMinBlocks = 1;
  using Params = ProductParams;
  using B = body::Block<type>;
  static constexpr int kParts = 32;           // of a chunk
  static constexpr int kPartStride = 32 + 4;  // floats: vectors of eight lanes meet all banks
  static constexpr int kBlockParts = B::elems / 32;
  static constexpr int kChunkBytes = kParts / kBlockParts * B::bytes;
  static constexpr int kStages = 2;
  static constexpr uint32_t kTileBytes = kParts * kPartStride * sizeof(float);

  template <class Bytes, class Row>
  using Stream = RowStream<Bytes, Row, kChunkBytes, kStages>;
  static constexpr uint32_t kWarpBytes =
      kTileBytes + kStages * Stream<const uint8_t*, const uint8_t*>::kStageBytes;
  static constexpr uint32_t kSharedBytes = kProductWarps * kWarpBytes;

  // Decodes the lane's part of a chunk that starts at part `first` of the weight's columns.
  template <class Ctx, class Bytes, class Floats>
  SHOAL_SIMT static void decode(Ctx& ctx, const Bytes& chunk, int64_t first, int64_t parts,
                                const Floats& decoded) {
    const int lane = static_cast<int>(ctx.lane());
    if (first + lane < 0 || first + lane >= parts) return;
    float values[32];
    B::decode32(chunk + lane / kBlockParts * B::bytes, lane % kBlockParts, values);
    const auto to = simt::vector_view<F32x4>(decoded + lane * kPartStride);
    for (int i = 0; i < 8; ++i) {
      to[i] = F32x4{values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]};
    }
  }

  template <class Ctx, class Floats, class Values>
  SHOAL_SIMT static void add(Ctx& ctx, const ProductParams& p, const ProductTile& tile,
                             const Floats& decoded, int64_t first, int64_t parts,
                             const Values& values, float (&sums)[kProductRows]) {
    const int lane = static_cast<int>(ctx.lane());
    for (int i = 0; i < 8; ++i) {
      const int part = 4 * i + lane / 8, j = 4 * (lane % 8);
      if (first + part < 0 || first + part >= parts) continue;
      const F32x4 w = *simt::vector_view<F32x4>(decoded + (part * kPartStride + j));
      const auto x = values + (32 * (first + part) + j);
      for (int r = 0; r < kProductRows; ++r) {
        if (r >= tile.count) break;
        sums[r] = add_four(w, load_four(x + tile.x[r] * p.x_stride, p.whole_vectors != 0), sums[r]);
      }
    }
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const ProductParams& p) {
    const ProductOutput output = find_output(ctx, p);
    if (output.weight < 0) return;
    const ProductWeight& weight = p.weights[output.weight];
    const uint32_t base = ctx.warp() * kWarpBytes;
    const auto decoded = simt::shared_array<float>(ctx, base, kTileBytes / sizeof(float));
    const auto ring = simt::shared_array<uint8_t>(ctx, base + kTileBytes, kWarpBytes - kTileBytes);
    const auto data = ctx.global(weight.data);
    const auto values = ctx.global(p.values) + output.column;
    const int64_t parts = p.cols / 32;
    const int64_t begin = p.first_part / kParts, end = (p.first_part + parts + kParts - 1) / kParts;
    const int64_t tiles = tile_count(ctx, p);
    for (int64_t t = ctx.block().y; t < tiles; t += ctx.grid_dim().y) {
      const ProductTile tile = take_tile(ctx, p, t);
      const auto row = data + (tile.expert * p.expert_rows + output.row) * weight.row_stride;
      const Stream<decltype(ring + 0), decltype(row + 0)> stream{ring, row, p.row_bytes};
      float sums[kProductRows] = {};
      for (int64_t c = begin; c < begin + kStages - 1; ++c) stream.fetch(ctx, c);
      for (int64_t c = begin; c < end; ++c) {
        stream.fetch(ctx, c + kStages - 1);
        ctx.copy_async_wait(kStages - 1);
        ctx.sync_warp();
        const int64_t first = c * kParts - p.first_part;
        decode(ctx, stream.ring + stream.offset(c), first, parts, decoded);
        ctx.sync_warp();
        add(ctx, p, tile, decoded, first, parts, values, sums);
      }
      put_sums(ctx, p, tile, output, sums);
    }
  }
};

// One number per feature: 16 bytes per lane straight from memory.
template <TensorType type>
struct PlainProduct {
  static constexpr const char* kName = "plain_product";
  static constexpr uint32_t kMaxThreads = kProductWarps * simt::kWarpSize, kMinBlocks = 1;
  using Params = ProductParams;
  using B = body::Block<type>;
  static constexpr int kLaneElems = 16 / B::bytes;
  static constexpr uint32_t kSharedBytes = 0;

  SHOAL_SIMT static void unpack(U32x4 raw, float (&values)[kLaneElems]) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    for (int i = 0; i < kLaneElems; ++i) {
      uint8_t bytes[B::bytes];
      for (int b = 0; b < B::bytes; ++b) {
        const int at = i * B::bytes + b;
        bytes[b] = static_cast<uint8_t>(words[at / 4] >> (8 * (at % 4)));
      }
      B::decode(static_cast<const uint8_t*>(bytes), &values[i]);
    }
  }

  // Features [first, first + n) of the columns, n ≤ kLaneElems.
  template <class Values>
  SHOAL_SIMT static void add(const ProductParams& p, const ProductTile& tile,
                             const float (&w)[kLaneElems], const Values& x, int64_t n,
                             float (&sums)[kProductRows]) {
    for (int r = 0; r < kProductRows; ++r) {
      if (r >= tile.count) break;
      const auto row = x + tile.x[r] * p.x_stride;
      if (kLaneElems % 4 == 0 && n == kLaneElems) {
        for (int i = 0; i + 3 < kLaneElems; i += 4) {
          sums[r] = add_four(F32x4{w[i], w[i + 1], w[i + 2], w[i + 3]},
                             load_four(row + i, p.whole_vectors != 0), sums[r]);
        }
        continue;
      }
      for (int i = 0; i < kLaneElems; ++i) {
        if (i < n) sums[r] = simt::fused_multiply_add(w[i], float{row[i]}, sums[r]);
      }
    }
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const ProductParams& p) {
    const ProductOutput output = find_output(ctx, p);
    if (output.weight < 0) return;
    const ProductWeight& weight = p.weights[output.weight];
    const auto data = ctx.global(weight.data);
    const auto values = ctx.global(p.values) + output.column;
    const int64_t tiles = tile_count(ctx, p);
    for (int64_t t = ctx.block().y; t < tiles; t += ctx.grid_dim().y) {
      const ProductTile tile = take_tile(ctx, p, t);
      const auto row = data + (tile.expert * p.expert_rows + output.row) * weight.row_stride;
      const auto vectors = simt::vector_view<U32x4>(row);
      float sums[kProductRows] = {};
      const int64_t step = int64_t{simt::kWarpSize} * kLaneElems;
      for (int64_t f = int64_t{ctx.lane()} * kLaneElems; f < p.cols; f += step) {
        float w[kLaneElems];
        unpack(ctx.load_stream(vectors + f / kLaneElems), w);
        const int64_t left = p.cols - f;
        add(p, tile, w, values + f, left < kLaneElems ? left : kLaneElems, sums);
      }
      put_sums(ctx, p, tile, output, sums);
    }
  }
};

}  // namespace shoal::gpu

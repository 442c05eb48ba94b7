// Matrix products over rows as the file holds them, with int8 activations, for types with a
// CodeFormat: byte products in int32, one part of 32 features per lane,
//
//   Σ_k w_k x_k = scale_w · scale_x Σ_k code_k a_k − minimum_w · scale_x Σ_k a_k
//
// scaled and added in float, parts of a lane in ascending order. What all products share:
// product.h.
#pragma once

#include "kernels/cuda/code_formats.h"
#include "kernels/cuda/product.h"

namespace shoal::gpu {

template <TensorType type>
struct CodeProduct {
  static constexpr const char* kName = "code_product";
  static constexpr uint32_t kMaxThreads = kProductWarps * simt::kWarpSize, kMinBlocks = 4;
  using Params = ProductParams;
  using B = body::Block<type>;
  using Format = CodeFormat<type>;
  static constexpr int kParts = 32;  // of a chunk, one per lane
  static constexpr int kBlockParts = B::elems / 32;
  static constexpr int kChunkBytes = kParts / kBlockParts * B::bytes;
  static constexpr int kStages = 4;
  static constexpr int kAlign = B::bytes % 16 == 0 ? 16 : B::bytes % 4 == 0 ? 4 : 1;

  template <class Bytes, class Row>
  using Stream = RowStream<Bytes, Row, kChunkBytes, kStages>;
  static constexpr uint32_t kWarpBytes =
      kStages * Stream<const uint8_t*, const uint8_t*>::kStageBytes;
  static constexpr uint32_t kSharedBytes = kProductWarps * kWarpBytes;

  SHOAL_SIMT static int32_t dot4(uint32_t w, uint32_t x, int32_t sum) {
    if constexpr (Format::kSigned) return simt::dot4_s8s8(w, x, sum);
    return simt::dot4_u8s8(w, x, sum);
  }

  // The part's products with 32 codes of an activation row, without the row's scale.
  SHOAL_SIMT static float part_sum(const PartCodes& w, const uint32_t (&x)[8]) {
    int32_t sums[2] = {0, 0};
    for (int i = 0; i < 8; ++i) {
      const int half = Format::kHalves ? i / 4 : 0;
      sums[half] = dot4(w.words[i], x[i], sums[half]);
    }
    float value = w.scales[0] * static_cast<float>(sums[0]);
    if constexpr (Format::kHalves) {
      value = simt::fused_multiply_add(w.scales[1], static_cast<float>(sums[1]), value);
      if constexpr (Format::kMinima) {
        int32_t totals[2] = {0, 0};
        for (int i = 0; i < 8; ++i) {
          totals[i / 4] = simt::dot4_s8s8(0x01010101u, x[i], totals[i / 4]);
        }
        value = simt::fused_multiply_add(-w.minima[0], static_cast<float>(totals[0]), value);
        value = simt::fused_multiply_add(-w.minima[1], static_cast<float>(totals[1]), value);
      }
    }
    return value;
  }

  // Activations with feature 32 · part of the columns at codes + 32 · part of row 0.
  template <class Codes, class Floats>
  struct Input {
    Codes codes;  // of whole vectors
    Floats scales, sums;
    int64_t stride;  // features between rows
  };

  template <class In>
  SHOAL_SIMT static void add(const ProductTile& tile, const In& in, const PartCodes& w,
                             int64_t part, float (&sums)[kProductRows]) {
    for (int r = 0; r < kProductRows; ++r) {
      if (r >= tile.count) break;
      const int64_t at = tile.x[r] * (in.stride / 32) + part;
      const U32x4 low = in.codes[2 * at], high = in.codes[2 * at + 1];
      const uint32_t x[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      sums[r] = simt::fused_multiply_add(float{in.scales[at]}, part_sum(w, x), sums[r]);
      if constexpr (Format::kMinima && !Format::kHalves) {
        sums[r] = simt::fused_multiply_add(-w.minima[0], float{in.sums[at]}, sums[r]);
      }
    }
  }

  // One tile against one weight row.
  template <class Ctx, class S, class In>
  SHOAL_SIMT static void run(Ctx& ctx, const ProductParams& p, const ProductTile& tile,
                             const S& stream, const In& in, float (&sums)[kProductRows]) {
    const int lane = static_cast<int>(ctx.lane());
    const int64_t parts = p.cols / 32;
    const int64_t begin = p.first_part / kParts, end = (p.first_part + parts + kParts - 1) / kParts;
    for (int i = 0; i < kStages - 1; ++i) stream.fetch(ctx, begin + i);
    for (int64_t c = begin; c < end; ++c) {
      ctx.copy_async_wait(kStages - 2);
      ctx.sync_warp();  // the chunk is there, and nobody reads the one before any more
      stream.fetch(ctx, c + kStages - 1);
      const int64_t part = c * kParts + lane - p.first_part;
      if (part < 0 || part >= parts) continue;
      const uint32_t at = stream.offset(c) + static_cast<uint32_t>(lane / kBlockParts * B::bytes);
      const CodeBlock<decltype(stream.ring), kAlign> block{stream.ring, at};
      PartCodes w;
      Format::load(block, lane % kBlockParts, w);
      add(tile, in, w, part, sums);
    }
    ctx.sync_warp();  // the next tile's chunks go where these were
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const ProductParams& p) {
    const ProductOutput output = find_output(ctx, p);
    if (output.weight < 0) return;
    const ProductWeight& weight = p.weights[output.weight];
    const auto ring = simt::shared_array<uint8_t>(ctx, ctx.warp() * kWarpBytes, kWarpBytes);
    const auto data = ctx.global(weight.data);
    const auto codes = simt::vector_view<U32x4>(ctx.global(p.codes) + output.column);
    const auto scales = ctx.global(p.scales) + output.column / 32;
    const auto x_sums = ctx.global(p.sums) + output.column / 32;
    const Input<decltype(codes + 0), decltype(scales + 0)> in{codes, scales, x_sums, p.x_stride};
    const int64_t tiles = tile_count(ctx, p);
    for (int64_t t = ctx.block().y; t < tiles; t += ctx.grid_dim().y) {
      const ProductTile tile = take_tile(ctx, p, t);
      const auto row = data + (tile.expert * p.expert_rows + output.row) * weight.row_stride;
      float sums[kProductRows] = {};
      run(ctx, p, tile, Stream<decltype(ring + 0), decltype(row + 0)>{ring, row, p.row_bytes}, in,
          sums);
      put_sums(ctx, p, tile, output, sums);
    }
  }
};

}  // namespace shoal::gpu

// Small kernels in the shape of the real ones, with the bugs that the emulator must catch: each
// mutant is the kernel with one thing wrong. Also compiled for GPUs, to prove the contract there.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"

namespace shoal::simt::samples {

enum class Mutant {
  kNone,
  kMissingBarrier,
  kDroppedTail,
  kWrongScaleIndex,
  kInt32Size,
  kStaleSharedRead,
  kMissingCopyWait,
  kMissingFence,
};

template <class Ctx>
SHOAL_SIMT float warp_sum(Ctx& ctx, float v) {
  for (uint32_t bits = 16; bits > 0; bits /= 2) v += ctx.shuffle_xor(v, bits);
  return v;
}

// total = Σ x[i]: blocks sum their stretch, the last to arrive adds the blocks' sums in order.
template <Mutant mutant>
struct Sum {
  static constexpr const char* kName = "sum";
  static constexpr uint32_t kMaxThreads = 256, kMinBlocks = 1;
  static constexpr uint32_t kSharedBytes = 33 * 4;
  struct Params {
    Global<const float> x;     // [n]
    Global<float> parts;       // [grid.x]
    Global<float> total;       // [1]
    Global<uint32_t> arrived;  // [1], 0 before and after
    int64_t n;
  };

  // Thread 0 gets the sum; `scratch` is free again after the next barrier.
  template <class Ctx, class Shared>
  SHOAL_SIMT static float block_sum(Ctx& ctx, Shared scratch, float v) {
    v = warp_sum(ctx, v);
    if (ctx.lane() == 0) scratch[ctx.warp()] = v;
    if constexpr (mutant != Mutant::kMissingBarrier) ctx.sync_threads();
    float sum = 0;
    if (ctx.thread().x == 0) {
      for (uint32_t w = 0; w < ctx.block_dim().x / 32; ++w) sum += scratch[w];
    }
    return sum;
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const auto x = ctx.global(p.x);
    const auto parts = ctx.global(p.parts);
    const auto scratch = shared_array<float>(ctx, 0, 32);
    const auto is_last = shared_array<uint32_t>(ctx, 128, 1);
    const int64_t threads = ctx.block_dim().x;
    const int64_t stretch = (p.n + ctx.grid_dim().x - 1) / ctx.grid_dim().x;
    const int64_t first = ctx.block().x * stretch;
    const int64_t end = first + stretch < p.n ? first + stretch : p.n;
    const int64_t whole = first + (end - first) / threads * threads;
    float sum = 0;
    for (int64_t i = first; i < (mutant == Mutant::kDroppedTail ? whole : end); i += threads) {
      const int64_t at = i + ctx.thread().x;
      if (at < end) sum += x[at];
    }
    sum = block_sum(ctx, scratch, sum);
    if (ctx.thread().x == 0) {
      parts[ctx.block().x] = sum;
      const auto counter = ctx.global(p.arrived);
      if constexpr (mutant == Mutant::kMissingFence) {
        is_last[0] = ctx.atomic_add(counter, 1u) == ctx.grid_dim().x - 1 ? 1u : 0u;
      } else {
        is_last[0] = arrive_last(ctx, counter, ctx.grid_dim().x) ? 1u : 0u;
      }
    }
    ctx.sync_threads();
    const uint32_t last = is_last[0];
    if (last == 0) return;
    float total = 0;
    for (uint32_t b = ctx.thread().x; b < ctx.grid_dim().x; b += ctx.block_dim().x) {
      total += parts[b];
    }
    total = block_sum(ctx, scratch, total);
    if (ctx.thread().x == 0) {
      ctx.global(p.total)[0] = total;
      ctx.global(p.arrived)[0] = 0u;
    }
  }
};

// y = W x for a toy format in the manner of Q4_K: blocks of 64 weights, 48 bytes: halves d and
// dmin, u8 scales and minima of each 32, 32 bytes of codes (element l low, l + 32 high in byte l),
// 8 bytes of nothing. A warp per row; its blocks come through a ring in shared memory.
template <Mutant mutant>
struct ToyGemv {
  static constexpr const char* kName = "toy_gemv";
  static constexpr uint32_t kMaxThreads = 128, kMinBlocks = 1;
  static constexpr uint32_t kStages = 2, kBlocksPerStage = 4, kBlockBytes = 48;
  static constexpr uint32_t kStageBytes = kBlocksPerStage * kBlockBytes;
  static constexpr uint32_t shared_bytes(uint32_t warps) { return warps * kStages * kStageBytes; }
  struct Params {
    Global<const uint8_t> weights;  // [first_row + rows, cols / 64, 48]
    Global<const float> x;          // [cols]
    Global<float> y;                // [rows]
    int64_t first_row;
    int64_t rows;
    int64_t cols;  // a multiple of 64
  };

  template <class Ctx, class Shared>
  SHOAL_SIMT static float dot_block(Ctx& ctx, const Shared& block, const F32x2& x) {
    // Lane l has elements l and l + 32.
    const auto halves = vector_view<uint32_t>(block);
    const uint32_t head = halves[0];
    const float d = to_float(Half{static_cast<uint16_t>(head)});
    const float dmin = to_float(Half{static_cast<uint16_t>(head >> 16)});
    const uint32_t code = block[8 + ctx.lane()];
    constexpr uint32_t kSecond = mutant == Mutant::kWrongScaleIndex ? 0 : 1;
    const float scale_low = block[4], scale_high = block[4 + kSecond];
    const float min_low = block[6], min_high = block[7];
    const float low = d * scale_low * static_cast<float>(code & 15) - dmin * min_low;
    const float high = d * scale_high * static_cast<float>(code >> 4) - dmin * min_high;
    return low * x.x + high * x.y;
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const uint32_t lane = ctx.lane(), warp = ctx.warp(), warps = ctx.block_dim().x / 32;
    const int64_t row = int64_t{ctx.block().x} * warps + warp;
    if (row >= p.rows) return;  // the whole warp
    const auto x = ctx.global(p.x);
    const auto ring =
        shared_array<uint8_t>(ctx, warp * kStages * kStageBytes, kStages * kStageBytes);
    const int64_t blocks = p.cols / 64;
    using Size = std::conditional_t<mutant == Mutant::kInt32Size, int32_t, int64_t>;
    const Size offset = static_cast<Size>((p.first_row + row) * blocks * kBlockBytes);
    const auto weights = ctx.global(p.weights) + offset;
    const int64_t steps = (blocks + kBlocksPerStage - 1) / kBlocksPerStage;
    const auto fetch = [&](int64_t step) {
      const int64_t at = step * kStageBytes + 16 * lane;
      if (step < steps && 16 * lane < kStageBytes && at < blocks * kBlockBytes) {
        ctx.copy_async_16(ring + (step % kStages * kStageBytes + 16 * lane), weights + at);
      }
      ctx.copy_async_commit();
    };
    for (uint32_t i = 0; i < kStages; ++i) fetch(i);
    float sum = 0;
    for (int64_t step = 0; step < steps; ++step) {
      ctx.copy_async_wait(mutant == Mutant::kMissingCopyWait ? kStages : kStages - 1);
      if constexpr (mutant != Mutant::kMissingBarrier) ctx.sync_warp();
      for (uint32_t b = 0; b < kBlocksPerStage; ++b) {
        const int64_t block = step * kBlocksPerStage + b;
        if (mutant == Mutant::kDroppedTail ? step * kBlocksPerStage + 3 >= blocks
                                           : block >= blocks) {
          break;
        }
        const F32x2 values = {x[block * 64 + lane], x[block * 64 + 32 + lane]};
        sum += dot_block(ctx, ring + (step % kStages * kStageBytes + b * kBlockBytes), values);
      }
      if constexpr (mutant != Mutant::kStaleSharedRead) ctx.sync_warp();
      fetch(step + kStages);
    }
    ctx.copy_async_wait(0);
    sum = warp_sum(ctx, sum);
    if (lane == 0) ctx.global(p.y)[row] = sum;
  }
};

// y[r, :] = softmax(x[r, :]), a block per row; the row stays in shared memory.
template <Mutant mutant>
struct Softmax {
  static constexpr const char* kName = "softmax";
  static constexpr uint32_t kMaxThreads = 256, kMinBlocks = 1;
  static constexpr uint32_t shared_bytes(uint32_t cols) { return 64 * 4 + cols * 4; }
  struct Params {
    Global<const float> x;  // [grid.x, cols]
    Global<float> y;        // [grid.x, cols]
    uint32_t cols;
  };

  template <class Ctx, class Shared, class F>
  SHOAL_SIMT static float block_reduce(Ctx& ctx, Shared scratch, float v, F&& combine) {
    for (uint32_t bits = 16; bits > 0; bits /= 2) v = combine(v, ctx.shuffle_xor(v, bits));
    if (ctx.lane() == 0) scratch[ctx.warp()] = v;
    if constexpr (mutant != Mutant::kMissingBarrier) ctx.sync_threads();
    v = scratch[0];
    for (uint32_t w = 1; w < ctx.block_dim().x / 32; ++w) v = combine(v, scratch[w]);
    return v;
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    constexpr float kLog2E = 1.4426950408889634f;
    const uint32_t threads = ctx.block_dim().x, t = ctx.thread().x;
    const uint32_t cols = mutant == Mutant::kDroppedTail ? p.cols / threads * threads : p.cols;
    const auto row = shared_array<float>(ctx, 256, p.cols);
    const int64_t first = int64_t{ctx.block().x} * p.cols;
    const auto x = ctx.global(p.x) + first;
    const auto y = ctx.global(p.y) + first;
    float largest = -3.0e38f;
    for (uint32_t i = t; i < cols; i += threads) {
      const float v = x[i];
      row[i] = v;
      largest = v > largest ? v : largest;
    }
    largest = block_reduce(ctx, shared_array<float>(ctx, 0, 32), largest,
                           [](float a, float b) { return a > b ? a : b; });
    float sum = 0;
    for (uint32_t i = t; i < cols; i += threads) {
      const float v = exp2_approx((row[i] - largest) * kLog2E);
      row[i] = v;
      sum += v;
    }
    // The stale one reads the maxima's words while others still do.
    const uint32_t second = mutant == Mutant::kStaleSharedRead ? 0 : 128;
    sum = block_reduce(ctx, shared_array<float>(ctx, second, 32), sum,
                       [](float a, float b) { return a + b; });
    for (uint32_t i = t; i < cols; i += threads) y[i] = divide_approx(row[i], sum);
  }
};

}  // namespace shoal::simt::samples

// Sums and maxima over a block whose order depends on the number of threads only.
#pragma once

#include <cstdint>

#include "kernels/cuda/simt.h"

namespace shoal::gpu {

// Cells of shared memory a reduction of up to 1024 threads needs.
inline constexpr uint32_t kReduceCells = 32;

// f over all lanes, the same bits in each: f must be commutative.
template <class Ctx, class T, class F>
SHOAL_SIMT T warp_reduce(Ctx& ctx, T value, F&& f) {
  for (uint32_t bits = 16; bits > 0; bits /= 2) value = f(value, ctx.shuffle_xor(value, bits));
  return value;
}

// f over all threads of the block, a multiple of 32; the same bits in each. `cells`: kReduceCells
// of shared memory that nobody else uses between the call and the block's next barrier after it.
template <class Ctx, class Cells, class T, class F>
SHOAL_SIMT T block_reduce(Ctx& ctx, Cells cells, T value, F&& f) {
  value = warp_reduce(ctx, value, f);
  const uint32_t warps = ctx.block_dim().x / simt::kWarpSize, warp = ctx.warp();
  ctx.sync_threads();  // the cells' earlier readers are done
  if (ctx.lane() == 0) cells[warp] = value;
  ctx.sync_threads();
  // Each warp adds the warps' up by itself, as a tree; a block of less than 32 warps has lanes that
  // bring the first one's again, which takes no part.
  const uint32_t lane = ctx.lane();
  T total = cells[lane < warps ? lane : 0];
  for (uint32_t bits = 1; bits < warps; bits *= 2) {
    const T other = ctx.shuffle_down(total, bits);
    if (lane % (2 * bits) == 0 && lane + bits < warps) total = f(total, other);
  }
  return ctx.shuffle(total, 0);
}

template <class Ctx, class Cells, class T>
SHOAL_SIMT T block_sum(Ctx& ctx, Cells cells, T value) {
  return block_reduce(ctx, cells, value, [](T a, T b) { return a + b; });
}

}  // namespace shoal::gpu

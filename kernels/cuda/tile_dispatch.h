// launch_tiles_of and launch_put_rows_of for one kind of stream; a file that includes this after
// the launch function of its streams instantiates them.
#pragma once

#include "kernels/cuda/tile_gemm.h"
#include "kernels/cuda/tile_gemv.h"
#include "kernels/cuda/tile_put.h"
#include "kernels/cuda/tile_table.h"

namespace shoal::gpu {

template <TensorType type, class Arch, class Stream>
Status launch_tiles_of(Stream& stream, TileKernel kernel, uint32_t sets,
                       const TileProductParams& params) {
  if (kernel == TileKernel::kFewRows) {
    using Kernel = TileGemv<type>;
    static_assert(Kernel::kColumns == set_rows(TileKernel::kFewRows, type));
    const auto blocks =
        (static_cast<uint32_t>(params.runs.count) + Kernel::kWarps - 1) / Kernel::kWarps;
    return simt::launch<Kernel, Arch>(
        stream, {{blocks, sets}, {Kernel::kThreads}, Kernel::kSharedBytes}, params);
  }
  using Kernel = TileGemm<type>;
  static_assert(Kernel::kColumns == set_rows(TileKernel::kManyRows, type));
  const auto blocks = (static_cast<uint32_t>(params.tiles) + Kernel::kWarps - 1) / Kernel::kWarps;
  return simt::launch<Kernel, Arch>(
      stream, {{sets, blocks}, {Kernel::kThreads}, Kernel::kSharedBytes}, params);
}

template <TensorType type, class Arch, class Stream>
Status launch_put_rows_of(Stream& stream, const PutRowsParams& params) {
  using Kernel = PutRows<type>;
  const auto blocks = static_cast<uint32_t>((params.count * params.units + Kernel::kThreads - 1) /
                                            Kernel::kThreads);
  return simt::launch<Kernel, Arch>(stream, {{blocks}, {Kernel::kThreads}, 0}, params);
}

}  // namespace shoal::gpu

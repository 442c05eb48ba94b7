// Starts the kernels of tiled weights. Declared apart from them: a program that holds a GpuDevice
// compiles no format; tile_dispatch.h is instantiated once per kind of stream (tiles_*.cu,
// tests/simt/gpu_products.cc).
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/simt.h"
#include "kernels/cuda/tile_params.h"

namespace shoal::gpu {

enum class TileKernel : uint8_t { kFewRows, kManyRows };

// Activation rows, or slots, that a set of a kernel has: tile_gemv.h and tile_gemm.h.
constexpr int64_t set_rows(TileKernel kernel, TensorType type) {
  if (kernel == TileKernel::kFewRows) return 8;
  return tile_takes_codes(type) ? 64 : 32;
}

// `sets` of the rows, from params.first_set on.
template <class Arch, class Stream>
Status launch_tiles(Stream& stream, TileKernel kernel, TensorType type, uint32_t sets,
                    const TileProductParams& params);

// Puts rows as the file has them into the units of a weight.
template <class Arch, class Stream>
Status launch_put_rows(Stream& stream, TensorType type, const PutRowsParams& params);

}  // namespace shoal::gpu

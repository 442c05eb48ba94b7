// Starts the kernel of a weight's type. Declared apart from the kernels: a program that holds a
// GpuDevice compiles none of the 33 formats; product_dispatch.h is instantiated once per kind of
// stream (products.cu, tests/simt/gpu_products.cc).
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/product.h"
#include "model/tensor_type.h"

namespace shoal::gpu {

// Tiles are dealt to at most so many blocks in y.
inline constexpr int64_t kMaxTileBlocks = 32768;
// Products of gated networks and experts stand in scratch memory for a band of rows at a time, so
// that it does not grow with the batch: 8 Mi floats.
inline constexpr int64_t kBandFloats = int64_t{1} << 23;

// Rows of a band of `limit` floats if each takes `floats`; whole sets of the kernels for many rows
// where there are.
inline int64_t band_rows(int64_t rows, int64_t floats, int64_t limit) {
  constexpr int64_t kSet = 64;
  const int64_t most = std::max<int64_t>(limit / std::max<int64_t>(floats, 1), 1);
  return std::min(rows, most < kSet ? most : most / kSet * kSet);
}

inline int64_t product_tiles(int64_t rows) { return (rows + kProductRows - 1) / kProductRows; }

// grid.x: blocks of kProductWarps outputs, over all weights; grid.y: tiles, or as many as there
// may be. An empty grid starts nothing.
template <class Arch, class Stream>
Status launch_product(Stream& stream, TensorType type, simt::Dim3 grid,
                      const ProductParams& params);

}  // namespace shoal::gpu

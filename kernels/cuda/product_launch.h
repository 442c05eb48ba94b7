// Starts the kernel of a weight's type. Declared apart from the kernels: a program that holds a
// GpuDevice compiles none of the 33 formats; product_dispatch.h is instantiated once per kind of
// stream (tests/simt/gpu_products.cc).
#pragma once

#include "base/status.h"
#include "kernels/cuda/product.h"
#include "model/tensor_type.h"

namespace shoal::gpu {

// grid.x: blocks of kProductWarps outputs, over all weights; grid.y: tiles, or as many as there
// may be. An empty grid starts nothing.
template <class Arch, class Stream>
Status launch_product(Stream& stream, TensorType type, simt::Dim3 grid,
                      const ProductParams& params);

}  // namespace shoal::gpu

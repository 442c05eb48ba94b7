// launch_product for one kind of stream; a file that includes this after the launch function of its
// streams instantiates it.
#pragma once

#include "kernels/body/blocks.h"
#include "kernels/cuda/code_product.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/product_table.h"

namespace shoal::gpu {

template <TensorType type, class Arch, class Stream>
Status launch_product_of(Stream& stream, simt::Dim3 grid, const ProductParams& params) {
  const simt::Dim3 block{kProductWarps * simt::kWarpSize};
  if constexpr (body::Block<type>::elems == 1) {
    return simt::launch<PlainProduct<type>, Arch>(stream, {grid, block, 0}, params);
  } else {
    if constexpr (CodeFormat<type>::kExists) {
      using Kernel = CodeProduct<type>;
      if (params.use_codes != 0) {
        return simt::launch<Kernel, Arch>(stream, {grid, block, Kernel::kSharedBytes}, params);
      }
    }
    using Kernel = FloatProduct<type>;
    return simt::launch<Kernel, Arch>(stream, {grid, block, Kernel::kSharedBytes}, params);
  }
}

}  // namespace shoal::gpu

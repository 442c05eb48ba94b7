// launch_product for one kind of stream; a file that includes this after the launch function of its
// streams instantiates it.
#pragma once

#include "kernels/body/blocks.h"
#include "kernels/cuda/code_product.h"
#include "kernels/cuda/matmul_kernels.h"
#include "kernels/cuda/product_launch.h"

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

template <class Arch, class Stream, TensorType first, TensorType... rest>
Status launch_product_in(body::TypeList<first, rest...>, Stream& stream, TensorType type,
                         simt::Dim3 grid, const ProductParams& params) {
  if (type == first) return launch_product_of<first, Arch>(stream, grid, params);
  if constexpr (sizeof...(rest) > 0) {
    return launch_product_in<Arch>(body::TypeList<rest...>{}, stream, type, grid, params);
  } else {
    return invalid_argument("a product of a type that is not stored");
  }
}

template <class Arch, class Stream>
Status launch_product(Stream& stream, TensorType type, simt::Dim3 grid,
                      const ProductParams& params) {
  if (grid.x == 0 || grid.y == 0) return Status::ok();
  return launch_product_in<Arch>(body::BlockTypes{}, stream, type, grid, params);
}

}  // namespace shoal::gpu

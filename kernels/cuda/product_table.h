// launch_product as a choice among launch_product_of, one per type, which may live in other
// translation units (product_dispatch.h defines it).
#pragma once

#include "kernels/body/blocks.h"
#include "kernels/cuda/product_launch.h"

namespace shoal::gpu {

template <TensorType type, class Arch, class Stream>
Status launch_product_of(Stream& stream, simt::Dim3 grid, const ProductParams& params);

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

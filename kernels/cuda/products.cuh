// Products of one type, compiled where a .cu file names it; products.cu chooses among them.
#pragma once

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch_cuda.cuh"

#include "kernels/cuda/product_dispatch.h"

#define SHOAL_PRODUCT(type)                                               \
  template Status launch_product_of<TensorType::type, CudaBackend::Arch>( \
      CudaBackend::Stream&, simt::Dim3, const ProductParams&)

// The matrix products of every stored type (product_dispatch.h), for cards.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch_cuda.cuh"
#include "kernels/cuda/product_dispatch.h"

namespace shoal::gpu {

template Status launch_product<CudaBackend::Arch>(CudaBackend::Stream&, TensorType, simt::Dim3,
                                                  const ProductParams&);

}  // namespace shoal::gpu

// The choice among the products of all types; they are in products_*.cu.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/product_table.h"

namespace shoal::gpu {

template Status launch_product<CudaBackend::Arch>(CudaBackend::Stream&, TensorType, simt::Dim3,
                                                  const ProductParams&);

}  // namespace shoal::gpu

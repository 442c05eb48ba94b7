// Matrix products of weights without blocks.
#include "kernels/cuda/products.cuh"

namespace shoal::gpu {

SHOAL_PRODUCT(kF32);
SHOAL_PRODUCT(kF16);
SHOAL_PRODUCT(kBF16);
SHOAL_PRODUCT(kF64);
SHOAL_PRODUCT(kI8);
SHOAL_PRODUCT(kI16);
SHOAL_PRODUCT(kI32);
SHOAL_PRODUCT(kI64);

}  // namespace shoal::gpu

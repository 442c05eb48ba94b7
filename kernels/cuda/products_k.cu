// Matrix products of super-blocks of 256 weights.
#include "kernels/cuda/products.cuh"

namespace shoal::gpu {

SHOAL_PRODUCT(kQ2_K);
SHOAL_PRODUCT(kQ3_K);
SHOAL_PRODUCT(kQ4_K);
SHOAL_PRODUCT(kQ5_K);
SHOAL_PRODUCT(kQ6_K);
SHOAL_PRODUCT(kIQ4_XS);
SHOAL_PRODUCT(kTQ1_0);
SHOAL_PRODUCT(kTQ2_0);

}  // namespace shoal::gpu

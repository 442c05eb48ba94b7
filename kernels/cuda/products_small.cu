// Matrix products of blocks of 16 to 128 weights with one scale.
#include "kernels/cuda/products.cuh"

namespace shoal::gpu {

SHOAL_PRODUCT(kQ4_0);
SHOAL_PRODUCT(kQ4_1);
SHOAL_PRODUCT(kQ5_0);
SHOAL_PRODUCT(kQ5_1);
SHOAL_PRODUCT(kQ8_0);
SHOAL_PRODUCT(kQ1_0);
SHOAL_PRODUCT(kQ2_0);
SHOAL_PRODUCT(kMXFP4);
SHOAL_PRODUCT(kNVFP4);
SHOAL_PRODUCT(kIQ4_NL);

}  // namespace shoal::gpu

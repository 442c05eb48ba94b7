// Matrix products of weights from codebooks.
#include "kernels/cuda/products.cuh"

namespace shoal::gpu {

SHOAL_PRODUCT(kIQ1_S);
SHOAL_PRODUCT(kIQ1_M);
SHOAL_PRODUCT(kIQ2_XXS);
SHOAL_PRODUCT(kIQ2_XS);
SHOAL_PRODUCT(kIQ2_S);
SHOAL_PRODUCT(kIQ3_XXS);
SHOAL_PRODUCT(kIQ3_S);

}  // namespace shoal::gpu

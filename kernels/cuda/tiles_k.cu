// Tiles of formats with blocks of 256 features.
#include "kernels/cuda/tiles.cuh"

namespace shoal::gpu {

SHOAL_TILES(kQ2_K);
SHOAL_TILES(kQ3_K);
SHOAL_TILES(kQ4_K);
SHOAL_TILES(kQ5_K);
SHOAL_TILES(kQ6_K);
SHOAL_TILES(kIQ4_XS);
SHOAL_TILES(kTQ2_0);

}  // namespace shoal::gpu

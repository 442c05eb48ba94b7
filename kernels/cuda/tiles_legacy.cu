// Tiles of formats with blocks of 32 features.
#include "kernels/cuda/tiles.cuh"

namespace shoal::gpu {

SHOAL_TILES(kQ4_0);
SHOAL_TILES(kQ4_1);
SHOAL_TILES(kQ5_0);
SHOAL_TILES(kQ5_1);
SHOAL_TILES(kQ8_0);
SHOAL_TILES(kIQ4_NL);
SHOAL_TILES(kMXFP4);
SHOAL_TILES(kNVFP4);

}  // namespace shoal::gpu

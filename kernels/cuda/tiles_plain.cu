// Tiles of plain numbers.
#include "kernels/cuda/tiles.cuh"

namespace shoal::gpu {

SHOAL_TILES(kF32);
SHOAL_TILES(kF16);
SHOAL_TILES(kBF16);

}  // namespace shoal::gpu

// The products of tiled weights compiled for a GPU: nvcc accepts them, ptxas finds registers for
// them.
#include "kernels/cuda/launch_cuda.cuh"
#include "kernels/cuda/tile_gemv.h"

namespace shoal::gpu {

template <class Arch, TensorType... types>
Status launch_all(TileTypeList<types...>, cudaStream_t stream, const TileGemvParams& p) {
  Status status;
  ((status = simt::launch<TileGemv<types>, Arch>(stream, {}, p)), ...);
  return status;
}

#if defined(SHOAL_SAMPLE_ARCH)
template Status launch_all<simt::SHOAL_SAMPLE_ARCH>(TileTypes, cudaStream_t, const TileGemvParams&);
#endif

}  // namespace shoal::gpu

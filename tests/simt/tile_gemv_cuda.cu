// The products of tiled weights compiled for a GPU: nvcc accepts them, ptxas finds registers for them.
#include "kernels/cuda/launch_cuda.cuh"
#include "kernels/cuda/tile_gemv.h"

namespace shoal::gpu {

template <class Arch>
Status launch_all(cudaStream_t stream, const TileGemvParams& p) {
  SHOAL_TRY((simt::launch<TileGemv<TensorType::kQ4_K>, Arch>(stream, {}, p)));
  SHOAL_TRY((simt::launch<TileGemv<TensorType::kQ6_K>, Arch>(stream, {}, p)));
  SHOAL_TRY((simt::launch<TileGemv<TensorType::kQ8_0>, Arch>(stream, {}, p)));
  SHOAL_TRY((simt::launch<TileGemv<TensorType::kMXFP4>, Arch>(stream, {}, p)));
  SHOAL_TRY((simt::launch<TileGemv<TensorType::kF16>, Arch>(stream, {}, p)));
  return simt::launch<TileGemv<TensorType::kF32>, Arch>(stream, {}, p);
}

#if defined(SHOAL_SAMPLE_ARCH)
template Status launch_all<simt::SHOAL_SAMPLE_ARCH>(cudaStream_t, const TileGemvParams&);
#endif

}  // namespace shoal::gpu

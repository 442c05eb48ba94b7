// The products of tiled weights compiled for a GPU: nvcc accepts them, ptxas finds registers for
// them.
#include "kernels/cuda/launch_cuda.cuh"
#include "kernels/cuda/tile_dispatch.h"

namespace shoal::gpu {

#if defined(SHOAL_SAMPLE_ARCH)
using SampleArch = simt::SHOAL_SAMPLE_ARCH;
template Status launch_tiles<SampleArch>(cudaStream_t&, TileKernel, TensorType, uint32_t,
                                         const TileProductParams&);
template Status launch_put_rows<SampleArch>(cudaStream_t&, TensorType, const PutRowsParams&);
#endif

}  // namespace shoal::gpu

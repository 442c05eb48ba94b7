// The choice among the products of tiles of all types; they are in tiles_*.cu.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/tile_table.h"

namespace shoal::gpu {

template Status launch_tiles<CudaBackend::Arch>(CudaBackend::Stream&, TileKernel, TensorType,
                                                uint32_t, const TileProductParams&);
template Status launch_put_rows<CudaBackend::Arch>(CudaBackend::Stream&, TensorType,
                                                   const PutRowsParams&);

}  // namespace shoal::gpu

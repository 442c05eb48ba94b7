// Products of tiles of one type, compiled where a .cu file names it; tiles.cu chooses among them.
#pragma once

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch_cuda.cuh"

#include "kernels/cuda/tile_dispatch.h"

#define SHOAL_TILES(type)                                                                       \
  template Status launch_tiles_of<TensorType::type, CudaBackend::Arch>(                         \
      CudaBackend::Stream&, TileKernel, uint32_t, const TileProductParams&);                    \
  template Status launch_put_rows_of<TensorType::type, CudaBackend::Arch>(CudaBackend::Stream&, \
                                                                          const PutRowsParams&)

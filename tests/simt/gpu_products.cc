// The products of every format on the emulator, compiled once for all tests of emulated devices.
#include "tests/simt/emulator.h"

#include "kernels/cuda/product_dispatch.h"
#include "kernels/cuda/tile_dispatch.h"

namespace shoal::gpu {

template Status launch_product<simt::Sm80>(emulator::Stream<true>&, TensorType, simt::Dim3,
                                           const ProductParams&);
template Status launch_product<simt::Sm80>(emulator::Stream<false>&, TensorType, simt::Dim3,
                                           const ProductParams&);
template Status launch_tiles<simt::Sm80>(emulator::Stream<true>&, TileKernel, TensorType, uint32_t,
                                         const TileProductParams&);
template Status launch_tiles<simt::Sm80>(emulator::Stream<false>&, TileKernel, TensorType, uint32_t,
                                         const TileProductParams&);
template Status launch_put_rows<simt::Sm80>(emulator::Stream<true>&, TensorType,
                                            const PutRowsParams&);
template Status launch_put_rows<simt::Sm80>(emulator::Stream<false>&, TensorType,
                                            const PutRowsParams&);

}  // namespace shoal::gpu

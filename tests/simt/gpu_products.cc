// The products of every format on the emulator, compiled once for all tests of emulated devices.
#include "tests/simt/emulator.h"

#include "kernels/cuda/product_dispatch.h"

namespace shoal::gpu {

template Status launch_product<simt::Sm80>(emulator::Stream<true>&, TensorType, simt::Dim3,
                                           const ProductParams&);
template Status launch_product<simt::Sm80>(emulator::Stream<false>&, TensorType, simt::Dim3,
                                           const ProductParams&);

}  // namespace shoal::gpu

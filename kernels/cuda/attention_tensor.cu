#include "kernels/cuda/attention.cuh"

namespace shoal::simt {

SHOAL_LAUNCH(gpu::TensorAttention<64>);
SHOAL_LAUNCH(gpu::TensorAttention<80>);
SHOAL_LAUNCH(gpu::TensorAttention<96>);
SHOAL_LAUNCH(gpu::TensorAttention<128>);

}  // namespace shoal::simt

#include "kernels/cuda/attention.cuh"

namespace shoal::simt {

SHOAL_LAUNCH(gpu::PlainAttention<KvType::kF32>);
SHOAL_LAUNCH(gpu::PlainAttention<KvType::kF16>);

}  // namespace shoal::simt

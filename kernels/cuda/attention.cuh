// Attention kernels of libshoal-cuda.so: compiled in attention.cu and
// attention_tensor.cu, declared for everybody else.
#pragma once

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_tensor.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch_cuda.cuh"

// The launch of one kernel (its name, which may contain commas) for the library's streams.
#define SHOAL_LAUNCH(...)                                      \
  template Status launch<__VA_ARGS__, gpu::CudaBackend::Arch>( \
      gpu::CudaBackend::Stream, const LaunchShape&, const __VA_ARGS__::Params&)

namespace shoal::simt {

extern SHOAL_LAUNCH(gpu::PlainAttention<KvType::kF32>);
extern SHOAL_LAUNCH(gpu::PlainAttention<KvType::kF16>);
extern SHOAL_LAUNCH(gpu::TensorAttention<64>);
extern SHOAL_LAUNCH(gpu::TensorAttention<80>);
extern SHOAL_LAUNCH(gpu::TensorAttention<96>);
extern SHOAL_LAUNCH(gpu::TensorAttention<128>);

}  // namespace shoal::simt

// Starts a kernel of simt.h on a GPU's stream; tests/simt/emulator.h has the same for the emulator.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <string>
#include <type_traits>

#include "kernels/cuda/launch_limits.h"
#include "kernels/cuda/simt_device.cuh"

namespace shoal::simt {

// __launch_bounds__ come from the kernel: kMaxThreads per block and kMinBlocks per multiprocessor.
template <class Kernel, class Arch>
__global__ void __launch_bounds__(Kernel::kMaxThreads, Kernel::kMinBlocks)
    kernel_entry(const __grid_constant__ typename Kernel::Params params) {
  DeviceContext ctx;
  Kernel::template body<DeviceContext, Arch>(ctx, params);
}

inline Status cuda_status(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return Status::ok();
  return internal_error(what + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error));
}

// Enqueues; errors of the kernel itself appear at a later synchronisation.
template <class Kernel, class Arch>
Status launch(cudaStream_t stream, const LaunchShape& shape,
              const typename Kernel::Params& params) {
  static_assert(std::is_trivially_copyable_v<typename Kernel::Params>);
  SHOAL_TRY(check_launch(Kernel::kName, shape, Arch::max_shared_bytes, sizeof(params)));
  if (shape.block.x > Kernel::kMaxThreads) {
    return invalid_argument(std::string("kernel ") + Kernel::kName + ": block.x " +
                            std::to_string(shape.block.x) + " exceeds the kernel's own " +
                            std::to_string(Kernel::kMaxThreads));
  }
  const auto entry = &kernel_entry<Kernel, Arch>;
  const auto* function = reinterpret_cast<const void*>(entry);
  if (shape.shared_bytes > 48 * 1024) {
    // As much as there may be, once per device: recorded launches of other sizes keep theirs.
    static std::atomic<uint64_t> allowed{0};
    int device = 0;
    SHOAL_TRY(cuda_status(cudaGetDevice(&device), "asking for the device"));
    const uint64_t bit = uint64_t{1} << (device % 64);
    if (device >= 64 || (allowed.load() & bit) == 0) {
      SHOAL_TRY(
          cuda_status(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(Arch::max_shared_bytes)),
                      std::string("shared memory of kernel ") + Kernel::kName));
      allowed.fetch_or(bit);
    }
  }
  typename Kernel::Params copy = params;
  void* arguments[] = {&copy};
  return cuda_status(cudaLaunchKernel(function, dim3(shape.grid.x, shape.grid.y, shape.grid.z),
                                      dim3(shape.block.x), arguments, shape.shared_bytes, stream),
                     std::string("launch of kernel ") + Kernel::kName);
}

}  // namespace shoal::simt

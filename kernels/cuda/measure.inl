// Measuring on GpuDevice (kernels/device.h, "measuring").
#include "kernels/cuda/read_kernel.h"

namespace shoal::gpu {

template <class Backend>
void GpuDevice<Backend>::read_memory(const void* from, uint64_t bytes) {
  constexpr uint64_t kWord = sizeof(simt::U32x4);
  constexpr uint32_t kBlocksPerMultiprocessor = 4;
  SHOAL_CHECK(bytes % kWord == 0, "memory is read in words of 16 bytes");
  ReadMemory::Params p;
  p.in.address = static_cast<const simt::U32x4*>(from);
  p.out.address = static_cast<uint32_t*>(scratch(sizeof(uint32_t)));
  p.words = static_cast<int64_t>(bytes / kWord);
  const uint64_t most = (bytes / kWord + ReadMemory::kThreads - 1) / ReadMemory::kThreads;
  const uint64_t blocks =
      std::min<uint64_t>(most, uint64_t{backend_->multiprocessors()} * kBlocksPerMultiprocessor);
  start<ReadMemory>({.grid = {static_cast<uint32_t>(blocks)}, .block = {ReadMemory::kThreads}}, p);
}

template <class Backend>
Result<double> GpuDevice<Backend>::time_of(const std::function<void()>& ops) {
  Result<double> seconds = backend_->time_of(ops);
  SHOAL_TRY(std::exchange(error_, Status::ok()));  // says more than what came of it
  return seconds;
}

}  // namespace shoal::gpu

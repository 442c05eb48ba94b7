#include <string>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch_cuda.cuh"

namespace shoal::gpu {

using simt::cuda_status;

constexpr uintptr_t kPage = 4096;

Result<std::unique_ptr<CudaLane>> CudaLane::make(int index, uint64_t bytes) {
  std::unique_ptr<CudaLane> lane(new CudaLane());
  lane->index_ = index;
  SHOAL_TRY(lane->create(bytes));
  return Result<std::unique_ptr<CudaLane>>(std::move(lane));
}

Status CudaLane::create(uint64_t bytes) {
  bytes_ = bytes;
  const std::string what =
      "making a lane of 2 × " + std::to_string(bytes) + " bytes to load through";
  SHOAL_TRY(cuda_status(cudaSetDevice(index_), what));
  SHOAL_TRY(cuda_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), what));
  for (Slot& slot : slots_) {
    void *pinned = nullptr, *staging = nullptr;
    // Small allocations share pages: one more page to begin at the start of one.
    SHOAL_TRY(cuda_status(cudaHostAlloc(&pinned, bytes + kPage, cudaHostAllocDefault), what));
    slot.pinned = pinned;
    const uintptr_t address = reinterpret_cast<uintptr_t>(pinned);
    slot.memory = static_cast<uint8_t*>(pinned) + (kPage - address % kPage) % kPage;
    SHOAL_TRY(cuda_status(cudaMalloc(&staging, bytes), what));
    slot.staging = static_cast<uint8_t*>(staging);
    SHOAL_TRY(cuda_status(cudaEventCreateWithFlags(&slot.left, cudaEventDisableTiming), what));
  }
  return Status::ok();
}

CudaLane::~CudaLane() {
  (void)cudaSetDevice(index_);
  if (stream_ != nullptr) (void)cudaStreamSynchronize(stream_);
  for (Slot& slot : slots_) {
    if (slot.left != nullptr) (void)cudaEventDestroy(slot.left);
    (void)cudaFree(slot.staging);
    (void)cudaFreeHost(slot.pinned);
  }
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

Result<std::span<uint8_t>> CudaLane::next_slot() {
  current_ = 1 - current_;
  // An event that was never recorded counts as reached.
  SHOAL_TRY(cuda_status(cudaEventSynchronize(slots_[current_].left), "loading weights"));
  return std::span(slots_[current_].memory, bytes_);
}

void CudaLane::upload(void* to, uint64_t to_stride, const void* from, uint64_t row,
                      uint64_t count) {
  const cudaError_t error =
      to_stride == row ? cudaMemcpyAsync(to, from, row * count, cudaMemcpyHostToDevice, stream_)
                       : cudaMemcpy2DAsync(to, to_stride, from, row, row, count,
                                           cudaMemcpyHostToDevice, stream_);
  if (error_ == cudaSuccess) error_ = error;
}

Status CudaLane::started() {
  SHOAL_TRY(cuda_status(error_, "loading weights"));
  return cuda_status(cudaEventRecord(slots_[current_].left, stream_), "loading weights");
}

Status CudaLane::finish() { return cuda_status(cudaStreamSynchronize(stream_), "loading weights"); }

}  // namespace shoal::gpu

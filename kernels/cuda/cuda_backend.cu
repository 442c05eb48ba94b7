#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <string>
#include <thread>

#include "kernels/cuda/launch_cuda.cuh"

namespace shoal::gpu {

using simt::cuda_status;

namespace {

__global__ void nothing() {}

// Whether the library has code for the current device, or code that its driver can compile for it.
Status check_code(const cudaDeviceProp& device) {
  cudaFuncAttributes attributes;
  const cudaError_t found = cudaFuncGetAttributes(&attributes, nothing);
  if (found == cudaSuccess) return Status::ok();
  (void)cudaGetLastError();
  return failed_precondition(
      std::string(device.name) + " is of compute capability " + std::to_string(device.major) + "." +
      std::to_string(device.minor) + ", for which this build has no kernels (" +
      cudaGetErrorName(found) + "): build with SHOAL_CUDA_ARCHITECTURES=" +
      std::to_string(device.major) + std::to_string(device.minor) + "; 80 is the least");
}

}  // namespace

Result<std::unique_ptr<CudaBackend>> CudaBackend::open(int index) {
  SHOAL_TRY(cuda_status(cudaSetDevice(index), "selecting CUDA device " + std::to_string(index)));
  cudaDeviceProp properties;
  SHOAL_TRY(cuda_status(cudaGetDeviceProperties(&properties, index), "asking the device"));
  SHOAL_TRY(check_code(properties));
  std::unique_ptr<CudaBackend> backend(new CudaBackend());
  backend->index_ = index;
  backend->name_ = properties.name;
  backend->generation_ = "sm" + std::to_string(properties.major) + std::to_string(properties.minor);
  backend->multiprocessors_ = static_cast<uint32_t>(properties.multiProcessorCount);
  backend->cache_bytes_ = static_cast<uint64_t>(properties.l2CacheSize);
  SHOAL_TRY(cuda_status(cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking),
                        "making a stream"));
  return Result<std::unique_ptr<CudaBackend>>(std::move(backend));
}

CudaBackend::~CudaBackend() {
  if (stream_ == nullptr) return;
  (void)cudaStreamSynchronize(stream_);
  (void)cudaStreamDestroy(stream_);
}

Result<void*> CudaBackend::allocate(uint64_t bytes, const std::string& what) {
  (void)cudaSetDevice(index_);  // of the calling thread
  void* memory = nullptr;
  const cudaError_t made = cudaMalloc(&memory, bytes);
  if (made != cudaSuccess) {
    (void)cudaGetLastError();
    if (made != cudaErrorMemoryAllocation) return cuda_status(made, "allocating on " + name_);
    return resource_exhausted("cannot allocate " + std::to_string(bytes) + " bytes for " + what +
                              " on " + name_ + ": " + std::to_string(free_memory()) +
                              " bytes are free");
  }
  note(cudaMemsetAsync(memory, 0, bytes, stream_), "clearing memory");
  note(cudaStreamSynchronize(stream_), "clearing memory");
  return memory;
}

void CudaBackend::release(void* memory) {
  (void)cudaStreamSynchronize(stream_);
  (void)cudaFree(memory);
}

cudaStream_t& CudaBackend::stream() {
  // Kernels start on the calling thread's current device, which may be another one.
  note(cudaSetDevice(index_), "selecting the device");
  return stream_;
}

void CudaBackend::upload(void* to, const void* from, uint64_t bytes) {
  (void)cudaSetDevice(index_);
  note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "a copy to the device");
}

void CudaBackend::download(void* to, const void* from, uint64_t bytes) {
  // A copy to ordinary memory returns when it is done: what it would wait for is waited for here,
  // with an end.
  constexpr auto kLongest = std::chrono::minutes(1);
  if (Status idle = wait(std::chrono::steady_clock::now() + kLongest); !idle) {
    const std::lock_guard lock(mutex_);
    if (error_.is_ok()) error_ = std::move(idle);
    return;
  }
  note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "a copy from the device");
  note(cudaStreamSynchronize(stream_), "a copy from the device");
}

Status CudaBackend::synchronize(TimePoint deadline) {
  Status idle = wait(deadline);
  const std::lock_guard lock(mutex_);
  Status noted = std::exchange(error_, Status::ok());
  return idle ? noted : idle;
}

bool CudaBackend::lost() const {
  const cudaError_t state = cudaStreamQuery(stream_);
  return state != cudaSuccess && state != cudaErrorNotReady;
}

Status CudaBackend::wait(TimePoint deadline) const {
  constexpr auto kSpin = std::chrono::milliseconds(2);
  constexpr auto kNap = std::chrono::microseconds(50);
  const TimePoint start = std::chrono::steady_clock::now();
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream_);
    if (state == cudaSuccess) return Status::ok();
    if (state != cudaErrorNotReady) return cuda_status(state, "work on " + name_);
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= deadline) return deadline_exceeded("work on " + name_ + " did not end in time");
    if (now - start > kSpin) std::this_thread::sleep_for(kNap);
  }
}

Status CudaBackend::begin_graph() {
  return cuda_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                     "recording on " + name_);
}

Result<CudaGraph> CudaBackend::end_graph() {
  cudaGraph_t graph = nullptr;
  SHOAL_TRY(cuda_status(cudaStreamEndCapture(stream_, &graph), "recording on " + name_));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  SHOAL_TRY(cuda_status(made, "preparing a recording on " + name_));
  return CudaGraph(executable);
}

Status CudaBackend::start_graph(const CudaGraph& graph) {
  return cuda_status(cudaGraphLaunch(graph.get(), stream_), "starting a recording on " + name_);
}

uint64_t CudaBackend::free_memory() const {
  size_t free = 0, total = 0;
  (void)cudaSetDevice(index_);
  return cudaMemGetInfo(&free, &total) == cudaSuccess ? free : 0;
}

namespace {

// Destroyed in any case.
struct Event {
  ~Event() {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
  cudaEvent_t event = nullptr;
};

}  // namespace

Result<double> CudaBackend::time_of(const std::function<void()>& ops) {
  constexpr auto kLongest = std::chrono::minutes(2);
  const std::string what = "measuring on " + name_;
  Event before, after;
  (void)cudaSetDevice(index_);
  SHOAL_TRY(cuda_status(cudaEventCreate(&before.event), what));
  SHOAL_TRY(cuda_status(cudaEventCreate(&after.event), what));
  SHOAL_TRY(synchronize(std::chrono::steady_clock::now() + kLongest));
  SHOAL_TRY(begin_graph());
  ops();
  SHOAL_ASSIGN(const CudaGraph graph, end_graph());
  // Once for nothing: what a graph costs the host the first time is not what ops take.
  SHOAL_TRY(cuda_status(cudaGraphUpload(graph.get(), stream_), what));
  SHOAL_TRY(start_graph(graph));
  SHOAL_TRY(synchronize(std::chrono::steady_clock::now() + kLongest));
  SHOAL_TRY(cuda_status(cudaEventRecord(before.event, stream_), what));
  SHOAL_TRY(start_graph(graph));
  SHOAL_TRY(cuda_status(cudaEventRecord(after.event, stream_), what));
  SHOAL_TRY(synchronize(std::chrono::steady_clock::now() + kLongest));
  float milliseconds = 0;
  SHOAL_TRY(cuda_status(cudaEventElapsedTime(&milliseconds, before.event, after.event), what));
  return 1e-3 * static_cast<double>(milliseconds);
}

void CudaBackend::note(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const std::lock_guard lock(mutex_);
  if (error_.is_ok()) error_ = cuda_status(error, what);
}

}  // namespace shoal::gpu

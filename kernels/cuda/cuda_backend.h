// A card as the Backend of GpuDevice (gpu_device.h). One stream; every call from one thread but
// upload(), which may be called from several at once.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "kernels/cuda/simt.h"

namespace shoal::gpu {

// A recorded sequence of kernels, ready to start.
class CudaGraph {
 public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  CudaGraph(CudaGraph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&&) = delete;
  ~CudaGraph() {
    if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
  }
  cudaGraphExec_t get() const { return graph_; }

 private:
  cudaGraphExec_t graph_;
};

// A stream of its own with two slots to read into; see GpuWeightLane. One thread.
class CudaLane {
 public:
  static Result<std::unique_ptr<CudaLane>> make(int index, uint64_t bytes);
  CudaLane(const CudaLane&) = delete;
  CudaLane& operator=(const CudaLane&) = delete;
  ~CudaLane();

  cudaStream_t& stream() { return stream_; }
  // The slot that was filled first; waits until its rows have left.
  Result<std::span<uint8_t>> next_slot();
  uint8_t* staging() const { return slots_[current_].staging; }  // the slot's, on the card
  // `count` rows to where each starts `to_stride` bytes behind the one before.
  void upload(void* to, uint64_t to_stride, const void* from, uint64_t row, uint64_t count);
  Status started();  // what the slot's rows need is in the stream
  Status finish();

 private:
  struct Slot {
    void* pinned = nullptr;
    uint8_t* memory = nullptr;  // in it, at the start of a page
    uint8_t* staging = nullptr;
    cudaEvent_t left = nullptr;
  };

  CudaLane() = default;
  Status create(uint64_t bytes);

  int index_ = 0;
  uint64_t bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  Slot slots_[2];
  int current_ = 0;
  cudaError_t error_ = cudaSuccess;  // of an upload
};

class CudaBackend {
 public:
  using Graph = CudaGraph;
  using Lane = CudaLane;
  using Stream = cudaStream_t;
  // Bodies are compiled once for every generation in the library; limits are those of the smallest.
  using Arch = simt::Sm86;

  static Result<std::unique_ptr<CudaBackend>> open(int index);
  ~CudaBackend();
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  Stream& stream();
  Result<void*> allocate(uint64_t bytes, const std::string& what);
  void release(void* memory);
  void upload(void* to, const void* from, uint64_t bytes);
  void download(void* to, const void* from, uint64_t bytes);
  Status synchronize(TimePoint deadline);
  bool lost() const;  // every call fails from now on, in this process
  Result<std::unique_ptr<Lane>> make_lane(uint64_t bytes) { return Lane::make(index_, bytes); }
  // What the stream gets between the two is recorded instead of run.
  Status begin_graph();
  Result<CudaGraph> end_graph();
  Status start_graph(const CudaGraph& graph);
  uint64_t free_memory() const;
  std::string name() const { return name_; }
  std::string generation() const { return generation_; }
  uint32_t multiprocessors() const { return multiprocessors_; }
  uint64_t cache_bytes() const { return cache_bytes_; }
  Result<double> time_of(const std::function<void()>& ops);

 private:
  CudaBackend() = default;
  void note(cudaError_t error, const char* what);
  Status wait(TimePoint deadline) const;

  int index_ = 0;
  Stream stream_ = nullptr;
  std::string name_, generation_;
  uint32_t multiprocessors_ = 0;
  uint64_t cache_bytes_ = 0;
  std::mutex mutex_;  // guards error_: loading threads copy too
  Status error_;      // of a copy; comes out of synchronize()
};

}  // namespace shoal::gpu

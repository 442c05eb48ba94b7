// The emulator as a card of GpuDevice (kernels/cuda/gpu_device.h): a whole Device without one.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tests/simt/emulator.h"

namespace shoal::emulator {

template <bool kChecked = true>
class EmulatedBackend {
 public:
  using Stream = emulator::Stream<kChecked>;
  using Arch = simt::Sm80;

  explicit EmulatedBackend(const Options& options = {}) : stream_(memory_, options) {}

  Stream& stream() { return stream_; }
  Result<void*> allocate(uint64_t bytes, const std::string& what) {
    void* data = memory_.allocate_bytes(bytes, what, MemoryKind::kGlobal);
    std::memset(data, 0, bytes);
    return data;
  }
  void release(void* memory) { memory_.free(memory); }
  void upload(void* to, const void* from, uint64_t bytes) { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, uint64_t bytes) { std::memcpy(to, from, bytes); }
  using Graph = typename Stream::Recording;
  Status begin_graph() {
    graph_.clear();
    stream_.record(&graph_);
    return Status::ok();
  }
  Result<Graph> end_graph() {
    stream_.record(nullptr);
    return std::exchange(graph_, {});
  }
  Status start_graph(const Graph& graph) {
    ++graphs_started;
    for (const auto& launch : graph) SHOAL_TRY(launch());
    return Status::ok();
  }
  uint64_t graphs_started = 0;
  Status synchronize(TimePoint) { return Status::ok(); }  // launches run at once
  uint64_t free_memory() const { return uint64_t{1} << 34; }
  std::string name() const { return "emulated"; }
  std::string generation() const { return "emulated"; }
  uint32_t multiprocessors() const { return 4; }
  uint64_t cache_bytes() const { return 1 << 12; }
  // Of the emulation: says nothing of any card.
  Result<double> time_of(const std::function<void()>& ops) {
    const TimePoint start = std::chrono::steady_clock::now();
    ops();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  Memory memory_;
  Stream stream_;
  Graph graph_;  // being recorded
};

}  // namespace shoal::emulator

// The emulator as a card of GpuDevice (kernels/cuda/gpu_device.h): a whole Device without one.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

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
    if (bytes > memory_limit) {
      return resource_exhausted("cannot allocate " + std::to_string(bytes) + " bytes for " + what);
    }
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
  bool lost() const { return false; }
  uint64_t memory_limit = uint64_t{1} << 40;  // of one allocation

  // Nothing a lane is told happens before it must: rows leave when their slot is wanted again, or
  // at the end. Whoever touches them earlier loads something else.
  class Lane {
   public:
    Lane(EmulatedBackend& backend, uint64_t bytes) : backend_(backend), stream_(backend.memory_) {
      for (Slot& slot : slots_) {
        slot.room.resize(bytes + kPage);
        const auto address = reinterpret_cast<uintptr_t>(slot.room.data());
        slot.memory = std::span(slot.room).subspan((kPage - address % kPage) % kPage, bytes);
        slot.staging.resize(bytes);
        const std::lock_guard lock(backend_.lanes_);
        backend_.memory_.adopt(slot.staging.data(), bytes, "lane", MemoryKind::kGlobal);
      }
    }
    ~Lane() {
      const std::lock_guard lock(backend_.lanes_);
      for (Slot& slot : slots_) backend_.memory_.free(slot.staging.data());
    }
    Stream& stream() { return stream_; }
    Result<std::span<uint8_t>> next_slot() {
      current_ = 1 - current_;
      SHOAL_TRY(run(slots_[current_]));
      std::fill(slots_[current_].memory.begin(), slots_[current_].memory.end(), uint8_t{0xee});
      return slots_[current_].memory;
    }
    uint8_t* staging() { return slots_[current_].staging.data(); }
    void upload(void* to, uint64_t to_stride, const void* from, uint64_t row, uint64_t count) {
      slots_[current_].work.push_back([=]() -> Status {
        for (uint64_t r = 0; r < count; ++r) {
          std::memcpy(static_cast<uint8_t*>(to) + r * to_stride,
                      static_cast<const uint8_t*>(from) + r * row, row);
        }
        return Status::ok();
      });
      stream_.record(&slots_[current_].work);
    }
    Status started() {
      stream_.record(nullptr);
      return Status::ok();
    }
    Status finish() {
      SHOAL_TRY(run(slots_[1 - current_]));
      return run(slots_[current_]);
    }

   private:
    static constexpr uint64_t kPage = 4096;
    struct Slot {
      std::vector<uint8_t> room, staging;
      std::span<uint8_t> memory;  // page-aligned, of `room`
      Graph work;
    };
    Status run(Slot& slot) {
      const std::lock_guard lock(backend_.lanes_);
      const Graph work = std::exchange(slot.work, {});
      for (const auto& step : work) SHOAL_TRY(step());
      return Status::ok();
    }

    EmulatedBackend& backend_;
    Stream stream_;
    Slot slots_[2];
    int current_ = 0;
  };
  Result<std::unique_ptr<Lane>> make_lane(uint64_t bytes) {
    return std::make_unique<Lane>(*this, bytes);
  }
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
  Graph graph_;       // being recorded
  std::mutex lanes_;  // of several threads meet here
};

}  // namespace shoal::emulator

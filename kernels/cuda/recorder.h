// Ops that repeat, as graphs: a token of a 70B model is more than a thousand kernels, and starting
// them one by one leaves gaps.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "kernels/device.h"

namespace shoal::gpu {

template <class Backend>
class GpuDevice;

// The first run with a key goes kernel by kernel and lets the device grow its scratch memory; the
// second is recorded; later ones start the recording. Recordings hold addresses: all are dropped
// when the device moves its scratch memory.
template <class Backend>
class GpuRecorder final : public OpRecorder {
 public:
  // Graphs of a 70B model take a few MB each; a server meets one per number of rows and kilotoken.
  static constexpr size_t kMostGraphs = 64;

  explicit GpuRecorder(GpuDevice<Backend>& device) : device_(device) {}

  void run(const OpKey& key, const std::function<void()>& ops) override {
    if (device_.broken()) return;  // ops would not start either
    if (generation_ != device_.scratch_generation_) {
      entries_.clear();
      generation_ = device_.scratch_generation_;
    }
    const auto found = entries_.find(key);
    if (found == entries_.end()) {
      if (entries_.size() >= kMostGraphs) drop_oldest();
      ops();
      if (generation_ == device_.scratch_generation_) entries_[key].last_use = ++uses_;
      return;
    }
    Entry& entry = found->second;
    entry.last_use = ++uses_;
    if (!entry.graph && !entry.refused) record(ops, &entry);
    if (entry.refused) return ops();
    device_.keep_error(device_.backend_->start_graph(*entry.graph));
  }

 private:
  struct Entry {
    std::optional<typename Backend::Graph> graph;
    bool refused = false;  // these ops cannot be recorded
    uint64_t last_use = 0;
  };

  void record(const std::function<void()>& ops, Entry* entry) {
    entry->refused = true;
    if (!device_.backend_->begin_graph()) return;
    ops();
    Result<typename Backend::Graph> graph = device_.backend_->end_graph();
    if (!graph.is_ok() || device_.broken()) return;
    entry->graph.emplace(std::move(graph).value());
    entry->refused = false;
  }

  void drop_oldest() {
    auto oldest = entries_.begin();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
      if (entry->second.last_use < oldest->second.last_use) oldest = entry;
    }
    entries_.erase(oldest);
  }

  GpuDevice<Backend>& device_;
  std::map<OpKey, Entry> entries_;
  uint64_t generation_ = 0, uses_ = 0;
};

}  // namespace shoal::gpu

// A fork-join pool for kernels: run(n, f) calls f(i) for i = 0 … n−1, one call per thread, the
// caller being thread 0. Workers spin briefly between calls — the next op of a forward pass follows
// within microseconds — and then sleep. With more threads than cores they do not spin at all.
//
// One thread calls run(). Which thread computes what never changes a result: kernels write disjoint
// outputs and reduce in an order of their own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace shoal {

// Cores this process may run on, ascending; at least one.
std::vector<int> usable_cores();

class ThreadPool {
 public:
  // `threads` ≥ 1, the caller included; thread i is pinned to cores[i] if given, the caller from
  // its first run() to the end of the pool.
  ThreadPool(int threads, const std::vector<int>& cores);
  ~ThreadPool();
  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(const std::function<void(int)>& job);

  // Splits [0, total) into one contiguous range per thread, cut at multiples of `grain`.
  template <class F>
  void parallel_for(int64_t total, int64_t grain, const F& body) {
    if (total <= 0) return;
    const int64_t units = (total + grain - 1) / grain;
    if (threads() == 1 || units == 1) return body(int64_t{0}, total);
    const int64_t count = threads();
    run([&](int thread) {
      const int64_t begin = units * thread / count * grain;
      int64_t end = units * (thread + 1) / count * grain;
      if (end > total) end = total;
      if (begin < end) body(begin, end);
    });
  }

  // One contiguous range of [0, cost.size()) per thread, of about equal summed cost.
  template <class F>
  void parallel_weighted(const std::vector<int64_t>& cost, const F& body) {
    const auto total = static_cast<int64_t>(cost.size());
    if (total == 0) return;
    if (threads() == 1 || total == 1) return body(int64_t{0}, total);
    const int64_t count = threads();
    int64_t sum = 0;
    for (const int64_t c : cost) sum += c;
    std::vector<int64_t> bounds(static_cast<size_t>(count) + 1, total);
    bounds[0] = 0;
    int64_t before = 0, thread = 1;
    for (int64_t i = 0; i < total && thread < count; ++i) {
      // An item belongs to the thread in whose share its middle lies.
      const int64_t middle = before + cost[static_cast<size_t>(i)] / 2;
      while (thread < count && middle * count >= sum * thread)
        bounds[static_cast<size_t>(thread++)] = i;
      before += cost[static_cast<size_t>(i)];
    }
    run([&](int index) {
      const int64_t begin = bounds[static_cast<size_t>(index)];
      const int64_t end = bounds[static_cast<size_t>(index) + 1];
      if (begin < end) body(begin, end);
    });
  }

 private:
  void serve(int index, int core);
  void pin_caller();

  std::vector<std::thread> workers_;
  int caller_core_ = -1;
  std::thread::id pinned_caller_;  // the thread run() was last called from
  std::vector<int> caller_cores_;  // where it could run before
  const std::function<void(int)>* job_ = nullptr;
  std::atomic<uint32_t> generation_{0};  // bumped to start a job
  std::atomic<int> pending_{0};          // workers that have not finished it
  std::atomic<bool> stopping_{false};
  bool spin_ = false;
};

}  // namespace shoal

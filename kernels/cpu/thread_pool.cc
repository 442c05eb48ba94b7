#include "kernels/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

namespace shoal {
namespace {

// About 20 µs: longer than the gap between two ops, far shorter than a scheduler tick.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

void pin(int core) {
  if (core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  // Failing to pin costs speed, never correctness: a container may forbid it.
  (void)::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
}

}  // namespace

ThreadPool::ThreadPool(int threads, const std::vector<int>& cores) {
  // With more threads than cores a spinning thread holds the core another one needs.
  spins_ = threads <= usable_cores() ? kSpins : 0;
  const auto core_of = [&](int i) {
    return static_cast<size_t>(i) < cores.size() ? cores[static_cast<size_t>(i)] : -1;
  };
  for (int i = 1; i < threads; ++i) {
    workers_.emplace_back([this, i, core = core_of(i)] { serve(i, core); });
  }
  pin(core_of(0));
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::serve(int index, int core) {
  pin(core);
  uint32_t seen = 0;
  for (;;) {
    for (int i = 0; i < spins_ && generation_.load(std::memory_order_acquire) == seen; ++i) relax();
    while (generation_.load(std::memory_order_acquire) == seen) {
      generation_.wait(seen, std::memory_order_acquire);
    }
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    (*job_)(index);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
  }
}

void ThreadPool::run(const std::function<void(int)>& job) {
  if (workers_.empty()) return job(0);
  job_ = &job;
  pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  job(0);
  for (int i = 0; i < spins_ && pending_.load(std::memory_order_acquire) != 0; ++i) relax();
  for (int left; (left = pending_.load(std::memory_order_acquire)) != 0;) {
    pending_.wait(left, std::memory_order_acquire);
  }
}

}  // namespace shoal

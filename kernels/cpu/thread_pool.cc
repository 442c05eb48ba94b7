#include "kernels/cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>

namespace shoal {
namespace {

// Longer than the gap between two ops of a forward pass, far shorter than a scheduler tick.
constexpr auto kSpin = std::chrono::microseconds(30);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

// Until ready() or the time is up; the clock is read every few dozen pauses.
template <class Ready>
void spin_until(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
}

// Failing to pin costs speed, never correctness: a container may forbid it.
void pin(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  (void)::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
}

}  // namespace

std::vector<int> usable_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

ThreadPool::ThreadPool(int threads, const std::vector<int>& cores) {
  // With more threads than cores a spinning thread holds the core another one needs.
  spin_ = static_cast<size_t>(threads) <= usable_cores().size();
  const auto core_of = [&](int i) {
    return static_cast<size_t>(i) < cores.size() ? cores[static_cast<size_t>(i)] : -1;
  };
  caller_core_ = core_of(0);
  for (int i = 1; i < threads; ++i) {
    workers_.emplace_back([this, i, core = core_of(i)] { serve(i, core); });
  }
}

ThreadPool::~ThreadPool() {
  if (pinned_caller_ == std::this_thread::get_id()) pin(caller_cores_);
  stopping_.store(true);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::pin_caller() {
  if (caller_core_ < 0 || pinned_caller_ == std::this_thread::get_id()) return;
  caller_cores_ = usable_cores();
  pinned_caller_ = std::this_thread::get_id();
  pin({caller_core_});
}

void ThreadPool::serve(int index, int core) {
  if (core >= 0) pin({core});
  uint32_t seen = 0;
  const auto started = [&] { return generation_.load(std::memory_order_acquire) != seen; };
  for (;;) {
    if (spin_) spin_until(started);
    while (!started()) generation_.wait(seen, std::memory_order_acquire);
    seen = generation_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    (*job_)(index);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
  }
}

void ThreadPool::run(const std::function<void(int)>& job) {
  pin_caller();
  if (workers_.empty()) return job(0);
  job_ = &job;
  pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  job(0);
  const auto done = [&] { return pending_.load(std::memory_order_acquire) == 0; };
  if (spin_) spin_until(done);
  for (int left; (left = pending_.load(std::memory_order_acquire)) != 0;) {
    pending_.wait(left, std::memory_order_acquire);
  }
}

}  // namespace shoal

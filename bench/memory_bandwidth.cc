#include "bench/memory_bandwidth.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>

namespace shoal {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 30;  // beyond any last-level cache by far

// 64-byte vectors and eight accumulators, so that loads and not additions are the limit, whatever
// the build's baseline: the best clone for this processor is picked at run time.
using Vector = uint64_t __attribute__((vector_size(64)));

#if defined(__x86_64__) && !defined(SHOAL_SANITIZED)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t
sum(const uint64_t* data, size_t words) {
  constexpr size_t kLanes = 8, kStep = 8 * kLanes;
  Vector lanes[kLanes] = {};
  for (size_t i = 0; i + kStep <= words; i += kStep) {
    const auto* vectors = reinterpret_cast<const Vector*>(data + i);
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += vectors[lane];
  }
  uint64_t total = 0;
  for (const Vector& lane : lanes) {
    for (int i = 0; i < 8; ++i) total += lane[i];
  }
  return total;
}

}  // namespace

double measure_read_bandwidth(int threads, int repeats, const std::vector<int>& cores) {
  threads = std::max(1, threads);
  const size_t words = kBufferBytes / sizeof(uint64_t);
  const std::unique_ptr<uint64_t, decltype(&std::free)> buffer(
      static_cast<uint64_t*>(std::aligned_alloc(4096, kBufferBytes)), &std::free);
  if (!buffer) return 0;
  std::atomic<uint64_t> sink{0};
  std::barrier gate(threads + 1);
  std::vector<std::thread> pool;
  const size_t share = words / static_cast<size_t>(threads) / 64 * 64;  // whole steps, aligned
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      if (static_cast<size_t>(t) < cores.size()) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cores[static_cast<size_t>(t)], &set);
        ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
      }
      uint64_t* part = buffer.get() + static_cast<size_t>(t) * share;
      std::fill(part, part + share, static_cast<uint64_t>(t) + 1);  // first touch by its reader
      for (int r = 0; r <= repeats; ++r) {
        gate.arrive_and_wait();
        sink += sum(part, share);
        gate.arrive_and_wait();
      }
    });
  }
  std::vector<double> rates;
  for (int r = 0; r <= repeats; ++r) {
    gate.arrive_and_wait();
    const auto start = std::chrono::steady_clock::now();
    gate.arrive_and_wait();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (r > 0)
      rates.push_back(static_cast<double>(share * static_cast<size_t>(threads) * 8) / seconds /
                      1e9);
  }
  for (std::thread& thread : pool) thread.join();
  std::sort(rates.begin(), rates.end());
  return rates[rates.size() / 2];
}

}  // namespace shoal

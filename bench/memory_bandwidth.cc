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

#include "kernels/cpu/read_memory.h"

namespace shoal {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 30;  // beyond any last-level cache by far

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
        sink += sum_words(part, share);
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

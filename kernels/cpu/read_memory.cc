#include "kernels/cpu/read_memory.h"

#include <unistd.h>

#include <atomic>
#include <chrono>

#include "base/check.h"
#include "kernels/cpu/cpu_device.h"

namespace shoal {

// 64-byte vectors and eight accumulators, so that loads and not additions are the limit, whatever
// the build's baseline: the best clone for this processor is picked at run time.
using Vector = uint64_t __attribute__((vector_size(64)));

#if defined(__x86_64__) && !defined(SHOAL_SANITIZED)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t
sum_words(const uint64_t* data, size_t words) {
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

void CpuDevice::read_memory(const void* from, uint64_t bytes) {
  constexpr int64_t kGrain = 64;  // words
  SHOAL_CHECK(bytes % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 64 == 0,
              "memory is read in words of 16 bytes from a multiple of 64");
  const auto* words = static_cast<const uint64_t*>(from);
  static std::atomic<uint64_t> sink{0};  // nobody reads it, which the compiler cannot know
  pool_.parallel_for(static_cast<int64_t>(bytes / sizeof(uint64_t)), kGrain,
                     [&](int64_t begin, int64_t end) {
                       sink += sum_words(words + begin, static_cast<size_t>(end - begin));
                     });
}

uint64_t CpuDevice::cache_bytes() const {
  const long bytes = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<uint64_t>(bytes) : 0;
}

Result<double> CpuDevice::time_of(const std::function<void()>& ops) {
  const auto start = std::chrono::steady_clock::now();
  ops();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace shoal

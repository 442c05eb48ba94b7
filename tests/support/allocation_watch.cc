#include "tests/support/allocation_watch.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace shoal::testing {
namespace {
std::atomic<size_t> g_largest{0};
}  // namespace

void reset_largest_allocation() { g_largest = 0; }
size_t largest_allocation() { return g_largest; }

static void* watched(size_t bytes) {
  size_t seen = g_largest.load();
  while (bytes > seen && !g_largest.compare_exchange_weak(seen, bytes)) {
  }
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace shoal::testing

void* operator new(size_t bytes) { return shoal::testing::watched(bytes); }
void* operator new[](size_t bytes) { return shoal::testing::watched(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

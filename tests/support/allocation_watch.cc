#include "tests/support/allocation_watch.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace shoal::testing {
namespace {
std::atomic<size_t> g_largest{0}, g_live{0}, g_peak{0}, g_fail_from{0};
thread_local bool t_spared = false;

void raise_to(std::atomic<size_t>& maximum, size_t value) {
  size_t seen = maximum.load();
  while (value > seen && !maximum.compare_exchange_weak(seen, value)) {
  }
}
}  // namespace

void reset_largest_allocation() { g_largest = 0; }
size_t largest_allocation() { return g_largest; }
size_t live_bytes() { return g_live; }
void reset_peak_bytes() { g_peak = g_live.load(); }
size_t peak_bytes() { return g_peak; }
void fail_allocations_from(size_t bytes) {
  t_spared = true;
  g_fail_from = bytes;
}

static void* watched(size_t bytes) {
  raise_to(g_largest, bytes);
  const size_t fail_from = g_fail_from.load();
  if (fail_from != 0 && bytes >= fail_from && !t_spared) throw std::bad_alloc();
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  const size_t taken = malloc_usable_size(memory);
  raise_to(g_peak, g_live.fetch_add(taken) + taken);
  return memory;
}

static void given_back(void* memory) {
  if (memory == nullptr) return;
  g_live.fetch_sub(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace shoal::testing

void* operator new(size_t bytes) { return shoal::testing::watched(bytes); }
void* operator new[](size_t bytes) { return shoal::testing::watched(bytes); }
void operator delete(void* memory) noexcept { shoal::testing::given_back(memory); }
void operator delete[](void* memory) noexcept { shoal::testing::given_back(memory); }
void operator delete(void* memory, size_t) noexcept { shoal::testing::given_back(memory); }
void operator delete[](void* memory, size_t) noexcept { shoal::testing::given_back(memory); }

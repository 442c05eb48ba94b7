// Relaxed single-copy-atomic accesses of 4, 8 and 16 bytes, as a card makes them to host memory
// that other OS threads read at the same time.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace shoal::emulator {

// 16 bytes: aligned SSE accesses are single on every x86 processor with AVX (Intel SDM volume 3,
// 9.1.1; AMD64 APM volume 2, 7.3.2).
inline void load_16(const void* from, void* value) {
#if defined(__x86_64__)
  typedef long long V __attribute__((vector_size(16)));
  V v;
  asm volatile("movdqa %1, %0" : "=x"(v) : "m"(*static_cast<const V*>(from)));
  std::memcpy(value, &v, 16);
#else
  __atomic_load(static_cast<const unsigned __int128*>(from), static_cast<unsigned __int128*>(value),
                __ATOMIC_RELAXED);
#endif
}

inline void store_16(void* to, const void* value) {
#if defined(__x86_64__)
  typedef long long V __attribute__((vector_size(16)));
  V v;
  std::memcpy(&v, value, 16);
  asm volatile("movdqa %1, %0" : "=m"(*static_cast<V*>(to)) : "x"(v));
#else
  unsigned __int128 v;
  std::memcpy(&v, value, 16);
  __atomic_store(static_cast<unsigned __int128*>(to), &v, __ATOMIC_RELAXED);
#endif
}

inline void load_relaxed(const void* from, void* value, uint32_t bytes) {
  if (bytes == 4) {
    const uint32_t v = __atomic_load_n(static_cast<const uint32_t*>(from), __ATOMIC_RELAXED);
    std::memcpy(value, &v, 4);
  } else if (bytes == 8) {
    const uint64_t v = __atomic_load_n(static_cast<const uint64_t*>(from), __ATOMIC_RELAXED);
    std::memcpy(value, &v, 8);
  } else {
    SHOAL_CHECK(bytes == 16, "a system access of another size");
    load_16(from, value);
  }
}

inline void store_relaxed(void* to, const void* value, uint32_t bytes) {
  if (bytes == 4) {
    uint32_t v;
    std::memcpy(&v, value, 4);
    __atomic_store_n(static_cast<uint32_t*>(to), v, __ATOMIC_RELAXED);
  } else if (bytes == 8) {
    uint64_t v;
    std::memcpy(&v, value, 8);
    __atomic_store_n(static_cast<uint64_t*>(to), v, __ATOMIC_RELAXED);
  } else {
    SHOAL_CHECK(bytes == 16, "a system access of another size");
    store_16(to, value);
  }
}

}  // namespace shoal::emulator

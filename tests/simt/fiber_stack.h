// Memory of a fiber's stack, with an inaccessible page below it.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace shoal::emulator {

class FiberStack {
 public:
  FiberStack() = default;
  FiberStack(const FiberStack&) = delete;
  FiberStack& operator=(const FiberStack&) = delete;
  ~FiberStack() {
    if (memory_ != nullptr) munmap(memory_, kBytes + kPage);
  }

  // Tops of stacks a power of two apart would share a few cache sets.
  void map(size_t colour) {
    memory_ = static_cast<uint8_t*>(mmap(nullptr, kBytes + kPage, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    SHOAL_CHECK(memory_ != MAP_FAILED, "no memory for an emulated thread's stack");
    SHOAL_CHECK(mprotect(memory_, kPage, PROT_NONE) == 0, "cannot protect a stack's guard page");
    shift_ = colour % 13 * 5 * 64;
  }
  uint8_t* top() const { return memory_ + kPage + bytes(); }
  uint8_t* bottom() const { return memory_ + kPage; }
  size_t bytes() const { return kBytes - shift_; }

 private:
  static constexpr size_t kPage = 4096;
#if defined(SHOAL_SANITIZED)
  static constexpr size_t kBytes = 256 * 1024;  // instrumented frames are several times larger
#else
  static constexpr size_t kBytes = 64 * 1024;
#endif
  uint8_t* memory_ = nullptr;
  size_t shift_ = 0;
};

}  // namespace shoal::emulator

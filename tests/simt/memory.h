// The emulated card's memory: named allocations, so that every access is checked against the one it
// belongs to. Thread-safe except for clear_shadows().
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/simt.h"
#include "tests/simt/shadow.h"

namespace shoal::emulator {

enum class MemoryKind {
  kGlobal,
  kConstant,  // kernels only read it: no shadow
  kSystem,    // mapped host memory: only load_system and store_system
  kShared,    // a block's arena
};

struct Region {
  std::string name;
  MemoryKind kind = MemoryKind::kGlobal;
  uint8_t* base = nullptr;
  uint64_t bytes = 0;
  bool owned = true;
  std::unique_ptr<Shadow> shadow;  // of kGlobal and kShared
};

class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Aligned to 256 bytes as cudaMalloc aligns; kGlobal starts as quiet NaNs (all bits set), kSystem
  // as zeros.
  template <class T>
  simt::Global<T> allocate(uint64_t count, std::string name,
                           MemoryKind kind = MemoryKind::kGlobal) {
    return {reinterpret_cast<T*>(allocate_bytes(count * sizeof(T), std::move(name), kind))};
  }
  // A copy of host values.
  template <class T>
  simt::Global<T> upload(const std::vector<T>& values, std::string name,
                         MemoryKind kind = MemoryKind::kGlobal) {
    const auto memory = allocate<T>(values.size(), std::move(name), kind);
    std::copy(values.begin(), values.end(), memory.address);
    return memory;
  }
  template <class T>
  simt::Global<const T> upload_constant(const std::vector<T>& values, std::string name) {
    return {upload(values, std::move(name), MemoryKind::kConstant).address};
  }
  uint8_t* allocate_bytes(uint64_t bytes, std::string name, MemoryKind kind);
  // Memory that somebody else owns, checked like the rest.
  void adopt(void* address, uint64_t bytes, std::string name, MemoryKind kind);
  void free(const void* address);

  // The allocation that holds this address, or null.
  Region* find(const void* address);

  // Serial numbers for the blocks of a launch: the first of `count`. Clears every shadow when the
  // numbers have run out.
  uint64_t take_serials(uint64_t count);

 private:
  void add(std::unique_ptr<Region> region);

  std::mutex mutex_;
  std::vector<std::unique_ptr<Region>> regions_;  // by address
  uint64_t next_serial_ = 1;
};

}  // namespace shoal::emulator

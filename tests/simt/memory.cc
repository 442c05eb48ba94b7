#include "tests/simt/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace shoal::emulator {
namespace {

constexpr uint64_t kAlignment = 256;

auto first_after(const std::vector<std::unique_ptr<Region>>& regions, const void* address) {
  return std::upper_bound(
      regions.begin(), regions.end(), static_cast<const uint8_t*>(address),
      [](const uint8_t* at, const std::unique_ptr<Region>& region) { return at < region->base; });
}

}  // namespace

Memory::~Memory() {
  for (const auto& region : regions_) {
    if (region->owned) std::free(region->base);
  }
}

uint8_t* Memory::allocate_bytes(uint64_t bytes, std::string name, MemoryKind kind) {
  auto region = std::make_unique<Region>();
  region->name = std::move(name);
  region->kind = kind;
  region->bytes = bytes;
  // A gap behind it: one past the end is never the start of another allocation.
  const uint64_t rounded = (bytes / kAlignment + 1) * kAlignment;
  region->base = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, rounded));
  SHOAL_CHECK(region->base != nullptr, "no memory for " + region->name);
  std::memset(region->base, kind == MemoryKind::kSystem ? 0 : 0xff, rounded);
  uint8_t* base = region->base;
  add(std::move(region));
  return base;
}

void Memory::adopt(void* address, uint64_t bytes, std::string name, MemoryKind kind) {
  auto region = std::make_unique<Region>();
  region->name = std::move(name);
  region->kind = kind;
  region->base = static_cast<uint8_t*>(address);
  region->bytes = bytes;
  region->owned = false;
  SHOAL_CHECK(reinterpret_cast<uintptr_t>(address) % 16 == 0, "adopted memory is misaligned");
  add(std::move(region));
}

void Memory::add(std::unique_ptr<Region> region) {
  if (region->kind == MemoryKind::kGlobal) {
    region->shadow = std::make_unique<Shadow>(region->bytes, false);
  }
  const std::lock_guard lock(mutex_);
  const auto at = first_after(regions_, region->base);
  regions_.insert(at, std::move(region));
}

void Memory::free(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto it = first_after(regions_, address);
  SHOAL_CHECK(it != regions_.begin() && (*(it - 1))->base == address, "free of no allocation");
  if ((*(it - 1))->owned) std::free((*(it - 1))->base);
  regions_.erase(it - 1);
}

Region* Memory::find(const void* address) {
  const std::lock_guard lock(mutex_);
  const auto it = first_after(regions_, address);
  if (it == regions_.begin()) return nullptr;
  Region* region = (it - 1)->get();
  // One past the end counts: an empty tail may be pointed to.
  return static_cast<const uint8_t*>(address) <= region->base + region->bytes ? region : nullptr;
}

uint64_t Memory::take_serials(uint64_t count) {
  const std::lock_guard lock(mutex_);
  SHOAL_CHECK(count < Stamp::kMaxSerial, "a grid of more blocks than the emulator can tell apart");
  if (next_serial_ + count >= Stamp::kMaxSerial) {
    for (const auto& region : regions_) {
      if (region->shadow) region->shadow->clear();
    }
    next_serial_ = 1;
  }
  const uint64_t first = next_serial_;
  next_serial_ += count;
  return first;
}

}  // namespace shoal::emulator

#include "tests/simt/pointer.h"

namespace shoal::emulator {
namespace {

std::string name(const Region& region, const uint8_t* address) {
  return region.name + " at byte " + std::to_string(address - region.base) + " of " +
         std::to_string(region.bytes);
}

[[noreturn]] void fail(Thread& thread, const std::string& what) {
  thread.launch->fail(thread, what);
}

[[noreturn]] void fail_bounds(Thread& thread, Region* region, const uint8_t* low,
                              const uint8_t* high, const uint8_t* address, uint64_t bytes,
                              const char* verb) {
  if (region == nullptr) fail(thread, std::string(verb) + " through a null pointer");
  if ((reinterpret_cast<uintptr_t>(address) & (bytes - 1)) != 0) {
    fail(thread, std::string("misaligned ") + verb + " of " + std::to_string(bytes) +
                     " bytes: " + name(*region, address));
  }
  fail(thread, std::string(verb) + " out of bounds: " + std::to_string(bytes) + " bytes of " +
                   name(*region, address) + ", the array is bytes " +
                   std::to_string(low - region->base) + " … " +
                   std::to_string(high - region->base));
}

// What every access must satisfy: somewhere, aligned, in bounds. `bytes` is a power of two.
inline void check_bounds(Thread& thread, Region* region, const uint8_t* low, const uint8_t* high,
                         const uint8_t* address, uint64_t bytes, const char* verb) {
  if (region == nullptr || (reinterpret_cast<uintptr_t>(address) & (bytes - 1)) != 0 ||
      address < low || address + bytes > high) [[unlikely]] {
    fail_bounds(thread, region, low, high, address, bytes, verb);
  }
}

void report(Thread& thread, Race race, const Region& region, const uint8_t* address, bool write,
            Stamp other) {
  const std::string access = (write ? "write of " : "read of ") + name(region, address);
  const std::string by = describe(other, thread.view.first_serial);
  switch (race) {
    case Race::kNone:
      return;
    case Race::kUninitialised:
      fail(thread, access + ": nothing was written there");
    case Race::kPendingCopy:
      fail(thread, access + ": an async copy of it is not waited for, by " + by);
    case Race::kWrite:
      fail(thread, "race: " + access + ", written without order by " + by);
    case Race::kRead:
      fail(thread, "race: " + access + ", read without order by " + by);
  }
}

void shadow_access(Thread& thread, Region& region, const uint8_t* address, uint64_t bytes,
                   bool write, Written how) {
  if (!region.shadow) return;
  const uint64_t first = static_cast<uint64_t>(address - region.base);
  Stamp other;
  const Race race = write ? region.shadow->write(thread.view, first, bytes, how, &other)
                          : region.shadow->read(thread.view, first, bytes, &other);
  if (race != Race::kNone) report(thread, race, region, address, write, other);
}

}  // namespace

void check_access(Thread& thread, Region* region, const uint8_t* low, const uint8_t* high,
                  const uint8_t* address, uint64_t bytes, bool write, Written how) {
  check_bounds(thread, region, low, high, address, bytes, write ? "write" : "read");
  if (region->kind == MemoryKind::kSystem) {
    fail(thread, "a plain access to " + name(*region, address) +
                     ", which others use at the same time: load_system or store_system");
  }
  if (write && region->kind == MemoryKind::kConstant) {
    fail(thread, "write to read-only " + name(*region, address));
  }
  shadow_access(thread, *region, address, bytes, write, how);
}

void check_copy(Thread& thread, Region* to_region, const uint8_t* to_low, const uint8_t* to_high,
                Region* from_region, const uint8_t* from_low, const uint8_t* from_high,
                AsyncCopy& copy) {
  check_bounds(thread, to_region, to_low, to_high, copy.to, copy.bytes, "copy_async");
  if (to_region->kind != MemoryKind::kShared) fail(thread, "copy_async writes shared memory");
  if (from_region != nullptr && from_region->kind == MemoryKind::kShared) {
    fail(thread, "copy_async reads global memory");
  }
  shadow_access(thread, *to_region, copy.to, copy.bytes, true, kPending);
  copy.region = to_region;
  if (reinterpret_cast<uintptr_t>(copy.from) % copy.bytes != 0) {
    fail(thread, "misaligned copy_async of " + std::to_string(copy.bytes) + " bytes");
  }
  // With fewer valid bytes only those are read.
  for (uint32_t i = 0; i < copy.valid;) {
    const uint32_t step = copy.valid == copy.bytes ? copy.bytes : copy.valid - i >= 4 ? 4 : 1;
    check_access(thread, from_region, from_low, from_high, copy.from + i, step, false, kPlain);
    i += step;
  }
}

void check_rows_for_others(Warp& warp, uint32_t rows) {
  for (uint32_t lane = 0; lane < rows; ++lane) {
    const uint8_t* address;
    std::memcpy(&address, warp.slots[lane].words, sizeof(address));
    shadow_access(*warp.threads[(lane + 1) % 32], warp.block->arena, address, 16, false, kPlain);
  }
}

void check_system_access(Thread& thread, Region* region, const uint8_t* low, const uint8_t* high,
                         const uint8_t* address, uint64_t bytes, bool write) {
  check_bounds(thread, region, low, high, address, bytes, write ? "store_system" : "load_system");
  if (region->kind != MemoryKind::kSystem) {
    fail(thread,
         "an access at system scope to " + name(*region, address) + ", which is the card's own");
  }
}

}  // namespace shoal::emulator

// Fences, async copies and system stores: what makes memory change at another time than the
// instruction.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/check.h"
#include "tests/simt/machine.h"
#include "tests/simt/system_access.h"

namespace shoal::emulator {
namespace {

bool overlap(const void* a, uint32_t a_bytes, const void* b, uint32_t b_bytes) {
  const auto first = reinterpret_cast<uintptr_t>(a), second = reinterpret_cast<uintptr_t>(b);
  return first < second + b_bytes && second < first + a_bytes;
}

void land(AsyncCopy& copy) {
  std::memcpy(copy.to, copy.from, copy.valid);
  std::memset(copy.to + copy.valid, 0, copy.bytes - copy.valid);
  copy.landed = true;
}

}  // namespace

void Launch::fence(Thread& self) {
  if (!checked()) return;
  merge(self.acquired, self.pending_acquire);
  self.pending_acquire.clear();
  self.fenced = self.acquired;
  merge(self.fenced, self.block->acquired);
  merge(self.fenced, self.view.now);
  self.has_fenced = true;
}

void Launch::atomic_access(Thread& self, const void* address) {
  const auto released = released_.find(address);
  if (released != released_.end()) merge(self.pending_acquire, released->second);
  if (self.has_fenced) merge(released_[address], self.fenced);
}

void Launch::copy_async(Thread& self, const AsyncCopy& copy) {
  for (uint32_t i = 0; i < copy.bytes; i += 4) {
    const uint32_t poison = static_cast<uint32_t>(rng_());
    std::memcpy(copy.to + i, &poison, 4);
  }
  self.copies.push_back(copy);
  self.copies.back().group = self.copy_group;
}

void Launch::copy_async_wait(Thread& self, uint32_t pending_groups) {
  std::erase_if(self.copies, [&](AsyncCopy& copy) {
    if (copy.group + pending_groups >= self.copy_group) return false;
    if (!copy.landed) land(copy);
    if (copy.region != nullptr) {
      copy.region->shadow->land(self.view, static_cast<uint64_t>(copy.to - copy.region->base),
                                copy.bytes);
    }
    return true;
  });
}

// What may happen behind a thread's back whenever it waits.
void Launch::step_background(Thread& self) {
  if (!self.copies.empty()) {
    for (AsyncCopy& copy : self.copies) {
      if (!copy.landed && (rng_() & 3) == 0) land(copy);
    }
  }
  if (!system_stores_.empty() && (rng_() & 3) == 0) drain_one(rng_.below(system_stores_.size()));
}

// The store at `at`, or an earlier one to the same bytes.
void Launch::drain_one(size_t at) {
  for (size_t i = 0; i < at; ++i) {
    if (overlap(system_stores_[i].to, system_stores_[i].bytes, system_stores_[at].to,
                system_stores_[at].bytes)) {
      at = i;
      break;
    }
  }
  const SystemStore& store = system_stores_[at];
  store_relaxed(store.to, store.value, store.bytes);
  system_stores_.erase(system_stores_.begin() + static_cast<ptrdiff_t>(at));
}

void Launch::store_system(Thread&, void* to, const void* value, uint32_t bytes) {
  SystemStore store{.to = to, .bytes = bytes, .value = {}};
  std::memcpy(store.value, value, bytes);
  system_stores_.push_back(store);
  // Bounded, as a store queue is.
  while (system_stores_.size() > 64) drain_one(rng_.below(system_stores_.size()));
}

void Launch::load_system(Thread&, const void* from, void* value, uint32_t bytes) {
  // A load sees the card's own earlier stores to these bytes.
  for (size_t i = 0; i < system_stores_.size();) {
    if (overlap(system_stores_[i].to, system_stores_[i].bytes, from, bytes)) {
      drain_one(i);
    } else {
      ++i;
    }
  }
  load_relaxed(from, value, bytes);
}

void Launch::drain_system_stores() {
  while (!system_stores_.empty()) drain_one(rng_.below(system_stores_.size()));
}

}  // namespace shoal::emulator

// Ctx of kernels/cuda/simt.h on the emulator. Context<true> checks every access and shadows memory;
// Context<false> hands plain pointers to the kernel and only runs it (indices, barriers, warp
// operations and their checks are the same).
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>
#include <type_traits>

#include "tests/simt/machine.h"
#include "tests/simt/mma.h"
#include "tests/simt/mutation.h"
#include "tests/simt/pointer.h"

namespace shoal::emulator {

template <bool kChecked>
class Context {
 public:
  template <class T>
  using PointerTo = std::conditional_t<kChecked, Pointer<T>, T*>;

  explicit Context(Thread& thread) : self_(thread), launch_(*thread.launch) {}
  Context(const Context&) = delete;

  // ---- indices
  simt::Dim3 thread() const { return {self_.index, 0, 0}; }
  simt::Dim3 block() const { return self_.block->index; }
  simt::Dim3 block_dim() const { return launch_.shape().block; }
  simt::Dim3 grid_dim() const { return launch_.shape().grid; }
  uint32_t lane() const { return self_.lane; }
  uint32_t warp() const { return self_.index / 32; }

  // ---- memory
  template <class T>
  PointerTo<T> global(const simt::Global<T>& memory) const {
    if constexpr (kChecked) {
      if (memory.address == nullptr) return {&self_, nullptr, nullptr, nullptr, nullptr};
      Region* region = launch_.memory().find(memory.address);
      if (region == nullptr) {
        launch_.fail(self_, "a parameter points to no allocation of the card");
      }
      return {&self_, region, memory.address, region->base, region->base + region->bytes};
    } else {
      return memory.address;
    }
  }
  template <class T>
  PointerTo<T> shared(uint64_t first_byte, uint64_t count) const {
    Region& arena = self_.block->arena;
    if (first_byte + count * sizeof(T) > arena.bytes || first_byte % alignof(T) != 0) {
      launch_.fail(self_, "shared_array of bytes " + std::to_string(first_byte) + " … " +
                              std::to_string(first_byte + count * sizeof(T)) +
                              ": the launch asked for " + std::to_string(arena.bytes) +
                              ", alignment " + std::to_string(alignof(T)));
    }
    T* first = reinterpret_cast<T*>(arena.base + first_byte);
    if constexpr (kChecked) {
      const uint8_t* low = arena.base + first_byte;
      return {&self_, &arena, first, low, low + count * sizeof(T)};
    } else {
      return first;
    }
  }
  template <class P>
  auto load_stream(const P& p) const {
    if constexpr (kChecked) {
      return p.load();
    } else {
      return *p;
    }
  }
  template <class P>
  void prefetch_l2(const P&) const {}

  // ---- barriers and warps
  void sync_threads(Site site = Site::current()) const {
    if (kMutants && mutated(launch_.kernel(), kDropSyncThreads, site)) return;
    launch_.sync_threads(self_, site);
  }
  void sync_warp(uint32_t mask = simt::kAllLanes, Site site = Site::current()) const {
    if (kMutants && mutated(launch_.kernel(), kDropSyncWarp, site)) return;
    launch_.sync_warp(self_, mask, site);
  }

  template <class T>
  T shuffle(T value, uint32_t lane, uint32_t mask = simt::kAllLanes,
            Site site = Site::current()) const {
    return exchange("shuffle", value, static_cast<int>(lane & 31), mask, site);
  }
  template <class T>
  T shuffle_xor(T value, uint32_t bits, uint32_t mask = simt::kAllLanes,
                Site site = Site::current()) const {
    return exchange("shuffle_xor", value, static_cast<int>(self_.lane ^ (bits & 31)), mask, site);
  }
  template <class T>
  T shuffle_down(T value, uint32_t by, uint32_t mask = simt::kAllLanes,
                 Site site = Site::current()) const {
    const uint32_t from = self_.lane + by;
    return exchange("shuffle_down", value, static_cast<int>(from < 32 ? from : self_.lane), mask,
                    site);
  }
  template <class T>
  T shuffle_up(T value, uint32_t by, uint32_t mask = simt::kAllLanes,
               Site site = Site::current()) const {
    return exchange("shuffle_up", value,
                    static_cast<int>(by <= self_.lane ? self_.lane - by : self_.lane), mask, site);
  }
  uint32_t ballot(bool predicate, uint32_t mask = simt::kAllLanes,
                  Site site = Site::current()) const {
    return vote("ballot", predicate, mask, site);
  }
  bool any(bool predicate, uint32_t mask = simt::kAllLanes, Site site = Site::current()) const {
    return vote("any", predicate, mask, site) != 0;
  }
  bool all(bool predicate, uint32_t mask = simt::kAllLanes, Site site = Site::current()) const {
    return vote("all", predicate, mask, site) == mask;
  }
  template <class T>
  T reduce_add(T value, uint32_t mask = simt::kAllLanes, Site site = Site::current()) const {
    return reduce("reduce_add", value, mask, site, [](T a, T b) {
      return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
    });
  }
  template <class T>
  T reduce_max(T value, uint32_t mask = simt::kAllLanes, Site site = Site::current()) const {
    return reduce("reduce_max", value, mask, site, [](T a, T b) { return std::max(a, b); });
  }

  // ---- tensor cores
  template <class C, size_t kA, size_t kB>
  void mma(simt::U8S8, C (&c)[4], const uint32_t (&a)[kA], const uint32_t (&b)[kB],
           Site site = Site::current()) const {
    integer_mma<kA, kB>(MmaKind::kU8S8K32, MmaKind::kU8S8K16, c, a, b, site);
  }
  template <class C, size_t kA, size_t kB>
  void mma(simt::S8S8, C (&c)[4], const uint32_t (&a)[kA], const uint32_t (&b)[kB],
           Site site = Site::current()) const {
    integer_mma<kA, kB>(MmaKind::kS8S8K32, MmaKind::kS8S8K16, c, a, b, site);
  }
  void mma(simt::F16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
           Site site = Site::current()) const {
    run_mma(MmaKind::kF16K16, c, a, b, site);
  }
  void mma(simt::BF16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
           Site site = Site::current()) const {
    run_mma(MmaKind::kBF16K16, c, a, b, site);
  }
  // r[i]: of matrix i, row lane / 4, the 16-bit elements 2 · (lane % 4) and the next.
  template <class P, size_t kCount>
  void ldmatrix(uint32_t (&r)[kCount], const P& row, Site site = Site::current()) const {
    load_matrices<false>(r, row, site);
  }
  // r[i]: of matrix i, column lane / 4, rows 2 · (lane % 4) and the next.
  template <class P, size_t kCount>
  void ldmatrix_transposed(uint32_t (&r)[kCount], const P& row, Site site = Site::current()) const {
    load_matrices<true>(r, row, site);
  }

  // ---- async copies
  template <class To, class From>
  void copy_async_16(const To& to, const From& from, uint32_t valid = 16) const {
    copy_async(to, from, 16, valid);
  }
  template <class To, class From>
  void copy_async_8(const To& to, const From& from, uint32_t valid = 8) const {
    copy_async(to, from, 8, valid);
  }
  template <class To, class From>
  void copy_async_4(const To& to, const From& from, uint32_t valid = 4) const {
    copy_async(to, from, 4, valid);
  }
  void copy_async_commit() const { ++self_.copy_group; }
  void copy_async_wait(uint32_t pending_groups, Site site = Site::current()) const {
    if (kMutants) {
      if (mutated(launch_.kernel(), kDropWait, site)) return;
      if (mutated(launch_.kernel(), kLooseWait, site)) ++pending_groups;
    }
    launch_.copy_async_wait(self_, pending_groups);
  }

  // ---- atomics and fences
  template <class P, class V>
  V atomic_add(const P& p, V value) const {
    return atomic(p, value, [](V a, V b) { return static_cast<V>(a + b); });
  }
  template <class P, class V>
  V atomic_max(const P& p, V value) const {
    return atomic(p, value, [](V a, V b) { return std::max(a, b); });
  }
  void thread_fence(Site site = Site::current()) const {
    if (kMutants && mutated(launch_.kernel(), kDropFence, site)) return;
    launch_.fence(self_);
  }
  void thread_fence_system() const {
    launch_.fence(self_);
    launch_.drain_system_stores();
  }

  // ---- system scope
  template <class P>
  auto load_system(const P& p) const {
    check_system(p, false);
    std::remove_cvref_t<decltype(*address_of(p))> value;
    launch_.load_system(self_, address_of(p), &value, sizeof(value));
    return value;
  }
  template <class P, class V>
  void store_system(const P& p, const V& value) const {
    static_assert(sizeof(V) == sizeof(*address_of(p)));
    check_system(p, true);
    launch_.store_system(self_, address_of(p), &value, sizeof(value));
  }
  void pause(uint32_t) const { launch_.pause(self_); }
  uint64_t clock_ns() const {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch())
                                     .count());
  }

 private:
  template <class T>
  static T* address_of(T* p) {
    return p;
  }
  template <class T>
  static T* address_of(const Pointer<T>& p) {
    return p.address();
  }
  Warp::Slot& slot() const { return self_.warp->slots[self_.lane]; }

  template <class T>
  T exchange(const char* name, T value, int from, uint32_t mask, const Site& site) const {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    Warp::Slot& own = slot();
    std::memcpy(own.words, &value, sizeof(T));
    own.words[4] = static_cast<uint32_t>(from);
    if ((mask >> from & 1) == 0) {
      launch_.fail(self_, std::string(name) + ", " + where(site) + ": the source lane " +
                              std::to_string(from) + " is not in the mask");
    }
    launch_.warp_op(self_, name, mask, site, [mask](Warp& warp) {
      for (uint32_t lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) == 0) continue;
        Warp::Slot& to = warp.slots[lane];
        std::memcpy(to.words + 2, warp.slots[to.words[4]].words, 8);
      }
    });
    std::memcpy(&value, own.words + 2, sizeof(T));
    return value;
  }

  uint32_t vote(const char* name, bool predicate, uint32_t mask, const Site& site) const {
    slot().words[0] = predicate ? 1 : 0;
    launch_.warp_op(self_, name, mask, site, [mask](Warp& warp) {
      uint32_t votes = 0;
      for (uint32_t lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) != 0) votes |= warp.slots[lane].words[0] << lane;
      }
      for (uint32_t lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) != 0) warp.slots[lane].words[1] = votes;
      }
    });
    return slot().words[1];
  }

  template <class T, class F>
  T reduce(const char* name, T value, uint32_t mask, const Site& site, F&& f) const {
    static_assert(std::is_integral_v<T> && sizeof(T) == 4,
                  "warp reductions are of 32-bit integers");
    slot().words[0] = static_cast<uint32_t>(value);
    launch_.warp_op(self_, name, mask, site, [&](Warp& warp) {
      uint32_t lane = static_cast<uint32_t>(std::countr_zero(mask));
      T sum = static_cast<T>(warp.slots[lane].words[0]);
      while (++lane < 32) {
        if ((mask >> lane & 1) != 0) sum = f(sum, static_cast<T>(warp.slots[lane].words[0]));
      }
      for (uint32_t to = 0; to < 32; ++to) {
        if ((mask >> to & 1) != 0) warp.slots[to].words[1] = static_cast<uint32_t>(sum);
      }
    });
    return static_cast<T>(slot().words[1]);
  }

  template <size_t kA, size_t kB, class C>
  void integer_mma(MmaKind k32, MmaKind k16, C (&c)[4], const uint32_t (&a)[kA],
                   const uint32_t (&b)[kB], const Site& site) const {
    static_assert(std::is_same_v<C, int32_t>, "integer mma sums in int32");
    static_assert((kA == 4 && kB == 2) || (kA == 2 && kB == 1), "m16n8k32 or m16n8k16");
    run_mma(kA == 4 ? k32 : k16, c, a, b, site);
  }
  template <class C, size_t kA, size_t kB>
  void run_mma(MmaKind kind, C (&c)[4], const uint32_t (&a)[kA], const uint32_t (&b)[kB],
               const Site& site) const {
    uint32_t* words = slot().words;
    std::memcpy(words, c, sizeof(c));
    std::memcpy(words + 4, a, sizeof(a));
    std::memcpy(words + 8, b, sizeof(b));
    launch_.warp_op(self_, "mma", simt::kAllLanes, site,
                    [kind](Warp& warp) { emulator::mma(warp, kind); });
    std::memcpy(c, words, sizeof(c));
  }

  template <bool kTransposed, class P, size_t kCount>
  void load_matrices(uint32_t (&r)[kCount], const P& row, const Site& site) const {
    static_assert(kCount == 1 || kCount == 2 || kCount == 4);
    const uint8_t* at = reinterpret_cast<const uint8_t*>(address_of(row));
    Warp::Slot& own = slot();
    std::memcpy(own.words, &at, sizeof(at));
    if (self_.lane < 8 * kCount) check_row(row);
    launch_.warp_op(self_, "ldmatrix", simt::kAllLanes, site, [&](Warp& warp) {
      // Other lanes get what the row holds, too: it must be theirs to read.
      if constexpr (kChecked) check_rows_for_others(warp, 8 * kCount);
      collect_matrices(warp, kCount, kTransposed);
    });
    std::memcpy(r, own.words + 4, sizeof(r));
  }
  template <class P>
  void check_row(const P& row) const {
    if constexpr (kChecked) {
      if (row.region() != &self_.block->arena) launch_.fail(self_, "ldmatrix reads shared memory");
      row.template view<simt::U32x4>().check(false, kPlain);
    }
  }

  template <class To, class From>
  void copy_async(const To& to, const From& from, uint32_t bytes, uint32_t valid) const {
    if (valid > bytes) launch_.fail(self_, "copy_async of more valid bytes than it copies");
    AsyncCopy copy{.to = reinterpret_cast<uint8_t*>(address_of(to)),
                   .from = reinterpret_cast<const uint8_t*>(address_of(from)),
                   .bytes = bytes,
                   .valid = valid};
    if constexpr (kChecked) {
      check_copy(self_, to.region(), to.low(), to.high(), from.region(), from.low(), from.high(),
                 copy);
      launch_.copy_async(self_, copy);
    } else {
      std::memcpy(copy.to, copy.from, valid);
      std::memset(copy.to + valid, 0, bytes - valid);
    }
  }

  template <class P, class V, class F>
  V atomic(const P& p, V value, F&& f) const {
    auto* address = address_of(p);
    static_assert(std::is_same_v<std::remove_pointer_t<decltype(address)>, V>,
                  "the value has the type of the memory");
    static_assert(sizeof(V) == 4 || sizeof(V) == 8);
    if constexpr (kChecked) {
      p.check(true, kAtomic);
      launch_.atomic_access(self_, address);
    }
    // Other streams' launches may run on other OS threads.
    std::atomic_ref<V> memory(*address);
    V before = memory.load(std::memory_order_relaxed);
    while (!memory.compare_exchange_weak(before, f(before, value), std::memory_order_acq_rel)) {
    }
    return before;
  }

  template <class P>
  void check_system(const P& p, bool write) const {
    if constexpr (kChecked) {
      check_system_access(self_, p.region(), p.low(), p.high(), p.bytes(), sizeof(*p.address()),
                          write);
    } else {
      (void)p, (void)write;
    }
  }

  Thread& self_;
  Launch& launch_;
};

}  // namespace shoal::emulator

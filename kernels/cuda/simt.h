// What a CUDA kernel of Shoal is written against. The same text runs on a GPU (simt_device.cuh)
// and, in tests, on a CPU without any CUDA toolkit (tests/simt, docs/testing-on-the-emulator.md).
//
//   struct Scale {
//     static constexpr const char* kName = "scale";
//     struct Params { Global<const float> x; Global<float> y; int64_t n; float factor; };
//     template <class Ctx, class Arch>
//     SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
//       const auto x = ctx.global(p.x);
//       const auto y = ctx.global(p.y);
//       const int64_t i = int64_t{ctx.block().x} * ctx.block_dim().x + ctx.thread().x;
//       if (i < p.n) y[i] = x[i] * p.factor;
//     }
//   };
//   launch<Scale, Sm80>(stream, {.grid = {blocks}, .block = {256}}, params);
//
// Rules of a body
//  * Everything that depends on the machine comes from `ctx`: no __shared__, thread_local,
//    threadIdx, __CUDA_ARCH__, __activemask. Differences between cards are `if constexpr` on Arch.
//  * Params is trivially copyable, at most kMaxParamBytes; device memory in it is Global<T>.
//  * Locals are plain data: an aborted emulated thread is dropped without running destructors.
//  * Sizes and offsets into device memory are 64-bit.
//
// Ctx, the contract (T: a trivially copyable type; Site arguments are filled in by the compiler)
//  Indices       thread(), block(), block_dim(), grid_dim(): Dim3. lane() = thread.x % 32 and
//                warp() = thread.x / 32: blocks are one-dimensional in threads.
//  Global        global(Global<T>) → pointer; p[i], p + i; a value must be read whole before its
//                members are used. load_stream(p): read-only, past the L1. prefetch_l2(p).
//  Shared        shared_array<T>(ctx, first_byte, count) → pointer into the launch's one arena;
//                it starts uninitialised.
//  Views         vector_view<U32x4>(p): the same memory as wider elements; aligned to their size.
//  Barriers      sync_threads(): every thread of the block, at one place in the text; none may have
//                left. sync_warp(mask).
//  Warp          shuffle(v, lane, mask), shuffle_xor, shuffle_down, shuffle_up: 4- or 8-byte
//  values;
//                beyond the warp's edge _down and _up give the lane its own. ballot(predicate,
//                mask), any, all; reduce_add(int, mask), reduce_max. Exactly the lanes of `mask`
//                come to the same place, and the source lane is one of them. None of these orders
//                memory: only sync_warp does.
//  Tensor cores  mma(kind, c, a, b) by all 32 lanes: PTX ISA "Matrix fragments for mma.m16n8k16"
//                and "…k32"; integer a[4], b[2] is k32, a[2], b[1] is k16; kinds U8S8, S8S8 (int32
//                sums), F16, BF16 (float sums). ldmatrix(r, row): r[1], r[2] or r[4] 8 × 8 matrices
//                of 16 bits, lane i gives the address of row i; ldmatrix_transposed.
//  Async copies  copy_async_16(dst, src, valid) (also _8, _4): bytes beyond `valid` become 0;
//  shared
//                from global; copy_async_commit() closes a group; copy_async_wait(n): all but the
//                latest n groups of this thread have landed, for this thread.
//  Atomics       atomic_add(p, v), atomic_max(p, v): relaxed; they return the old value.
//                thread_fence(); arrive_last(ctx, counter, n): the last of n arrivals sees what the
//                others wrote before theirs.
//  System scope  load_system(p), store_system(p, v): single relaxed accesses of 4, 8 or 16 bytes to
//                memory the host or other cards use; not ordered between addresses.
//                thread_fence_system(). pause(ns): in every loop that waits. clock_ns().
#pragma once

#include <cstdint>
#include <type_traits>

namespace shoal::simt {

#if defined(__CUDACC__)
#define SHOAL_SIMT __device__ __forceinline__
#define SHOAL_UNROLL _Pragma("unroll")
#define SHOAL_PRAGMA(text) _Pragma(#text)
#define SHOAL_UNROLL_BY(constant) SHOAL_PRAGMA(unroll constant)
#else
#define SHOAL_SIMT inline
#define SHOAL_UNROLL
#define SHOAL_UNROLL_BY(constant)
#endif

// A pointer that came from ctx.global() by ways a compiler does not follow (out of one of two
// branches): says again that it is device memory, for shorter loads and stores.
template <class Pointer>
SHOAL_SIMT Pointer still_global(Pointer pointer) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_pointer_v<Pointer>) __builtin_assume(__isGlobal(pointer));
#endif
  return pointer;
}

inline constexpr uint32_t kWarpSize = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;
inline constexpr uint32_t kMaxParamBytes = 4096;

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Dim3 grid;
  Dim3 block;  // one-dimensional: y = z = 1
  uint32_t shared_bytes = 0;
};

// Device memory as a kernel's parameter. Only ctx.global() makes it something to read.
template <class T>
struct Global {
  T* address = nullptr;
};

// Memory is read and written in these at once; their alignment is their size.
struct alignas(8) U32x2 {
  uint32_t x, y;
};
struct alignas(16) U32x4 {
  uint32_t x, y, z, w;
};
struct alignas(8) F32x2 {
  float x, y;
};
struct alignas(16) F32x4 {
  float x, y, z, w;
};
struct alignas(16) U64x2 {
  uint64_t x, y;
};

// Operands of mma.
struct U8S8 {};  // a unsigned, b signed
struct S8S8 {};
struct F16 {};
struct BF16 {};

// A card's generation. max_shared_bytes: what one block may have (CUDA C++ Programming Guide,
// "Compute Capabilities").
struct Sm80 {
  static constexpr int version = 80;
  static constexpr uint32_t max_shared_bytes = 163 * 1024;
};
struct Sm86 {
  static constexpr int version = 86;
  static constexpr uint32_t max_shared_bytes = 99 * 1024;
};
struct Sm89 {
  static constexpr int version = 89;
  static constexpr uint32_t max_shared_bytes = 99 * 1024;
};
struct Sm90 {
  static constexpr int version = 90;
  static constexpr uint32_t max_shared_bytes = 227 * 1024;
};
struct Sm120 {
  static constexpr int version = 120;
  static constexpr uint32_t max_shared_bytes = 99 * 1024;
};

// The arena's bytes [first_byte, first_byte + count · sizeof(T)).
template <class T, class Ctx>
SHOAL_SIMT auto shared_array(Ctx& ctx, uint64_t first_byte, uint64_t count) {
  return ctx.template shared<T>(first_byte, count);
}

// The same memory in elements of another type; constness stays.
template <class V, class T>
SHOAL_SIMT auto vector_view(T* p) {
  using Target = std::conditional_t<std::is_const_v<T>, const V, V>;
  return reinterpret_cast<Target*>(p);
}
template <class V, class Pointer>  // of the emulator
SHOAL_SIMT auto vector_view(const Pointer& p) -> decltype(p.template view<V>()) {
  return p.template view<V>();
}

// The last of `arrivals` calls on a counter that started at 0 returns true, and its thread then
// sees everything that the other callers' blocks had written before a barrier before their call.
template <class Ctx, class Pointer>
SHOAL_SIMT bool arrive_last(Ctx& ctx, Pointer counter, uint32_t arrivals) {
  ctx.thread_fence();
  if (ctx.atomic_add(counter, 1u) != arrivals - 1) return false;
  ctx.thread_fence();
  return true;
}

}  // namespace shoal::simt

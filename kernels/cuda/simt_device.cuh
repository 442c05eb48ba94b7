// Ctx of simt.h on a GPU: every member is one instruction or intrinsic. Pointers are plain
// pointers.
#pragma once

#include <cstddef>
#include <type_traits>

#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"

namespace shoal::simt {

class DeviceContext {
 public:
  // ---- indices
  SHOAL_SIMT Dim3 thread() const { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
  SHOAL_SIMT Dim3 block() const { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
  SHOAL_SIMT Dim3 block_dim() const { return {blockDim.x, blockDim.y, blockDim.z}; }
  SHOAL_SIMT Dim3 grid_dim() const { return {gridDim.x, gridDim.y, gridDim.z}; }
  SHOAL_SIMT uint32_t lane() const { return threadIdx.x % kWarpSize; }
  // Not a broadcast shuffle, which would tell the compiler that all lanes agree: bodies call it
  // where lanes have diverged.
  SHOAL_SIMT uint32_t warp() const { return threadIdx.x / kWarpSize; }

  // ---- memory
  template <class T>
  SHOAL_SIMT T* global(const Global<T>& memory) const {
    __builtin_assume(__isGlobal(memory.address));  // shorter loads and stores
    return memory.address;
  }
  template <class T>
  SHOAL_SIMT T* shared(uint64_t first_byte, uint64_t /*count*/) const {
    extern __shared__ uint4 shoal_shared_arena[];
    return reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(shoal_shared_arena) + first_byte);
  }
  template <class T>
  SHOAL_SIMT std::remove_const_t<T> load_stream(T* p) const {
    using V = std::remove_const_t<T>;
    V value;
    if constexpr (sizeof(V) == 16) {
      uint32_t* w = reinterpret_cast<uint32_t*>(&value);
      asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3])
                   : "l"(p));
    } else if constexpr (sizeof(V) == 8) {
      uint32_t* w = reinterpret_cast<uint32_t*>(&value);
      asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
                   : "=r"(w[0]), "=r"(w[1])
                   : "l"(p));
    } else {
      static_assert(sizeof(V) == 4, "streaming loads are of 4, 8 or 16 bytes");
      asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];"
                   : "=r"(*reinterpret_cast<uint32_t*>(&value))
                   : "l"(p));
    }
    return value;
  }
  SHOAL_SIMT void prefetch_l2(const void* p) const {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
  }

  // ---- barriers and warps
  SHOAL_SIMT void sync_threads() const { __syncthreads(); }
  SHOAL_SIMT void sync_warp(uint32_t mask = kAllLanes) const { __syncwarp(mask); }
  template <class T>
  SHOAL_SIMT T shuffle(T value, uint32_t lane, uint32_t mask = kAllLanes) const {
    return __shfl_sync(mask, value, static_cast<int>(lane));
  }
  template <class T>
  SHOAL_SIMT T shuffle_xor(T value, uint32_t bits, uint32_t mask = kAllLanes) const {
    return __shfl_xor_sync(mask, value, static_cast<int>(bits));
  }
  template <class T>
  SHOAL_SIMT T shuffle_down(T value, uint32_t by, uint32_t mask = kAllLanes) const {
    return __shfl_down_sync(mask, value, by);
  }
  template <class T>
  SHOAL_SIMT T shuffle_up(T value, uint32_t by, uint32_t mask = kAllLanes) const {
    return __shfl_up_sync(mask, value, by);
  }
  SHOAL_SIMT uint32_t ballot(bool predicate, uint32_t mask = kAllLanes) const {
    return __ballot_sync(mask, predicate);
  }
  SHOAL_SIMT bool any(bool predicate, uint32_t mask = kAllLanes) const {
    return __any_sync(mask, predicate) != 0;
  }
  SHOAL_SIMT bool all(bool predicate, uint32_t mask = kAllLanes) const {
    return __all_sync(mask, predicate) != 0;
  }
  template <class T>
  SHOAL_SIMT T reduce_add(T value, uint32_t mask = kAllLanes) const {
    return static_cast<T>(__reduce_add_sync(mask, value));
  }
  template <class T>
  SHOAL_SIMT T reduce_max(T value, uint32_t mask = kAllLanes) const {
    return static_cast<T>(__reduce_max_sync(mask, value));
  }

  // ---- tensor cores
#define SHOAL_MMA_K32(KIND, A)                                                                    \
  SHOAL_SIMT void mma(KIND, int32_t(&c)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) const { \
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." A                                       \
                 ".s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"        \
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));             \
  }                                                                                               \
  SHOAL_SIMT void mma(KIND, int32_t(&c)[4], const uint32_t(&a)[2], const uint32_t(&b)[1]) const { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32." A                                       \
                 ".s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"                    \
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));                                              \
  }
  SHOAL_MMA_K32(U8S8, "u8")
  SHOAL_MMA_K32(S8S8, "s8")
#undef SHOAL_MMA_K32
#define SHOAL_MMA_HALF(KIND, TYPE)                                                              \
  SHOAL_SIMT void mma(KIND, float(&c)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) const { \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE                         \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"         \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));           \
  }
  SHOAL_MMA_HALF(F16, "f16")
  SHOAL_MMA_HALF(BF16, "bf16")
#undef SHOAL_MMA_HALF

  // No "memory" clobber and no volatile would let the compiler move these over a barrier.
#define SHOAL_LDMATRIX(NAME, TRANSPOSED)                                                          \
  SHOAL_SIMT void NAME(uint32_t(&r)[1], const void* row) const {                                  \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" TRANSPOSED ".shared.b16 {%0}, [%1];"             \
                 : "=r"(r[0])                                                                     \
                 : "r"(shared_address(row))                                                       \
                 : "memory");                                                                     \
  }                                                                                               \
  SHOAL_SIMT void NAME(uint32_t(&r)[2], const void* row) const {                                  \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" TRANSPOSED ".shared.b16 {%0, %1}, [%2];"         \
                 : "=r"(r[0]), "=r"(r[1])                                                         \
                 : "r"(shared_address(row))                                                       \
                 : "memory");                                                                     \
  }                                                                                               \
  SHOAL_SIMT void NAME(uint32_t(&r)[4], const void* row) const {                                  \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" TRANSPOSED ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                 \
                 : "r"(shared_address(row))                                                       \
                 : "memory");                                                                     \
  }
  SHOAL_LDMATRIX(ldmatrix, "")
  SHOAL_LDMATRIX(ldmatrix_transposed, ".trans")
#undef SHOAL_LDMATRIX

  // ---- async copies
  SHOAL_SIMT void copy_async_16(void* to, const void* from, uint32_t valid = 16) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(valid)
                 : "memory");
  }
  SHOAL_SIMT void copy_async_8(void* to, const void* from, uint32_t valid = 8) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(valid)
                 : "memory");
  }
  SHOAL_SIMT void copy_async_4(void* to, const void* from, uint32_t valid = 4) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(valid)
                 : "memory");
  }
  SHOAL_SIMT void copy_async_commit() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
  // The instruction takes an immediate: with a constant argument one of these remains.
  SHOAL_SIMT void copy_async_wait(uint32_t pending_groups) const {
    switch (pending_groups) {
      case 0:
        asm volatile("cp.async.wait_group 0;" ::: "memory");
        break;
      case 1:
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        break;
      case 2:
        asm volatile("cp.async.wait_group 2;" ::: "memory");
        break;
      case 3:
        asm volatile("cp.async.wait_group 3;" ::: "memory");
        break;
      case 4:
        asm volatile("cp.async.wait_group 4;" ::: "memory");
        break;
      case 5:
        asm volatile("cp.async.wait_group 5;" ::: "memory");
        break;
      case 6:
        asm volatile("cp.async.wait_group 6;" ::: "memory");
        break;
      default:
        asm volatile("cp.async.wait_group 7;" ::: "memory");
        break;  // waits for more
    }
  }

  // ---- atomics and fences
  template <class V>
  SHOAL_SIMT V atomic_add(V* p, V value) const {
    if constexpr (sizeof(V) == 8 && std::is_integral_v<V>) {
      return static_cast<V>(atomicAdd(reinterpret_cast<unsigned long long*>(p),
                                      static_cast<unsigned long long>(value)));
    } else {
      return atomicAdd(p, value);
    }
  }
  template <class V>
  SHOAL_SIMT V atomic_max(V* p, V value) const {
    static_assert(std::is_integral_v<V>, "atomic_max is of integers");
    if constexpr (sizeof(V) == 8) {
      using Wide = std::conditional_t<std::is_signed_v<V>, long long, unsigned long long>;
      return static_cast<V>(atomicMax(reinterpret_cast<Wide*>(p), static_cast<Wide>(value)));
    } else {
      return atomicMax(p, value);
    }
  }
  // Of acquire and release, which is all that arrive_last() needs: __threadfence() is sequentially
  // consistent and takes longer.
  SHOAL_SIMT void thread_fence() const { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
  SHOAL_SIMT void thread_fence_system() const { __threadfence_system(); }

  // ---- system scope
  template <class T>
  SHOAL_SIMT std::remove_const_t<T> load_system(T* p) const {
    using V = std::remove_const_t<T>;
    V value;
    if constexpr (sizeof(V) == 4) {
      asm volatile("ld.relaxed.sys.global.u32 %0, [%1];"
                   : "=r"(*reinterpret_cast<uint32_t*>(&value))
                   : "l"(p)
                   : "memory");
    } else if constexpr (sizeof(V) == 8) {
      asm volatile("ld.relaxed.sys.global.u64 %0, [%1];"
                   : "=l"(*reinterpret_cast<uint64_t*>(&value))
                   : "l"(p)
                   : "memory");
    } else {
      static_assert(sizeof(V) == 16, "system accesses are of 4, 8 or 16 bytes");
      uint64_t* w = reinterpret_cast<uint64_t*>(&value);
      asm volatile("{ .reg .b128 v; ld.relaxed.sys.global.b128 v, [%2]; mov.b128 {%0, %1}, v; }"
                   : "=l"(w[0]), "=l"(w[1])
                   : "l"(p)
                   : "memory");
    }
    return value;
  }
  template <class V>
  SHOAL_SIMT void store_system(V* p, const V& value) const {
    if constexpr (sizeof(V) == 4) {
      asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(p),
                   "r"(*reinterpret_cast<const uint32_t*>(&value))
                   : "memory");
    } else if constexpr (sizeof(V) == 8) {
      asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(p),
                   "l"(*reinterpret_cast<const uint64_t*>(&value))
                   : "memory");
    } else {
      static_assert(sizeof(V) == 16, "system accesses are of 4, 8 or 16 bytes");
      const uint64_t* w = reinterpret_cast<const uint64_t*>(&value);
      asm volatile(
          "{ .reg .b128 v; mov.b128 v, {%1, %2}; st.relaxed.sys.global.b128 [%0], v; }" ::"l"(p),
          "l"(w[0]), "l"(w[1])
          : "memory");
    }
  }
  SHOAL_SIMT void pause(uint32_t ns) const { __nanosleep(ns); }
  SHOAL_SIMT uint64_t clock_ns() const {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
  }

 private:
  SHOAL_SIMT static uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
  }
};

}  // namespace shoal::simt

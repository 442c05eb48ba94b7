// Reads memory and does nothing with it: the ceiling of kernels that read weights.
#pragma once

#include "kernels/cuda/simt.h"

namespace shoal::gpu {

using simt::Global;

// Every thread has kDepth loads of 16 bytes under way; `out` gets a word only if the exclusive or
// of a thread's words is one nobody would expect, so that the loads cannot be left out.
struct ReadMemory {
  static constexpr const char* kName = "read memory";
  static constexpr uint32_t kThreads = 512, kMaxThreads = kThreads, kMinBlocks = 2;
  static constexpr int kDepth = 8;
  static constexpr uint32_t kUnlikely = 0x9e3779b9u;
  struct Params {
    Global<const simt::U32x4> in;  // [words]
    Global<uint32_t> out;          // [1]
    int64_t words = 0;
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const auto in = ctx.global(p.in);
    const int64_t step = int64_t{ctx.grid_dim().x} * kThreads;
    uint32_t sum = 0;
    int64_t i = int64_t{ctx.block().x} * kThreads + ctx.thread().x;
    for (; i + (kDepth - 1) * step < p.words; i += kDepth * step) {
      simt::U32x4 words[kDepth];
      SHOAL_UNROLL
      for (int d = 0; d < kDepth; ++d) words[d] = ctx.load_stream(in + (i + d * step));
      SHOAL_UNROLL
      for (int d = 0; d < kDepth; ++d) sum ^= fold(words[d]);
    }
    for (; i < p.words; i += step) sum ^= fold(ctx.load_stream(in + i));
    if (sum == kUnlikely) ctx.atomic_add(ctx.global(p.out), sum);
  }

  SHOAL_SIMT static uint32_t fold(const simt::U32x4& word) {
    return word.x ^ word.y ^ word.z ^ word.w;
  }
};

}  // namespace shoal::gpu

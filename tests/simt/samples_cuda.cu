// The samples compiled for a GPU: that the contract of simt.h holds there, that every member of the
// device's Ctx assembles, and that kernels/body compiles in device code.
#include "kernels/body/blocks.h"
#include "kernels/body/math.h"
#include "kernels/cuda/launch_cuda.cuh"
#include "tests/simt/samples.h"

namespace shoal::simt::samples {

// Uses what the other samples do not.
struct Everything {
  static constexpr const char* kName = "everything";
  static constexpr uint32_t kMaxThreads = 128, kMinBlocks = 1;
  struct Params {
    Global<uint32_t> out;
    Global<const U32x4> in;
    Global<U64x2> mapped;
    Global<const uint8_t> blocks;
  };
  template <class Ctx>
  SHOAL_SIMT static uint32_t tensor_cores(Ctx& ctx, const U32x4& word) {
    const auto tile = shared_array<uint16_t>(ctx, 0, 512);
    uint32_t a[4], b[2], r[1];
    ctx.ldmatrix(a, tile + 8 * ctx.lane());
    ctx.ldmatrix_transposed(b, tile + 8 * ctx.lane());
    ctx.ldmatrix(r, tile);
    int32_t sums[4] = {};
    float floats[4] = {};
    const uint32_t a2[2] = {word.x, word.y};
    ctx.mma(U8S8{}, sums, a, b);
    ctx.mma(S8S8{}, sums, a, b);
    ctx.mma(U8S8{}, sums, a2, r);
    ctx.mma(S8S8{}, sums, a2, r);
    ctx.mma(F16{}, floats, a, b);
    ctx.mma(BF16{}, floats, a, b);
    return static_cast<uint32_t>(sums[0] + sums[3]) + static_cast<uint32_t>(floats[0] + floats[2]);
  }
  template <class Ctx>
  SHOAL_SIMT static uint32_t numbers(const Ctx&, const U32x4& word) {
    const Half h = Half{static_cast<uint16_t>(word.x)} * to_half(1.5f) + -to_half(0.1f);
    const BFloat16 f = BFloat16{static_cast<uint16_t>(word.y)} - to_bf16(1.5f);
    return h.bits + f.bits + pack_halves(1.0f, to_float(h)) + pack_bf16s(to_float(f), 2.0f) +
           static_cast<uint32_t>(dot4_u8s8(word.x, word.y, dot4_s8s8(word.z, word.w, 1))) +
           permute_bytes(word.x, word.y, word.z) +
           static_cast<uint32_t>(rsqrt_approx(fused_multiply_add(to_float(h), 2.0f, 1.0f)));
  }
  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const auto in = ctx.global(p.in);
    const auto out = ctx.global(p.out);
    const auto mapped = ctx.global(p.mapped) + ctx.thread().x;
    ctx.prefetch_l2(in + 4);
    const U32x4 word = ctx.load_stream(in);
    uint32_t sum = tensor_cores(ctx, word) + numbers(ctx, word);
    sum += ctx.shuffle(sum, 3) + ctx.shuffle_down(sum, 1) + ctx.shuffle_up(sum, 1);
    sum += ctx.ballot(sum > 3) + ctx.any(sum > 4) + ctx.all(sum > 5);
    sum += ctx.reduce_add(sum) + ctx.reduce_max(sum) +
           static_cast<uint32_t>(ctx.reduce_max(static_cast<int32_t>(sum)));
    float decoded[256];
    const auto* block = ctx.global(p.blocks);
    body::Block<TensorType::kQ4_K>::decode(block, decoded);
    body::Block<TensorType::kIQ4_XS>::decode(block, decoded + 1);
    sum += static_cast<uint32_t>(decoded[ctx.thread().x] + body::gelu_tanh(decoded[0]));
    if constexpr (Arch::version >= 70) {
      const uint64_t start = ctx.clock_ns();
      ctx.store_system(mapped, U64x2{sum, start});
      ctx.thread_fence_system();
      while (ctx.load_system(mapped).x != sum && ctx.clock_ns() - start < 1000) ctx.pause(20);
      ctx.store_system(vector_view<uint64_t>(mapped),
                       ctx.load_system(vector_view<uint64_t>(mapped)));
      ctx.store_system(vector_view<uint32_t>(mapped),
                       ctx.load_system(vector_view<uint32_t>(mapped)));
    }
    ctx.copy_async_16(shared_array<uint32_t>(ctx, 0, 4), in, 9);
    ctx.copy_async_8(shared_array<uint32_t>(ctx, 16, 2), in);
    ctx.copy_async_4(shared_array<uint32_t>(ctx, 32, 1), in);
    ctx.copy_async_commit();
    ctx.copy_async_wait(0);
    out[0] = sum + ctx.atomic_add(out + 1, sum) + ctx.atomic_max(out + 2, sum);
    ctx.atomic_add(vector_view<uint64_t>(out + 4), uint64_t{1});
    ctx.atomic_max(vector_view<uint64_t>(out + 4), uint64_t{1});
    ctx.atomic_add(vector_view<float>(out + 6), 1.0f);
  }
};

template <class Arch>
Status launch_all(cudaStream_t stream) {
  constexpr Mutant kRight = Mutant::kNone;
  SHOAL_TRY((launch<Sum<kRight>, Arch>(stream, {}, {})));
  SHOAL_TRY((launch<ToyGemv<kRight>, Arch>(stream, {}, {})));
  SHOAL_TRY((launch<Softmax<kRight>, Arch>(stream, {}, {})));
  return launch<Everything, Arch>(stream, {}, {});
}

#if defined(SHOAL_SAMPLE_ARCH)
template Status launch_all<SHOAL_SAMPLE_ARCH>(cudaStream_t);
#endif

}  // namespace shoal::simt::samples

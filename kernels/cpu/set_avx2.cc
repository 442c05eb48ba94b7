// The kernel set for AVX2, FMA and F16C. Compiled with flags of its own (CMakeLists.txt).
#include <immintrin.h>

#include "kernels/body/blocks.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/kernel_set.h"

#define SHOAL_SET_NAMESPACE set_avx2
#include "kernels/cpu/simd.inc"
// Builds on it.
#include "kernels/cpu/planar.inc"
// Lists both.
#include "kernels/cpu/table.inc"

namespace shoal::SHOAL_SET_NAMESPACE {

// Eight int32 sums of four products, unsigned × signed bytes.
inline __attribute__((always_inline)) __m256i dot_u8s8(__m256i u, __m256i s) {
  // Two products summed in 16 bits stay below 32768: codes ≤ 128, |s| ≤ 127.
  return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
}

}  // namespace shoal::SHOAL_SET_NAMESPACE

#include "kernels/cpu/int8_x86.inc"

namespace shoal {
namespace {

constexpr KernelSet make_set() {
  KernelSet set = set_avx2::common_set("avx2");
  const auto add = [&](TensorType type, KernelSet::QuantDot f) {
    set.quant_dot[static_cast<uint32_t>(type)] = f;
  };
  add(TensorType::kQ8_0, set_avx2::dot_blocks32<set_avx2::CodesQ8_0>);
  add(TensorType::kQ4_0, set_avx2::dot_blocks32<set_avx2::CodesQ4_0>);
  add(TensorType::kQ4_1, set_avx2::dot_blocks32<set_avx2::CodesQ4_1>);
  add(TensorType::kQ5_0, set_avx2::dot_blocks32<set_avx2::CodesQ5_0>);
  add(TensorType::kQ5_1, set_avx2::dot_blocks32<set_avx2::CodesQ5_1>);
  add(TensorType::kIQ4_NL, set_avx2::dot_blocks32<set_avx2::CodesIQ4_NL>);
  add(TensorType::kMXFP4, set_avx2::dot_blocks32<set_avx2::CodesMXFP4>);
  add(TensorType::kQ4_K, set_avx2::dot_k45<false>);
  add(TensorType::kQ5_K, set_avx2::dot_k45<true>);
  add(TensorType::kQ6_K, set_avx2::dot_q6_k);
  set.planar_dot = set_avx2::dot_planar;
  return set;
}

}  // namespace

extern const KernelSet kAvx2Set;
constinit const KernelSet kAvx2Set = make_set();

}  // namespace shoal

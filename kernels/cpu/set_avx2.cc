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

// acc + eight int32 sums of four products, unsigned × signed bytes.
inline __attribute__((always_inline)) __m256i add_dot_u8s8(__m256i acc, __m256i u, __m256i s) {
  // Two products summed in 16 bits stay below 32768: codes ≤ 128, |s| ≤ 127.
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}

}  // namespace shoal::SHOAL_SET_NAMESPACE

#include "kernels/cpu/int8_x86.inc"

namespace shoal {

extern const KernelSet kAvx2Set;
constinit const KernelSet kAvx2Set = set_avx2::with_int8(set_avx2::common_set("avx2"));

}  // namespace shoal

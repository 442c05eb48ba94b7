// The kernel set for AVX2 with the VNNI instructions of processors without AVX-512. Compiled with
// flags of its own (CMakeLists.txt).
#include <immintrin.h>

#include "kernels/body/blocks.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/kernel_set.h"

#define SHOAL_SET_NAMESPACE set_avxvnni
#include "kernels/cpu/simd.inc"
// Builds on it.
#include "kernels/cpu/planar.inc"
// Lists both.
#include "kernels/cpu/table.inc"

namespace shoal::SHOAL_SET_NAMESPACE {

// acc + eight int32 sums of four products, unsigned × signed bytes.
inline __attribute__((always_inline)) __m256i add_dot_u8s8(__m256i acc, __m256i u, __m256i s) {
  return _mm256_dpbusd_avx_epi32(acc, u, s);
}

}  // namespace shoal::SHOAL_SET_NAMESPACE

#include "kernels/cpu/int8_x86.inc"

namespace shoal {

extern const KernelSet kAvxVnniSet;
constinit const KernelSet kAvxVnniSet = set_avxvnni::with_int8(set_avxvnni::common_set("avxvnni"));

}  // namespace shoal

// The kernel set for AVX-512 with VNNI. Compiled with flags of its own (CMakeLists.txt).
#include <immintrin.h>

#include "kernels/body/blocks.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/kernel_set.h"

#define SHOAL_SET_NAMESPACE set_avx512
#include "kernels/cpu/simd.inc"
// Builds on it.
#include "kernels/cpu/planar.inc"
// Lists both.
#include "kernels/cpu/table.inc"

namespace shoal::SHOAL_SET_NAMESPACE {

// acc + eight int32 sums of four products, unsigned × signed bytes.
inline __attribute__((always_inline)) __m256i add_dot_u8s8(__m256i acc, __m256i u, __m256i s) {
  return _mm256_dpbusd_epi32(acc, u, s);
}

}  // namespace shoal::SHOAL_SET_NAMESPACE

#include "kernels/cpu/int8_x86.inc"

// Builds on it.
#include "kernels/cpu/int8_avx512.inc"

namespace shoal {
namespace {

constexpr KernelSet make_set() {
  KernelSet set = set_avx512::common_set("avx512vnni");
  const auto add = [&](TensorType type, KernelSet::QuantDot f) {
    set.quant_dot[static_cast<uint32_t>(type)] = f;
  };
  add(TensorType::kQ8_0, set_avx512::dot_pairs<set_avx512::CodesQ8_0>);
  add(TensorType::kQ4_0, set_avx512::dot_pairs<set_avx512::CodesQ4_0>);
  add(TensorType::kQ4_1, set_avx512::dot_pairs<set_avx512::CodesQ4_1>);
  add(TensorType::kQ5_0, set_avx512::dot_pairs<set_avx512::CodesQ5_0>);
  add(TensorType::kQ5_1, set_avx512::dot_pairs<set_avx512::CodesQ5_1>);
  add(TensorType::kIQ4_NL, set_avx512::dot_pairs<set_avx512::CodesIQ4_NL>);
  add(TensorType::kMXFP4, set_avx512::dot_pairs<set_avx512::CodesMXFP4>);
  add(TensorType::kQ4_K, set_avx512::dot_k45_wide<false>);
  add(TensorType::kQ5_K, set_avx512::dot_k45_wide<true>);
  add(TensorType::kIQ4_XS, set_avx512::dot_iq4_xs_wide);
  add(TensorType::kQ6_K, set_avx512::dot_q6_k_wide);
  set.planar_dot = set_avx512::dot_planar_wide;
  return set;
}

}  // namespace

extern const KernelSet kAvx512Set;
constinit const KernelSet kAvx512Set = make_set();

}  // namespace shoal

// The kernel set every processor can run.
#include "kernels/body/half.h"
#include "kernels/cpu/kernel_set.h"

#define SHOAL_SET_NAMESPACE set_generic
#include "kernels/cpu/simd.inc"

namespace shoal {

extern const KernelSet kGenericSet;
constinit const KernelSet kGenericSet = {
    .name = "generic",
    .dot = set_generic::dot,
    .dot_f16 = set_generic::dot_f16,
    .dot_bf16 = set_generic::dot_bf16,
    .quant_dot = {},
    .quantise = set_generic::quantise,
    .axpy = set_generic::axpy,
    .scale = set_generic::scale,
    .sum_squares = set_generic::sum_squares,
    .silu_mul = set_generic::silu_mul,
    .max = set_generic::max,
    .exp_sum = set_generic::exp_sum,
    .exp_shift = set_generic::exp_shift,
    .half_to_float = set_generic::half_to_float,
    .float_to_half = set_generic::float_to_half,
};

}  // namespace shoal

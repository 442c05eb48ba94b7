// The kernel set every processor can run.
#include "kernels/body/blocks.h"
#include "kernels/cpu/kernel_set.h"

#define SHOAL_SET_NAMESPACE set_generic
#include "kernels/cpu/simd.inc"

namespace shoal {

extern const KernelSet kGenericSet;
constinit const KernelSet kGenericSet = set_generic::common_set("generic");

}  // namespace shoal

// The kernel set every processor can run.
#include "kernels/body/blocks.h"
#include "kernels/cpu/grids.h"
#include "kernels/cpu/kernel_set.h"

#define SHOAL_SET_NAMESPACE set_generic
#include "kernels/cpu/simd.inc"
// Builds on it.
#include "kernels/cpu/planar.inc"
// Lists both.
#include "kernels/cpu/table.inc"

namespace shoal {

extern const KernelSet kGenericSet;
constinit const KernelSet kGenericSet = set_generic::common_set("generic");

}  // namespace shoal

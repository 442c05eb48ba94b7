// Choice of experts on the CPU: rows over threads, the rule from kernels/body.
#include "kernels/body/routing.h"
#include "kernels/cpu/cpu_device.h"

namespace shoal {

void CpuDevice::route(const float* logits, int64_t rows, const RouteSpec& spec, int32_t* ids,
                      float* weights) {
  SHOAL_CHECK(spec.top_k >= 1 && spec.top_k <= spec.experts, "no expert chosen, or too many");
  SHOAL_CHECK(spec.groups >= 1 && spec.experts % spec.groups == 0 && spec.groups_used >= 1,
              "groups of unequal size");
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(spec.experts + spec.groups));
    for (int64_t r = begin; r < end; ++r) {
      body::route_row(spec, logits + r * spec.experts, scratch.data(), ids + r * spec.top_k,
                      weights + r * spec.top_k);
    }
  });
}

}  // namespace shoal

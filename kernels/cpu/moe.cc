// Mixtures of experts on the CPU.
#include "kernels/cpu/cpu_device.h"

namespace shoal {

void CpuDevice::head_matmul(const HeadMatmul&, const Activations&, int64_t) {
  SHOAL_CHECK(false, "not there yet");
}
void CpuDevice::route(const float*, int64_t, const RouteSpec&, int32_t*, float*) {
  SHOAL_CHECK(false, "not there yet");
}
void CpuDevice::experts(const ExpertTask&, const Activations&, int64_t, Activations&) {
  SHOAL_CHECK(false, "not there yet");
}

}  // namespace shoal

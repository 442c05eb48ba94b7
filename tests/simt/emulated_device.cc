// The one translation unit with every kernel of kernels/cuda on the emulator: tests link it instead
// of compiling them again.
#include "tests/simt/gpu_support.h"

namespace shoal {

template class gpu::GpuDevice<emulator::EmulatedBackend<true>>;
template class gpu::GpuDevice<emulator::EmulatedBackend<false>>;

namespace testing {

std::unique_ptr<Device> make_emulated_device(uint64_t seed, bool checked) {
  const emulator::Options options{.seed = seed};
  if (checked) {
    using Backend = emulator::EmulatedBackend<true>;
    return std::make_unique<gpu::GpuDevice<Backend>>(std::make_unique<Backend>(options));
  }
  using Backend = emulator::EmulatedBackend<false>;
  return std::make_unique<gpu::GpuDevice<Backend>>(std::make_unique<Backend>(options));
}

uint64_t graphs_started(Device& device) {
  using Card = gpu::GpuDevice<emulator::EmulatedBackend<true>>;
  return dynamic_cast<Card&>(device).backend().graphs_started;
}

}  // namespace testing
}  // namespace shoal

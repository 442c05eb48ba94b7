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

bool on_card() { return false; }

uint64_t graphs_started(Device& device) {
  using Card = gpu::GpuDevice<emulator::EmulatedBackend<true>>;
  return dynamic_cast<Card&>(device).backend().graphs_started;
}

void limit_attention_memory(Device& device, uint64_t bytes) {
  const auto limit = [&](auto* gpu) {
    if (gpu != nullptr) gpu->limit_attention_memory(bytes);
    return gpu != nullptr;
  };
  using emulator::EmulatedBackend;
  const bool done = limit(dynamic_cast<gpu::GpuDevice<EmulatedBackend<true>>*>(&device)) ||
                    limit(dynamic_cast<gpu::GpuDevice<EmulatedBackend<false>>*>(&device));
  SHOAL_CHECK(done, "not an emulated device");
}

}  // namespace testing
}  // namespace shoal

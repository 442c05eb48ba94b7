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

namespace {

template <class Use>
void with_card(Device& device, const Use& use) {
  using emulator::EmulatedBackend;
  if (auto* card = dynamic_cast<gpu::GpuDevice<EmulatedBackend<true>>*>(&device)) {
    use(*card);
  } else {
    use(dynamic_cast<gpu::GpuDevice<EmulatedBackend<false>>&>(device));
  }
}

}  // namespace

uint64_t graphs_started(Device& device) {
  uint64_t count = 0;
  with_card(device, [&](auto& card) { count = card.backend().graphs_started; });
  return count;
}

void limit_allocations(Device& device, uint64_t bytes) {
  with_card(device, [&](auto& card) { card.backend().memory_limit = bytes; });
}

void limit_attention_memory(Device& device, uint64_t bytes) {
  with_card(device, [&](auto& card) { card.limit_attention_memory(bytes); });
}

void limit_product_floats(Device& device, int64_t floats) {
  with_card(device, [&](auto& card) { card.limit_product_floats(floats); });
}

}  // namespace testing
}  // namespace shoal

// The device under test is a card: the programs card_*_test are the gpu_*_test of the emulator with
// this file in place of emulated_device.cc. Exit status 77: there is no card, and why.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "kernels/cuda_library.h"
#include "tests/simt/gpu_support.h"

namespace shoal::testing {

bool on_card() { return true; }

// Seeds order the emulator's threads; a card's order is its own. Nothing checks its memory accesses
// but compute-sanitizer (./dev gpu).
std::unique_ptr<Device> make_emulated_device(uint64_t, bool) {
  auto device = make_cuda_device(0);
  SHOAL_CHECK(device.is_ok(), device.status().message());
  return std::move(device).value();
}

// What only the emulator can be asked.
uint64_t graphs_started(Device&) { return 0; }
void limit_attention_memory(Device&, uint64_t) {}
void limit_allocations(Device&, uint64_t) {}
void limit_product_floats(Device&, int64_t) {}

}  // namespace shoal::testing

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  ::testing::InitGoogleTest(&argc, argv);
  // Programs in tests/simt, the library in cli: of a build and of a bundle.
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  ::setenv("SHOAL_CUDA_LIBRARY", (folder / "../../cli/libshoal-cuda.so").c_str(), 0);
  if (const auto count = shoal::cuda_device_count(); !count) {
    std::printf("skipped: %s\n", count.status().message().c_str());
    return kSkipped;
  }
  const auto device = shoal::make_cuda_device(0);
  if (!device) {
    std::printf("cuda:0: %s\n", device.status().message().c_str());
    return 1;
  }
  std::printf("on %s, %s\n", (*device)->describe().c_str(), (*device)->arithmetic().c_str());
  return RUN_ALL_TESTS();
}

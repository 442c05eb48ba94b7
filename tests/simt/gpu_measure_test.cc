// Measuring on the emulated device: memory that is only read is read whole, and the benchmarks of
// kernels are calls a card would accept.
#include "bench/kernel_figures.h"
#include "kernels/cuda/read_kernel.h"
#include "tests/simt/gpu_support.h"

namespace shoal {
namespace {

using namespace testing;
using gpu::ReadMemory;

// One word that the kernel's result betrays, at any place: it has been read, exactly once.
TEST(GpuMeasure, MemoryIsReadWhole) {
  for (const int64_t words : {1, 511, 512, 513, 9000}) {
    for (uint64_t seed = 0; seed < kEmulatorSeeds; ++seed) {
      emulator::Memory card;
      emulator::Stream<> stream(card, {.seed = seed});
      Rng rng(seed);
      const auto place =
          seed == 0 ? static_cast<uint64_t>(words) - 1 : rng.below(static_cast<uint64_t>(words));
      std::vector<simt::U32x4> data(static_cast<size_t>(words), simt::U32x4{});
      data[place].z = ReadMemory::kUnlikely;
      ReadMemory::Params p;
      p.in = card.upload_constant(data, "in");
      p.out = card.upload(std::vector<uint32_t>{0}, "out");
      p.words = words;
      ASSERT_TRUE((simt::launch<ReadMemory, simt::Sm80>(
                       stream, {.grid = {2}, .block = {ReadMemory::kThreads}}, p))
                      .is_ok());
      EXPECT_EQ(p.out.address[0], ReadMemory::kUnlikely) << words << " words, " << place;
    }
  }
}

TEST(GpuMeasure, TheBenchmarkIsMadeOfCallsADeviceTakes) {
  KernelBenchOptions options;
  options.types = {TensorType::kQ4_K, TensorType::kF16};
  options.shapes = {{"gate", 33, 256, true}, {"o", 17, 512}};
  options.rows = {1, 3};
  options.contexts = {70};
  options.ops = {"matmul", "attention", "norm"};
  options.repeats = 1;
  options.cycle_bytes = 1 << 16;
  for (const bool emulated : {false, true}) {
    const auto device = emulated ? make_emulated_device(1) : make_device("generic", true, 1);
    int told = 0;
    const auto figures = measure_kernels(*device, options, [&](const KernelFigure&) { ++told; });
    ASSERT_TRUE(figures.is_ok()) << figures.status().to_string();
    EXPECT_EQ(figures->rows.size(), 2u * 2 * 2 + 2 * 2 + 2);
    EXPECT_EQ(told, static_cast<int>(figures->rows.size()));
    EXPECT_EQ(figures->cycle_bytes, uint64_t{1} << 16);
    for (const KernelFigure& row : figures->rows) {
      EXPECT_GT(row.seconds, 0) << row.op;
      EXPECT_GT(row.bytes, 0) << row.op;
    }
    EXPECT_GT(figures->ceiling(), 0);
    expect_clean(*device);
  }
}

TEST(GpuMeasure, ErrorsOfMeasuredOpsComeOut) {
  if (on_card()) GTEST_SKIP() << "a card does not see what is read beyond an allocation";
  const auto device = make_emulated_device(1);
  const auto buffer = device->allocate(4096, "small");
  ASSERT_TRUE(buffer.is_ok());
  const auto seconds = device->time_of([&] { device->read_memory((*buffer)->data(), 8192); });
  ASSERT_FALSE(seconds.is_ok());
  EXPECT_NE(seconds.status().message().find("read memory"), std::string::npos);
}

}  // namespace
}  // namespace shoal

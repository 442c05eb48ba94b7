// Reference models through the whole forward pass on an emulated GPU: host code and kernels are
// those of a card.
#include <gtest/gtest.h>

#include "tests/simt/gpu_support.h"
#include "tests/support/support.h"
#include "tests/worker/oracle.h"

namespace shoal::testing {
namespace {

constexpr size_t kLongest = 64;  // tokens of a case; the emulator does about 10⁹ products a second
constexpr size_t kGreedy = 4;

class GpuOracleTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GpuOracleTest, AsOnTheCpu) {
  const std::string name = GetParam();
  SHOAL_SKIP_WITHOUT_SHARED("oracle/" + name + "-f32.json");
  const auto reference = read_oracle(name);
  const uint64_t seed = test_seed(11);
  GroupOptions options;
  options.max_tokens = kLongest + kGreedy + 1;
  options.max_rows = kLongest;
  options.make_device = [&](int) { return make_emulated_device(seed, false); };
  MiniGroup group(gunzip_shared("oracle/" + name + "-f32.gguf.gz"), options);
  double worst = 0;
  size_t cases = 0;
  for (const auto& c : reference["cases"]) {
    if (c["tokens"].size() > kLongest) continue;
    worst = std::max(worst, compare_with_oracle(group, c, kGreedy));
    ++cases;
  }
  EXPECT_GE(cases, 2u);
  EXPECT_LE(worst, kOracleTolerance) << "seed " << seed;
  std::cout << name << ": worst " << worst << "\n";
}

INSTANTIATE_TEST_SUITE_P(Models, GpuOracleTest,
                         ::testing::Values("llama", "qwen2", "qwen3", "mixtral", "qwen3moe",
                                           "gptoss", "glm4moe", "llama4", "deepseek2", "gemma3",
                                           "falcon", "commandr"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace shoal::testing

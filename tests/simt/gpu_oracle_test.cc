// Reference models through the whole forward pass on an emulated GPU: host code and kernels are
// those of a card.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

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
  MiniGroupOptions options;
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

// A card beside a CPU: one of them selects experts for both.
TEST(GpuOracle, ACardAndACpuServeOneModel) {
  for (const std::string name : {"qwen3", "qwen3moe"}) {
    SHOAL_SKIP_WITHOUT_SHARED("oracle/" + name + "-f32.json");
    const auto reference = read_oracle(name);
    for (const int card : {0, 1}) {
      MiniGroupOptions options;
      options.shares = {2, 1};
      options.routing_rank = 1;
      options.max_tokens = options.max_rows = kLongest;
      options.make_device = [&](int rank) -> std::unique_ptr<Device> {
        if (rank == card) return make_emulated_device(test_seed(13), false);
        return make_cpu_device({.threads = 1}).value();
      };
      MiniGroup group(gunzip_shared("oracle/" + name + "-f32.gguf.gz"), options);
      for (const auto& c : reference["cases"]) {
        if (c["tokens"].size() + kGreedy > kLongest) continue;
        EXPECT_LE(compare_with_oracle(group, c, kGreedy), kOracleTolerance) << name << card;
      }
    }
  }
}

std::vector<double> log_softmax(const std::vector<float>& logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - most);
  std::vector<double> out;
  for (const float v : logits) out.push_back(v - most - std::log(sum));
  return out;
}

struct Difference {
  double worst = 0, mean = 0;
};
Difference difference(const std::vector<float>& a, const std::vector<float>& b) {
  const auto x = log_softmax(a), y = log_softmax(b);
  Difference d;
  for (size_t i = 0; i < x.size(); ++i) {
    d.worst = std::max(d.worst, std::abs(x[i] - y[i]));
    d.mean += std::abs(x[i] - y[i]) / static_cast<double>(x.size());
  }
  return d;
}

// 8-bit activations and weights: what a token becomes does not depend on how many are computed at
// once, bit for bit, and is as near to the CPU as 8 bits are.
class GpuQuantisedTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GpuQuantisedTest, NearTheCpuAndTheSameInAnyChunks) {
  std::string path = model_path(GetParam());
  if (!std::filesystem::exists(path)) {
    SHOAL_SKIP_WITHOUT_SHARED(std::string("models/") + GetParam());
    path = *shared_path(std::string("models/") + GetParam());
  }
  MiniGroupOptions options;
  options.max_tokens = kLongest;
  options.max_rows = kLongest;
  options.sequences = 3;
  MiniGroup cpu(path, options);
  const uint64_t seed = test_seed(12);
  options.make_device = [&](int) { return make_emulated_device(seed, false); };
  MiniGroup gpu(path, options);
  // Text of the model's own, so that its logits mean something.
  std::vector<int32_t> tokens{1, 20};
  std::vector<float> next = cpu.prefill(0, tokens, 2);
  while (tokens.size() < 41) {
    const auto best = std::max_element(next.begin(), next.end()) - next.begin();
    const Piece piece{0, static_cast<int64_t>(tokens.size()), {static_cast<int32_t>(best)}};
    tokens.push_back(static_cast<int32_t>(best));
    next = cpu.step({piece})[0];
  }
  const std::vector<float> whole = gpu.prefill(0, tokens, 41);
  EXPECT_TRUE(bit_equal(whole, gpu.prefill(1, tokens, 1)));
  EXPECT_TRUE(bit_equal(whole, gpu.prefill(2, tokens, 9)));
  const Difference d = difference(next, whole);
  std::cout << GetParam() << ": worst " << d.worst << ", mean " << d.mean << "\n";
  EXPECT_LE(d.mean, 5e-2) << "seed " << seed;
}

INSTANTIATE_TEST_SUITE_P(Models, GpuQuantisedTest,
                         ::testing::Values("shoal-tiny-dense-q8_0.gguf", "shoal-tiny-moe-q8_0.gguf",
                                           "shoal-tiny-dense-q4_k.gguf",
                                           "shoal-tiny-moe-q4_k.gguf"));

}  // namespace
}  // namespace shoal::testing

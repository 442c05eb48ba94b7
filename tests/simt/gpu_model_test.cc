// Whole quantised models with int8 activations on an emulated GPU: weights in tiles, one row and
// many at a time.
#include <gtest/gtest.h>

#include <cmath>

#include "bench/synth.h"
#include "tests/simt/gpu_support.h"
#include "tests/support/support.h"
#include "tests/worker/invariance.h"
#include "tests/worker/mini_group.h"

namespace shoal::testing {
namespace {

constexpr int64_t kTokens = 70;  // more than a block of the products for many rows takes

struct Model {
  std::string name, architecture, mix;
  SynthMoe moe{};
};

class GpuModelTest : public ::testing::TestWithParam<Model> {};

SynthShape shape_of(const Model& model) {
  SynthShape shape;
  shape.architecture = model.architecture;
  shape.layers = 2;
  shape.width = 256;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  shape.ffn = 768;
  shape.vocab = 300;
  shape.context = 256;
  shape.window = model.architecture == "gpt-oss" ? 32 : 0;
  shape.moe = model.moe;
  return shape;
}

TEST_P(GpuModelTest, NearTheCpuAndTheSameInAnyChunks) {
  const TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  const SynthShape shape = shape_of(GetParam());
  const Status written = write_synth_model(shape, {.mix = GetParam().mix, .seed = 5}, path);
  ASSERT_TRUE(written.is_ok()) << written.to_string();
  Rng rng(test_seed(31));
  const auto tokens = random_tokens(rng, kTokens, shape.vocab);
  MiniGroupOptions options;
  options.max_tokens = kTokens + 1;
  options.device.int8_activations = false;
  const auto want = MiniGroup(path, options).prefill(0, tokens, kTokens);
  options.make_device = [&](int) { return make_emulated_device(7, false); };
  MiniGroup group(path, options);
  const auto all = group.prefill(0, tokens, kTokens);
  float largest = 0;
  for (const float logit : want) largest = std::max(largest, std::fabs(logit));
  const float difference = max_difference(want, all);
  std::cout << "logits up to " << largest << ", worst difference " << difference << "\n";
  EXPECT_LE(difference, 0.05f * largest);
  for (const int64_t chunk : {1, 9, 64}) {
    EXPECT_TRUE(bit_equal(all, group.prefill(0, tokens, chunk))) << "chunks of " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, GpuModelTest,
    ::testing::Values(
        Model{"Q4_K_M", "llama", "Q4_K_M"},
        Model{"Experts", "qwen3moe", "Q4_K_M", {.experts = 4, .top_k = 2, .features = 256}},
        Model{"Mxfp4", "gpt-oss", "MXFP4_MOE", {.experts = 4, .top_k = 2, .features = 96}}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace shoal::testing

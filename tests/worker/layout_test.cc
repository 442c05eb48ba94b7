// The same logits at every layout and in any company: tp N against tp 1 per block type, and bit
// equality across batches and prefill chunks.
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "bench/synth.h"
#include "tests/support/support.h"
#include "tests/worker/invariance.h"
#include "tests/worker/mini_group.h"

namespace shoal {
namespace {

using testing::bit_equal;
using testing::expect_batch_invariant;
using testing::MiniGroupOptions;
using testing::max_difference;
using testing::MiniGroup;
using testing::random_tokens;

// Head size 128, 5 query heads per KV head, an FFN that does not divide into super-blocks.
SynthShape awkward_shape(int64_t ffn) {
  SynthShape shape;
  shape.layers = 2;
  shape.width = 256;
  shape.heads = 10;
  shape.kv_heads = 2;
  shape.head_dim = 128;
  shape.ffn = ffn;
  shape.vocab = 500;
  shape.context = 256;
  return shape;
}

class QuantisedSplit : public ::testing::TestWithParam<TensorType> {};

// A split only regroups sums; quantised activations keep 15 bits, so that a sum's last bit moves
// them little.
TEST_P(QuantisedSplit, LogitsAgreeWithOneRank) {
  const TensorType type = GetParam();
  const testing::TempDir dir;
  Rng rng(testing::test_seed(17));
  for (const int64_t ffn : {1408, 768}) {
    const SynthShape shape = awkward_shape(ffn);
    const std::string path = dir.path() + "/m.gguf";
    ASSERT_TRUE(
        write_synth_model(shape, {.mix = std::string(tensor_type_name(type)), .seed = 5}, path)
            .is_ok());
    const auto tokens = random_tokens(rng, 21, shape.vocab);
    for (const bool int8 : {false, true}) {
      MiniGroupOptions options;
      options.device.int8_activations = int8;
      const auto expected = MiniGroup(path, options).prefill(0, tokens, 64);
      float scale = 0;
      for (const float logit : expected) scale = std::max(scale, std::abs(logit));
      ASSERT_GT(scale, 0.1f) << "the model says nothing";
      for (const auto& shares :
           std::vector<std::vector<double>>{{1, 1}, {1, 1, 1}, {2, 1, 1}, {1, 1, 1, 1}}) {
        options.shares = shares;
        const auto logits = MiniGroup(path, options).prefill(0, tokens, 64);
        EXPECT_LE(max_difference(expected, logits), 1e-3f)
            << tensor_type_name(type) << " ffn " << ffn << " on " << shares.size() << " ranks, "
            << (int8 ? "int8" : "float") << " activations";
      }
    }
  }
}

std::vector<TensorType> storable_types() {
  std::vector<TensorType> types;
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    const auto type = static_cast<TensorType>(id);
    const bool integer = type == TensorType::kI8 || type == TensorType::kI16 ||
                         type == TensorType::kI32 || type == TensorType::kI64 ||
                         type == TensorType::kF64;
    if (traits(type).block_elems != 0 && traits(type).storable && !integer) types.push_back(type);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, QuantisedSplit, ::testing::ValuesIn(storable_types()),
                         [](const auto& p) { return std::string(tensor_type_name(p.param)); });

class BatchInvariance : public ::testing::TestWithParam<const char*> {};

TEST_P(BatchInvariance, SameBitsInAnyCompany) {
  const testing::TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  ASSERT_TRUE(write_synth_model(awkward_shape(1408), {.mix = GetParam(), .seed = 9}, path).is_ok());
  for (const auto& shares : std::vector<std::vector<double>>{{1}, {1, 1, 1}}) {
    for (const KvType kv : {KvType::kF32, KvType::kF16}) {
      MiniGroupOptions options;
      options.shares = shares;
      options.kv = kv;
      expect_batch_invariant(path, options);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, BatchInvariance,
                         ::testing::Values("F32", "F16", "BF16", "Q8_0", "Q4_K", "Q6_K", "Q5_K",
                                           "Q4_0", "IQ3_S", "MXFP4"),
                         [](const auto& p) { return std::string(p.param); });

TEST(BatchInvarianceThreads, ThreadCountChangesNothing) {
  const testing::TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  ASSERT_TRUE(write_synth_model(awkward_shape(768), {.mix = "Q4_K_M", .seed = 9}, path).is_ok());
  Rng rng(testing::test_seed(29));
  const auto tokens = random_tokens(rng, 40, 500);
  MiniGroupOptions options;
  const auto one = MiniGroup(path, options).prefill(0, tokens, 64);
  for (const int threads : {2, 3}) {
    options.device.threads = threads;
    EXPECT_TRUE(bit_equal(one, MiniGroup(path, options).prefill(0, tokens, 64)))
        << threads << " threads";
  }
}

}  // namespace
}  // namespace shoal

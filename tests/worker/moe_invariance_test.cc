// Mixtures of experts and latent attention: the same bits in any company, in any chunks, on any
// number of threads; and experts nobody chose have no influence at all.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/support/support.h"
#include "tests/worker/invariance.h"
#include "tests/worker/moe_models.h"

namespace shoal::testing {
namespace {

struct Case {
  const char* architecture;
  const char* mix;
};

std::string case_name(const ::testing::TestParamInfo<Case>& p) {
  std::string name = p.param.architecture + std::string("_") + p.param.mix;
  std::erase(name, '-');
  return name;
}

struct InvarianceLayout {
  MoeLayout layout;
  std::vector<int> threads{1};
};
const InvarianceLayout kLayouts[] = {
    {{"tp1", {1}}, {1, 2, 3}},
    {{"placed1", {1}, Placing::kPlaced}},
    {{"sliced3", {1, 1, 1}, Placing::kSliced, {}, 1}, {1, 2}},
    {{"placed3", {2, 1, 1}, Placing::kPlaced}},
    {{"replicated3", {1, 1, 1}, Placing::kReplicated}},
    {{"experts_elsewhere", {1, 0, 0}, Placing::kSliced, {0, 1, 2}}}};

class MoeInvariance : public ::testing::TestWithParam<Case> {};

TEST_P(MoeInvariance, SameBitsInAnyCompany) {
  const TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  const SynthShape shape = small_mixture(GetParam().architecture);
  const Status written = write_synth_model(shape, {.mix = GetParam().mix, .seed = 12}, path);
  ASSERT_TRUE(written.is_ok()) << written.message();
  const ModelSpec spec = spec_of(path);
  std::vector<float> one_rank;
  for (const auto& [layout, thread_counts] : kLayouts) {
    std::vector<float> one_thread;
    for (const int threads : thread_counts) {
      SCOPED_TRACE(std::string(layout.name) + ", " + std::to_string(threads) + " threads");
      MiniGroupOptions options = at_layout(spec, layout, {});
      options.device.threads = threads;
      const auto logits = expect_batch_invariant(path, options);
      if (threads == 1) one_thread = logits;
      EXPECT_TRUE(bit_equal(one_thread, logits)) << "not what one thread computes";
    }
    // Whole experts on one rank are what a single rank computes anyway.
    if (one_rank.empty()) one_rank = one_thread;
    if (layout.shares.size() == 1) {
      EXPECT_TRUE(bit_equal(one_rank, one_thread)) << layout.name;
    }
  }
  MiniGroupOptions half;
  half.kv = KvType::kF16;
  expect_batch_invariant(path, half);
}

INSTANTIATE_TEST_SUITE_P(Models, MoeInvariance,
                         ::testing::Values(Case{"qwen3moe", "Q4_K_M"}, Case{"llama", "F16"},
                                           Case{"glm4moe", "Q4_K_M"}, Case{"glm4moe", "F32"},
                                           Case{"gpt-oss", "MXFP4_MOE"}, Case{"llama4", "Q3_K_M"},
                                           Case{"deepseek2", "Q4_K_M"}, Case{"deepseek2", "IQ3_S"}),
                         case_name);

// Only finite numbers can be loaded. 0x7b7b is 61280 as a half and 1.3e36 as a float: weights of
// such bytes are huge in most types, and other weights than before in all.
std::string poison_bytes(const TensorInfo& tensor, uint64_t bytes) {
  if (!tensor.name.ends_with(".bias")) return std::string(bytes, '\x7b');
  const std::vector<float> huge(bytes / sizeof(float), 1e30f);
  return std::string(reinterpret_cast<const char*>(huge.data()), bytes);
}

// Overwrites the experts that nobody chose (`chosen`: [mixture layers][experts], 0: nobody); with
// `invert` those that somebody chose.
void poison(const std::string& path, const std::vector<uint64_t>& chosen, bool invert) {
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.is_ok()) << file.status().message();
  const ModelSpec spec = spec_of(path);
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  size_t mixture = 0;
  for (size_t layer = 0; layer < spec.layer.size(); ++layer) {
    const auto experts = static_cast<size_t>(spec.layer[layer].ffn.moe.experts);
    if (experts == 0) continue;
    for (const char* part : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}) {
      for (const char* suffix : {".weight", ".bias"}) {
        const auto* tensor =
            file->find_tensor("blk." + std::to_string(layer) + "." + part + suffix);
        if (tensor == nullptr) continue;
        const uint64_t each = tensor->bytes / experts;
        const std::string poisoned = poison_bytes(*tensor, each);
        for (size_t e = 0; e < experts; ++e) {
          if ((chosen[mixture * experts + e] == 0) == invert) continue;
          out.seekp(static_cast<std::streamoff>(tensor->file_offset + e * each));
          out.write(poisoned.data(), static_cast<std::streamsize>(each));
        }
      }
    }
    ++mixture;
  }
  ASSERT_TRUE(out.flush().good());
}

class InactiveExperts : public ::testing::TestWithParam<Case> {};

TEST_P(InactiveExperts, HaveNoInfluence) {
  const TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  SynthShape shape = small_mixture(GetParam().architecture);
  shape.moe.experts = 24;
  ASSERT_TRUE(write_synth_model(shape, {.mix = GetParam().mix, .seed = 13}, path).is_ok());
  const ModelSpec spec = spec_of(path);
  Rng rng(test_seed(43));
  const auto tokens = random_tokens(rng, 4, shape.vocab);
  const MoeLayout layouts[] = {{"tp1", {1}},
                               {"sliced2", {1, 1}},
                               {"placed3", {1, 1, 1}, Placing::kPlaced},
                               {"placed_expert_rank", {1, 0}, Placing::kPlaced}};
  // Steps of one row each: batch 1.
  const auto decode = [&](const MoeLayout& layout, std::vector<uint64_t>* chosen) {
    MiniGroup group(path, at_layout(spec, layout, {}));
    const auto logits = group.prefill(0, tokens, 1);
    if (chosen != nullptr) *chosen = group.transformer(0).expert_tokens();
    return logits;
  };
  std::vector<std::vector<float>> before;
  std::vector<std::vector<uint64_t>> chosen(std::size(layouts));
  for (size_t i = 0; i < std::size(layouts); ++i) before.push_back(decode(layouts[i], &chosen[i]));
  for (const auto& other : chosen) ASSERT_EQ(other, chosen[0]) << "a near tie: take another seed";
  ASSERT_GT(std::count(chosen[0].begin(), chosen[0].end(), 0u), 8) << "nearly all were chosen";
  poison(path, chosen[0], false);
  for (size_t i = 0; i < std::size(layouts); ++i) {
    EXPECT_TRUE(bit_equal(before[i], decode(layouts[i], nullptr))) << layouts[i].name;
  }
  // The poison is one: in the experts that were chosen it shows.
  poison(path, chosen[0], true);
  EXPECT_FALSE(bit_equal(before[0], decode(layouts[0], nullptr)));
}

INSTANTIATE_TEST_SUITE_P(Models, InactiveExperts,
                         ::testing::Values(Case{"qwen3moe", "F32"}, Case{"qwen3moe", "Q4_K_M"},
                                           Case{"glm4moe", "Q8_0"}, Case{"llama4", "Q4_K_M"},
                                           Case{"gpt-oss", "MXFP4_MOE"}, Case{"deepseek2", "BF16"}),
                         case_name);

}  // namespace
}  // namespace shoal::testing

// Mixtures of experts: tp N against tp 1 per block type of the experts and per architecture,
// sliced, placed, replicated, with ranks that only hold experts.
//
// A split regroups sums. Where two experts' scores are closer than that, the other one may win, and
// from there on the logits are another text's: no tolerance covers it. The rule here: a comparison
// counts only if every layer chose every expert equally often at both layouts; if not, it is made
// again with other tokens, once. What a wrong split does to the choices, it does to any tokens.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/support.h"
#include "tests/worker/invariance.h"
#include "tests/worker/moe_models.h"

namespace shoal::testing {
namespace {

constexpr float kTolerance = 1e-3f;  // of any logit
constexpr int64_t kTokens = 9;

struct Run {
  std::vector<float> logits;
  std::vector<uint64_t> choices;  // [mixture layers][experts]
};

Run run(const std::string& path, const MiniGroupOptions& options, const std::vector<int32_t>& tokens) {
  MiniGroup group(path, options);
  Run result{group.prefill(0, tokens, 64), group.transformer(0).expert_tokens()};
  for (size_t rank = 1; rank < options.shares.size(); ++rank) {
    EXPECT_EQ(group.transformer(static_cast<int>(rank)).expert_tokens(), result.choices)
        << "rank " << rank << " chose other experts than rank 0";
  }
  return result;
}

enum class Verdict { kComparable, kOtherExperts };

Verdict compare(const std::string& path, const std::vector<MoeLayout>& layouts, bool int8,
                const std::vector<int32_t>& tokens) {
  const ModelSpec spec = spec_of(path);
  MiniGroupOptions base;
  base.device.int8_activations = int8;
  const Run expected = run(path, base, tokens);
  float scale = 0, worst = 0;
  for (const float logit : expected.logits) scale = std::max(scale, std::abs(logit));
  EXPECT_GT(scale, 0.1f) << "the model says nothing";
  for (const MoeLayout& layout : layouts) {
    const Run found = run(path, at_layout(spec, layout, base), tokens);
    if (found.choices != expected.choices) return Verdict::kOtherExperts;
    const float difference = max_difference(expected.logits, found.logits);
    EXPECT_LE(difference, kTolerance)
        << layout.name << ", " << (int8 ? "int8" : "float") << " activations";
    worst = std::max(worst, difference);
  }
  std::cout << (int8 ? "int8" : "float") << " activations: logits up to " << scale
            << ", worst difference " << worst << "\n";
  return Verdict::kComparable;
}

void expect_agreement(const std::string& path, const std::vector<MoeLayout>& layouts, Rng& rng) {
  const int64_t vocab = spec_of(path).vocab;
  for (const bool int8 : {false, true}) {
    if (compare(path, layouts, int8, random_tokens(rng, kTokens, vocab)) == Verdict::kComparable) {
      continue;
    }
    std::cout << "a near tie between experts: other tokens\n";
    EXPECT_EQ(compare(path, layouts, int8, random_tokens(rng, kTokens, vocab)),
              Verdict::kComparable)
        << "the layout changes the choice of experts, " << (int8 ? "int8" : "float")
        << " activations";
  }
}

class ExpertTypes : public ::testing::TestWithParam<TensorType> {};

// 768: super-blocks are cut. 1408: 5½ super-blocks, down projections fall back to blocks of 32.
// 288: an odd multiple of 32, as 2880 is.
TEST_P(ExpertTypes, LogitsAgreeWithOneRank) {
  const TempDir dir;
  Rng rng(test_seed(31));
  const std::string path = dir.path() + "/m.gguf", mix(tensor_type_name(GetParam()));
  ASSERT_TRUE(write_synth_model(expert_shape(4, 2, 768), {.mix = mix, .seed = 3}, path).is_ok());
  expect_agreement(path, moe_layouts(), rng);
  const std::vector<MoeLayout> two = {moe_layouts()[1], moe_layouts()[3]};  // three ranks, uneven
  for (const int64_t features : {1408, 288}) {
    SCOPED_TRACE(features);
    SynthShape shape = expert_shape(3, 2, features);
    shape.layers = 1;
    ASSERT_TRUE(write_synth_model(shape, {.mix = mix, .seed = 4}, path).is_ok());
    expect_agreement(path, two, rng);
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

INSTANTIATE_TEST_SUITE_P(Types, ExpertTypes, ::testing::ValuesIn(storable_types()),
                         [](const auto& p) { return std::string(tensor_type_name(p.param)); });

struct ArchitectureCase {
  const char* architecture;
  const char* mix;
};

class Architectures : public ::testing::TestWithParam<ArchitectureCase> {};

TEST_P(Architectures, LogitsAgreeWithOneRank) {
  const TempDir dir;
  Rng rng(test_seed(37));
  const std::string path = dir.path() + "/m.gguf";
  const SynthShape shape = small_mixture(GetParam().architecture);
  const Status written = write_synth_model(shape, {.mix = GetParam().mix, .seed = 6}, path);
  ASSERT_TRUE(written.is_ok()) << written.message();
  expect_agreement(path, moe_layouts(), rng);
}

const ArchitectureCase kArchitectures[] = {{"llama", "Q4_K_M"},       {"qwen3moe", "Q5_K_M"},
                                           {"glm4moe", "Q4_K_M"},     {"gpt-oss", "MXFP4_MOE"},
                                           {"llama4", "Q3_K_M"},      {"deepseek2", "Q4_K_M"},
                                           {"deepseek2", "MXFP4_MOE"}};

INSTANTIATE_TEST_SUITE_P(Models, Architectures, ::testing::ValuesIn(kArchitectures),
                         [](const auto& p) {
                           std::string name = p.param.architecture + std::string(p.param.mix);
                           std::erase(name, '-');
                           return name;
                         });

// One rank routes and tells the others, or all do: the same arithmetic, the same bits.
TEST(RoutingRank, BroadcastChangesNothing) {
  const TempDir dir;
  Rng rng(test_seed(41));
  const std::string path = dir.path() + "/m.gguf";
  for (const char* architecture : {"glm4moe", "llama4", "deepseek2"}) {
    SCOPED_TRACE(architecture);
    const SynthShape shape = small_mixture(architecture);
    ASSERT_TRUE(write_synth_model(shape, {.mix = "Q4_K_M", .seed = 8}, path).is_ok());
    const ModelSpec spec = spec_of(path);
    const auto tokens = random_tokens(rng, 20, shape.vocab);
    for (const MoeLayout& layout : moe_layouts()) {
      MiniGroupOptions options = at_layout(spec, layout, {});
      options.routing_rank = -1;
      const auto everywhere = MiniGroup(path, options).prefill(0, tokens, 7);
      for (int rank = 0; rank < static_cast<int>(layout.shares.size()); ++rank) {
        options.routing_rank = rank;
        EXPECT_TRUE(bit_equal(everywhere, MiniGroup(path, options).prefill(0, tokens, 7)))
            << layout.name << ", rank " << rank << " routes";
      }
    }
  }
}

}  // namespace
}  // namespace shoal::testing

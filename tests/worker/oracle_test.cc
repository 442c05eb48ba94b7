// Reference models of every architecture, at every layout, down to the logits: ranks as threads, so
// that dozens of layouts take seconds. Servers with processes run them in tests/system.
#include <gtest/gtest.h>

#include "base/rng.h"
#include "tests/support/support.h"
#include "tests/worker/mini_group.h"
#include "tests/worker/oracle.h"

namespace shoal::testing {
namespace {

enum class Experts { kSliced, kPlaced, kReplicated };

struct Layout {
  const char* name;
  std::vector<double> shares;
  Experts experts = Experts::kSliced;
  std::vector<double> expert_shares{};  // sliced only
  int routing_rank = -1;
  bool only_mixtures = false;
};

const Layout kLayouts[] = {
    {"tp1", {1}},
    {"tp2", {1, 1}},
    {"tp3", {1, 1, 1}},
    {"tp4", {1, 1, 1, 1}},
    {"uneven", {3, 1, 2}},
    {"placed1", {1}, Experts::kPlaced, {}, -1, true},
    {"placed2", {1, 1}, Experts::kPlaced, {}, -1, true},
    {"placed3", {1, 1, 1}, Experts::kPlaced, {}, -1, true},
    {"placed4", {1, 1, 1, 1}, Experts::kPlaced, {}, 1, true},
    {"replicated3", {1, 1, 1}, Experts::kReplicated, {}, -1, true},
    {"sliced_expert_rank", {1, 1, 0}, Experts::kSliced, {1, 1, 2}, 0, true},
    {"placed_expert_ranks", {1, 0, 0}, Experts::kPlaced, {}, -1, true},
    {"experts_elsewhere", {1, 0}, Experts::kSliced, {0, 1}, -1, true},
};

const char* const kModels[] = {"llama",   "qwen2",    "qwen3",   "mistral3",  "gemma3",
                               "falcon",  "commandr", "mixtral", "qwen2moe",  "qwen3moe",
                               "glm4moe", "gptoss",   "llama4",  "deepseek2", "deepseek2yarn"};

// Every expert on one rank or, replicated, on one or two, at random.
std::vector<uint64_t> place(const ModelSpec& spec, const Layout& layout) {
  if (layout.experts == Experts::kSliced) return {};
  Rng rng(5);
  const auto world = static_cast<uint64_t>(layout.shares.size());
  std::vector<uint64_t> ranks;
  for (const LayerSpec& layer : spec.layer) {
    for (int64_t e = 0; e < layer.ffn.moe.experts; ++e) {
      uint64_t mask = uint64_t{1} << rng.below(world);
      if (layout.experts == Experts::kReplicated) mask |= uint64_t{1} << rng.below(world);
      ranks.push_back(mask);
    }
  }
  return ranks;
}

class OracleTest : public ::testing::TestWithParam<const char*> {};

TEST_P(OracleTest, EveryLayout) {
  const std::string name = GetParam();
  SHOAL_SKIP_WITHOUT_SHARED("oracle/" + name + "-f32.json");
  const std::string path = gunzip_shared("oracle/" + name + "-f32.gguf.gz");
  const auto reference = read_oracle(name);
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.is_ok()) << file.status().message();
  const auto spec = read_model_spec(*file);
  ASSERT_TRUE(spec.is_ok()) << spec.status().message();
  bool has_experts = false;
  for (const LayerSpec& layer : spec->layer) has_experts |= layer.ffn.moe.experts > 0;
  for (const Layout& layout : kLayouts) {
    if (layout.only_mixtures && !has_experts) continue;
    MiniGroupOptions options;
    options.shares = layout.shares;
    options.experts = {layout.expert_shares, place(*spec, layout)};
    options.routing_rank = layout.routing_rank;
    options.max_tokens = oracle_tokens(reference) + 1;
    MiniGroup group(path, options);
    double worst = 0;
    for (const auto& c : reference["cases"]) {
      // The longest case takes as long as all others together: at two layouts.
      const bool is_long = c["tokens"].size() > 1000;
      if (is_long && std::string(layout.name) != "tp1" && std::string(layout.name) != "placed3")
        continue;
      worst = std::max(worst, compare_with_oracle(group, c));
    }
    EXPECT_LE(worst, kOracleTolerance) << name << " " << layout.name;
    std::cout << name << " " << layout.name << ": worst " << worst << "\n";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OracleTest, ::testing::ValuesIn(kModels),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace shoal::testing

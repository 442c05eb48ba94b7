#include "parallel/plan/group_plan.h"

#include <gtest/gtest.h>

#include <bit>
#include <numeric>
#include <string>
#include <vector>

#include "parallel/plan/expert_placement.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

constexpr int64_t kLayers = 6, kExperts = 16, kFeatures = 256, kWidth = 128;
constexpr uint64_t kExpert = 3 * kFeatures * kWidth * 4;

// Mixtures of 16 experts of 256 features in every layer; f32.
ModelSpec mixture(int64_t features = kFeatures) {
  ModelSpec spec;
  spec.layers = kLayers;
  spec.width = kWidth;
  spec.vocab = 64;
  spec.layer.resize(kLayers);
  const auto add = [&](Role role, int layer, int64_t rows, int64_t cols, Split split,
                       int64_t experts) {
    TensorDecl decl;
    decl.role = role;
    decl.layer = layer;
    decl.rows = rows;
    decl.cols = cols;
    decl.split = split;
    decl.experts = experts;
    decl.expert_rows = experts > 0 ? rows : 0;
    spec.tensors.push_back(decl);
  };
  add(Role::kTokenEmbedding, -1, 64, kWidth, Split::kVocabRows, 0);
  for (int i = 0; i < kLayers; ++i) {
    LayerSpec& layer = spec.layer[static_cast<size_t>(i)];
    layer.attention.heads = 4;
    layer.attention.kv_heads = 2;
    layer.attention.head_dim = 32;
    layer.ffn.moe = {.experts = kExperts, .top_k = 2, .features = features};
    add(Role::kAttnQ, i, 128, kWidth, Split::kHeadRows, 0);
    add(Role::kAttnOut, i, kWidth, 128, Split::kHeadCols, 0);
    add(Role::kExpertGate, i, features, kWidth, Split::kExpertRows, kExperts);
    add(Role::kExpertUp, i, features, kWidth, Split::kExpertRows, kExperts);
    add(Role::kExpertDown, i, kWidth, features, Split::kExpertCols, kExperts);
  }
  return spec;
}

const TensorTypeOf kF32 = [](const std::string&) -> Result<TensorType> { return TensorType::kF32; };

GroupRequest request_of(std::vector<double> shares, std::vector<uint64_t> memory,
                        ExpertLayout layout) {
  GroupRequest request;
  request.plan = {static_cast<int>(shares.size()), std::move(shares)};
  request.layout = layout;
  request.options = {.kv_element_bytes = 2, .block_tokens = 16, .max_rows = 8, .logit_rows = 4};
  request.memory = std::move(memory);
  request.required = 10;
  request.wanted = 100;
  return request;
}

GroupPlan planned(const ModelSpec& spec, const GroupRequest& request,
                  const ExpertPlan& previous = {}) {
  auto plan = plan_group(spec, kF32, request, previous);
  EXPECT_TRUE(plan.is_ok()) << plan.status().to_string();
  return plan ? std::move(plan).value() : GroupPlan{};
}

uint64_t held(const GroupPlan& plan, size_t rank) {
  return plan.memory.ranks[rank].expert_bytes / kExpert;
}

constexpr uint64_t kPlenty = uint64_t{1} << 40;

TEST(GroupPlan, ChoosesALayout) {
  const ModelSpec spec = mixture();
  EXPECT_EQ(choose_expert_layout(spec, even_plan(1), false), ExpertLayout::kSliced);
  EXPECT_EQ(choose_expert_layout(spec, even_plan(4), false), ExpertLayout::kSliced) << "64 each";
  EXPECT_EQ(choose_expert_layout(spec, even_plan(5), false), ExpertLayout::kPlaced);
  EXPECT_EQ(choose_expert_layout(spec, {2, {6, 1}}, false), ExpertLayout::kPlaced) << "32 of 256";
  EXPECT_EQ(choose_expert_layout(spec, even_plan(2), true), ExpertLayout::kPlaced) << "pinned";
  EXPECT_EQ(choose_expert_layout(spec, {3, {1, 1, 0}}, false), ExpertLayout::kPlaced);
  EXPECT_EQ(choose_expert_layout(mixture(48), even_plan(1), false), ExpertLayout::kSliced);
}

TEST(GroupPlan, SlicedFollowsDenseShares) {
  const GroupPlan plan =
      planned(mixture(), request_of({1, 1}, {kPlenty, kPlenty}, ExpertLayout::kSliced));
  EXPECT_TRUE(plan.plan.experts.shares.empty());
  EXPECT_TRUE(plan.plan.experts.ranks.empty());
  EXPECT_EQ(plan.blocks, 100);
}

TEST(GroupPlan, SlicedOnARankOfExpertsOnly) {
  GroupRequest request = request_of({1, 1, 0}, {kPlenty, kPlenty, kPlenty}, ExpertLayout::kSliced);
  request.expert_shares = {1, 1, 2};
  const GroupPlan plan = planned(mixture(), request);
  const RankShard shard = make_rank_shard(mixture(), plan.plan, 2).value();
  EXPECT_EQ(shard.layers[0].expert_features, (Range{128, 256}));
  EXPECT_TRUE(shard.layers[0].heads.empty());
  // Not beyond its memory: an eighth of the experts.
  request.memory[2] =
      plan.memory.ranks[2].scratch_bytes + (1 << 16) + kLayers * kExperts * kExpert / 8;
  const GroupPlan tight = planned(mixture(), request);
  EXPECT_LE(tight.memory.ranks[2].bytes_with({0}), request.memory[2]);
  EXPECT_EQ(make_rank_shard(mixture(), tight.plan, 2).value().layers[0].expert_features.size(), 32);
}

TEST(GroupPlan, PlacedWhereThereIsRoom) {
  // Alone, the two full ranks would hold 48 experts each. Rank 1 has room for 20.
  GroupRequest request = request_of({1, 1, 0}, {kPlenty, kPlenty, kPlenty}, ExpertLayout::kPlaced);
  request.expert_shares = {1, 1, 1};
  const GroupPlan roomy = planned(mixture(), request);
  for (size_t rank = 0; rank < 3; ++rank) EXPECT_EQ(held(roomy, rank), 32u);
  EXPECT_EQ(roomy.blocks, 100);
  const RankMemory& full = roomy.memory.ranks[1];
  request.memory[1] = full.bytes_with({100}) - full.expert_bytes + 20 * kExpert + 100;
  const GroupPlan tight = planned(mixture(), request);
  EXPECT_EQ(held(tight, 1), 18u) << "3 of 16 in every layer rather than 4 in some";
  EXPECT_EQ(held(tight, 0), 39u);
  EXPECT_EQ(held(tight, 2), 39u);
  EXPECT_EQ(tight.blocks, 100) << "experts move, the cache stays";
  EXPECT_EQ(tight.memory.ranks[2].kv_block_bytes, (std::vector<uint64_t>{0}));
}

TEST(GroupPlan, FewerBlocksWhereExpertsNeedTheRoom) {
  GroupRequest request = request_of({1, 1}, {kPlenty, kPlenty}, ExpertLayout::kPlaced);
  const GroupPlan roomy = planned(mixture(), request);
  for (size_t rank = 0; rank < 2; ++rank) {
    request.memory[rank] = roomy.memory.ranks[rank].bytes_with({30});
  }
  const GroupPlan tight = planned(mixture(), request);
  EXPECT_EQ(tight.blocks, 30);
  EXPECT_EQ(tight.plan.experts.ranks, roomy.plan.experts.ranks);
  // One byte less than all experts and the required blocks.
  for (size_t rank = 0; rank < 2; ++rank) {
    request.memory[rank] = roomy.memory.ranks[rank].bytes_with({10}) - kExpert;
  }
  const auto refused = plan_group(mixture(), kF32, request);
  ASSERT_FALSE(refused.is_ok());
  EXPECT_EQ(refused.status().code(), Code::kResourceExhausted);
  EXPECT_NE(refused.status().message().find("the experts do not fit: 96 of them make 36.0 MiB"),
            std::string::npos)
      << refused.status().message();
  // Not even the rest fits.
  request.memory[1] = 1000;
  EXPECT_NE(plan_group(mixture(), kF32, request).status().message().find("rank 1 does not fit: "),
            std::string::npos);
}

TEST(GroupPlan, PreviousPlanIsKeptWhileItFits) {
  GroupRequest request = request_of({1, 1, 0}, {kPlenty, kPlenty, kPlenty}, ExpertLayout::kPlaced);
  request.expert_shares = {1, 1, 1};
  const GroupPlan first = planned(mixture(), request);
  request.expert_shares = {1, 1, 1.3};  // other free memory this time
  EXPECT_EQ(planned(mixture(), request, first.plan.experts).plan.experts.ranks,
            first.plan.experts.ranks);
  EXPECT_NE(planned(mixture(), request).plan.experts.ranks, first.plan.experts.ranks);
  // Not if it does not fit any more, is of another group, or contradicts the pins.
  GroupRequest less = request;
  less.memory[2] = first.memory.ranks[2].bytes_with({0}) - 1;
  EXPECT_LT(held(planned(mixture(), less, first.plan.experts), 2), 32u);
  ExpertPlan other;
  other.ranks.assign(5, 1);
  EXPECT_EQ(planned(mixture(), request, other).plan.experts.ranks.size(), 96u);
  request.pins.assign(96, 0);
  request.pins[0] = first.plan.experts.ranks[0] == 1 ? 2 : 1;
  EXPECT_EQ(planned(mixture(), request, first.plan.experts).plan.experts.ranks[0], request.pins[0]);
  // Slices too.
  request.pins.clear();
  request.layout = ExpertLayout::kSliced;
  const GroupPlan sliced = planned(mixture(), request, first.plan.experts);
  EXPECT_TRUE(sliced.plan.experts.ranks.empty()) << "another layout was asked for";
  request.expert_shares = {1, 1, 1};
  EXPECT_EQ(planned(mixture(), request, sliced.plan.experts).plan.experts.shares,
            sliced.plan.experts.shares);
}

TEST(GroupPlan, DenseModelsHaveNoExperts) {
  ModelSpec spec = mixture();
  for (LayerSpec& layer : spec.layer) layer.ffn.moe = {};
  std::erase_if(spec.tensors, [](const TensorDecl& decl) { return decl.experts > 0; });
  const GroupPlan plan =
      planned(spec, request_of({1, 1}, {kPlenty, kPlenty}, ExpertLayout::kPlaced));
  EXPECT_TRUE(plan.plan.experts.ranks.empty());
  EXPECT_EQ(plan.blocks, 100);
}

// The reference mixtures: whatever the layout, every expert is held once and the figures add up.
TEST(GroupPlan, ReferenceModels) {
  for (const char* name :
       {"mixtral", "qwen2moe", "qwen3moe", "llama4", "glm4moe", "gptoss", "deepseek2"}) {
    const std::string packed = std::string("oracle/") + name + "-f32.gguf.gz";
    SHOAL_SKIP_WITHOUT_SHARED(packed);
    const auto file = GgufFile::open(testing::gunzip_shared(packed));
    ASSERT_TRUE(file.is_ok()) << file.status().to_string();
    const auto spec = read_model_spec(*file);
    ASSERT_TRUE(spec.is_ok()) << spec.status().to_string();
    const std::vector<uint64_t> bytes = expert_bytes(*spec, tensor_types(*file)).value();
    ASSERT_FALSE(bytes.empty()) << name;
    uint64_t all = 0;
    const std::vector<int64_t> counts = mixture_experts(*spec);
    for (size_t i = 0; i < counts.size(); ++i) all += static_cast<uint64_t>(counts[i]) * bytes[i];
    for (const auto layout : {ExpertLayout::kSliced, ExpertLayout::kPlaced}) {
      for (const size_t full : {1, 2, 3, 4}) {
        for (const size_t only_experts : {0, 1, 2}) {
          SCOPED_TRACE(::testing::Message() << name << " " << full << "+" << only_experts);
          std::vector<double> shares(full, 1.0);
          shares.resize(full + only_experts, 0.0);
          GroupRequest request =
              request_of(shares, std::vector<uint64_t>(shares.size(), kPlenty), layout);
          if (only_experts > 0) request.expert_shares.assign(shares.size(), 1.0);
          const auto plan = plan_group(*spec, tensor_types(*file), request);
          ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();
          uint64_t total = 0, experts = 0;
          for (const RankMemory& rank : plan->memory.ranks) {
            total += rank.weight_bytes;
            experts += rank.expert_bytes;
            if (static_cast<size_t>(rank.rank) < full) continue;
            EXPECT_EQ(rank.kv_bytes(plan->memory.group_blocks(50)), 0u);
            EXPECT_LT(rank.weight_bytes - rank.expert_bytes, total / 4) << "routers and norms";
          }
          EXPECT_EQ(experts, all) << "f32 cuts anywhere";
          const auto alone = make_memory_plan(*spec, tensor_types(*file), even_plan(1), {});
          EXPECT_EQ(total - plan->memory.replicated_bytes, alone->ranks[0].weight_bytes);
        }
      }
    }
  }
}

}  // namespace
}  // namespace shoal

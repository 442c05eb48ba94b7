// What ranks hold of mixtures of experts: sliced, placed, uneven, replicated, ranks of experts
// only.
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "base/rng.h"
#include "parallel/plan/shard.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using Shares = std::vector<double>;
using Sizes = std::vector<int64_t>;

// Layer 0 dense, layers 1 … mixtures of `experts` × `features` with a shared expert of 1408.
ModelSpec mixture(int64_t layers, int64_t experts, int64_t features) {
  ModelSpec spec;
  spec.layers = layers;
  spec.width = 512;
  spec.vocab = 996;
  spec.layer.resize(static_cast<size_t>(layers));
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    LayerSpec& layer = spec.layer[i];
    layer.attention.heads = 8;
    layer.attention.kv_heads = 4;
    layer.attention.head_dim = 64;
    if (i == 0) {
      layer.ffn.features = 2048;
      continue;
    }
    layer.ffn.moe.experts = experts;
    layer.ffn.moe.top_k = std::min<int64_t>(experts, 4);
    layer.ffn.moe.features = features;
    layer.ffn.moe.shared_features = 1408;
  }
  return spec;
}

std::vector<RankShard> all_shards(const ModelSpec& spec, const TensorParallelPlan& plan) {
  std::vector<RankShard> shards;
  for (int rank = 0; rank < plan.world; ++rank) {
    auto shard = make_rank_shard(spec, plan, rank);
    EXPECT_TRUE(shard.is_ok()) << shard.status().to_string();
    if (!shard) return shards;
    shards.push_back(std::move(shard).value());
  }
  return shards;
}

Sizes expert_features(const std::vector<RankShard>& shards) {
  Sizes out;
  for (const RankShard& shard : shards) out.push_back(shard.layers[1].expert_features.size());
  return out;
}

// Every feature of every expert is held by exactly one rank per replica, so that every position's
// rows are computed exactly once; nothing else is held.
void expect_complete(const ModelSpec& spec, const std::vector<RankShard>& shards) {
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const MoeLayer& moe = spec.layer[i].ffn.moe;
    for (int64_t expert = 0; expert < moe.experts; ++expert) {
      // [replica][feature] → ranks that hold it
      std::vector<std::vector<int>> holders;
      int32_t replicas = 0;
      for (const RankShard& shard : shards) {
        const LayerShard& part = shard.layers[i];
        int32_t last = -1;
        for (const HeldExpert& held : part.experts) {
          ASSERT_GT(held.id, last) << "ascending";
          last = held.id;
          if (held.id != expert) continue;
          if (replicas == 0) {
            replicas = held.replicas;
            holders.assign(static_cast<size_t>(replicas),
                           std::vector<int>(static_cast<size_t>(moe.features)));
          }
          ASSERT_EQ(held.replicas, replicas) << "ranks agree";
          ASSERT_GE(held.replica, 0);
          ASSERT_LT(held.replica, replicas);
          for (int64_t f = part.expert_features.begin; f < part.expert_features.end; ++f) {
            ++holders[static_cast<size_t>(held.replica)][static_cast<size_t>(f)];
          }
        }
        ASSERT_LT(last, moe.experts);
      }
      ASSERT_GE(replicas, 1) << "layer " << i << " expert " << expert;
      for (const auto& replica : holders) {
        for (size_t f = 0; f < replica.size(); ++f) ASSERT_EQ(replica[f], 1) << f;
      }
    }
  }
}

TEST(ShardExperts, SlicedWidths) {
  const auto cut = [](int64_t features, const Shares& shares) {
    const ModelSpec spec = mixture(2, 4, features);
    const auto shards = all_shards(spec, {static_cast<int>(shares.size()), shares});
    expect_complete(spec, shards);
    return expert_features(shards);
  };
  EXPECT_EQ(cut(1408, Shares(1, 1.0)), (Sizes{1408}));
  EXPECT_EQ(cut(1408, Shares(2, 1.0)), (Sizes{704, 704}));
  EXPECT_EQ(cut(1408, Shares(3, 1.0)), (Sizes{480, 480, 448}));
  EXPECT_EQ(cut(1408, Shares(4, 1.0)), (Sizes{352, 352, 352, 352}));
  EXPECT_EQ(cut(2880, Shares(2, 1.0)), (Sizes{1440, 1440}));  // 256-cuts would add 6.7 %
  EXPECT_EQ(cut(2880, Shares(3, 1.0)), (Sizes{960, 960, 960}));
  EXPECT_EQ(cut(2880, Shares(4, 1.0)), (Sizes{736, 736, 704, 704}));
  EXPECT_EQ(cut(2880, Shares(7, 1.0)), (Sizes{416, 416, 416, 416, 416, 416, 384}));
  EXPECT_EQ(cut(768, Shares(5, 1.0)), (Sizes{160, 160, 160, 160, 128}));
  EXPECT_EQ(cut(1408, Shares{2, 1}), (Sizes{928, 480}));
  EXPECT_EQ(cut(2880, Shares{1, 1, 2}), (Sizes{736, 704, 1440}));
  // More ranks than units: some hold nothing.
  EXPECT_EQ(cut(64, Shares(4, 1.0)), (Sizes{32, 32, 0, 0}));
  EXPECT_EQ(cut(90, Shares(5, 1.0)), (Sizes{32, 32, 26, 0, 0}));
}

TEST(ShardExperts, EmptySlicesHoldNoExperts) {
  const ModelSpec spec = mixture(2, 4, 64);
  const auto shards = all_shards(spec, even_plan(4));
  EXPECT_EQ(shards[1].layers[1].experts.size(), 4u);
  EXPECT_TRUE(shards[2].layers[1].experts.empty());
  EXPECT_TRUE(shards[0].layers[0].experts.empty()) << "a dense layer";
}

TEST(ShardExperts, ExpertSharesApartFromDenseShares) {
  const ModelSpec spec = mixture(2, 4, 1408);
  const TensorParallelPlan plan{3, {1, 1, 0}, {.shares = {1, 1, 2}, .ranks = {}}};
  const auto shards = all_shards(spec, plan);
  expect_complete(spec, shards);
  EXPECT_EQ(expert_features(shards), (Sizes{352, 352, 704}));
  const RankShard& only_experts = shards[2];
  EXPECT_TRUE(only_experts.vocab.empty());
  for (const LayerShard& layer : only_experts.layers) {
    EXPECT_TRUE(layer.heads.empty());
    EXPECT_TRUE(layer.kv_heads.empty());
    EXPECT_TRUE(layer.ffn.empty());
    EXPECT_TRUE(layer.shared.empty());
  }
  // The others hold the dense part as if they were alone.
  const auto two = all_shards(spec, even_plan(2));
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(shards[rank].vocab, two[rank].vocab);
    EXPECT_EQ(shards[rank].layers[0].heads, two[rank].layers[0].heads);
    EXPECT_EQ(shards[rank].layers[0].kv_heads, two[rank].layers[0].kv_heads);
    EXPECT_EQ(shards[rank].layers[0].ffn, two[rank].layers[0].ffn);
    EXPECT_EQ(shards[rank].layers[1].shared, two[rank].layers[1].shared);
  }
  // The rank of experts may be any of them.
  const auto first = all_shards(spec, {3, {0, 2, 1}, {.shares = {1, 0, 0}, .ranks = {}}});
  expect_complete(spec, first);
  EXPECT_EQ(expert_features(first), (Sizes{1408, 0, 0}));
  EXPECT_TRUE(first[0].vocab.empty());
  EXPECT_EQ(first[1].layers[0].heads.begin, 0);
}

TEST(ShardExperts, PlacedAndReplicated) {
  const ModelSpec spec = mixture(3, 4, 1408);
  TensorParallelPlan plan = even_plan(3);
  plan.experts.ranks = {1, 2, 4, 1,   // layer 1
                        7, 6, 4, 2};  // layer 2
  const auto shards = all_shards(spec, plan);
  expect_complete(spec, shards);
  const auto ids = [&](size_t rank, size_t layer) {
    std::vector<int32_t> out;
    for (const HeldExpert& held : shards[rank].layers[layer].experts) out.push_back(held.id);
    return out;
  };
  EXPECT_EQ(ids(0, 1), (std::vector<int32_t>{0, 3}));
  EXPECT_EQ(ids(1, 1), (std::vector<int32_t>{1}));
  EXPECT_EQ(ids(0, 2), (std::vector<int32_t>{0}));
  EXPECT_EQ(ids(2, 2), (std::vector<int32_t>{0, 1, 2}));
  const HeldExpert& replica = shards[2].layers[2].experts[1];
  EXPECT_EQ(replica.replicas, 2);
  EXPECT_EQ(replica.replica, 1);
  for (const RankShard& shard : shards) {
    EXPECT_EQ(shard.layers[1].expert_features, (Range{0, 1408})) << "whole experts";
  }
}

TEST(ShardExperts, EverythingOnARankOfExpertsOnly) {
  const ModelSpec spec = mixture(3, 4, 96);
  TensorParallelPlan plan{2, {1, 0}, {}};
  plan.experts.ranks.assign(8, 2);
  const auto shards = all_shards(spec, plan);
  expect_complete(spec, shards);
  EXPECT_EQ(shards[0].vocab, (Range{0, 996}));
  EXPECT_TRUE(shards[0].layers[1].experts.empty());
  EXPECT_EQ(shards[1].layers[2].experts.size(), 4u);
}

TEST(ShardExperts, PropertiesOfRandomPlans) {
  Rng rng(testing::test_seed(7));
  for (int round = 0; round < 300; ++round) {
    const auto experts = static_cast<int64_t>(1 + rng.below(12));
    const auto features =
        static_cast<int64_t>(rng.below(2) ? 32 * (1 + rng.below(40)) : 1 + rng.below(3000));
    const ModelSpec spec = mixture(3, experts, features);
    TensorParallelPlan plan = even_plan(1 + static_cast<int>(rng.below(8)));
    SCOPED_TRACE(::testing::Message() << "round " << round << " experts " << experts << " features "
                                      << features << " world " << plan.world);
    for (double& share : plan.shares) share = rng.below(4) == 0 ? 0 : 0.1 + rng.uniform();
    plan.shares[rng.below(plan.shares.size())] = 1;
    if (rng.below(2)) {
      plan.experts.shares = plan.shares;
      for (double& share : plan.experts.shares) share = rng.below(3) == 0 ? 0 : 1 + rng.uniform();
      plan.experts.shares[rng.below(plan.shares.size())] = 1;
    }
    if (rng.below(2)) {
      const uint64_t all = (uint64_t{1} << static_cast<unsigned>(plan.world)) - 1;
      for (int64_t i = 0; i < 2 * experts; ++i) plan.experts.ranks.push_back(1 + rng.below(all));
    }
    const auto shards = all_shards(spec, plan);
    ASSERT_EQ(shards.size(), static_cast<size_t>(plan.world));
    expect_complete(spec, shards);
    if (::testing::Test::HasFatalFailure()) return;
    Sizes sums(4);  // dense parts are held once too
    for (size_t rank = 0; rank < shards.size(); ++rank) {
      const Range parts[] = {shards[rank].vocab, shards[rank].layers[0].heads,
                             shards[rank].layers[0].ffn, shards[rank].layers[1].shared};
      for (size_t i = 0; i < 4; ++i) {
        sums[i] += parts[i].size();
        ASSERT_TRUE(plan.shares[rank] > 0 || parts[i].empty()) << "rank " << rank;
      }
    }
    ASSERT_EQ(sums, (Sizes{996, 8, 2048, 1408}));
  }
}

TensorDecl declare(Split split, int64_t rows, int64_t cols, int64_t experts) {
  TensorDecl decl;
  decl.layer = 1;
  decl.name = "t";
  decl.split = split;
  decl.rows = rows;
  decl.cols = cols;
  decl.experts = experts;
  return decl;
}

TEST(ShardExperts, SlicesOfTensors) {
  const ModelSpec spec = mixture(2, 4, 1408);
  const auto sliced = all_shards(spec, even_plan(3));
  const TensorDecl gate = declare(Split::kExpertRows, 1408, 512, 4);
  const TensorDecl down = declare(Split::kExpertCols, 512, 1408, 4);
  const TensorDecl bias = declare(Split::kExpertWhole, 512, 1, 4);
  const TensorDecl gate_bias = declare(Split::kExpertRows, 1408, 1, 4);
  TensorSlice s = slice_tensor(gate, spec, sliced[1]);
  EXPECT_EQ(s.rows, (Range{480, 960}));
  EXPECT_EQ(s.cols, (Range{0, 512}));
  EXPECT_EQ(s.experts, (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(slice_bytes(s, TensorType::kF32), 4u * 480 * 512 * 4);
  s = slice_tensor(down, spec, sliced[2]);
  EXPECT_EQ(s.rows, (Range{0, 512}));
  EXPECT_EQ(s.cols, (Range{960, 1408}));
  EXPECT_EQ(slice_bytes(s, TensorType::kQ4_K), 4u * 512 * 3 * 144) << "960 lies inside a block";
  EXPECT_EQ(slice_bytes(slice_tensor(gate_bias, spec, sliced[0]), TensorType::kF32), 4u * 480 * 4);
  // The bias of a sliced down projection is added by the rank of the first feature only.
  EXPECT_EQ(slice_tensor(bias, spec, sliced[0]).experts.size(), 4u);
  EXPECT_EQ(slice_bytes(slice_tensor(bias, spec, sliced[0]), TensorType::kF32), 4u * 512 * 4);
  EXPECT_EQ(slice_bytes(slice_tensor(bias, spec, sliced[1]), TensorType::kF32), 0u);

  TensorParallelPlan plan = even_plan(2);
  plan.experts.ranks = {1, 2, 3, 1};
  const auto placed = all_shards(spec, plan);
  s = slice_tensor(gate, spec, placed[1]);
  EXPECT_EQ(s.rows, (Range{0, 1408}));
  EXPECT_EQ(s.experts, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(slice_bytes(s, TensorType::kF32), 2u * 1408 * 512 * 4);
  // Of whole experts every holder adds the bias to the rows it computes.
  EXPECT_EQ(slice_tensor(bias, spec, placed[0]).experts, (std::vector<int32_t>{0, 2, 3}));
  EXPECT_EQ(slice_tensor(bias, spec, placed[1]).experts, (std::vector<int32_t>{1, 2}));
  // The router is everywhere, the shared expert is cut like a dense layer.
  EXPECT_EQ(slice_tensor(declare(Split::kReplicated, 4, 512, 0), spec, placed[1]).rows.size(), 4);
  EXPECT_EQ(slice_tensor(declare(Split::kSharedRows, 1408, 512, 0), spec, placed[1]).rows,
            (Range{704, 1408}));
  EXPECT_EQ(slice_tensor(declare(Split::kSharedCols, 512, 1408, 0), spec, placed[0]).cols,
            (Range{0, 704}));
}

TEST(ShardExperts, LatentTensorsAreWhereHeadsAre) {
  ModelSpec spec = mixture(2, 4, 1408);
  const TensorDecl kv_a = declare(Split::kLatent, 576, 512, 0);
  const auto shards = all_shards(spec, {3, {1, 1, 0}, {.shares = {1, 1, 1}, .ranks = {}}});
  EXPECT_EQ(slice_bytes(slice_tensor(kv_a, spec, shards[0]), TensorType::kF32), 576u * 512 * 4);
  EXPECT_EQ(slice_bytes(slice_tensor(kv_a, spec, shards[1]), TensorType::kF32), 576u * 512 * 4);
  EXPECT_EQ(slice_bytes(slice_tensor(kv_a, spec, shards[2]), TensorType::kF32), 0u);
}

TEST(ShardExperts, BadPlansAreRefused) {
  const ModelSpec spec = mixture(3, 4, 1408);
  const struct {
    ExpertPlan experts;
    std::string says;
  } cases[] = {
      {{{0, 0}, {}}, "every expert share is 0"},
      {{{1}, {}}, "1 shares for 2 ranks"},
      {{{1, -1}, {}}, "the expert share of rank 1 is -1"},
      {{{1, 1e7}, {}}, "differ"},
      {{{}, {1, 1, 1, 1, 1, 1, 1}}, "ranks for 7 experts; the model has 8"},
      {{{}, {1, 1, 1, 0, 1, 1, 1, 1}}, "entry 3 of the placement is 0x0"},
      {{{}, {1, 1, 1, 1, 1, 1, 1, 5}}, "entry 7 of the placement is 0x5"},
  };
  for (const auto& c : cases) {
    const auto shard = make_rank_shard(spec, {2, {}, c.experts}, 0);
    ASSERT_FALSE(shard.is_ok()) << c.says;
    EXPECT_NE(shard.status().message().find(c.says), std::string::npos) << shard.status().message();
  }
  // All 64 bits of a mask.
  TensorParallelPlan wide = even_plan(64);
  wide.experts.ranks.assign(8, UINT64_MAX);
  const auto last = make_rank_shard(spec, wide, 63);
  ASSERT_TRUE(last.is_ok()) << last.status().to_string();
  EXPECT_EQ(last->layers[2].experts[3].replicas, 64);
  EXPECT_EQ(last->layers[2].experts[3].replica, 63);
}

}  // namespace
}  // namespace shoal

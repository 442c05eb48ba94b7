#include "parallel/plan/shard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

std::vector<int64_t> sizes(const std::vector<Range>& ranges) {
  std::vector<int64_t> out;
  for (const Range& range : ranges) out.push_back(range.size());
  return out;
}

using Sizes = std::vector<int64_t>;
using Shares = std::vector<double>;

Shares even(int world) { return even_plan(world).shares; }

ModelSpec one_layer(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t ffn, int64_t vocab) {
  ModelSpec spec;
  spec.layers = 1;
  spec.width = heads * head_dim;
  spec.vocab = vocab;
  spec.layer.resize(1);
  spec.layer[0].attention.heads = heads;
  spec.layer[0].attention.kv_heads = kv_heads;
  spec.layer[0].attention.head_dim = head_dim;
  spec.layer[0].ffn.features = ffn;
  return spec;
}

std::vector<RankShard> all_shards(const ModelSpec& spec, const TensorParallelPlan& plan) {
  std::vector<RankShard> shards;
  for (int rank = 0; rank < plan.world; ++rank) {
    auto shard = make_rank_shard(spec, plan, rank);
    EXPECT_TRUE(shard.is_ok()) << shard.status().to_string();
    shards.push_back(std::move(shard).value());
  }
  return shards;
}

Sizes ffn_sizes(const std::vector<RankShard>& shards) {
  Sizes out;
  for (const RankShard& shard : shards) out.push_back(shard.layers[0].ffn.size());
  return out;
}
Sizes head_sizes(const std::vector<RankShard>& shards) {
  Sizes out;
  for (const RankShard& shard : shards) out.push_back(shard.layers[0].heads.size());
  return out;
}

TEST(SplitRange, Tables) {
  EXPECT_EQ(sizes(split_range(768, 32, even(1))), (Sizes{768}));
  EXPECT_EQ(sizes(split_range(768, 32, even(5))), (Sizes{160, 160, 160, 160, 128}));
  EXPECT_EQ(sizes(split_range(1408, 32, even(3))), (Sizes{480, 480, 448}));
  EXPECT_EQ(sizes(split_range(1408, 32, even(8))), (Sizes{192, 192, 192, 192, 160, 160, 160, 160}));
  EXPECT_EQ(sizes(split_range(128256, 32, even(7))),
            (Sizes{18336, 18336, 18336, 18336, 18304, 18304, 18304}));
  // 996 = 31 whole units and one of 4 ids: it is the end of the last range.
  EXPECT_EQ(sizes(split_range(996, 32, even(2))), (Sizes{512, 484}));
  EXPECT_EQ(sizes(split_range(996, 32, even(3))), (Sizes{352, 352, 292}));
  EXPECT_EQ(sizes(split_range(996, 32, even(8))), (Sizes{128, 128, 128, 128, 128, 128, 128, 100}));
  EXPECT_EQ(sizes(split_range(90, 32, even(5))), (Sizes{32, 32, 26, 0, 0}));
  EXPECT_EQ(sizes(split_range(0, 32, even(2))), (Sizes{0, 0}));
  EXPECT_EQ(sizes(split_range(768, 32, Shares{2, 1})), (Sizes{512, 256}));
  EXPECT_EQ(sizes(split_range(1408, 32, Shares{2, 1})), (Sizes{928, 480}));
  EXPECT_EQ(sizes(split_range(1408, 32, Shares{1, 1, 2})), (Sizes{352, 352, 704}));
  EXPECT_EQ(sizes(split_range(64, 32, Shares{1, 100})), (Sizes{0, 64}));
}

TEST(Shard, FfnPrefersSuperBlockCutsOnlyWhereTheyCostLittle) {
  const auto cut = [](int64_t features, const Shares& shares) {
    return ffn_sizes(
        all_shards(one_layer(8, 8, 64, features, 64), {static_cast<int>(shares.size()), shares}));
  };
  EXPECT_EQ(cut(28672, even(8)), Sizes(8, 3584));                         // 14 × 256
  EXPECT_EQ(cut(28672, even(3)), (Sizes{9728, 9472, 9472}));              // + 1.7 % against 9568
  EXPECT_EQ(cut(28672, even(5)), (Sizes{5760, 5728, 5728, 5728, 5728}));  // 5888 would add 2.2 %
  EXPECT_EQ(cut(28672, even(7)), Sizes(7, 4096));
  EXPECT_EQ(cut(28672, Shares{2, 1}), (Sizes{19200, 9472}));
  EXPECT_EQ(cut(28672, Shares{1, 1, 2}), (Sizes{7168, 7168, 14336}));
  EXPECT_EQ(cut(1408, even(2)), (Sizes{704, 704}));  // below 1024 a rank
  EXPECT_EQ(cut(768, even(4)), (Sizes{192, 192, 192, 192}));
  EXPECT_EQ(cut(2048, even(2)), (Sizes{1024, 1024}));
  EXPECT_EQ(cut(640, even(8)), (Sizes{96, 96, 96, 96, 64, 64, 64, 64}));
}

TEST(Shard, HeadsByGroupsThenReplicated) {
  const auto cut = [](int64_t heads, int64_t kv, const Shares& shares, int64_t head_dim = 128) {
    return head_sizes(all_shards(one_layer(heads, kv, head_dim, 768, 64),
                                 {static_cast<int>(shares.size()), shares}));
  };
  // 5 query heads a group, 8 groups.
  EXPECT_EQ(cut(40, 8, even(1)), (Sizes{40}));
  EXPECT_EQ(cut(40, 8, even(2)), (Sizes{20, 20}));
  EXPECT_EQ(cut(40, 8, even(3)), (Sizes{15, 15, 10}));
  EXPECT_EQ(cut(40, 8, even(5)), (Sizes{10, 10, 10, 5, 5}));
  EXPECT_EQ(cut(40, 8, even(8)), Sizes(8, 5));
  EXPECT_EQ(cut(40, 8, Shares{2, 1}), (Sizes{25, 15}));
  EXPECT_EQ(cut(40, 8, Shares{1, 1, 2}), (Sizes{10, 10, 20}));
  // More ranks than KV heads.
  EXPECT_EQ(cut(40, 8, even(16)), (Sizes{3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2}));
  EXPECT_EQ(cut(4, 2, even(4)), (Sizes{1, 1, 1, 1}));
  EXPECT_EQ(cut(4, 2, even(3)), (Sizes{2, 1, 1}));
  EXPECT_EQ(cut(10, 2, even(3)), (Sizes{4, 3, 3}));  // by group some rank would have 5
  EXPECT_EQ(cut(8, 1, even(8)), Sizes(8, 1));
  EXPECT_EQ(cut(4, 2, even(6)), (Sizes{1, 1, 0, 1, 1, 0}));
  // attn_output is cut at multiples of 32 columns: head size 80 in pairs, 16 likewise.
  EXPECT_EQ(cut(8, 8, even(3), 80), (Sizes{4, 2, 2}));
  EXPECT_EQ(cut(8, 8, even(8), 80), (Sizes{2, 2, 2, 2, 0, 0, 0, 0}));
  EXPECT_EQ(cut(6, 2, even(2), 16), (Sizes{4, 2}));
}

TEST(Shard, KvRangeCoversStraddlingHeads) {
  const auto shards = all_shards(one_layer(10, 2, 64, 768, 64), even_plan(3));
  EXPECT_EQ(shards[0].layers[0].kv_heads, (Range{0, 1}));
  EXPECT_EQ(shards[1].layers[0].heads, (Range{4, 7}));
  EXPECT_EQ(shards[1].layers[0].kv_heads, (Range{0, 2}));
  EXPECT_EQ(shards[2].layers[0].kv_heads, (Range{1, 2}));
}

// Exactly once, in order, on the granularity, near the ideal, KV heads covering the query heads.
TEST(Shard, Properties) {
  Rng rng(testing::test_seed(20240611));
  const int64_t head_dims[] = {16, 32, 64, 80, 96, 128, 256};
  for (int round = 0; round < 3000; ++round) {
    const auto kv = static_cast<int64_t>(1 + rng.below(16));
    const auto group = static_cast<int64_t>(1 + rng.below(9));
    const int64_t head_dim = head_dims[rng.below(std::size(head_dims))];
    const auto ffn = static_cast<int64_t>(rng.below(2) ? 32 * rng.below(1200) : rng.below(40000));
    const ModelSpec spec =
        one_layer(kv * group, kv, head_dim, ffn, static_cast<int64_t>(1 + rng.below(200000)));
    TensorParallelPlan plan = even_plan(1 + static_cast<int>(rng.below(20)));
    if (rng.below(2)) {
      for (double& share : plan.shares) share = 0.1 + rng.uniform() * 3;
    }
    SCOPED_TRACE(::testing::Message()
                 << "round " << round << " kv " << kv << " group " << group << " head " << head_dim
                 << " ffn " << ffn << " world " << plan.world);
    const std::vector<RankShard> shards = all_shards(spec, plan);
    double share_sum = 0;
    for (const double share : plan.shares) share_sum += share;
    int64_t vocab = 0, heads = 0, features = 0;
    std::vector<int> holders(static_cast<size_t>(kv));
    for (int rank = 0; rank < plan.world; ++rank) {
      const RankShard& shard = shards[static_cast<size_t>(rank)];
      const LayerShard& layer = shard.layers[0];
      const double share = plan.shares[static_cast<size_t>(rank)] / share_sum;
      ASSERT_EQ(shard.vocab.begin, vocab);
      ASSERT_EQ(layer.heads.begin, heads);
      ASSERT_EQ(layer.ffn.begin, features);
      ASSERT_GE(shard.vocab.size(), 0);
      ASSERT_GE(layer.heads.size(), 0);
      ASSERT_GE(layer.ffn.size(), 0);
      vocab = shard.vocab.end;
      heads = layer.heads.end;
      features = layer.ffn.end;
      ASSERT_TRUE(vocab % 32 == 0 || vocab == spec.vocab);
      ASSERT_TRUE(features % 32 == 0 || features == ffn);
      ASSERT_TRUE(heads * head_dim % 32 == 0 || heads == kv * group);
      ASSERT_LE(std::abs(static_cast<double>(shard.vocab.size()) -
                         share * static_cast<double>(spec.vocab)),
                64);
      const double slack = std::max(64.0, 0.02 * static_cast<double>(ffn) * share + 512);
      ASSERT_LE(std::abs(static_cast<double>(layer.ffn.size()) - share * static_cast<double>(ffn)),
                slack);
      ASSERT_GE(layer.kv_heads.begin, 0);
      ASSERT_LE(layer.kv_heads.end, kv);
      ASSERT_EQ(layer.heads.empty(), layer.kv_heads.empty());
      if (layer.heads.empty()) continue;
      ASSERT_EQ(layer.kv_heads.begin, layer.heads.begin / group);
      ASSERT_EQ(layer.kv_heads.end, (layer.heads.end - 1) / group + 1);
      for (int64_t h = layer.kv_heads.begin; h < layer.kv_heads.end; ++h) {
        ++holders[static_cast<size_t>(h)];
      }
    }
    ASSERT_EQ(vocab, spec.vocab);
    ASSERT_EQ(heads, kv * group);
    ASSERT_EQ(features, ffn);
    for (const int count : holders) {
      ASSERT_GE(count, 1);
      if (plan.world <= kv && head_dim % 32 == 0) {
        ASSERT_EQ(count, 1);  // not replicated
      }
    }
    const auto again = make_rank_shard(spec, plan, plan.world - 1);
    ASSERT_EQ(again->layers[0].ffn, shards.back().layers[0].ffn);
  }
}

TEST(Shard, SlicesOfEverySplit) {
  const ModelSpec spec = one_layer(10, 2, 64, 1408, 996);
  const auto shards = all_shards(spec, even_plan(3));
  const RankShard& shard = shards[1];  // heads 4..7, kv 0..2, ffn 480..960, vocab 352..704
  TensorDecl decl;
  decl.layer = 0;
  decl.name = "t";
  const auto slice = [&](Split split, int64_t rows, int64_t cols, int64_t first_row = 0) {
    decl.split = split;
    decl.rows = rows;
    decl.cols = cols;
    decl.first_row = first_row;
    return slice_tensor(decl, spec, shard);
  };
  TensorSlice s = slice(Split::kReplicated, 640, 1);
  EXPECT_EQ(s.rows, (Range{0, 640}));
  EXPECT_EQ(s.cols, (Range{0, 1}));
  s = slice(Split::kVocabRows, 996, 640);
  EXPECT_EQ(s.rows, (Range{352, 704}));
  EXPECT_EQ(s.cols, (Range{0, 640}));
  s = slice(Split::kHeadRows, 640, 640);
  EXPECT_EQ(s.rows, (Range{256, 448}));
  s = slice(Split::kKvHeadRows, 128, 640);
  EXPECT_EQ(s.rows, (Range{0, 128}));
  s = slice(Split::kKvHeadRows, 128, 640, 640);  // the K rows of a fused tensor
  EXPECT_EQ(s.rows, (Range{640, 768}));
  s = slice(Split::kHeadRows, 640, 1);  // a bias
  EXPECT_EQ(s.rows, (Range{256, 448}));
  EXPECT_EQ(s.cols, (Range{0, 1}));
  s = slice(Split::kHeadCols, 640, 640);
  EXPECT_EQ(s.rows, (Range{0, 640}));
  EXPECT_EQ(s.cols, (Range{256, 448}));
  s = slice(Split::kFfnRows, 1408, 640);
  EXPECT_EQ(s.rows, (Range{480, 960}));
  s = slice(Split::kFfnCols, 640, 1408);
  EXPECT_EQ(s.cols, (Range{480, 960}));
}

TEST(Shard, SliceBytesCountWholeTouchedBlocks) {
  TensorDecl matrix, vector;
  matrix.cols = 1024;
  vector.cols = 1;
  const auto bytes = [&](Range rows, Range cols, TensorType type) {
    return slice_bytes({&matrix, rows, cols}, type);
  };
  EXPECT_EQ(bytes({10, 13}, {0, 1024}, TensorType::kF32), 3u * 4096);
  EXPECT_EQ(bytes({10, 13}, {32, 96}, TensorType::kF16), 3u * 128);
  EXPECT_EQ(bytes({10, 13}, {32, 96}, TensorType::kQ8_0), 3u * 2 * 34);
  EXPECT_EQ(bytes({10, 13}, {0, 256}, TensorType::kQ4_K), 3u * 144);
  EXPECT_EQ(bytes({10, 13}, {32, 96}, TensorType::kQ4_K), 3u * 144);        // inside one
  EXPECT_EQ(bytes({10, 13}, {224, 288}, TensorType::kQ4_K), 3u * 2 * 144);  // across a boundary
  EXPECT_EQ(bytes({10, 13}, {256, 544}, TensorType::kQ6_K), 3u * 2 * 210);
  EXPECT_EQ(bytes({10, 13}, {32, 96}, TensorType::kNVFP4), 3u * 2 * 36);
  EXPECT_EQ(bytes({10, 10}, {0, 1024}, TensorType::kF32), 0u);
  EXPECT_EQ(bytes({10, 13}, {64, 64}, TensorType::kQ4_K), 0u);
  EXPECT_EQ(slice_bytes({&vector, {256, 448}, {0, 1}}, TensorType::kF32), 192u * 4);
  // Beyond 32 bits.
  EXPECT_EQ(bytes({0, 10'000'000}, {0, 1024}, TensorType::kF32), 10'000'000ull * 4096);
}

TEST(Shard, BadPlansAreRefused) {
  const ModelSpec spec = one_layer(8, 2, 64, 768, 996);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const struct {
    TensorParallelPlan plan;
    int rank;
    std::string names;
  } cases[] = {
      {{0, {}}, 0, "group of 0 ranks"},
      {{-1, {}}, 0, "group of -1"},
      {{65, Shares(65, 1.0)}, 0, "1 to 64"},
      {{2, {1}}, 0, "1 shares for 2 ranks"},
      {{2, {1, 1, 1}}, 0, "3 shares for 2 ranks"},
      {{2, {0, 0}}, 0, "every dense share is 0"},
      {{2, {-1, 1}}, 0, "share of rank 0"},
      {{2, {1, nan}}, 0, "share of rank 1"},
      {{2, {inf, 1}}, 0, "share of rank 0"},
      {{2, {1e-9, 1e9}}, 0, "differ"},
      {{2, {1, 1}}, 2, "rank 2 of a group of 2"},
      {{2, {1, 1}}, -1, "rank -1"},
  };
  for (const auto& c : cases) {
    const auto shard = make_rank_shard(spec, c.plan, c.rank);
    ASSERT_FALSE(shard.is_ok()) << c.names;
    EXPECT_EQ(shard.status().code(), Code::kInvalidArgument);
    EXPECT_NE(shard.status().message().find(c.names), std::string::npos)
        << shard.status().message();
  }
  EXPECT_TRUE(make_rank_shard(spec, {3, {}}, 2).is_ok());  // no shares: equal
  ModelSpec bad = one_layer(8, 3, 64, 768, 996);
  EXPECT_NE(make_rank_shard(bad, even_plan(2), 0).status().message().find("layer 0"),
            std::string::npos);
  bad = spec;
  bad.layers = 2;
  EXPECT_FALSE(make_rank_shard(bad, even_plan(2), 0).is_ok());
}

}  // namespace
}  // namespace shoal

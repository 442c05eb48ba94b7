#include "parallel/memory_plan.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/support/support.h"

namespace shoal {
namespace {

// A 2-layer llama: width 512, 8 heads of 64 on 4 KV heads, ff 1408, vocabulary 996.
ModelSpec small_spec(bool tied) {
  ModelSpec spec;
  spec.layers = 2;
  spec.width = 512;
  spec.vocab = 996;
  spec.tied_output = tied;
  spec.layer.resize(2);
  const auto add = [&](Role role, int layer, int64_t rows, int64_t cols, Split split) {
    TensorDecl decl;
    decl.role = role;
    decl.layer = layer;
    decl.name = std::to_string(static_cast<int>(role)) + "." + std::to_string(layer);
    decl.rows = rows;
    decl.cols = cols;
    decl.split = split;
    spec.tensors.push_back(decl);
  };
  add(Role::kTokenEmbedding, -1, 996, 512, Split::kVocabRows);
  add(Role::kOutput, -1, 996, 512, Split::kVocabRows);
  add(Role::kOutputNorm, -1, 512, 1, Split::kReplicated);
  for (int i = 0; i < 2; ++i) {
    spec.layer[static_cast<size_t>(i)].attention.heads = 8;
    spec.layer[static_cast<size_t>(i)].attention.kv_heads = 4;
    spec.layer[static_cast<size_t>(i)].attention.head_dim = 64;
    spec.layer[static_cast<size_t>(i)].ffn.features = 1408;
    add(Role::kAttnQ, i, 512, 512, Split::kHeadRows);
    add(Role::kAttnK, i, 256, 512, Split::kKvHeadRows);
    add(Role::kAttnV, i, 256, 512, Split::kKvHeadRows);
    add(Role::kAttnOut, i, 512, 512, Split::kHeadCols);
    add(Role::kFfnUp, i, 1408, 512, Split::kFfnRows);
    add(Role::kFfnDown, i, 512, 1408, Split::kFfnCols);
  }
  return spec;
}

TensorTypeOf all(TensorType type) {
  return [type](const std::string&) -> Result<TensorType> { return type; };
}

constexpr MemoryOptions kOptions{
    .kv_element_bytes = 2, .block_tokens = 16, .max_rows = 8, .logit_rows = 4};

TEST(MemoryPlan, OneRankHoldsTheFile) {
  const auto plan = make_memory_plan(small_spec(false), all(TensorType::kF32), {1, {}}, kOptions);
  ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();
  const uint64_t elements = 2 * 996 * 512 + 512 + 2 * (512 * 512 * 3 + 2 * 512 * 1408);
  EXPECT_EQ(plan->ranks[0].weight_bytes, elements * 4);
  EXPECT_EQ(plan->replicated_bytes, 0u);
  EXPECT_EQ(plan->ranks[0].kv_block_bytes, 2u * 2 * 4 * 64 * 16 * 2);
  EXPECT_EQ(plan->ranks[0].scratch_bytes,
            8u * (4 * (2 * 512 + 512 + 2 * 256) + 6 * (512 + 512 + 1408)) + 4u * 996 * 4);
  const auto tied = make_memory_plan(small_spec(true), all(TensorType::kF32), {1, {}}, kOptions);
  EXPECT_EQ(tied->ranks[0].weight_bytes, (elements - 996 * 512) * 4);
}

TEST(MemoryPlan, RanksShareAndReplicationIsCounted) {
  // f32 cuts anywhere: only the norm is held twice.
  auto plan = make_memory_plan(small_spec(false), all(TensorType::kF32), {2, {}}, kOptions);
  ASSERT_TRUE(plan.is_ok());
  EXPECT_EQ(plan->replicated_bytes, 512u * 4);
  // Vectors count as float32 whatever their type; Q4_K: ff 1408 = 5.5 super-blocks, cut at 704
  // = 2.75.
  auto q4 = make_memory_plan(small_spec(false), all(TensorType::kQ4_K), {2, {}}, kOptions);
  ASSERT_TRUE(q4.is_ok());
  EXPECT_EQ(q4->replicated_bytes, 512u * 4 + 2 * 512 * 144);
  // More ranks than KV heads: each KV head on two ranks.
  auto eight = make_memory_plan(small_spec(false), all(TensorType::kF32), {8, {}}, kOptions);
  ASSERT_TRUE(eight.is_ok());
  EXPECT_EQ(eight->replicated_bytes, 7u * 512 * 4 + 2 * 2 * 256 * 512 * 4);
  EXPECT_EQ(eight->ranks[3].kv_block_bytes, 2u * 2 * 64 * 16 * 2);
  // A share of two thirds costs about two thirds.
  auto uneven = make_memory_plan(small_spec(false), all(TensorType::kF32), {2, {2, 1}}, kOptions);
  const double ratio = static_cast<double>(uneven->ranks[0].weight_bytes) /
                       static_cast<double>(uneven->ranks[1].weight_bytes);
  EXPECT_GT(ratio, 1.7);
  EXPECT_LT(ratio, 2.3);
}

TEST(MemoryPlan, BlocksThatFit) {
  RankMemory rank{0, 1000, 10, 100};
  EXPECT_FALSE(block_room(rank, 1099).weights_fit);
  EXPECT_TRUE(block_room(rank, 1100).weights_fit);
  EXPECT_EQ(block_room(rank, 1100).blocks, 0);
  EXPECT_EQ(block_room(rank, 1139).blocks, 3);
  rank.kv_block_bytes = 0;
  EXPECT_EQ(block_room(rank, 1100).blocks, std::numeric_limits<int64_t>::max());
}

TEST(MemoryPlan, RefusalsNameTheFigures) {
  MemoryPlan plan;
  plan.options = kOptions;
  plan.ranks = {{0, 4 << 20, 1 << 10, 1 << 20}, {1, 2 << 20, 1 << 10, 1 << 20}};
  const uint64_t mib = 1 << 20;
  auto blocks = fit_blocks(plan, {6 * mib, 4 * mib}, 100, 5000);
  ASSERT_TRUE(blocks.is_ok());
  EXPECT_EQ(*blocks, 1024);  // both have 1 MiB left
  EXPECT_EQ(*fit_blocks(plan, {60 * mib, 40 * mib}, 100, 5000), 5000);
  blocks = fit_blocks(plan, {5 * mib + (10 << 10), 40 * mib}, 100, 5000);
  ASSERT_FALSE(blocks.is_ok());
  EXPECT_EQ(blocks.status().code(), Code::kResourceExhausted);
  for (const char* part : {"rank 0", "weights 4.0 MiB", "scratch 1.0 MiB",
                           "100 KV blocks of 1.0 KiB", "1600 tokens", "fits is 160 tokens"}) {
    EXPECT_NE(blocks.status().message().find(part), std::string::npos)
        << part << " in " << blocks.status().message();
  }
  blocks = fit_blocks(plan, {60 * mib, 3 * mib - 1}, 100, 5000);
  ASSERT_FALSE(blocks.is_ok());
  EXPECT_NE(blocks.status().message().find("rank 1 does not fit: weights 2.0 MiB"),
            std::string::npos)
      << blocks.status().message();
}

TEST(MemoryPlan, BadInput) {
  MemoryOptions bad = kOptions;
  bad.block_tokens = 0;
  EXPECT_FALSE(make_memory_plan(small_spec(false), all(TensorType::kF32), {1, {}}, bad).is_ok());
  EXPECT_FALSE(
      make_memory_plan(small_spec(false), all(TensorType::kF32), {2, {1}}, kOptions).is_ok());
  const auto none = [](const std::string& name) -> Result<TensorType> { return not_found(name); };
  EXPECT_EQ(make_memory_plan(small_spec(false), none, {1, {}}, kOptions).status().code(),
            Code::kNotFound);
}

// The shipped model: ranks hold together what the file holds, up to replication.
TEST(MemoryPlan, ShippedModel) {
  const auto file = GgufFile::open(testing::model_path("shoal-tiny-dense-q8_0.gguf"));
  ASSERT_TRUE(file.is_ok()) << file.status().to_string();
  const auto spec = read_model_spec(*file);
  ASSERT_TRUE(spec.is_ok()) << spec.status().to_string();
  for (int world = 1; world <= 8; ++world) {
    const auto plan = make_memory_plan(*spec, tensor_types(*file), {world, {}}, kOptions);
    ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();
    uint64_t total = 0;
    for (const RankMemory& rank : plan->ranks) total += rank.weight_bytes;
    EXPECT_EQ(total - plan->replicated_bytes, file->data_bytes()) << world;
  }
  const auto plan = make_memory_plan(*spec, tensor_types(*file), {2, {}}, kOptions);
  const std::string table = format_memory_plan(*plan, 100);
  EXPECT_NE(table.find("100 KV blocks of 16 tokens: 1600 tokens"), std::string::npos) << table;
}

TEST(MemoryPlan, FormatsBytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(uint64_t{42500} << 20), "41.50 GiB");
}

}  // namespace
}  // namespace shoal

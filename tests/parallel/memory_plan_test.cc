#include "parallel/plan/memory_plan.h"

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

// Bytes of a row of Activations on a CPU: 256 zeros on both sides, 6.5 bytes a feature.
constexpr uint64_t prepared(uint64_t features) { return (features + 512) * 13 / 2; }
// 8 rows: residual and delta, q, k, v; activations of the norm, attention and FFN; 24 bytes of ids.
// 4 rows of logits and of their norm.
constexpr uint64_t kDenseScratch =
    8 * (4 * (2 * 512 + 512 + 2 * 256) + 2 * prepared(512) + prepared(1408) + 24) +
    4 * (4 * 996 + prepared(512));

constexpr MemoryOptions kOptions{
    .kv_element_bytes = 2, .block_tokens = 16, .max_rows = 8, .logit_rows = 4};

TEST(MemoryPlan, OneRankHoldsTheFile) {
  const auto plan = make_memory_plan(small_spec(false), all(TensorType::kF32), {1, {}}, kOptions);
  ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();
  const uint64_t elements = 2 * 996 * 512 + 512 + 2 * (512 * 512 * 3 + 2 * 512 * 1408);
  EXPECT_EQ(plan->ranks[0].weight_bytes, elements * 4);
  EXPECT_EQ(plan->replicated_bytes, 0u);
  EXPECT_EQ(plan->ranks[0].kv_block_bytes, (std::vector<uint64_t>{2u * 2 * 4 * 64 * 16 * 2}));
  EXPECT_EQ(plan->ranks[0].expert_bytes, 0u);
  EXPECT_EQ(plan->ranks[0].scratch_bytes, kDenseScratch);
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
  EXPECT_EQ(eight->ranks[3].kv_block_bytes, (std::vector<uint64_t>{2u * 2 * 64 * 16 * 2}));
  // A share of two thirds costs about two thirds.
  auto uneven = make_memory_plan(small_spec(false), all(TensorType::kF32), {2, {2, 1}}, kOptions);
  const double ratio = static_cast<double>(uneven->ranks[0].weight_bytes) /
                       static_cast<double>(uneven->ranks[1].weight_bytes);
  EXPECT_GT(ratio, 1.7);
  EXPECT_LT(ratio, 2.3);
}

constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

RankMemory rank_memory(int rank, uint64_t weights, std::vector<uint64_t> block, uint64_t scratch) {
  RankMemory out;
  out.rank = rank;
  out.weight_bytes = weights;
  out.kv_block_bytes = std::move(block);
  out.scratch_bytes = scratch;
  return out;
}

TEST(MemoryPlan, BlocksThatFit) {
  MemoryPlan plan;
  plan.most_blocks = {kUnbounded};
  RankMemory rank = rank_memory(0, 1000, {10}, 100);
  EXPECT_FALSE(block_room(plan, rank, 1099).weights_fit);
  EXPECT_TRUE(block_room(plan, rank, 1100).weights_fit);
  EXPECT_EQ(block_room(plan, rank, 1100).blocks, 0);
  EXPECT_EQ(block_room(plan, rank, 1109).blocks, 0);
  EXPECT_EQ(block_room(plan, rank, 1139).blocks, 3);
  EXPECT_EQ(block_room(plan, rank, UINT64_MAX).blocks, kMaxPlannedBlocks);
  rank.kv_block_bytes = {0};
  EXPECT_EQ(block_room(plan, rank, 1100).blocks, kUnbounded);
  // A second group that needs no more than 5 blocks, of 100 bytes each.
  plan.most_blocks = {kUnbounded, 5};
  rank.kv_block_bytes = {10, 100};
  EXPECT_EQ(plan.group_blocks(3), (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(plan.group_blocks(9), (std::vector<int64_t>{9, 5}));
  EXPECT_EQ(block_room(plan, rank, 1100 + 329).blocks, 2);
  EXPECT_EQ(block_room(plan, rank, 1100 + 330).blocks, 3);
  EXPECT_EQ(block_room(plan, rank, 1100 + 500 + 1000).blocks, 100);
  // All groups forget: more memory than they can use.
  plan.most_blocks = {4, 5};
  EXPECT_EQ(block_room(plan, rank, 1100 + 539).blocks, 4);
  EXPECT_EQ(block_room(plan, rank, 1100 + 540).blocks, kMaxPlannedBlocks);
  // Nothing wraps.
  rank.kv_block_bytes = {uint64_t{1} << 60, uint64_t{1} << 60};
  plan.most_blocks = {kUnbounded, kUnbounded};
  EXPECT_EQ(rank.bytes_with({16, 16}), UINT64_MAX);
  EXPECT_EQ(block_room(plan, rank, UINT64_MAX - 1).blocks, 7);
}

// 3 layers: full, window 64, chunk 8192; 4 KV heads of 64.
ModelSpec grouped_spec() {
  ModelSpec spec = small_spec(false);
  spec.layers = 3;
  spec.layer.push_back(spec.layer[0]);
  spec.layer[1].attention.window = 64;
  spec.layer[2].attention.chunk = 8192;
  for (int i = 0; i < 3; ++i) {
    AttentionLayer& layer = spec.layer[static_cast<size_t>(i)].attention;
    layer.kv_group = i;
    spec.kv_groups.push_back({layer.window, layer.chunk, {i}});
  }
  return spec;
}

TEST(MemoryPlan, GroupsThatForgetNeedFewBlocks) {
  MemoryOptions options = kOptions;
  options.max_sequences = 10;
  options.prefill_chunk = 30;
  options.context_tokens = 1000;
  auto plan = make_memory_plan(grouped_spec(), all(TensorType::kF32), {1, {}}, options);
  ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();
  // ⌈(64 + 30) / 16⌉ = 6; the chunk is longer than the context: ⌈(1000 + 30) / 16⌉ = 65.
  EXPECT_EQ(plan->most_blocks, (std::vector<int64_t>{kUnbounded, 10 * 8 * 2, 10 * 67 * 2}));
  EXPECT_EQ(plan->group_blocks(1000), (std::vector<int64_t>{1000, 160, 1000}));
  EXPECT_EQ(plan->group_blocks(5000), (std::vector<int64_t>{5000, 160, 1340}));
  EXPECT_EQ(plan->ranks[0].kv_block_bytes, std::vector<uint64_t>(3, 2u * 4 * 64 * 16 * 2));
  options.context_tokens = 0;  // unknown
  options.prefill_chunk = 32;  // exactly on a block
  plan = make_memory_plan(grouped_spec(), all(TensorType::kF32), {1, {}}, options);
  EXPECT_EQ(plan->most_blocks, (std::vector<int64_t>{kUnbounded, 10 * 8 * 2, 10 * 516 * 2}));
  const std::string table = format_memory_plan(*plan, 1000);
  EXPECT_NE(table.find(format_bytes((1000u + 160 + 1000) * 2 * 4 * 64 * 16 * 2)), std::string::npos)
      << table;
}

TEST(MemoryPlan, LatentLayersCacheOneVectorOnEveryRank) {
  ModelSpec spec = small_spec(false);
  for (LayerSpec& layer : spec.layer) {
    layer.attention.kv_heads = 1;
    layer.attention.head_dim = 512 + 64;
    layer.attention.rope.dims = 64;
    layer.attention.latent = {.q_rank = 256, .kv_rank = 512, .nope = 128, .value = 128};
  }
  spec.tensors.clear();  // theirs have other shapes
  const auto plan = make_memory_plan(spec, all(TensorType::kF32), {2, {}}, kOptions);
  ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();
  for (const RankMemory& rank : plan->ranks) {
    EXPECT_EQ(rank.kv_block_bytes, (std::vector<uint64_t>{2u * 576 * 16 * 2}));
  }
}

// small_spec with its second layer a mixture of 8 experts of 1408, 2 per token, no shared expert.
ModelSpec mixture_spec() {
  ModelSpec spec = small_spec(false);
  spec.layer[1].ffn.features = 0;
  spec.layer[1].ffn.moe = {.experts = 8, .top_k = 2, .features = 1408};
  std::erase_if(spec.tensors, [](const TensorDecl& decl) {
    return decl.layer == 1 && (decl.role == Role::kFfnUp || decl.role == Role::kFfnDown);
  });
  const auto add = [&](Role role, int64_t rows, int64_t cols, Split split, int64_t experts,
                       bool bias = false) {
    TensorDecl decl;
    decl.role = role;
    decl.layer = 1;
    decl.bias = bias;
    decl.name = "expert";
    decl.rows = rows;
    decl.cols = cols;
    decl.split = split;
    decl.experts = experts;
    decl.expert_rows = rows;
    spec.tensors.push_back(decl);
  };
  add(Role::kRouter, 8, 512, Split::kReplicated, 0);
  add(Role::kExpertUp, 1408, 512, Split::kExpertRows, 8);
  add(Role::kExpertDown, 512, 1408, Split::kExpertCols, 8);
  add(Role::kExpertDown, 512, 1, Split::kExpertWhole, 8, true);
  return spec;
}

constexpr uint64_t kExpertF32 = 2 * 1408 * 512 * 4 + 512 * 4;

TEST(MemoryPlan, ExpertsAreCountedWhereTheyAre) {
  const ModelSpec spec = mixture_spec();
  const auto plan_of = [&](const TensorParallelPlan& plan, TensorType type) {
    auto out = make_memory_plan(spec, all(type), plan, kOptions);
    EXPECT_TRUE(out.is_ok()) << out.status().to_string();
    return std::move(out).value();
  };
  const auto bytes = expert_bytes(spec, all(TensorType::kF32));
  ASSERT_TRUE(bytes.is_ok());
  EXPECT_EQ(*bytes, (std::vector<uint64_t>{kExpertF32}));
  const MemoryPlan one = plan_of({1, {}}, TensorType::kF32);
  EXPECT_EQ(one.ranks[0].expert_bytes, 8 * kExpertF32);
  EXPECT_EQ(one.replicated_bytes, 0u);
  // Hidden features of both experts of a row, 8 + 2 · 2 words of routing, the shared expert's gate.
  EXPECT_EQ(one.ranks[0].scratch_bytes, kDenseScratch + 8 * (4 * 13 + 2 * prepared(1408)));

  // Sliced: halves; the down bias is on the first rank only.
  const MemoryPlan sliced = plan_of({2, {}}, TensorType::kF32);
  EXPECT_EQ(sliced.ranks[0].expert_bytes, 8u * (1408 * 512 * 4 + 512 * 4));
  EXPECT_EQ(sliced.ranks[1].expert_bytes, 8u * (1408 * 512 * 4));
  EXPECT_EQ(sliced.replicated_bytes, 4u * (512 + 8 * 512)) << "norm and router";

  // Placed on a third rank without attention, one expert on two ranks.
  TensorParallelPlan placed{3, {1, 1, 0}, {}};
  placed.experts.ranks = {1, 2, 4, 4, 4, 4, 4, 3};
  const MemoryPlan mixed = plan_of(placed, TensorType::kF32);
  EXPECT_EQ(mixed.ranks[0].expert_bytes, 2 * kExpertF32);
  EXPECT_EQ(mixed.ranks[1].expert_bytes, 2 * kExpertF32);
  EXPECT_EQ(mixed.ranks[2].expert_bytes, 5 * kExpertF32);
  EXPECT_EQ(mixed.replicated_bytes, 2u * 4 * (512 + 8 * 512) + kExpertF32);
  EXPECT_EQ(mixed.ranks[2].weight_bytes, 5 * kExpertF32 + 4 * (512 + 8 * 512));
  EXPECT_EQ(mixed.ranks[2].kv_block_bytes, (std::vector<uint64_t>{0}));
  EXPECT_EQ(block_room(mixed, mixed.ranks[2], uint64_t{1} << 40).blocks, kUnbounded);

  // A cut super-block is on both ranks: 704 = 2.75 of 256.
  const MemoryPlan q4 = plan_of({2, {}}, TensorType::kQ4_K);
  EXPECT_EQ(q4.replicated_bytes - 4u * 512 - 8u * 2 * 144, 512u * 144 + 8u * 512 * 144)
      << "down of layer 0, down of 8 experts";
}

TEST(MemoryPlan, RefusalsNameTheFigures) {
  MemoryPlan plan;
  plan.options = kOptions;
  plan.most_blocks = {kUnbounded};
  plan.ranks = {rank_memory(0, 4 << 20, {1 << 10}, 1 << 20),
                rank_memory(1, 2 << 20, {1 << 10}, 1 << 20)};
  const uint64_t mib = 1 << 20;
  auto blocks = fit_blocks(plan, {6 * mib, 4 * mib}, 100, 5000);
  ASSERT_TRUE(blocks.is_ok());
  EXPECT_EQ(*blocks, 1024);  // both have 1 MiB left
  EXPECT_EQ(*fit_blocks(plan, {60 * mib, 40 * mib}, 100, 5000), 5000);
  blocks = fit_blocks(plan, {5 * mib + (10 << 10), 40 * mib}, 100, 5000);
  ASSERT_FALSE(blocks.is_ok());
  EXPECT_EQ(blocks.status().code(), Code::kResourceExhausted);
  for (const char* part :
       {"rank 0", "weights 4.0 MiB", "scratch 1.0 MiB", "100 KV blocks of 1.0 KiB", "1600 tokens",
        "90.0 KiB too little", "fits is 160 tokens"}) {
    EXPECT_NE(blocks.status().message().find(part), std::string::npos)
        << part << " in " << blocks.status().message();
  }
  blocks = fit_blocks(plan, {60 * mib, 3 * mib - 1}, 100, 5000);
  ASSERT_FALSE(blocks.is_ok());
  EXPECT_NE(blocks.status().message().find("rank 1 does not fit: weights 2.0 MiB and"),
            std::string::npos)
      << blocks.status().message();
  blocks = fit_blocks(plan, {60 * mib, 2 * mib}, 100, 5000, {"worker 'a' on h", "worker 'b' on i"});
  for (const char* part : {"rank 1 (worker 'b' on i) does not fit: weights 2.0 MiB and",
                           "make 3.0 MiB, but it may use 2.0 MiB, 1.0 MiB too little"}) {
    EXPECT_NE(blocks.status().message().find(part), std::string::npos)
        << part << " in " << blocks.status().message();
  }
  plan.ranks[1].expert_bytes = 1 << 20;
  blocks = fit_blocks(plan, {60 * mib, 3 * mib - 1}, 100, 5000);
  EXPECT_NE(blocks.status().message().find("(1.0 MiB of them experts)"), std::string::npos)
      << blocks.status().message();
  // Every group is in the sum.
  plan.most_blocks = {kUnbounded, 40};
  for (RankMemory& rank : plan.ranks) rank.kv_block_bytes = {1 << 10, 2 << 10};
  blocks = fit_blocks(plan, {5 * mib + (100 << 10), 40 * mib}, 100, 5000);
  ASSERT_FALSE(blocks.is_ok());
  for (const char* part : {"100 + 40 KV blocks of 1.0 KiB + 2.0 KiB (1600 tokens) make 5.2 MiB",
                           "fits is 528 tokens"}) {
    EXPECT_NE(blocks.status().message().find(part), std::string::npos)
        << part << " in " << blocks.status().message();
  }
  EXPECT_EQ(*fit_blocks(plan, {5 * mib + (180 << 10), 40 * mib}, 100, 5000), 100);
}

TEST(MemoryPlan, BadInput) {
  MemoryOptions bad = kOptions;
  bad.block_tokens = 0;
  EXPECT_FALSE(make_memory_plan(small_spec(false), all(TensorType::kF32), {1, {}}, bad).is_ok());
  bad = kOptions;
  bad.max_sequences = 0;
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

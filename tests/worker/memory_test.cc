// What the memory plan says a rank takes is what it takes: weights, KV cache and scratch, measured
// on loaded shards of the reference models.
#include "parallel/plan/memory_plan.h"

#include <gtest/gtest.h>

#include "kernels/cpu/cpu_device.h"
#include "parallel/plan/group_plan.h"
#include "tests/support/support.h"
#include "tests/worker/mini_group.h"
#include "worker/kv_store.h"
#include "worker/scratch.h"

namespace shoal::testing {
namespace {

constexpr int64_t kRows = 512;

void expect_near(uint64_t planned, uint64_t real, const std::string& what) {
  EXPECT_GE(static_cast<double>(planned), 0.97 * static_cast<double>(real)) << what;
  EXPECT_LE(static_cast<double>(planned), 1.03 * static_cast<double>(real) + (1 << 16)) << what;
}

// What the buffers of a forward pass take on a CPU, pads included.
uint64_t scratch_bytes(const ModelShard& model, Device& device) {
  TransformerScratch scratch;
  const Status status = scratch.allocate(model, device, kRows);
  EXPECT_TRUE(status.is_ok()) << status.message();
  uint64_t bytes = 0;
  for (const auto* buffer :
       {&scratch.hidden, &scratch.delta, &scratch.q, &scratch.k, &scratch.v, &scratch.logits,
        &scratch.q_bottleneck, &scratch.q_full, &scratch.values, &scratch.router_logits,
        &scratch.expert_ids, &scratch.expert_weights, &scratch.row_gate}) {
    if (*buffer) bytes += (*buffer)->bytes();
  }
  for (const auto* activations :
       {&scratch.normed, &scratch.attended, &scratch.gated, &scratch.last,
        &scratch.q_bottleneck_norm, &scratch.q_heads, &scratch.latent, &scratch.expert_mid}) {
    if (*activations) bytes += static_cast<const CpuActivations&>(**activations).memory.bytes();
  }
  return bytes;
}

void check_model(const std::string& path, ExpertLayout layout, std::vector<double> shares) {
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.is_ok()) << file.status().to_string();
  const auto spec = read_model_spec(*file);
  ASSERT_TRUE(spec.is_ok()) << spec.status().to_string();
  const auto world = static_cast<int>(shares.size());
  GroupRequest request;
  request.plan = {world, shares};
  request.layout = layout;
  request.options = {.kv_element_bytes = 4, .block_tokens = 16, .max_rows = kRows};
  request.memory.assign(shares.size(), uint64_t{1} << 40);
  if (shares.back() == 0) request.expert_shares.assign(shares.size(), 1.0);
  request.required = request.wanted = 8;
  const auto plan = plan_group(*spec, tensor_types(*file), request);
  ASSERT_TRUE(plan.is_ok()) << plan.status().to_string();

  MiniGroupOptions options;
  options.shares = shares;
  options.experts = plan->plan.experts;
  options.max_rows = kRows;
  options.max_tokens = 64;
  MiniGroup group(path, options);
  // A token reads what the plan's bandwidth figures count on; several ranks repeat routers and what
  // MLA does not split.
  group.step({{.tokens = {3}}});
  uint64_t read = 0;
  for (int rank = 0; rank < world; ++rank) read += group.transformer(rank).bytes_read();
  const auto planned = bytes_per_token(*spec, tensor_types(*file));
  ASSERT_TRUE(planned.is_ok());
  EXPECT_GE(static_cast<double>(read), 0.97 * static_cast<double>(*planned)) << path;
  EXPECT_LE(static_cast<double>(read), (world == 1 ? 1.0 : 1.25) * static_cast<double>(*planned))
      << path;
  for (const RankMemory& rank : plan->memory.ranks) {
    SCOPED_TRACE(::testing::Message() << path << " rank " << rank.rank << " of " << world
                                      << (layout == ExpertLayout::kPlaced ? " placed" : " sliced"));
    const ModelShard& model = group.model(rank.rank);
    expect_near(rank.weight_bytes, model.weight_bytes, "weights");
    const auto device = make_cpu_device({.threads = 1});
    ASSERT_TRUE(device.is_ok());
    // Sockets or shared memory are not here; ids and block tables are small.
    const uint64_t collective = world > 1 ? 3 << 20 : 0;
    expect_near(rank.scratch_bytes - collective, scratch_bytes(model, **device), "scratch");
    const std::vector<int64_t> blocks(spec->kv_groups.size(), 8);
    const auto store = KvStore::create(*spec, model.shard, {KvType::kF32, blocks, 16}, **device);
    ASSERT_TRUE(store.is_ok()) << store.status().to_string();
    EXPECT_EQ(rank.kv_bytes(blocks), (*store)->bytes());
  }
}

TEST(MemoryOfRanks, ReferenceModels) {
  for (const char* name : {"llama", "gemma3", "mixtral", "qwen2moe", "qwen3moe", "llama4",
                           "glm4moe", "gptoss", "deepseek2"}) {
    const std::string packed = std::string("oracle/") + name + "-f32.gguf.gz";
    SHOAL_SKIP_WITHOUT_SHARED(packed);
    const std::string path = gunzip_shared(packed);
    check_model(path, ExpertLayout::kSliced, {1});
    check_model(path, ExpertLayout::kSliced, {1, 2});
    check_model(path, ExpertLayout::kPlaced, {1, 1, 1});
    if (std::string(name) == "llama" || std::string(name) == "gemma3") continue;
    check_model(path, ExpertLayout::kSliced, {1, 1, 0});
    check_model(path, ExpertLayout::kPlaced, {1, 1, 0});
    if (HasFailure()) return;
  }
}

// Quantised: cut super-blocks and vectors as float32.
TEST(MemoryOfRanks, ShippedModels) {
  for (const char* name : {"shoal-tiny-dense-q8_0.gguf", "shoal-tiny-moe-q8_0.gguf"}) {
    check_model(model_path(name), ExpertLayout::kSliced, {1});
    check_model(model_path(name), ExpertLayout::kSliced, {1, 1, 1});
    check_model(model_path(name), ExpertLayout::kPlaced, {2, 1});
  }
}

}  // namespace
}  // namespace shoal::testing

#include "cli/plan.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <map>

#include <fmt/core.h>

#include "base/rng.h"
#include "parallel/memory_plan.h"

namespace shoal {
namespace {

// Automatic context: what most requests need. A model trained for 131072 tokens would otherwise
// take its whole KV cache for one sequence; ask with --context.
constexpr int64_t kDefaultContext = 8192;
// Automatic KV cache: room for this many full contexts, if memory allows, capped in tokens.
constexpr int64_t kDefaultSequences = 16;
constexpr int64_t kDefaultKvTokens = 65536;
// Of a worker's free memory; the rest is for the operating system's page cache, buffers and luck.
constexpr double kUsableMemory = 0.9;

int64_t blocks_for(int64_t tokens, int64_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

// [KV groups] blocks for the workers that are there, or the refusal with the figures.
Result<std::vector<uint32_t>> fit_kv_blocks(const config::Config& config, const ServedModel& model,
                                            const TensorParallelPlan& plan, int64_t context,
                                            const std::vector<wire::Hello>& workers) {
  MemoryOptions options;
  options.kv_element_bytes = config.kv.type == config::KvType::kF32 ? 4 : 2;
  options.block_tokens = config.kv.block_tokens;
  options.max_rows = config.scheduler.max_batch_rows;
  options.context_tokens = context;
  options.max_sequences = config.scheduler.max_sequences;
  options.prefill_chunk = config.scheduler.prefill_chunk;
  SHOAL_ASSIGN(const MemoryPlan memory,
               make_memory_plan(model.spec, tensor_types(*model.file), plan, options));
  // Workers of one host share its memory; what a worker already holds of this model is not free but
  // its own.
  std::map<std::string, int> per_host;
  for (const wire::Hello& worker : workers) ++per_host[worker.host_id];
  std::vector<uint64_t> usable;
  for (size_t rank = 0; rank < workers.size(); ++rank) {
    const wire::Hello& worker = workers[rank];
    const uint64_t held = worker.model_digest == model.digest ? memory.ranks[rank].weight_bytes : 0;
    const double free = static_cast<double>(worker.memory_bytes) / per_host[worker.host_id];
    usable.push_back(static_cast<uint64_t>(free * kUsableMemory) + held);
  }
  const int64_t required = blocks_for(context, config.kv.block_tokens);
  int64_t wanted = config.kv.blocks;
  if (wanted == 0) {
    wanted = std::max(required, blocks_for(std::min(context * kDefaultSequences, kDefaultKvTokens),
                                           config.kv.block_tokens));
  }
  if (wanted < required) {
    return invalid_argument(fmt::format("kv.blocks is {}, but one sequence of {} tokens takes {}",
                                        wanted, context, required));
  }
  SHOAL_ASSIGN(const int64_t blocks, fit_blocks(memory, usable, required, wanted));
  std::vector<uint32_t> groups;
  for (const int64_t of_group : memory.group_blocks(blocks)) {
    groups.push_back(static_cast<uint32_t>(of_group));
  }
  return groups;
}

// Ranks of equal arithmetic select the same experts from the same bits; in a mixed group, or where
// a worker does not say, one rank selects for all.
int32_t routing_rank(const ModelSpec& spec, const std::vector<wire::Hello>& workers) {
  const bool routed = std::any_of(spec.layer.begin(), spec.layer.end(),
                                  [](const LayerSpec& layer) { return layer.ffn.moe.experts > 0; });
  if (!routed || workers.size() == 1) return -1;
  const std::string& first = workers[0].arithmetic;
  const bool equal =
      !first.empty() && std::all_of(workers.begin(), workers.end(), [&](const wire::Hello& worker) {
        return worker.arithmetic == first;
      });
  return equal ? -1 : 0;
}

Result<std::vector<double>> shares_of(const config::Config& config, size_t world) {
  std::vector<double> shares;
  if (!config.parallel.shares.empty()) {
    shares = config.parallel.shares;
    if (shares.size() == world) return shares;
    return invalid_argument(
        fmt::format("parallel.shares has {} entries for {} ranks", shares.size(), world));
  }
  // Workers beyond parallel.tensor are spares: a spare takes over the share of the rank it gets.
  for (const config::Worker& worker : config.workers) shares.push_back(worker.share);
  shares.resize(world, 1.0);
  return shares;
}

}  // namespace

uint64_t bytes_read_per_token(const GgufFile& file, const ModelSpec& spec) {
  uint64_t bytes = 0;
  for (const TensorDecl& decl : spec.tensors) {
    if (decl.role == Role::kTokenEmbedding && !spec.tied_output) continue;
    if (decl.role == Role::kOutput && spec.tied_output) continue;  // counted as the embedding
    const TensorInfo& tensor = *file.find_tensor(decl.name);
    bytes += row_bytes(tensor.type, tensor.dims[0]) *
             static_cast<uint64_t>(decl.cols == 1 ? 1 : decl.rows);
  }
  return bytes;
}

Result<ServedModel> read_served_model(const std::string& path) {
  ServedModel model;
  SHOAL_ASSIGN(GgufFile file, GgufFile::open(path));
  model.path = std::filesystem::absolute(path).lexically_normal().string();
  model.digest = file.digest();
  SHOAL_ASSIGN(model.spec, read_model_spec(file));
  model.name =
      model.spec.name == "unnamed" ? std::filesystem::path(path).stem().string() : model.spec.name;
  model.file = std::make_shared<GgufFile>(std::move(file));
  return model;
}

Result<CoreOptions> make_core_options(const config::Config& config, const ServedModel& model,
                                      const std::vector<std::string>& names) {
  const size_t world = config.parallel.tensor > 0 ? config.parallel.tensor : names.size();
  if (world == 0)
    return invalid_argument("no workers are configured: give --workers or a `workers` list");
  if (world > names.size()) {
    return invalid_argument(
        fmt::format("parallel.tensor is {} but {} workers are configured", world, names.size()));
  }
  TensorParallelPlan plan;
  plan.world = static_cast<int>(world);
  SHOAL_ASSIGN(plan.shares, shares_of(config, world));
  SHOAL_TRY(make_rank_shard(model.spec, plan, 0).status());

  const int64_t trained = model.spec.context_length;
  const int64_t context =
      config.kv.context > 0 ? config.kv.context : std::min(trained, kDefaultContext);
  CoreOptions core;
  core.context_tokens = static_cast<uint32_t>(std::max<int64_t>(context, 2));
  core.vocab = static_cast<int32_t>(model.spec.vocab);
  core.queue = {config.coordinator.limits.queue_requests, config.coordinator.limits.queue_tokens};
  core.scheduler.max_rows = config.scheduler.max_batch_rows;
  core.scheduler.max_sequences = config.scheduler.max_sequences;
  core.scheduler.max_slots =
      std::min<uint32_t>(2 * config.scheduler.max_sequences, wire::kMaxSlots);
  core.scheduler.prefill_chunk = config.scheduler.prefill_chunk;
  core.scheduler.depth = config.scheduler.steps_in_flight;
  core.scheduler.block_tokens = config.kv.block_tokens;
  core.scheduler.prefix_cache = config.kv.prefix_cache;
  core.scheduler.cache_secret = random_seed();
  core.scheduler.kv_rules.clear();
  for (const KvGroup& group : model.spec.kv_groups) {
    core.scheduler.kv_rules.push_back(
        {static_cast<uint32_t>(group.window), static_cast<uint32_t>(group.chunk)});
  }

  MembershipOptions& membership = core.membership;
  membership.world = static_cast<uint32_t>(world);
  membership.names = names;
  membership.shares = plan.shares;
  if (config.parallel.engine == config::Engine::kShm)
    membership.engine = wire::CollectiveEngine::kShm;
  if (config.parallel.engine == config::Engine::kGloo)
    membership.engine = wire::CollectiveEngine::kGloo;
  if (world == 1) membership.engine.reset();
  membership.segment_prefix = fmt::format("/shoal.{}", ::getpid());
  // Larger than any epoch of an earlier coordinator: workers drop what is older than they have
  // seen.
  membership.first_epoch = static_cast<uint64_t>(std::time(nullptr)) << 20;
  membership.heartbeat = config.timeouts.heartbeat;
  membership.lost_after = config.timeouts.worker_lost;
  membership.load_timeout = config.timeouts.load;
  membership.plan.model_path = model.path;
  membership.plan.model_digest = model.digest;
  membership.plan.kv =
      config.kv.type == config::KvType::kF32 ? wire::KvPrecision::kF32 : wire::KvPrecision::kF16;
  membership.plan.int8_activations = config.parallel.int8_activations;
  membership.plan.step_timeout_seconds = to_seconds(config.timeouts.step);
  membership.plan.form_timeout_seconds = to_seconds(config.timeouts.form);
  membership.complete_plan = [config, model, plan, context](const std::vector<wire::Hello>& workers,
                                                            wire::Assign* assign) -> Status {
    SHOAL_ASSIGN(assign->kv_blocks, fit_kv_blocks(config, model, plan, context, workers));
    assign->routing_rank = routing_rank(model.spec, workers);
    return Status::ok();
  };
  return core;
}

}  // namespace shoal

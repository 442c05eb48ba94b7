#include "coordinator/server/group.h"

#include <algorithm>

#include <fmt/core.h>

#include "config/placement_file.h"
#include "parallel/plan/expert_placement.h"

namespace shoal {
namespace {

MemoryOptions memory_options(const config::Config& config, int64_t context_tokens) {
  MemoryOptions options;
  options.kv_element_bytes = config.kv.type == config::KvType::kF32 ? 4 : 2;
  options.block_tokens = config.kv.block_tokens;
  options.max_rows = config.scheduler.max_batch_rows;
  options.context_tokens = context_tokens;
  options.max_sequences = config.scheduler.max_sequences;
  options.prefill_chunk = config.scheduler.prefill_chunk;
  return options;
}

// Workers beyond the ranks are spares: a spare takes over the share of the rank it gets.
Result<std::vector<double>> full_shares(const config::Config& config, size_t full) {
  std::vector<double> shares = config.parallel.shares;
  if (!shares.empty()) {
    if (shares.size() == full) return shares;
    return invalid_argument(
        fmt::format("parallel.shares has {} entries for {} ranks", shares.size(), full));
  }
  for (const config::Worker& worker : config.workers) {
    if (worker.role == config::WorkerRole::kFull) shares.push_back(worker.share);
  }
  shares.resize(full, 1.0);
  return shares;
}

Result<ExpertLayout> layout_of(const config::Config& config, const ModelSpec& spec,
                               const TensorParallelPlan& plan, bool pinned) {
  switch (config.parallel.experts) {
    case config::Experts::kSliced:
      if (pinned) return invalid_argument("a placement file needs parallel.experts placed or auto");
      return ExpertLayout::kSliced;
    case config::Experts::kPlaced:
      return ExpertLayout::kPlaced;
    case config::Experts::kAuto:
      break;
  }
  return choose_expert_layout(spec, plan, pinned);
}

}  // namespace

Result<GroupWishes> make_group_wishes(const config::Config& config, const ModelSpec& spec,
                                      const std::vector<std::string>& names,
                                      int64_t context_tokens) {
  GroupWishes wishes;
  PlanWishes& plan = wishes.plan;
  for (const std::string& name : names) {
    const auto worker = std::find_if(config.workers.begin(), config.workers.end(),
                                     [&](const config::Worker& w) { return w.name == name; });
    if (worker == config.workers.end() || worker->role == config::WorkerRole::kFull) {
      wishes.names.push_back(name);
    } else {
      wishes.expert_names.push_back(name);
      plan.expert_factors.push_back(worker->share);
    }
  }
  const size_t full = config.parallel.tensor > 0 ? config.parallel.tensor : wishes.names.size();
  if (full == 0) {
    return invalid_argument("no workers are configured: give --workers or a `workers` list");
  }
  if (full > wishes.names.size()) {
    return invalid_argument(fmt::format("parallel.tensor is {} but {} workers are configured", full,
                                        wishes.names.size()));
  }
  const bool routed = !mixture_experts(spec).empty();
  if (!routed && !wishes.expert_names.empty()) {
    return invalid_argument(
        fmt::format("worker '{}' is to hold experts only, but the model has none; leave it out",
                    wishes.expert_names.front()));
  }
  plan.split.world = static_cast<int>(full + wishes.expert_names.size());
  SHOAL_ASSIGN(plan.split.shares, full_shares(config, full));
  plan.split.shares.resize(static_cast<size_t>(plan.split.world), 0.0);
  SHOAL_TRY(make_rank_shard(spec, plan.split, 0).status());
  if (!config.parallel.placement.empty()) {
    if (!routed) return invalid_argument("parallel.placement is set, but the model has no experts");
    std::vector<int64_t> experts;
    for (const LayerSpec& layer : spec.layer) experts.push_back(layer.ffn.moe.experts);
    SHOAL_ASSIGN(plan.pins,
                 config::read_placement(config.parallel.placement, experts, plan.split.world));
  }
  SHOAL_ASSIGN(plan.layout, layout_of(config, spec, plan.split, !plan.pins.empty()));
  plan.memory = memory_options(config, context_tokens);
  plan.kv_blocks = config.kv.blocks;
  return wishes;
}

}  // namespace shoal

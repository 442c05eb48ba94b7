#include "cli/group.h"

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "config/placement_file.h"
#include "parallel/expert_placement.h"
#include "parallel/memory_plan.h"

namespace shoal {
namespace {

// Automatic KV cache: room for this many full contexts, if memory allows, capped in tokens.
constexpr int64_t kDefaultSequences = 16;
constexpr int64_t kDefaultKvTokens = 65536;
// Of a worker's free memory; the rest is for the operating system's page cache, buffers and luck.
constexpr double kUsableMemory = 0.9;
// A rank of experts has at most this many times the memory of the others, as far as its part goes.
constexpr double kLargestPart = 1000;
// Its part where it is only to take what does not fit elsewhere.
constexpr double kSpillPart = 1e-6;

int64_t blocks_for(int64_t tokens, int64_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

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

// Ranks of equal arithmetic select the same experts from the same bits; in a mixed group, or where
// a worker does not say, one rank selects for all.
int32_t routing_rank(const ModelSpec& spec, const std::vector<wire::Hello>& workers) {
  if (mixture_experts(spec).empty() || workers.size() == 1) return -1;
  const std::string& first = workers[0].arithmetic;
  const bool equal =
      !first.empty() && std::all_of(workers.begin(), workers.end(), [&](const wire::Hello& worker) {
        return worker.arithmetic == first;
      });
  return equal ? -1 : 0;
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

// CPU workers of one host share its memory; a card is its worker's own.
std::vector<uint64_t> usable_memory(const std::vector<wire::Hello>& workers) {
  std::map<std::string, int> per_host;
  for (const wire::Hello& worker : workers) {
    if (worker.device_kind == "cpu") ++per_host[worker.host_id];
  }
  std::vector<uint64_t> usable;
  for (const wire::Hello& worker : workers) {
    const int sharers = worker.device_kind == "cpu" ? per_host[worker.host_id] : 1;
    usable.push_back(
        static_cast<uint64_t>(static_cast<double>(worker.memory_bytes) / sharers * kUsableMemory));
  }
  return usable;
}

}  // namespace

Result<GroupLayout> make_group_layout(const config::Config& config, const ModelSpec& spec,
                                      const std::vector<std::string>& names) {
  GroupLayout layout;
  for (const std::string& name : names) {
    const auto worker = std::find_if(config.workers.begin(), config.workers.end(),
                                     [&](const config::Worker& w) { return w.name == name; });
    if (worker == config.workers.end() || worker->role == config::WorkerRole::kFull) {
      layout.names.push_back(name);
    } else {
      layout.expert_names.push_back(name);
      layout.expert_factors.push_back(worker->share);
    }
  }
  const size_t full = config.parallel.tensor > 0 ? config.parallel.tensor : layout.names.size();
  if (full == 0) {
    return invalid_argument("no workers are configured: give --workers or a `workers` list");
  }
  if (full > layout.names.size()) {
    return invalid_argument(fmt::format("parallel.tensor is {} but {} workers are configured", full,
                                        layout.names.size()));
  }
  const bool routed = !mixture_experts(spec).empty();
  if (!routed && !layout.expert_names.empty()) {
    return invalid_argument(
        fmt::format("worker '{}' is to hold experts only, but the model has none; leave it out",
                    layout.expert_names.front()));
  }
  layout.plan.world = static_cast<int>(full + layout.expert_names.size());
  SHOAL_ASSIGN(layout.plan.shares, full_shares(config, full));
  layout.plan.shares.resize(static_cast<size_t>(layout.plan.world), 0.0);
  SHOAL_TRY(make_rank_shard(spec, layout.plan, 0).status());
  if (!config.parallel.placement.empty()) {
    if (!routed) return invalid_argument("parallel.placement is set, but the model has no experts");
    std::vector<int64_t> experts;
    for (const LayerSpec& layer : spec.layer) experts.push_back(layer.ffn.moe.experts);
    SHOAL_ASSIGN(layout.pins,
                 config::read_placement(config.parallel.placement, experts, layout.plan.world));
  }
  SHOAL_ASSIGN(layout.experts, layout_of(config, spec, layout.plan, !layout.pins.empty()));
  return layout;
}

std::vector<double> expert_shares(const GroupLayout& layout, const std::vector<uint64_t>& memory,
                                  const std::vector<wire::Hello>& workers) {
  if (layout.expert_names.empty()) return {};
  std::vector<double> shares = layout.plan.shares;
  const size_t full = shares.size() - layout.expert_names.size();
  double mean_share = 0, mean_memory = 0;
  for (size_t rank = 0; rank < full; ++rank) {
    mean_share += shares[rank] / static_cast<double>(full);
    mean_memory += static_cast<double>(memory[rank]) / static_cast<double>(full);
  }
  for (size_t rank = full; rank < shares.size(); ++rank) {
    const bool same_kind = std::any_of(
        workers.begin(), workers.begin() + static_cast<std::ptrdiff_t>(full),
        [&](const wire::Hello& w) { return w.device_kind == workers[rank].device_kind; });
    const double part = static_cast<double>(memory[rank]) / std::max(1.0, mean_memory);
    shares[rank] = mean_share * layout.expert_factors[rank - full] *
                   (same_kind ? std::clamp(part, 1 / kLargestPart, kLargestPart) : kSpillPart);
  }
  return shares;
}

Status complete_group_plan(const config::Config& config, const ServedModel& model,
                           const GroupLayout& layout, int64_t context_tokens,
                           const std::vector<wire::Hello>& workers, wire::Assign* assign) {
  GroupRequest request;
  request.plan = layout.plan;
  request.layout = layout.experts;
  request.pins = layout.pins;
  request.options = memory_options(config, context_tokens);
  const TensorTypeOf types = tensor_types(*model.file);
  const ExpertPlan previous{assign->experts.shares, assign->experts.ranks};
  request.memory = usable_memory(workers);
  for (const wire::Hello& worker : workers)
    request.holders.push_back(fmt::format("worker '{}' on {}", worker.name, worker.host_name));
  request.expert_shares = expert_shares(layout, request.memory, workers);

  const int64_t block_tokens = config.kv.block_tokens;
  request.required = blocks_for(context_tokens, block_tokens);
  request.wanted = config.kv.blocks;
  if (request.wanted == 0) {
    const int64_t tokens = std::min(context_tokens * kDefaultSequences, kDefaultKvTokens);
    request.wanted = std::max(request.required, blocks_for(tokens, block_tokens));
  }
  if (request.wanted < request.required) {
    return invalid_argument(fmt::format("kv.blocks is {}, but one sequence of {} tokens takes {}",
                                        request.wanted, context_tokens, request.required));
  }
  SHOAL_ASSIGN(const GroupPlan plan, plan_group(model.spec, types, request, previous));
  assign->experts = {plan.plan.experts.shares, plan.plan.experts.ranks};
  assign->kv_blocks.clear();
  for (const int64_t blocks : plan.memory.group_blocks(plan.blocks)) {
    assign->kv_blocks.push_back(static_cast<uint32_t>(blocks));
  }
  assign->routing_rank = routing_rank(model.spec, workers);
  return Status::ok();
}

}  // namespace shoal

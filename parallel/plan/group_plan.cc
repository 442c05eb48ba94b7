#include "parallel/plan/group_plan.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "parallel/plan/expert_placement.h"

namespace shoal {
namespace {

// A slice below this part of the largest one is not worth a rank's while.
constexpr double kLeastPart = 1e-4;

std::vector<double> dense_shares(const TensorParallelPlan& plan) {
  return plan.shares.empty() ? even_plan(plan.world).shares : plan.shares;
}

// The experts left out.
MemoryPlan without_experts(MemoryPlan memory) {
  for (RankMemory& rank : memory.ranks) {
    rank.weight_bytes -= rank.expert_bytes;
    rank.expert_bytes = 0;
  }
  return memory;
}

class GroupPlanner {
 public:
  GroupPlanner(const ModelSpec& spec, const TensorTypeOf& type_of, const GroupRequest& request)
      : spec_(spec), type_of_(type_of), request_(request) {}

  Result<GroupPlan> with(const ExpertPlan& experts) const {
    GroupPlan out;
    out.plan = request_.plan;
    out.plan.experts = experts;
    SHOAL_ASSIGN(out.memory, make_memory_plan(spec_, type_of_, out.plan, request_.options));
    SHOAL_ASSIGN(out.blocks, fit_blocks(out.memory, request_.memory, request_.required,
                                        request_.wanted, request_.holders));
    return out;
  }

  Result<GroupPlan> plan() {
    // Scratch is largest where a rank holds whole experts; whether it does is not known yet.
    TensorParallelPlan everywhere = request_.plan;
    everywhere.experts = {};
    const std::vector<int64_t> counts = mixture_experts(spec_);
    const uint64_t all = everywhere.world >= 64
                             ? UINT64_MAX
                             : (uint64_t{1} << static_cast<unsigned>(everywhere.world)) - 1;
    everywhere.experts.ranks.assign(
        static_cast<size_t>(std::accumulate(counts.begin(), counts.end(), int64_t{0})), all);
    SHOAL_ASSIGN(MemoryPlan memory,
                 make_memory_plan(spec_, type_of_, everywhere, request_.options));
    const MemoryPlan rest = without_experts(std::move(memory));
    SHOAL_TRY(
        fit_blocks(rest, request_.memory, request_.required, request_.required, request_.holders)
            .status());
    SHOAL_ASSIGN(bytes_, expert_bytes(spec_, type_of_));
    if (auto plan = with_room(rest, request_.wanted)) return plan;
    return with_room(rest, request_.required);
  }

 private:
  Result<GroupPlan> with_room(const MemoryPlan& rest, int64_t blocks) const {
    const std::vector<double> shares =
        request_.expert_shares.empty() ? dense_shares(request_.plan) : request_.expert_shares;
    std::vector<ExpertRank> ranks;
    for (const RankMemory& rank : rest.ranks) {
      const auto r = static_cast<size_t>(rank.rank);
      const uint64_t used = rank.bytes_with(rest.group_blocks(blocks));
      ranks.push_back({shares.at(r), request_.memory[r] - std::min(request_.memory[r], used)});
    }
    ExpertPlan experts;
    if (request_.layout == ExpertLayout::kSliced) {
      experts.shares = slices(ranks);
    } else {
      SHOAL_ASSIGN(experts.ranks,
                   make_placement(spec_, {bytes_, ranks, request_.pins, request_.load}));
    }
    return with(experts);
  }

  std::vector<double> slices(const std::vector<ExpertRank>& ranks) const {
    double total = 0;
    size_t layer = 0;
    for (const int64_t experts : mixture_experts(spec_)) {
      total += static_cast<double>(experts) * static_cast<double>(bytes_[layer++]);
    }
    std::vector<double> parts = parts_that_fit(ranks, total);
    const double largest = *std::max_element(parts.begin(), parts.end());
    // All are full: the refusal of fit_blocks() has the figures.
    if (!(largest > 0)) return request_.expert_shares;
    for (double& part : parts) {
      if (part < largest * kLeastPart) part = 0;
    }
    return parts;
  }

  const ModelSpec& spec_;
  const TensorTypeOf& type_of_;
  const GroupRequest& request_;
  std::vector<uint64_t> bytes_;  // of one expert, per mixture layer
};

bool keeps_pins(const ExpertPlan& previous, const std::vector<uint64_t>& pins) {
  if (pins.size() > previous.ranks.size()) return false;
  for (size_t i = 0; i < pins.size(); ++i) {
    if (pins[i] != 0 && pins[i] != previous.ranks[i]) return false;
  }
  return true;
}

}  // namespace

ExpertLayout choose_expert_layout(const ModelSpec& spec, const TensorParallelPlan& plan,
                                  bool pinned) {
  if (pinned) return ExpertLayout::kPlaced;
  const std::vector<double> shares = dense_shares(plan);
  if (std::find(shares.begin(), shares.end(), 0.0) != shares.end()) return ExpertLayout::kPlaced;
  TensorParallelPlan sliced = plan;
  sliced.experts = {};
  for (int rank = 0; rank < plan.world; ++rank) {
    const auto shard = make_rank_shard(spec, sliced, rank);
    if (!shard) return ExpertLayout::kSliced;  // whoever plans with it gets the refusal
    for (size_t i = 0; i < spec.layer.size(); ++i) {
      const MoeLayer& moe = spec.layer[i].ffn.moe;
      if (moe.experts == 0 || moe.features < kMinSlice) continue;
      if (shard->layers[i].expert_features.size() < kMinSlice) return ExpertLayout::kPlaced;
    }
  }
  return ExpertLayout::kSliced;
}

Result<GroupPlan> plan_group(const ModelSpec& spec, const TensorTypeOf& type_of,
                             const GroupRequest& request, const ExpertPlan& previous) {
  SHOAL_TRY(check_plan(request.plan));
  SHOAL_CHECK(request.memory.size() == static_cast<size_t>(request.plan.world),
              "a memory figure per rank");
  SHOAL_CHECK(
      request.expert_shares.empty() || request.expert_shares.size() == request.memory.size(),
      "an expert share per rank");
  GroupPlanner planner(spec, type_of, request);
  const bool routed = !mixture_experts(spec).empty();
  // Without shares of its own a sliced layout follows the dense shares: one plan, one refusal.
  if (!routed || (request.layout == ExpertLayout::kSliced && request.expert_shares.empty())) {
    return planner.with({});
  }
  const bool same_layout = previous.placed() == (request.layout == ExpertLayout::kPlaced) &&
                           (previous.placed() || !previous.shares.empty());
  if (same_layout && keeps_pins(previous, request.pins)) {
    auto kept = planner.with(previous);
    if (kept) return kept;
  }
  return planner.plan();
}

}  // namespace shoal

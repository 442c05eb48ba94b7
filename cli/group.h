// From configuration and the workers that came to the plan of their group: ranks, shares, layout
// and placement of experts, KV blocks, who routes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "cli/plan.h"
#include "config/config.h"
#include "parallel/group_plan.h"
#include "wire/messages.h"

namespace shoal {

// What is known before any worker is there. Ranks: workers of role full in the order listed, then
// those of role experts.
struct GroupLayout {
  TensorParallelPlan plan;         // shares of attention and dense layers; experts: 0
  std::vector<std::string> names;  // of workers of role full; those beyond the ranks are spares
  std::vector<std::string> expert_names;
  std::vector<double> expert_factors;  // [ranks of experts] Worker::share
  ExpertLayout experts = ExpertLayout::kSliced;
  std::vector<uint64_t> pins;  // of the placement file; empty: none
};

// `names`: of the expected workers. Refuses a group without ranks, with more than the model can be
// cut into, workers of experts for a model without any, and a placement file that is wrong.
Result<GroupLayout> make_group_layout(const config::Config& config, const ModelSpec& spec,
                                      const std::vector<std::string>& names);

// [world] relative part of the experts' work, empty: as the dense shares. A rank of experts gets as
// much, relative to the mean of the others, as it has memory, times its factor; if its device is of
// another kind (a host's RAM beside GPUs) only what does not fit on them. memory: [world].
std::vector<double> expert_shares(const GroupLayout& layout, const std::vector<uint64_t>& memory,
                                  const std::vector<wire::Hello>& workers);

// Fills in experts, KV blocks and the routing rank of a plan for these workers (by rank), whose
// `experts` are those of the epoch before, if any. Or the refusal, with the figures.
Status complete_group_plan(const config::Config& config, const ServedModel& model,
                           const GroupLayout& layout, int64_t context_tokens,
                           const std::vector<wire::Hello>& workers, wire::Assign* assign);

}  // namespace shoal

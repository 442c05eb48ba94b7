// The plan of a whole group before anything is loaded: who holds which experts, and how many KV
// blocks fit. Pure, deterministic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/model_spec.h"
#include "parallel/plan/memory_plan.h"
#include "parallel/plan/shard.h"

namespace shoal {

enum class ExpertLayout : uint8_t { kSliced, kPlaced };

// What to do where nobody asks for a layout. Sliced gives every rank the same work whatever tokens
// are routed to, so it is preferred; but a slice below kMinSlice features spends more on starting
// a product than on computing it. Placed, too, if experts are pinned or some rank holds nothing but
// experts (its memory and speed differ from the others'). REQUIRES: check_plan(plan).
inline constexpr int64_t kMinSlice = 64;
ExpertLayout choose_expert_layout(const ModelSpec& spec, const TensorParallelPlan& plan,
                                  bool pinned);

struct GroupRequest {
  TensorParallelPlan plan;  // of attention and dense layers; `experts` is filled in
  ExpertLayout layout = ExpertLayout::kSliced;
  // [world] relative part of the experts' work, ≥ 0; empty: as plan.shares.
  std::vector<double> expert_shares;
  std::vector<uint64_t> pins;  // as PlacementRequest
  std::vector<double> load;    // as PlacementRequest
  MemoryOptions options;
  std::vector<uint64_t> memory;  // [world] bytes each rank may use
  // [world] what refusals call who holds each rank; empty: nobody does yet.
  std::vector<std::string> holders;
  int64_t required = 1;  // KV blocks, as fit_blocks()
  int64_t wanted = 1;
};

struct GroupPlan {
  TensorParallelPlan plan;
  MemoryPlan memory;
  int64_t blocks = 0;  // of a KV group that sees everything; memory.group_blocks(blocks): of all
};

// Experts go where there is room beside dense weights, scratch and `wanted` KV blocks, or else
// beside `required` ones. `previous`, if it is of this model and group and still fits, is kept:
// weights that are loaded stay valid. kResourceExhausted with the figures if nothing fits.
// REQUIRES: 1 ≤ required ≤ wanted ≤ kMaxPlannedBlocks.
Result<GroupPlan> plan_group(const ModelSpec& spec, const TensorTypeOf& type_of,
                             const GroupRequest& request, const ExpertPlan& previous = {});

}  // namespace shoal

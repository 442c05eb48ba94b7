// Which rank holds which expert of a mixture. Pure, deterministic: equal input, equal placement.
//
// Automatic placement deals whole experts so that the work of every layer spreads over the ranks in
// proportion to their shares, and the sum over layers too. Work of an expert = its bytes (a decoded
// token reads each expert it visits once) × its measured load, if there is one. Heaviest first,
// each goes to the rank whose work in that layer, relative to its share, ends up least; among
// those, to the one whose work in total does. A rank whose room is too small for its share gets
// what fits, spread over all layers; the others share the rest. If memory is so tight that this
// leaves experts over, all are packed by size alone.
//
// Running again with the loads of wire::ExpertLoad gives a new placement; replicas come from pins.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "base/status.h"
#include "model/model_spec.h"
#include "parallel/plan/shard.h"

namespace shoal {

struct ExpertRank {
  double share = 1;  // ≥ 0, relative part of the experts' work; 0: only what is pinned to it
  uint64_t room = std::numeric_limits<uint64_t>::max();  // bytes for experts
};

struct PlacementRequest {
  // [mixture layers in order] bytes of one expert: expert_bytes() of memory_plan.h.
  std::vector<uint64_t> bytes;
  std::vector<ExpertRank> ranks;  // [world]
  // [mixture layers in order][experts], as ExpertPlan::ranks; 0: place it here. Or empty.
  std::vector<uint64_t> pins;
  // [mixture layers in order][experts] tokens that visited it. Or empty: all alike. Experts that
  // were visited less than a twentieth of their layer's mean count as that.
  std::vector<double> load;
};

// ExpertPlan::ranks. Refuses vectors of other lengths, shares and loads that are negative or not
// finite, pins that name no rank of the group; kResourceExhausted, with the figures per rank, if
// the experts do not fit.
Result<std::vector<uint64_t>> make_placement(const ModelSpec& spec,
                                             const PlacementRequest& request);

// Shares lowered to what has room: the parts of `bytes` that ranks get if they are dealt in
// proportion to their shares, none beyond its room. Sums to 1, or to less if all are full. [world].
std::vector<double> parts_that_fit(const std::vector<ExpertRank>& ranks, double bytes);

// Per rank, bytes of the experts a placement gives it. [world]
std::vector<uint64_t> placed_bytes(const ModelSpec& spec, const std::vector<uint64_t>& bytes,
                                   const std::vector<uint64_t>& placement, size_t world);

// Experts of each mixture layer, in order.
std::vector<int64_t> mixture_experts(const ModelSpec& spec);

}  // namespace shoal

// A group's plan: who computes what. One pure function makes it, from the model, from what is
// wished and from what the workers that came offer; wire::Assign is its encoding for one rank.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/model_spec.h"
#include "parallel/plan/group_plan.h"
#include "parallel/plan/memory_plan.h"
#include "parallel/plan/shard.h"

namespace shoal {

struct PlannedModel {
  ModelSpec spec;
  TensorTypeOf type_of;
};

// What is known before any worker is there. Ranks: those that do everything, then those that hold
// experts only.
struct PlanWishes {
  TensorParallelPlan split;            // shares of attention and dense layers; no experts
  std::vector<double> expert_factors;  // [ranks of experts] > 0, see expert_shares()
  ExpertLayout layout = ExpertLayout::kSliced;
  std::vector<uint64_t> pins;  // as PlacementRequest; empty: none
  MemoryOptions memory;        // context_tokens > 0: every plan has room for one such sequence
  int64_t kv_blocks = 0;       // of a KV group that sees everything; 0: as many as are of use
};

// One worker, for the rank it would get.
struct Offer {
  std::string name, host_name;
  std::string host_id;        // equal on workers that share memory
  std::string device_kind;    // "cpu", "cuda"
  std::string arithmetic;     // equal: equal results from equal inputs; empty: unknown
  uint64_t memory_bytes = 0;  // of the host, for all its CPU workers together; or of the card
};

struct Plan {
  TensorParallelPlan split;  // with experts
  // ≥ 0: this rank selects experts for all and broadcasts; −1: every rank does (equal arithmetic).
  int32_t routing_rank = -1;
  std::vector<int64_t> kv_blocks;  // [KV groups]
  MemoryPlan memory;               // what each rank needs
};

// `offers`: [world]. `previous`: the experts of the plan before, kept if they still fit: weights
// that are loaded stay valid. kResourceExhausted with the figures if nothing fits,
// kInvalidArgument where no offer could help.
// REQUIRES: check_plan(wishes.split), offers.size() = world, context_tokens > 0.
Result<Plan> make_plan(const PlannedModel& model, const PlanWishes& wishes,
                       std::span<const Offer> offers, const ExpertPlan& previous = {});

// [world] relative part of the experts' work; empty, as the dense shares, where no rank holds
// experts only. Such a rank gets as much, relative to the mean of the others, as it has memory,
// times its factor; if its device is of another kind (a host's RAM beside GPUs) only what does not
// fit on them. memory: [world].
std::vector<double> expert_shares(const PlanWishes& wishes, const std::vector<uint64_t>& memory,
                                  std::span<const Offer> offers);

// A planner's lasting half: offers are all that is missing.
struct Planning {
  std::shared_ptr<const PlannedModel> model;
  PlanWishes wishes;
};

}  // namespace shoal

#include "parallel/plan/plan.h"

#include <algorithm>
#include <map>

#include <fmt/core.h>

#include "base/check.h"
#include "parallel/plan/expert_placement.h"

namespace shoal {
namespace {

// KV blocks where nobody says how many: for this many full contexts, if memory allows, capped in
// tokens.
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

// Ranks of equal arithmetic select the same experts from the same bits; in a mixed group, or where
// a worker does not say, one rank selects for all.
int32_t routing_rank(const ModelSpec& spec, std::span<const Offer> offers) {
  if (mixture_experts(spec).empty() || offers.size() == 1) return -1;
  const std::string& first = offers[0].arithmetic;
  const bool equal =
      !first.empty() && std::all_of(offers.begin(), offers.end(),
                                    [&](const Offer& offer) { return offer.arithmetic == first; });
  return equal ? -1 : 0;
}

// CPU workers of one host share its memory; a card is its worker's own.
std::vector<uint64_t> usable_memory(std::span<const Offer> offers) {
  std::map<std::string, int> per_host;
  for (const Offer& offer : offers) {
    if (offer.device_kind == "cpu") ++per_host[offer.host_id];
  }
  std::vector<uint64_t> usable;
  for (const Offer& offer : offers) {
    const int sharers = offer.device_kind == "cpu" ? per_host[offer.host_id] : 1;
    usable.push_back(
        static_cast<uint64_t>(static_cast<double>(offer.memory_bytes) / sharers * kUsableMemory));
  }
  return usable;
}

Status set_kv_blocks(const PlanWishes& wishes, GroupRequest& request) {
  const int64_t context = wishes.memory.context_tokens, block = wishes.memory.block_tokens;
  request.required = blocks_for(context, block);
  request.wanted = wishes.kv_blocks;
  if (request.wanted == 0) {
    const int64_t tokens = std::min(context * kDefaultSequences, kDefaultKvTokens);
    request.wanted = std::max(request.required, blocks_for(tokens, block));
  }
  if (request.wanted >= request.required) return Status::ok();
  return invalid_argument(fmt::format("kv.blocks is {}, but one sequence of {} tokens takes {}",
                                      request.wanted, context, request.required));
}

}  // namespace

std::vector<double> expert_shares(const PlanWishes& wishes, const std::vector<uint64_t>& memory,
                                  std::span<const Offer> offers) {
  if (wishes.expert_factors.empty()) return {};
  std::vector<double> shares = wishes.split.shares;
  const size_t full = shares.size() - wishes.expert_factors.size();
  double mean_share = 0, mean_memory = 0;
  for (size_t rank = 0; rank < full; ++rank) {
    mean_share += shares[rank] / static_cast<double>(full);
    mean_memory += static_cast<double>(memory[rank]) / static_cast<double>(full);
  }
  for (size_t rank = full; rank < shares.size(); ++rank) {
    const auto others = offers.first(full);
    const bool same_kind = std::any_of(others.begin(), others.end(), [&](const Offer& offer) {
      return offer.device_kind == offers[rank].device_kind;
    });
    const double part = static_cast<double>(memory[rank]) / std::max(1.0, mean_memory);
    shares[rank] = mean_share * wishes.expert_factors[rank - full] *
                   (same_kind ? std::clamp(part, 1 / kLargestPart, kLargestPart) : kSpillPart);
  }
  return shares;
}

Result<Plan> make_plan(const PlannedModel& model, const PlanWishes& wishes,
                       std::span<const Offer> offers, const ExpertPlan& previous) {
  SHOAL_CHECK(offers.size() == static_cast<size_t>(wishes.split.world), "an offer per rank");
  SHOAL_CHECK(wishes.memory.context_tokens > 0, "a context");
  GroupRequest request;
  request.plan = wishes.split;
  request.layout = wishes.layout;
  request.pins = wishes.pins;
  request.options = wishes.memory;
  request.memory = usable_memory(offers);
  for (const Offer& offer : offers) {
    request.holders.push_back(fmt::format("worker '{}' on {}", offer.name, offer.host_name));
  }
  request.expert_shares = expert_shares(wishes, request.memory, offers);
  SHOAL_TRY(set_kv_blocks(wishes, request));
  SHOAL_ASSIGN(GroupPlan group, plan_group(model.spec, model.type_of, request, previous));
  Plan plan;
  plan.kv_blocks = group.memory.group_blocks(group.blocks);
  plan.split = std::move(group.plan);
  plan.memory = std::move(group.memory);
  plan.routing_rank = routing_rank(model.spec, offers);
  return plan;
}

}  // namespace shoal

// Choice of experts: a warp per row, the rule of kernels/body/routing.h.
#pragma once

#include <cstdint>

#include "kernels/body/routing.h"
#include "kernels/cuda/product.h"

namespace shoal::gpu {

struct RouteRows {
  static constexpr const char* kName = "route_rows";
  static constexpr uint32_t kMaxThreads = simt::kWarpSize, kMinBlocks = 1;
  // Values of a row stand in shared memory up to here, in `scratch` beyond.
  static constexpr uint64_t kMaxSharedBytes = 32 * 1024;

  struct Params {
    RouteSpec spec;
    Global<const float> logits;  // [rows, experts]
    Global<const float> bias;    // [experts] or null: spec.selection_bias
    Global<float> scratch;       // [rows, experts + groups] or null
    Global<int32_t> ids;         // [rows, top_k]
    Global<float> weights;       // [rows, top_k]
  };

  struct Candidate {
    float value;
    int32_t id;
  };

  // The lane's best value behind `after` in the order of selection; `after.id` < 0: of all.
  template <class Values>
  SHOAL_SIMT static Candidate best_of_lane(const Values& values, uint32_t lane, int64_t experts,
                                           Candidate after) {
    Candidate best{body::lowest_route(), 0x7fffffff};
    for (int64_t e = lane; e < experts; e += simt::kWarpSize) {
      const float value = values[e];
      const auto id = static_cast<int32_t>(e);
      if (after.id >= 0 && !body::route_before(after.value, after.id, value, id)) continue;
      if (body::route_before(value, id, best.value, best.id)) best = {value, id};
    }
    return best;
  }

  template <class Ctx>
  SHOAL_SIMT static Candidate best_of_warp(Ctx& ctx, Candidate best) {
    for (uint32_t bits = 16; bits > 0; bits /= 2) {
      const float value = ctx.shuffle_xor(best.value, bits);
      const int32_t id = ctx.shuffle_xor(best.id, bits);
      if (body::route_before(value, id, best.value, best.id)) best = {value, id};
    }
    return best;
  }

  template <class Ctx, class Values>
  SHOAL_SIMT static void keep_best_groups(Ctx& ctx, const RouteSpec& spec, const Values& values) {
    const int64_t size = spec.experts / spec.groups;
    const auto scores = values + spec.experts;
    for (int64_t g = ctx.lane(); g < spec.groups; g += simt::kWarpSize) {
      scores[g] = body::ranked(body::group_score(values + g * size, size));
    }
    ctx.sync_warp();
    for (int64_t g = ctx.lane(); g < spec.groups; g += simt::kWarpSize) {
      const float own = scores[g];
      int64_t better = 0;
      for (int64_t other = 0; other < spec.groups; ++other) {
        const float score = scores[other];
        if (body::route_before(score, static_cast<int32_t>(other), own, static_cast<int32_t>(g))) {
          ++better;
        }
      }
      if (better < spec.groups_used) continue;
      for (int64_t i = 0; i < size; ++i) values[g * size + i] = body::lowest_route();
    }
    ctx.sync_warp();
  }

  // What experts are ranked by, once the groups that are out are −inf.
  template <class Ctx, class Logits, class Values>
  SHOAL_SIMT static void rank(Ctx& ctx, const Params& p, const Logits& logits, float peak,
                              float sum, const Values& values) {
    const RouteSpec& spec = p.spec;
    const auto bias = ctx.global(p.bias);
    for (int64_t e = ctx.lane(); e < spec.experts; e += simt::kWarpSize) {
      float value = body::route_gate(spec.gating, float{logits[e]}, peak, sum);
      if (p.bias.address != nullptr) value += float{bias[e]};
      values[e] = body::ranked(value);
    }
    ctx.sync_warp();
    if (spec.groups > 1) keep_best_groups(ctx, spec, values);
    if (!body::ranks_by_logit(spec)) return;
    for (int64_t e = ctx.lane(); e < spec.experts; e += simt::kWarpSize) {
      if (spec.groups > 1 && !(float{values[e]} > body::lowest_route())) continue;
      values[e] = body::ranked(float{logits[e]});
    }
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const RouteSpec& spec = p.spec;
    const int64_t row = ctx.block().x;
    const auto logits = ctx.global(p.logits) + row * spec.experts;
    auto values = ctx.global(p.scratch) + row * (spec.experts + spec.groups);
    if (p.scratch.address == nullptr) {
      values = simt::shared_array<float>(ctx, 0, spec.experts + spec.groups);
    }
    float peak = body::lowest_route(), sum = 0;
    if (spec.gating == Gating::kSoftmax) {
      for (int64_t e = ctx.lane(); e < spec.experts; e += simt::kWarpSize) {
        const float logit = logits[e];
        peak = logit > peak ? logit : peak;
      }
      for (uint32_t bits = 16; bits > 0; bits /= 2) {
        const float other = ctx.shuffle_xor(peak, bits);
        peak = other > peak ? other : peak;
      }
      for (int64_t e = ctx.lane(); e < spec.experts; e += simt::kWarpSize) {
        sum += std::exp(float{logits[e]} - peak);
      }
      sum = warp_sum(ctx, sum);
    }
    rank(ctx, p, logits, peak, sum, values);

    const auto ids = ctx.global(p.ids) + row * spec.top_k;
    const auto weights = ctx.global(p.weights) + row * spec.top_k;
    Candidate own = best_of_lane(values, ctx.lane(), spec.experts, {0, -1});
    for (int64_t k = 0; k < spec.top_k; ++k) {
      const Candidate best = best_of_warp(ctx, own);
      if (best.id % simt::kWarpSize == ctx.lane()) {
        own = best_of_lane(values, ctx.lane(), spec.experts, best);
      }
      if (ctx.lane() != 0) continue;
      ids[k] = best.id;
      weights[k] = body::route_gate(spec.gating, float{logits[best.id]}, peak, sum);
    }
    if (ctx.lane() == 0) body::finish_route(spec, weights);
  }
};

}  // namespace shoal::gpu

// Which experts a token goes to, and with what weights; shared by host and device. The rule is
// RouteSpec's (kernels/device.h): one gate, a selection that may carry a bias and groups, weights
// without the bias.
//
// A NaN ranks as −inf, so that a broken row still names valid experts; its weight stays NaN, so
// that the row's result shows it.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/body/half.h"
#include "kernels/device.h"

namespace shoal::body {

// The smallest normal half: what weights are divided by at least.
inline constexpr float kSmallestRouteSum = 6.103515625e-5f;

SHOAL_BODY float lowest_route() { return float_from_bits(0xff800000u); }  // −inf
SHOAL_BODY float ranked(float x) { return x == x ? x : lowest_route(); }

// √(ln(1 + eˣ))
SHOAL_BODY float sqrt_softplus(float x) {
  constexpr float kLinear = 20.0f;  // beyond it ln(1 + eˣ) is x
  return std::sqrt(x > kLinear ? x : std::log1p(std::exp(x)));
}

// gate(logit); `peak` and `sum` = max and Σ exp(logit − peak) over all experts, for kSoftmax.
// kSoftmaxSelected gates only what was selected: until then a logit stands for itself.
SHOAL_BODY float route_gate(Gating gating, float logit, float peak, float sum) {
  switch (gating) {
    case Gating::kSoftmax:
      return std::exp(logit - peak) / sum;
    case Gating::kSigmoid:
      return 1.0f / (1.0f + std::exp(-logit));
    case Gating::kSqrtSoftplus:
      return sqrt_softplus(logit);
    case Gating::kSoftmaxSelected:
      break;
  }
  return logit;
}

// Without a bias, logits rank like their gates but do not tie by rounding.
SHOAL_BODY bool ranks_by_logit(const RouteSpec& spec) {
  return spec.selection_bias == nullptr && spec.gating != Gating::kSqrtSoftplus;
}

// Does a come before b? Ties go to the lower number.
SHOAL_BODY bool route_before(float a, int32_t a_id, float b, int32_t b_id) {
  return a > b || (a == b && a_id < b_id);
}

// ids[0 … top_k), top_k ≥ 1: the largest values of the n, best first, ties to the lowest id.
SHOAL_BODY void select_top(const float* values, int64_t n, int64_t top_k, int32_t* ids) {
  int64_t held = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (held == top_k && !(values[i] > values[ids[held - 1]])) continue;
    int64_t at = held < top_k ? held++ : held - 1;
    for (; at > 0 && values[i] > values[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = static_cast<int32_t>(i);
  }
}

// Sum of the two best of the n; of the one there is.
SHOAL_BODY float group_score(auto values, int64_t n) {
  float best = lowest_route(), second = lowest_route();
  for (int64_t i = 0; i < n; ++i) {
    const float value = values[i];
    if (value > best) {
      second = best, best = value;
    } else if (value > second) {
      second = value;
    }
  }
  return n > 1 ? best + second : best;
}

// Leaves the values of the groups_used best groups and makes all others −inf; ties go to the lowest
// group. scratch: [groups].
SHOAL_BODY void keep_best_groups(const RouteSpec& spec, float* values, float* scratch) {
  const int64_t size = spec.experts / spec.groups;
  for (int64_t g = 0; g < spec.groups; ++g) {
    scratch[g] = ranked(group_score(values + g * size, size));
  }
  for (int64_t g = 0; g < spec.groups; ++g) {
    int64_t better = 0;
    for (int64_t other = 0; other < spec.groups; ++other) {
      better += route_before(scratch[other], static_cast<int32_t>(other), scratch[g],
                             static_cast<int32_t>(g))
                    ? 1
                    : 0;
    }
    if (better < spec.groups_used) continue;
    for (int64_t i = 0; i < size; ++i) values[g * size + i] = lowest_route();
  }
}

// weights[k] holds gate(logit) of expert k of the selection: makes them final.
SHOAL_BODY void finish_route(const RouteSpec& spec, auto weights) {
  const int64_t n = spec.top_k;
  if (spec.gating == Gating::kSoftmaxSelected) {
    float peak = lowest_route(), sum = 0;
    for (int64_t k = 0; k < n; ++k) {
      const float logit = weights[k];
      peak = logit > peak ? logit : peak;
    }
    for (int64_t k = 0; k < n; ++k) {
      const float share = std::exp(float{weights[k]} - peak);
      weights[k] = share;
      sum += share;
    }
    for (int64_t k = 0; k < n; ++k) weights[k] = float{weights[k]} / sum;
  }
  if (spec.normalise) {
    float sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += float{weights[k]};
    const float divisor = sum < kSmallestRouteSum ? kSmallestRouteSum : sum;
    for (int64_t k = 0; k < n; ++k) weights[k] = float{weights[k]} / divisor;
  }
  for (int64_t k = 0; k < n; ++k) weights[k] = float{weights[k]} * spec.scale;
}

// One row: ids and weights [top_k], best first. scratch: [experts + groups].
SHOAL_BODY void route_row(const RouteSpec& spec, const float* logits, float* scratch, int32_t* ids,
                          float* weights) {
  float peak = lowest_route(), sum = 0;
  if (spec.gating == Gating::kSoftmax) {
    for (int64_t e = 0; e < spec.experts; ++e) peak = logits[e] > peak ? logits[e] : peak;
    for (int64_t e = 0; e < spec.experts; ++e) sum += std::exp(logits[e] - peak);
  }
  for (int64_t e = 0; e < spec.experts; ++e) {
    float value = route_gate(spec.gating, logits[e], peak, sum);
    if (spec.selection_bias != nullptr) value += spec.selection_bias[e];
    scratch[e] = ranked(value);
  }
  if (spec.groups > 1) keep_best_groups(spec, scratch, scratch + spec.experts);
  for (int64_t e = 0; e < spec.experts && ranks_by_logit(spec); ++e) {
    if (spec.groups == 1 || scratch[e] > lowest_route()) scratch[e] = ranked(logits[e]);
  }
  select_top(scratch, spec.experts, spec.top_k, ids);
  for (int64_t k = 0; k < spec.top_k; ++k) {
    weights[k] = route_gate(spec.gating, logits[ids[k]], peak, sum);
  }
  finish_route(spec, weights);
}

}  // namespace shoal::body

// The sampling rule, shared by host and device (docs/sampling.md).
//
//   shaped(id) = ((logit with penalties) + bias) / temperature
//   greedy:  argmax shaped (temperature 0: not divided)
//   sampled: argmax over the kept ids of shaped + Gumbel(seed, choice, position, id)
//
// The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014) draws from softmax(shaped) exactly,
// needs no normalisation and no order, so ranks can each look at their slice of the vocabulary. The
// noise is a function of counters alone: the same seed gives the same draw on every layout.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/rng.h"
#include "kernels/body/half.h"

namespace shoal::body {

// Penalties in the order: repetition (on the sign of the logit), frequency, presence, bias.
SHOAL_BODY float penalise(float logit, float repetition, float frequency, float presence,
                          int32_t output_count, bool seen, float bias) {
  if (seen) logit = logit > 0 ? logit / repetition : logit * repetition;
  logit -= frequency * static_cast<float>(output_count);
  if (output_count > 0) logit -= presence;
  return logit + bias;
}

// The stream of one (seed, choice, position); mixed again with each token id.
SHOAL_BODY uint64_t noise_key(uint64_t seed, uint32_t choice, uint32_t position) {
  return mix64(mix64(seed) ^ (static_cast<uint64_t>(choice) << 32 | position));
}

// Uniform in (0, 1), never 0 or 1.
SHOAL_BODY double noise_uniform(uint64_t key, int32_t id) {
  return (static_cast<double>(mix64(key ^ static_cast<uint32_t>(id)) >> 12) + 0.5) * 0x1.0p-52;
}

SHOAL_BODY double gumbel(double uniform) { return -std::log(-std::log(uniform)); }

// gumbel(u) < gumbel_bound(u), without a logarithm: −ln u ≥ 1 − u, and 1 − u ≥ 2^e for its exponent
// e.
SHOAL_BODY double gumbel_bound(double uniform) {
  const uint64_t bits = __builtin_bit_cast(uint64_t, 1.0 - uniform);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  return -0.6931471805599453 * exponent + 1e-9;
}

}  // namespace shoal::body

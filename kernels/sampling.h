// From what every rank saw of its vocabulary slice to one token: the same on every rank and layout.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device.h"

namespace shoal {

struct Truncation {
  int32_t top_k = 0;   // 0: off
  float top_p = 1.0f;  // 1: off
  float min_p = 0.0f;  // 0: off
  bool any() const { return top_k > 0 || top_p < 1.0f || min_p > 0.0f; }
};

// Shaped candidates each rank should send first. Enough for nearly every top_p; when it is not,
// choose_token says so and the row is done again with kAllCandidates.
int32_t first_candidates(const Truncation& truncation, float temperature);
inline constexpr int32_t kAllCandidates = 1 << 30;

// The log-probability of what has none: the token's logit is −inf.
inline constexpr float kNoLogprob = -9999.0f;

struct Choice {
  bool broken = false;     // a rank's slice is broken, or no logit is finite: there is no token
  bool needs_all = false;  // the lists end before the kept set does
  int32_t token = -1;
  float logprob = 0;           // of the unmodified logits
  std::vector<Candidate> top;  // value = logprob, best first
};

// `ranks` in rank order, all made with the same `row`. Kept ids: top_k, then top_p over what is
// left, renormalised, then min_p relative to the most likely (docs/sampling.md).
Choice choose_token(std::span<const LocalSample> ranks, const SampleRow& row,
                    const Truncation& truncation);

// A known token's log-probability comes as a draw does: in a row of temperature 0 with this bias
// alone the token wins, unless its logit is −∞, and keeps its unmodified logit.
TokenBias deciding_bias(int32_t token);

// For an exchange between ranks: packed_bytes() is the same on every rank, since it depends on the
// row and the whole vocabulary's size alone. Native byte order: processes of one group.
uint64_t packed_bytes(const SampleRow& row, int64_t vocab);
// Appends packed_bytes().
void pack(const LocalSample& sample, const SampleRow& row, int64_t vocab,
          std::vector<uint8_t>* out);
// Takes packed_bytes() off the front of *bytes; false if they are too few or claim too much.
bool unpack(std::span<const uint8_t>* bytes, const SampleRow& row, int64_t vocab,
            LocalSample* sample);

}  // namespace shoal

// The one place where partial sums are added, so that every engine rounds alike.
#pragma once

#include <cstdint>
#include <span>

namespace shoal {

// out[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + … in float32, for i in [0, count).
// `out` may be one of the parts (the same pointer, not a shifted one). REQUIRES: ≥ 1 part.
void sum_in_rank_order(std::span<const float* const> parts, int64_t count, float* out);

}  // namespace shoal

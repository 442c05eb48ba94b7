#include "parallel/collective/sum.h"

#include <cstring>

namespace shoal {
namespace {

// 16 floats added element by element; gcc and clang keep it in registers of whatever width there
// is.
using Lanes = float __attribute__((vector_size(64)));
constexpr int64_t kLanes = sizeof(Lanes) / sizeof(float);

void load(const float* from, Lanes& to) { std::memcpy(&to, from, sizeof(to)); }

}  // namespace

void sum_in_rank_order(std::span<const float* const> parts, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Lanes sum, part;
    load(parts[0] + i, sum);
    for (const float* data : parts.subspan(1)) {
      load(data + i, part);
      sum += part;
    }
    std::memcpy(out + i, &sum, sizeof(sum));
  }
  for (; i < count; ++i) {
    float sum = parts[0][i];
    for (const float* data : parts.subspan(1)) sum += data[i];
    out[i] = sum;
  }
}

}  // namespace shoal

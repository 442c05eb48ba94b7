// What a thread has of a strip of attention_tensor.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/simt.h"

namespace shoal::gpu {

inline constexpr uint32_t kStripWarps = 4;  // of a block
inline constexpr int kStripRows = 16;       // of m16n8k16
inline constexpr int kStripUnit = 64;       // positions that a block takes at a time

// Rows lane / 4 and lane / 4 + 8, for heads of 16 · kSteps features. With kOne the strip is all
// warps' and the thread has the features of pairs warp, warp + kStripWarps …
template <int kSteps, bool kOne>
struct AttentionStrip {
  static constexpr int kPairs = kOne ? (kSteps + int{kStripWarps} - 1) / int{kStripWarps} : kSteps;
  static constexpr int kKeyPairs = kOne ? 1 : kStripUnit / 16;  // of 8 keys each, per unit

  int32_t index;  // of the strip in its tile
  bool active;
  uint32_t high[kSteps][4];   // of Q
  int32_t first[2], last[2];  // visible positions
  float out[kPairs][2][4];
  float sum[4];  // Σ in [0] and [2]
  float max[2];

  SHOAL_SIMT void clear() {
    for (int i = 0; i < kPairs; ++i) {
      for (int j = 0; j < 8; ++j) out[i][j / 4][j % 4] = 0;
    }
    for (int j = 0; j < 4; ++j) sum[j] = 0;
    max[0] = max[1] = -INFINITY;
  }
};

}  // namespace shoal::gpu

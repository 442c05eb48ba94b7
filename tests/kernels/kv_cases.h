// What a device does to heads before they are stored: the cases its tests go through.
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace shoal::testing {

struct KvCase {
  const char* name;
  RopeStyle pairing;
  int64_t dim, rope_dims;
  KvType type = KvType::kF16;
  QkNorm norm = QkNorm::kNone;
  int64_t rope_first = 0, k_norm_dims = 0, latent = 0;
  float temperature = 0;
  bool q_norm = true, k_norm = true;  // weights given
};

namespace kv_cases {
inline constexpr auto kInterleaved = RopeStyle::kInterleaved;
inline constexpr auto kHalves = RopeStyle::kHalves;
inline constexpr auto kNoRope = RopeStyle::kNone;
inline constexpr auto kNoNorm = QkNorm::kNone;
inline constexpr auto kRms = QkNorm::kRms;
inline constexpr auto kLayerPerHead = QkNorm::kLayerPerHead;
inline constexpr auto kRmsAfterRope = QkNorm::kRmsAfterRope;
inline constexpr auto kF16 = KvType::kF16;
inline constexpr auto kF32 = KvType::kF32;

inline const KvCase kKvCases[] = {
    {"interleaved", kInterleaved, 64, 64},
    {"halves of a part, rms", kHalves, 80, 64, kF16, kRms},
    {"interleaved part, rms", kInterleaved, 40, 10, kF32, kRms},
    {"no rope, rms", kNoRope, 24, 0, kF32, kRms},
    {"halves", kHalves, 128, 128, kF32},
    {"layer norm per head", kHalves, 128, 128, kF32, kLayerPerHead},
    {"layer norm per head, odd width", kNoRope, 37, 0, kF32, kLayerPerHead},
    {"odd width of halves", kInterleaved, 37, 36, kF16},
    {"rms after rope", kInterleaved, 128, 128, kF32, kRmsAfterRope, 0, 0, 0, 0, false, false},
    {"rms after no rope", kNoRope, 64, 0, kF16, kRmsAfterRope, 0, 0, 0, 0, false, false},
    {"temperature", kNoRope, 64, 0, kF32, kNoNorm, 0, 0, 0, 0.1f},
    {"temperature after rope", kInterleaved, 64, 64, kF32, kRms, 0, 0, 0, 0.25f},
    {"q norm only", kHalves, 64, 64, kF32, kRms, 0, 0, 0, 0, true, false},
    {"k norm only", kHalves, 64, 64, kF32, kRms, 0, 0, 0, 0, false, true},
    {"latent", kInterleaved, 576, 64, kF16, kRms, 512, 512, 512, 0, false, true},
    {"latent f32", kInterleaved, 48, 16, kF32, kRms, 32, 32, 32, 0.1f, false, true},
    {"latent that is the whole key", kHalves, 64, 32, kF32, kRms, 32, 0, 64, 0, false, true},
};

}  // namespace kv_cases

}  // namespace shoal::testing

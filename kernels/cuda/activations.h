// Activations as kernels write and read them (the format: GpuActivations in gpu_device.h).
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/body/half.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"

namespace shoal::gpu {

inline constexpr int64_t kActivationBlock = 32;  // features per scale

// In a kernel's parameters. `codes` null: floats only.
struct ActivationRows {
  simt::Global<float> values;
  simt::Global<int8_t> codes;
  simt::Global<float> scales;
  simt::Global<float> sums;
  int64_t stride = 0;
};

template <class Floats, class Codes>
struct OpenActivations {
  Floats values;
  Codes codes;
  Floats scales;
  Floats sums;
  int64_t stride;
  bool int8;
};

template <class Ctx>
SHOAL_SIMT auto open_activations(Ctx& ctx, const ActivationRows& x) {
  using Floats = decltype(ctx.global(x.values));
  using Codes = decltype(ctx.global(x.codes));
  return OpenActivations<Floats, Codes>{ctx.global(x.values),
                                        ctx.global(x.codes),
                                        ctx.global(x.scales),
                                        ctx.global(x.sums),
                                        x.stride,
                                        x.codes.address != nullptr};
}

// What a block is a multiple of whose largest magnitude is `largest`: a 127th of it, rounded up to
// 22 bits (tile_format.h multiplies it by 3 · 2^22, exactly); 0 where that would be denormal.
SHOAL_BODY float code_scale(float largest) {
  constexpr float kSmallest = 127.0f * 1.17549435e-38f;
  if (!(largest >= kSmallest)) return 0.0f;
  return body::float_from_bits((body::bits_from_float(largest * (1.0f / 127.0f)) + 3u) & ~3u);
}

// One lane's part of a block of 32: value = scale · code, −127 ≤ code ≤ 127.
struct QuantisedLane {
  int32_t code;
  float scale;  // of the block, the same in all lanes; NaN if one of its values is not finite
  float sum;    // scale · Σ codes, the same in all lanes
};

// Codes are rounded to the nearest, within 2^-15 of a tie to either side. All 32 lanes take part. A
// row has one multiprocessor in a norm: there are no true divisions here.
template <class Ctx>
SHOAL_SIMT QuantisedLane quantise_lane(Ctx& ctx, float value) {
  constexpr float kLargest = 3.402823466e38f;
  const float magnitude = std::fabs(value);
  float largest = magnitude <= kLargest ? magnitude : 0.0f;
  // Bits of floats from 0 up are in the order of the floats.
  largest = body::float_from_bits(ctx.reduce_max(body::bits_from_float(largest)));
  const bool broken = ctx.any(!(magnitude <= kLargest));
  const float scale = code_scale(largest);
  const float scaled = scale != 0 ? value * simt::divide_approx(1.0f, scale) : 0.0f;
  const int32_t code = broken ? 0 : static_cast<int32_t>(std::rint(scaled));
  const int32_t total = ctx.reduce_add(code);
  if (broken) return {0, __builtin_nanf(""), __builtin_nanf("")};
  return {code, scale, scale * static_cast<float>(total)};
}

// Feature 32 · block + lane of a row gets `value`; codes, scale and sum with it. By a whole warp.
template <class Ctx, class Floats, class Codes>
SHOAL_SIMT void store_block(Ctx& ctx, const OpenActivations<Floats, Codes>& x, int64_t row,
                            int64_t block, float value) {
  const int64_t at = row * x.stride + block * kActivationBlock + ctx.lane();
  x.values[at] = value;
  if (!x.int8) return;
  const QuantisedLane q = quantise_lane(ctx, value);
  x.codes[at] = static_cast<int8_t>(q.code);
  if (ctx.lane() != 0) return;
  const int64_t of_block = at / kActivationBlock;
  x.scales[of_block] = q.scale;
  x.sums[of_block] = q.sum;
}

}  // namespace shoal::gpu

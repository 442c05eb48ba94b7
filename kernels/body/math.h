// Scalar arithmetic shared by host and device.
#pragma once

#include <cmath>

#include "kernels/body/half.h"

namespace shoal::body {

// gelu(x) = 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))): Hendrycks & Gimpel 2016, the tanh form.
// Between −10 and 10 argument and value are rounded to half precision, as llama.cpp's table does:
// without that, log-probabilities of Gemma and Falcon models differ from its by 1e-3 to 2e-3, with
// it by 4e-4.
SHOAL_BODY float gelu_tanh(float x) {
  constexpr float kRoot = 0.7978845608028654f, kLinear = 10.0f;
  if (x >= kLinear) return x;
  if (x <= -kLinear) return 0.0f;
  const float h = half_to_float(float_to_half(x));
  return half_to_float(
      float_to_half(0.5f * h * (1.0f + std::tanh(kRoot * (h + 0.044715f * h * h * h)))));
}

SHOAL_BODY float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// OpenAI 2025, gpt-oss: g' σ(1.702 g') (u' + 1), g' = min(g, 7), u' = clamp(u, −7, 7).
SHOAL_BODY float swiglu_clamp(float gate, float up) {
  constexpr float kLimit = 7.0f, kSlope = 1.702f;
  const float g = gate < kLimit ? gate : kLimit;
  const float u = up < -kLimit ? -kLimit : up > kLimit ? kLimit : up;
  return g * sigmoid(kSlope * g) * (u + 1.0f);
}

// Rotates the pair (a, b) by an angle: Su et al. 2021, "RoFormer".
SHOAL_BODY void rotate(float* a, float* b, float cosine, float sine) {
  const float x = *a, y = *b;
  *a = x * cosine - y * sine;
  *b = x * sine + y * cosine;
}

// What a query at `position` is multiplied by: scale · ln(⌊(position + offset) / length⌋ + 1) + 1
// (llama 4's attention temperature).
SHOAL_BODY float temperature(long long position, double scale, long long offset, long long length) {
  const auto steps = static_cast<double>((position + offset) / length);
  return static_cast<float>(scale * std::log(steps + 1.0) + 1.0);
}

// First position a row at `position` attends to.
SHOAL_BODY long long first_visible(long long position, long long window, long long chunk) {
  long long first = 0;
  if (window > 0 && position - window + 1 > first) first = position - window + 1;
  if (chunk > 0 && position / chunk * chunk > first) first = position / chunk * chunk;
  return first;
}

}  // namespace shoal::body

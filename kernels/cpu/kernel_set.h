// The inner loops that depend on the instruction set, as a table of functions: one table per set,
// each compiled from the same text (simd.inc) with other flags, one picked at run time.
//
// Every loop fixes its order of additions by the length alone, never by how many rows are computed
// together: that is what makes results batch-invariant.
#pragma once

#include <cstdint>

#include "model/tensor_type.h"

namespace shoal {

// One row of quantised activations. Readable from −kActivationPad to cols + kActivationPad: zeros
// there let a kernel start at the block boundary before a masked slice.
inline constexpr int64_t kActivationPad = 256;

struct QuantRow {
  const int8_t* codes;     // per feature
  const float* scales;     // per 32
  const float* sums;       // per 32: scale · Σ codes
  const float* half_sums;  // per 16: scale · Σ codes
};

inline constexpr int kTileRows = 4;  // activation rows one call of a dot handles at most

struct KernelSet {
  const char* name;

  // out[r] = Σ a[i] · x[r][i], for `rows` ≤ kTileRows rows.
  void (*dot)(const float* a, const float* const* x, int rows, int64_t n, float* out);
  // The same with float16 or bfloat16 weights.
  void (*dot_f16)(const uint8_t* a, const float* const* x, int rows, int64_t n, float* out);
  void (*dot_bf16)(const uint8_t* a, const float* const* x, int rows, int64_t n, float* out);
  // One row of quantised weights, `blocks` whole blocks; null where this set has no int8 path.
  using QuantDot = void (*)(const uint8_t* weights, int64_t blocks, const QuantRow* x, int rows,
                            float* out);
  QuantDot quant_dot[kTensorTypeIds];

  // 8-bit codes, scales and sums of n features (padded to 32 with zeros by the caller).
  void (*quantise)(const float* x, int64_t n, int8_t* codes, float* scales, float* sums,
                   float* half_sums);
  void (*axpy)(float scale, const float* x, int64_t n, float* y);  // y += scale · x
  void (*scale)(float factor, int64_t n, float* y);                // y *= factor
  float (*sum_squares)(const float* x, int64_t n);
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  float (*max)(const float* x, int64_t n);                  // NaN counts as −inf
  double (*exp_sum)(const float* x, float max, int64_t n);  // Σ exp(x − max)
  void (*exp_shift)(float* x, float max, int64_t n);        // x = exp(x − max)
  void (*half_to_float)(const uint16_t* x, int64_t n, float* out);
  void (*float_to_half)(const float* x, int64_t n, uint16_t* out);
};

// The sets this build has and this processor can run, best first. "generic" is always there.
const KernelSet* const* available_kernel_sets(int* count);

}  // namespace shoal

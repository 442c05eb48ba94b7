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

//
// A feature is scale · (128 · codes + fine): two int8 terms, 15 bits. One term would put 0.5 % of
// noise on every product — log-probabilities off by 0.02 on a trained model — for half of the
// multiply instructions, which decoding, bound by memory, does not miss.
struct QuantRow {
  const int8_t* codes;     // per feature, −127 … 127
  const int8_t* fine;      // per feature, −64 … 63
  const float* scales;     // per 32
  const float* sums;       // per 32: Σ of the features as quantised
  const float* half_sums;  // per 16: the same

  // The row from a feature on; a multiple of 32.
  QuantRow from(int64_t i) const {
    return {codes + i, fine + i, scales + i / 32, sums + i / 32, half_sums + i / 16};
  }
};

inline constexpr int kTileRows = 4;  // activation rows one call of a dot handles at most

// A row of weights as int8 codes: value[i] = scales[i / 16] · codes[i] (− minima[i / 16]).
struct PlanarRow {
  const int8_t* codes;
  const float* scales;
  const float* minima;  // or null
};

struct KernelSet {
  // out[r] = Σ a[i] · x[r][i] for `rows` ≤ kTileRows rows; a holds n numbers of the named type.
  using Dot = void (*)(const uint8_t* a, const float* const* x, int rows, int64_t n, float* out);
  // out[h][t] = q[h] · keys[t], bit for bit the Dot of the two; `keys` holds count × dim numbers.
  using Score = void (*)(const uint8_t* keys, int64_t count, int64_t dim, const float* const* q,
                         int heads, float* const* out);
  // acc[h][i] += Σ_t weights[h][t] · rows[t][i] for i < dim, t ascending; `rows` holds count ×
  // stride numbers.
  using Weigh = void (*)(const uint8_t* rows, int64_t count, int64_t stride, int64_t dim,
                         const float* const* weights, int heads, float* const* acc);
  // One row of quantised weights, `blocks` whole blocks.
  using QuantDot = void (*)(const uint8_t* weights, int64_t blocks, const QuantRow* x, int rows,
                            float* out);
  // Codes, scales and minima of whole blocks; minima may be null unless has_minima.
  using Unpack = void (*)(const uint8_t* row, int64_t blocks, int8_t* codes, float* scales,
                          float* minima);
  // The same product from an unpacked row of n features, a multiple of 64.
  using PlanarDot = void (*)(const PlanarRow& weights, int64_t n, const QuantRow* x, int rows,
                             float* out);
  using Decode = void (*)(const uint8_t* row, int64_t blocks, float* out);

  const char* name = nullptr;
  Dot dot_f32 = nullptr, dot_f16 = nullptr, dot_bf16 = nullptr;
  Score score_f32 = nullptr, score_f16 = nullptr;
  Weigh weigh_f32 = nullptr, weigh_f16 = nullptr;
  QuantDot quant_dot[kTensorTypeIds] = {};  // null where this set has no int8 path
  Unpack unpack[kTensorTypeIds] = {};       // null for types with a quant_dot or float numbers
  bool has_minima[kTensorTypeIds] = {};
  PlanarDot planar_dot = nullptr;      // null where this set has no int8 path
  Decode decode[kTensorTypeIds] = {};  // every storable type

  // Codes, scales and sums of n features (padded to 32 with zeros by the caller).
  void (*quantise)(const float* x, int64_t n, int8_t* codes, int8_t* fine, float* scales,
                   float* sums, float* half_sums) = nullptr;
  void (*axpy)(float factor, const float* x, int64_t n, float* y) = nullptr;  // y += factor · x
  void (*scale)(float factor, int64_t n, float* y) = nullptr;                 // y *= factor
  void (*divide)(float divisor, int64_t n, float* y) = nullptr;               // y /= divisor
  // out = x · factor · weight
  void (*scale_by)(const float* x, float factor, const float* weight, int64_t n,
                   float* out) = nullptr;
  float (*sum_squares)(const float* x, int64_t n) = nullptr;
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out) = nullptr;
  float (*max)(const float* x, int64_t n) = nullptr;                    // NaN counts as −inf
  float (*max_logit)(const float* x, int64_t n) = nullptr;  // max; NaN if one is NaN or +inf
  double (*exp_sum)(const float* x, float shift, int64_t n) = nullptr;  // Σ exp(x − shift)
  float (*exp_shift)(float* x, float shift, int64_t n) = nullptr;  // x = exp(x − shift); Σ x
  void (*soft_cap)(float* x, float cap, int64_t n) = nullptr;      // x = cap · tanh(x / cap)
  // The first i in [from, n) with value > −inf that may be ≥ best once the Gumbel noise of token
  // first_id + i (body/sampling.h, `key`) is added; n if there is none. May return too many.
  int64_t (*next_noisy)(const float* values, int64_t from, int64_t n, int64_t first_id,
                        uint64_t key, float best) = nullptr;
  void (*half_to_float)(const uint16_t* x, int64_t n, float* out) = nullptr;
  void (*float_to_half)(const float* x, int64_t n, uint16_t* out) = nullptr;
};

// The sets this build has and this processor can run, best first. "generic" is always there.
const KernelSet* const* available_kernel_sets(int* count);

}  // namespace shoal

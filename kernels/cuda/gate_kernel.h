// What becomes of the products of a gated network.
#pragma once

#include <cmath>

#include "kernels/body/math.h"
#include "kernels/cuda/activations.h"
#include "kernels/cuda/simt.h"
#include "kernels/device.h"

namespace shoal::gpu {

using simt::Global;

// out[first_row + r, i] = kind(gate[r, i], up[r, i]) · σ(row_gate[r]), zeros to the end of the row,
// int8 codes; gate null: an ungated network. Block (r, y): kThreads features of row r.
struct Gate {
  static constexpr const char* kName = "gate";
  static constexpr uint32_t kThreads = 256, kMaxThreads = kThreads, kMinBlocks = 1;
  struct Params {
    Global<const float> gate, up;     // [rows, features]
    Global<const float> row_gate;     // [rows] or null
    Global<const int32_t> rows_used;  // [1]: rows there are, or null: all of the grid
    int64_t features = 0;
    int64_t first_row = 0;  // of out
    ActivationRows out;
    GateFunction kind = GateFunction::kSilu;
  };

  SHOAL_SIMT static float combine(GateFunction kind, float g, float u) {
    switch (kind) {
      case GateFunction::kSilu:
        return g / (1.0f + std::exp(-g)) * u;
      case GateFunction::kGeluTanh:
        return body::gelu_tanh(g) * u;
      case GateFunction::kSwigluClamp:
        break;
    }
    return body::swiglu_clamp(g, u);
  }

  template <class Ctx>
  SHOAL_SIMT static float value_of(Ctx& ctx, const Params& p, int64_t r, int64_t i) {
    const float u = ctx.global(p.up)[r * p.features + i];
    float value;
    if (p.gate.address == nullptr) {
      value = body::gelu_tanh(u);
    } else {
      const float g = ctx.global(p.gate)[r * p.features + i];
      value = combine(p.kind, g, u);
    }
    if (p.row_gate.address != nullptr) value *= body::sigmoid(float{ctx.global(p.row_gate)[r]});
    return value;
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t r = ctx.block().x;
    if (p.rows_used.address != nullptr && r >= int32_t{ctx.global(p.rows_used)[0]}) return;
    const int64_t i = int64_t{ctx.block().y} * kThreads + ctx.thread().x;
    if (i >= p.out.stride) return;  // whole warps: the stride is a multiple of 32
    float value = 0;
    if (i < p.features) value = value_of(ctx, p, r, i);
    store_block(ctx, open_activations(ctx, p.out), p.first_row + r, i / kActivationBlock, value);
  }
};

}  // namespace shoal::gpu

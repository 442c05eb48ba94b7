// Kernels of elementwise.inl: embedding, residual sum and norm, activations, copies, soft cap.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/body/blocks.h"
#include "kernels/cuda/activations.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/simt.h"
#include "kernels/device.h"

namespace shoal::gpu {

using simt::Global;

// out[r, i] = scale · table[ids[r] − first_id, i]; zeros where the table has no such row.
// Block (r, y): elements [y · kElements, (y + 1) · kElements) of row r; a thread decodes 32.
struct EmbedRows {
  static constexpr const char* kName = "embed";
  static constexpr uint32_t kThreads = 64, kMaxThreads = kThreads, kMinBlocks = 1;
  static constexpr int64_t kPart = 32;
  static constexpr int64_t kElements = kThreads * kPart;
  struct Params {
    TensorType type;
    float scale;
    Global<const uint8_t> table;  // rows of row_stride bytes
    uint64_t row_stride;
    int64_t table_rows;
    int64_t cols;  // whole blocks
    int64_t first_id;
    Global<const int32_t> ids;  // [rows]
    Global<float> out;          // [rows, cols]
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t r = ctx.block().x;
    const int64_t id = static_cast<int64_t>(ctx.global(p.ids)[r]) - p.first_id;
    const int64_t first = int64_t{ctx.block().y} * kElements;
    const auto out = ctx.global(p.out) + r * p.cols;
    if (id >= 0 && id < p.table_rows) {
      const auto row = ctx.global(p.table) + id * static_cast<int64_t>(p.row_stride);
      decode_any(ctx, p, row, first, out, body::BlockTypes{});
      return;
    }
    for (int64_t i = first + ctx.thread().x; i < first + kElements && i < p.cols; i += kThreads) {
      out[i] = 0.0f;
    }
  }

  template <class Ctx, class Row, class Out, TensorType... types>
  SHOAL_SIMT static void decode_any(Ctx& ctx, const Params& p, const Row& row, int64_t first,
                                    const Out& out, body::TypeList<types...>) {
    (void)((p.type == types && (decode<types>(ctx, p, row, first, out), true)) || ...);
  }

  template <TensorType type, class Ctx, class Row, class Out>
  SHOAL_SIMT static void decode(Ctx& ctx, const Params& p, const Row& row, int64_t first,
                                const Out& out) {
    using B = body::Block<type>;
    // Decoders want plain memory; what lies beside the block on the card is none of their business.
    uint8_t block[B::bytes];
    const auto load = [&](int64_t index) {
      for (int b = 0; b < B::bytes; ++b) block[b] = row[index * B::bytes + b];
    };
    const auto scaled = [&](float value) { return p.scale == 1.0f ? value : p.scale * value; };
    if constexpr (B::elems == 1) {
      for (int64_t j = 0; j < kPart; ++j) {
        const int64_t i = first + j * kThreads + ctx.thread().x;
        if (i >= p.cols) return;
        load(i);
        float value;
        B::decode(block, &value);
        out[i] = scaled(value);
      }
    } else {
      const int64_t i = first + kPart * ctx.thread().x;
      if (i >= p.cols) return;
      load(i / B::elems);
      float values[kPart];
      B::decode32(block, static_cast<int>(i % B::elems / kPart), values);
      for (int64_t j = 0; j < kPart; ++j) out[i + j] = scaled(values[j]);
    }
  }
};

// Row r, one block of a number of threads that follows from cols:
//   h[r] += delta_norm?(delta[r] + delta_bias)
//   out[r] = norm(h[row_index?[r]]) · weight + bias, zeros to the end of the row, int8 codes
// A launch has a delta or a row_index, not both.
struct ResidualNormRows {
  static constexpr const char* kName = "residual_norm";
  static constexpr uint32_t kMaxThreads = 1024, kMinBlocks = 1;
  static constexpr int kAtOnce = 4;  // features that a thread has under way
  struct Params {
    Global<float> h;                  // [rows, cols]
    Global<const float> delta;        // [rows, cols] or null
    Global<const float> delta_bias;   // [cols] or null
    Global<const float> delta_norm;   // [cols] or null
    Global<const float> weight;       // [cols] or null: all ones
    Global<const float> bias;         // [cols] or null
    Global<const int32_t> row_index;  // [out_rows] or null
    ActivationRows out;
    int64_t cols;
    int64_t out_rows;  // rows beyond: only the sum
    NormKind form;
    float eps;
  };

  static uint32_t threads(int64_t cols) {
    constexpr int64_t kPerThread = 8;
    const int64_t wanted = (cols + kPerThread - 1) / kPerThread;
    return static_cast<uint32_t>(wanted >= kMaxThreads ? kMaxThreads
                                 : wanted <= 32        ? 32
                                                       : (wanted + 31) / 32 * 32);
  }
  static uint64_t shared_bytes(int64_t cols) {
    return (kReduceCells + static_cast<uint64_t>(cols)) * sizeof(float);
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t r = ctx.block().x;
    const auto cells = simt::shared_array<float>(ctx, 0, kReduceCells);
    // The row on its way; a thread reads only what it wrote.
    const auto x =
        simt::shared_array<float>(ctx, kReduceCells * sizeof(float), static_cast<uint64_t>(p.cols));
    const int64_t from = p.row_index.address == nullptr ? r : int64_t{ctx.global(p.row_index)[r]};
    fetch_weight(ctx, p);
    load_sum(ctx, p, from, cells, x);
    if (r >= p.out_rows) return;
    if (p.form == NormKind::kLayer) {
      const float mean = block_sum(ctx, cells, own_sum(ctx, p, x)) / static_cast<float>(p.cols);
      for (int64_t i = ctx.thread().x; i < p.cols; i += ctx.block_dim().x) x[i] = x[i] - mean;
    }
    const float factor = norm_factor(ctx, p, cells, x);
    write(ctx, p, r, factor, x);
  }

  // On its way while the row is added up.
  template <class Ctx>
  SHOAL_SIMT static void fetch_weight(Ctx& ctx, const Params& p) {
    constexpr int64_t kLine = 32;  // floats
    if (p.weight.address == nullptr) return;
    const auto weight = ctx.global(p.weight);
    for (int64_t i = kLine * ctx.thread().x; i < p.cols; i += kLine * ctx.block_dim().x) {
      ctx.prefetch_l2(weight + i);
    }
  }

  // x = h[from] after the delta has been added to it.
  template <class Ctx, class Cells, class Row>
  SHOAL_SIMT static void load_sum(Ctx& ctx, const Params& p, int64_t from, const Cells& cells,
                                  const Row& x) {
    const auto h = ctx.global(p.h) + from * p.cols;
    const bool has_delta = p.delta.address != nullptr, has_bias = p.delta_bias.address != nullptr;
    const auto delta = ctx.global(p.delta) + (has_delta ? from * p.cols : 0);
    const auto delta_bias = ctx.global(p.delta_bias);
    const int64_t step = ctx.block_dim().x;
    if (p.delta_norm.address != nullptr) {
      for (int64_t i = ctx.thread().x; i < p.cols; i += step) {
        const float d = delta[i];
        x[i] = has_bias ? d + delta_bias[i] : d;
      }
      const float factor = norm_factor(ctx, p, cells, x);
      const auto weight = ctx.global(p.delta_norm);
      for (int64_t i = ctx.thread().x; i < p.cols; i += step) {
        const float sum = h[i] + x[i] * factor * weight[i];
        h[i] = sum;
        x[i] = sum;
      }
      return;
    }
    // All that a thread needs is under way before it writes anything.
    for (int64_t first = ctx.thread().x; first < p.cols; first += kAtOnce * step) {
      float sums[kAtOnce], deltas[kAtOnce], biases[kAtOnce];
      SHOAL_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int64_t i = first + j * step;
        sums[j] = deltas[j] = biases[j] = 0;
        if (i >= p.cols) continue;
        sums[j] = h[i];
        if (has_delta) deltas[j] = delta[i];
        if (has_bias) biases[j] = delta_bias[i];
      }
      SHOAL_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int64_t i = first + j * step;
        if (i >= p.cols) continue;
        if (has_delta) sums[j] += deltas[j];
        if (has_bias) sums[j] += biases[j];
        if (has_delta || has_bias) h[i] = sums[j];
        x[i] = sums[j];
      }
    }
  }

  template <class Ctx, class Row>
  SHOAL_SIMT static float own_sum(Ctx& ctx, const Params& p, const Row& x) {
    float sum = 0;
    for (int64_t i = ctx.thread().x; i < p.cols; i += ctx.block_dim().x) sum += x[i];
    return sum;
  }

  // 1 / √(mean(x²) + eps)
  template <class Ctx, class Cells, class Row>
  SHOAL_SIMT static float norm_factor(Ctx& ctx, const Params& p, const Cells& cells, const Row& x) {
    float squares = 0;
    for (int64_t i = ctx.thread().x; i < p.cols; i += ctx.block_dim().x) {
      const float v = x[i];
      squares += v * v;
    }
    const float mean = block_sum(ctx, cells, squares) / static_cast<float>(p.cols);
    return 1.0f / std::sqrt(mean + p.eps);
  }

  template <class Ctx, class Row>
  SHOAL_SIMT static void write(Ctx& ctx, const Params& p, int64_t r, float factor, const Row& x) {
    const auto out = open_activations(ctx, p.out);
    const bool has_weight = p.weight.address != nullptr, has_bias = p.bias.address != nullptr;
    const auto weight = ctx.global(p.weight);
    const auto bias = ctx.global(p.bias);
    const int64_t step = ctx.block_dim().x;
    for (int64_t first = ctx.thread().x; first < out.stride; first += kAtOnce * step) {
      float weights[kAtOnce], biases[kAtOnce];
      SHOAL_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int64_t i = first + j * step;
        weights[j] = biases[j] = 0;
        if (has_weight && i < p.cols) weights[j] = weight[i];
        if (has_bias && i < p.cols) biases[j] = bias[i];
      }
      SHOAL_UNROLL
      for (int j = 0; j < kAtOnce; ++j) {
        const int64_t i = first + j * step;
        if (i >= out.stride) break;
        float value = 0;
        if (i < p.cols) {
          value = x[i] * factor;
          if (has_weight) value *= weights[j];
          if (has_bias) value += biases[j];
        }
        store_block(ctx, out, r, i / kActivationBlock, value);
      }
    }
  }
};

// out[r, 0 … width) = x[r]; zeros behind; int8 codes. x null: the values are in `out` already.
// Block (r, y): kBlocks blocks of 32 of row r.
struct PackActivations {
  static constexpr const char* kName = "pack_activations";
  static constexpr uint32_t kThreads = 256, kMaxThreads = kThreads, kMinBlocks = 1;
  static constexpr int64_t kBlocks = 4 * kThreads / kActivationBlock;
  struct Params {
    Global<const float> x;  // [rows, x_stride] or null
    int64_t x_stride;
    int64_t width;
    ActivationRows out;
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t r = ctx.block().x;
    const auto out = open_activations(ctx, p.out);
    const bool in_place = p.x.address == nullptr;
    const auto x = ctx.global(p.x) + (in_place ? 0 : r * p.x_stride);
    const int64_t first = int64_t{ctx.block().y} * kBlocks, end = out.stride / kActivationBlock;
    constexpr int64_t kWarps = kThreads / simt::kWarpSize;
    for (int64_t b = first + ctx.warp(); b < first + kBlocks && b < end; b += kWarps) {
      const int64_t i = b * kActivationBlock + ctx.lane();
      float value = 0;
      if (i < p.width) value = in_place ? float{out.values[r * out.stride + i]} : float{x[i]};
      store_block(ctx, out, r, b, value);
    }
  }
};

// HeadCopy of kernels/device.h; block (r, y): kThreads features of row r.
struct CopyHeads {
  static constexpr const char* kName = "copy_heads";
  static constexpr uint32_t kThreads = 256, kMaxThreads = kThreads, kMinBlocks = 1;
  struct Params {
    Global<const float> x;  // from x_first on
    Global<float> out;      // from out_first on
    int64_t heads, features;
    int64_t x_stride, x_head_stride;
    int64_t out_stride, out_head_stride;
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t r = ctx.block().x;
    const int64_t at = int64_t{ctx.block().y} * kThreads + ctx.thread().x;
    if (at >= p.heads * p.features) return;
    const int64_t head = at / p.features, i = at % p.features;
    const float value = ctx.global(p.x)[r * p.x_stride + head * p.x_head_stride + i];
    ctx.global(p.out)[r * p.out_stride + head * p.out_head_stride + i] = value;
  }
};

// x[i] = cap · tanh(x[i] / cap)
struct SoftCap {
  static constexpr const char* kName = "soft_cap";
  static constexpr uint32_t kThreads = 256, kMaxThreads = kThreads, kMinBlocks = 1;
  struct Params {
    Global<float> x;
    int64_t count;
    float cap;
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t i = int64_t{ctx.block().x} * kThreads + ctx.thread().x;
    if (i >= p.count) return;
    const auto x = ctx.global(p.x);
    const float value = x[i];
    x[i] = p.cap * std::tanh(value / p.cap);
  }
};

}  // namespace shoal::gpu

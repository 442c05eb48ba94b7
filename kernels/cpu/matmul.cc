// Matrix products on the CPU: y[r, i] = Σ_k W[i, k] · x[r, k].
#include <algorithm>

#include "kernels/body/math.h"
#include "kernels/cpu/cpu_device.h"

namespace shoal {
namespace {

// Weight rows taken together: their bytes stay in the nearest cache while the activation rows pass
// by.
constexpr int64_t kBand = 8;
constexpr int64_t kGateBand = 32;
// Features of a product summed on their own before the next: kTileRows rows of so many stay in the
// first-level cache while a band of weights passes by (measured at 8192 features on 48 KiB: prefill
// 25 to 60 % faster than in one piece; half as many cost a single row 10 %). Part of the order of
// additions, so it depends on nothing but the form.
constexpr int64_t kCodePanel = 4096;
constexpr int64_t kFloatPanel = 2048;

// Up to kTileRows activation rows as a weight meets them.
struct Tile {
  Tile(const CpuActivations& x, const ProductRows& rows, int64_t first, int64_t lead)
      : count(static_cast<int>(std::min<int64_t>(kTileRows, rows.count - first))) {
    for (int r = 0; r < count; ++r) {
      const int64_t row = rows.row(first + r);
      values[r] = x.row(row) + rows.column - lead;
      if (x.int8) quant[r] = x.quant(row, lead - rows.column);
    }
  }
  int count;
  const float* values[kTileRows];
  QuantRow quant[kTileRows];
};

// How a weight of one type meets activations: as stored, from int8 blocks, or from a row that was
// first unpacked to int8 codes or decoded to floats. Holds the prepared rows of one band.
class RowProduct {
 public:
  RowProduct(const KernelSet& set, const CpuWeight& weight, bool int8)
      : set_(set),
        type_(static_cast<uint32_t>(weight.shape.type)),
        features_(weight.features),
        blocks_(weight.shape.block_count()),
        elems_(traits(weight.shape.type).block_elems),
        block_bytes_(traits(weight.shape.type).block_bytes) {
    const TensorType type = weight.shape.type;
    stored_ = type == TensorType::kF32    ? set.dot_f32
              : type == TensorType::kF16  ? set.dot_f16
              : type == TensorType::kBF16 ? set.dot_bf16
                                          : nullptr;
    if (stored_ != nullptr) return;
    if (int8) quant_ = set.quant_dot[type_];
    if (quant_ != nullptr) return;
    planar_ = int8 && set.planar_dot != nullptr && set.unpack[type_] != nullptr;
    if (planar_) {
      codes_.resize(static_cast<size_t>(kBand * features_));
      scales_.resize(static_cast<size_t>(kBand * features_ / 16 * (set.has_minima[type_] ? 2 : 1)));
    } else {
      decoded_.resize(static_cast<size_t>(kBand * features_));
    }
  }

  int64_t panel() const { return quant_ != nullptr || planar_ ? kCodePanel : kFloatPanel; }
  bool prepares() const { return stored_ == nullptr && quant_ == nullptr; }

  void prepare(int64_t slot, const uint8_t* bytes) {
    if (!prepares()) return;
    if (planar_) {
      set_.unpack[type_](bytes, blocks_, codes_.data() + slot * features_, scales(slot),
                         minima(slot));
    } else {
      set_.decode[type_](bytes, blocks_, decoded_.data() + slot * features_);
    }
  }

  // Adds features [first, first + n) of the weight row times the tile's rows to out[r]. `first` is
  // a multiple of panel().
  void run(int64_t slot, const uint8_t* bytes, int64_t first, int64_t n, const Tile& tile,
           float* out) {
    const float* at[kTileRows];
    QuantRow quant_at[kTileRows];
    const bool codes = quant_ != nullptr || planar_;
    for (int r = 0; r < tile.count && first > 0; ++r) {
      at[r] = tile.values[r] + first;
      if (codes) quant_at[r] = tile.quant[r].from(first);
    }
    const float* const* values = first > 0 ? at : tile.values;
    const QuantRow* quant = first > 0 ? quant_at : tile.quant;
    float sums[kTileRows];
    const uint8_t* stored = bytes + first / elems_ * block_bytes_;
    if (quant_ != nullptr) {
      quant_(stored, n / elems_, quant, tile.count, sums);
    } else if (stored_ != nullptr) {
      stored_(stored, values, tile.count, n, sums);
    } else if (planar_) {
      const float* low = minima(slot);
      const PlanarRow row{codes_.data() + slot * features_ + first, scales(slot) + first / 16,
                          low == nullptr ? nullptr : low + first / 16};
      set_.planar_dot(row, n, quant, tile.count, sums);
    } else {
      const float* floats = decoded_.data() + slot * features_ + first;
      set_.dot_f32(reinterpret_cast<const uint8_t*>(floats), values, tile.count, n, sums);
    }
    for (int r = 0; r < tile.count; ++r) out[r] += sums[r];
  }

 private:
  float* scales(int64_t slot) { return scales_.data() + slot * (features_ / 16); }
  float* minima(int64_t slot) { return set_.has_minima[type_] ? scales(kBand + slot) : nullptr; }

  const KernelSet& set_;
  uint32_t type_;
  int64_t features_, blocks_, elems_, block_bytes_;
  KernelSet::Dot stored_ = nullptr;
  KernelSet::QuantDot quant_ = nullptr;
  bool planar_ = false;
  std::vector<int8_t> codes_;
  std::vector<float> scales_, decoded_;
};

void put(const MatmulTask& task, const ProductRows& rows, int64_t row, int64_t output,
         float value) {
  value *= task.out_scale;
  if (rows.scale != nullptr) value *= rows.scale[row];
  if (task.bias != nullptr) value += task.bias[output];
  float& to = task.out[row * task.out_stride + output];
  to = task.accumulate ? to + value : value;
}

}  // namespace

void CpuDevice::matmul_rows(const MatmulTask& task, const CpuActivations& x,
                            const ProductRows& rows, int64_t begin, int64_t end) const {
  const auto& weight = static_cast<const CpuWeight&>(*task.weight);
  RowProduct product(set_, weight, x.int8);
  const int64_t n = weight.features;
  if (rows.count <= kTileRows) {
    // One weight row at a time while there is one tile: weights come in the order of memory (in
    // bands, 2 rows ran at half the rate from memory), and prepared rows are still in the nearest
    // cache.
    const Tile tile(x, rows, 0, weight.lead);
    for (int64_t output = begin; output < end; ++output) {
      const uint8_t* bytes = weight.row(output);
      product.prepare(0, bytes);
      float out[kTileRows] = {};
      for (int64_t at = 0; at < n; at += product.panel()) {
        product.run(0, bytes, at, std::min(product.panel(), n - at), tile, out);
      }
      for (int r = 0; r < tile.count; ++r) put(task, rows, r, output, out[r]);
    }
    return;
  }
  for (int64_t band = begin; band < end; band += kBand) {
    const int64_t count = std::min(kBand, end - band);
    for (int64_t i = 0; i < count; ++i) product.prepare(i, weight.row(band + i));
    for (int64_t first = 0; first < rows.count; first += kTileRows) {
      const Tile tile(x, rows, first, weight.lead);
      float out[kBand][kTileRows] = {};
      for (int64_t at = 0; at < n; at += product.panel()) {
        for (int64_t i = 0; i < count; ++i) {
          product.run(i, weight.row(band + i), at, std::min(product.panel(), n - at), tile, out[i]);
        }
      }
      for (int64_t i = 0; i < count; ++i) {
        for (int r = 0; r < tile.count; ++r) put(task, rows, first + r, band + i, out[i][r]);
      }
    }
  }
}

void CpuDevice::matmul(std::span<const MatmulTask> tasks, const Activations& input, int64_t rows) {
  const auto& x = static_cast<const CpuActivations&>(input);
  int64_t outputs = 0;
  for (const MatmulTask& task : tasks) {
    SHOAL_CHECK(task.weight->slice().cols == x.width,
                "a weight's columns differ from the activations'");
    outputs += task.weight->slice().rows;
  }
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  // One range over the outputs of all tasks: one fork-join, evenly split.
  pool_.parallel_for(outputs, kBand, [&](int64_t begin, int64_t end) {
    int64_t base = 0;
    for (const MatmulTask& task : tasks) {
      const int64_t n = task.weight->slice().rows;
      const int64_t from = std::max<int64_t>(begin - base, 0), to = std::min(end - base, n);
      if (from < to) matmul_rows(task, x, {.count = rows}, from, to);
      base += n;
    }
  });
}

namespace {

// Float rows of one head's features between zeros, as a masked block or a misplaced group of 32
// needs them.
class HeadRows {
 public:
  HeadRows(int64_t rows, int64_t cols)
      : storage_(static_cast<size_t>(rows * (cols + 2 * kActivationPad))) {
    copy_.rows = rows;
    copy_.columns = copy_.width = cols;
    copy_.stride = cols + 2 * kActivationPad;
    copy_.values = storage_.data() + kActivationPad;
  }
  const CpuActivations& take(const CpuActivations& x, int64_t column) {
    for (int64_t r = 0; r < copy_.rows; ++r) {
      std::copy_n(x.row(r) + column, copy_.columns, copy_.row(r));
    }
    return copy_;
  }

 private:
  std::vector<float> storage_;
  CpuActivations copy_;
};

}  // namespace

void CpuDevice::head_matmul(const HeadMatmul& task, const Activations& input, int64_t rows) {
  const auto& x = static_cast<const CpuActivations&>(input);
  const auto& weight = static_cast<const CpuWeight&>(*task.weight);
  const int64_t cols = weight.shape.cols;
  if (task.heads == 0) return;
  const int64_t n = weight.shape.rows / task.heads;
  SHOAL_CHECK(weight.shape.rows % task.heads == 0, "heads of unequal size");
  SHOAL_CHECK(task.x_first >= 0 && task.x_head_stride >= 0 &&
                  task.x_first + (task.heads - 1) * task.x_head_stride + cols <= x.width,
              "heads beyond the activations");
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  // Behind a head's features stand another's, not zeros; codes come in groups of 32.
  const bool in_place = weight.features == cols &&
                        (!x.int8 || (task.x_first % 32 == 0 && task.x_head_stride % 32 == 0));
  pool_.parallel_for(weight.shape.rows, kBand, [&](int64_t begin, int64_t end) {
    HeadRows copy(in_place ? 0 : rows, cols);
    for (int64_t h = begin / n; h * n < end; ++h) {
      const int64_t column = task.x_first + h * task.x_head_stride;
      // Outputs are addressed by their index in the weight.
      const MatmulTask part{.weight = task.weight,
                            .out = task.out + h * (task.out_head_stride - n),
                            .out_stride = task.out_stride};
      const int64_t from = std::max(begin, h * n), to = std::min(end, (h + 1) * n);
      if (in_place) {
        matmul_rows(part, x, {.count = rows, .column = column}, from, to);
      } else {
        matmul_rows(part, copy.take(x, column), {.count = rows}, from, to);
      }
    }
  });
}

// out[i] = kind(g[i], u[i]) · factor; g null: an ungated network.
void CpuDevice::gate_row(GateFunction kind, const float* g, const float* u, int64_t n, float factor,
                         float* out) const {
  if (g == nullptr) {
    SHOAL_CHECK(kind == GateFunction::kGeluTanh, "an ungated network is of GELU");
    for (int64_t i = 0; i < n; ++i) out[i] = body::gelu_tanh(u[i]);
  } else if (kind == GateFunction::kSilu) {
    set_.silu_mul(g, u, n, out);
  } else if (kind == GateFunction::kGeluTanh) {
    for (int64_t i = 0; i < n; ++i) out[i] = body::gelu_tanh(g[i]) * u[i];
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = body::swiglu_clamp(g[i], u[i]);
  }
  if (factor != 1.0f) set_.scale(factor, n, out);
}

void CpuDevice::gated_matmul(const GatedTask& task, const Activations& input, int64_t rows,
                             Activations& output) {
  const auto& x = static_cast<const CpuActivations&>(input);
  auto& out = static_cast<CpuActivations&>(output);
  const bool gated = task.gate.weight != nullptr;
  const int64_t n = task.up.weight->slice().rows;
  SHOAL_CHECK(n <= out.columns && (!gated || n == task.gate.weight->slice().rows),
              "gate and up differ");
  SHOAL_CHECK(rows <= x.rows && rows <= out.rows, "more rows than the activations hold");
  out.width = n;
  SHOAL_CHECK((!gated || task.gate.weight->slice().cols == x.width) &&
                  task.up.weight->slice().cols == x.width,
              "a weight's columns differ from the activations'");
  // Bands of outputs for all rows, both products and the gate: no scratch of rows × outputs.
  pool_.parallel_for(n, kGateBand, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(2 * rows * kGateBand));
    for (int64_t band = begin; band < end; band += kGateBand) {
      const int64_t count = std::min(kGateBand, end - band);
      const auto product = [&](MatmulTask part, float* to) {
        part.out = to - band;  // outputs are addressed by their index in the weight
        part.out_stride = kGateBand;
        matmul_rows(part, x, {.count = rows}, band, band + count);
      };
      if (gated) product(task.gate, scratch.data());
      product(task.up, scratch.data() + rows * kGateBand);
      for (int64_t r = 0; r < rows; ++r) {
        const float* g = scratch.data() + r * kGateBand;
        const float factor = task.row_gate == nullptr ? 1.0f : body::sigmoid(task.row_gate[r]);
        gate_row(task.kind, gated ? g : nullptr, g + rows * kGateBand, count, factor,
                 out.row(r) + band);
      }
    }
  });
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) finish_row(out, r);
  });
}

}  // namespace shoal

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

void put(const MatmulTask& task, int64_t row, int64_t output, float value) {
  value *= task.out_scale;
  if (task.bias != nullptr) value += task.bias[output];
  task.out[row * task.out_stride + output] = value;
}

}  // namespace

// Outputs [begin, end) of one task for all rows.
void CpuDevice::matmul_rows(const MatmulTask& task, const CpuActivations& x, int64_t rows,
                            int64_t begin, int64_t end) const {
  const auto& weight = static_cast<const CpuWeight&>(*task.weight);
  const auto type = static_cast<uint32_t>(weight.shape.type);
  const auto quant_dot = x.int8 ? set_.quant_dot[type] : nullptr;
  const KernelSet::Dot stored_dot = weight.shape.type == TensorType::kF32    ? set_.dot_f32
                                    : weight.shape.type == TensorType::kF16  ? set_.dot_f16
                                    : weight.shape.type == TensorType::kBF16 ? set_.dot_bf16
                                                                             : nullptr;
  const int64_t n = weight.features, blocks = weight.shape.block_count();
  const bool decode = quant_dot == nullptr && stored_dot == nullptr;
  // One decoded row at a time while all rows fit one tile: it is used while still in the cache.
  const int64_t band_size = decode && rows <= kTileRows ? 1 : kBand;
  std::vector<float> decoded(decode ? static_cast<size_t>(band_size * n) : 0);
  for (int64_t band = begin; band < end; band += band_size) {
    const int64_t count = std::min(band_size, end - band);
    for (int64_t i = 0; decode && i < count; ++i) {
      set_.decode[type](weight.row(band + i), blocks, decoded.data() + i * n);
    }
    for (int64_t first = 0; first < rows; first += kTileRows) {
      const int tile = static_cast<int>(std::min<int64_t>(kTileRows, rows - first));
      const float* values[kTileRows];
      QuantRow quant[kTileRows];
      for (int r = 0; r < tile; ++r) {
        values[r] = x.row(first + r) - weight.lead;
        if (quant_dot != nullptr) quant[r] = x.quant(first + r, weight.lead);
      }
      for (int64_t i = 0; i < count; ++i) {
        float out[kTileRows];
        const uint8_t* bytes = weight.row(band + i);
        if (quant_dot != nullptr) {
          quant_dot(bytes, blocks, quant, tile, out);
        } else if (stored_dot != nullptr) {
          stored_dot(bytes, values, tile, n, out);
        } else {
          set_.dot_f32(reinterpret_cast<const uint8_t*>(decoded.data() + i * n), values, tile, n,
                       out);
        }
        for (int r = 0; r < tile; ++r) put(task, first + r, band + i, out[r]);
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
      if (from < to) matmul_rows(task, x, rows, from, to);
      base += n;
    }
  });
}

void CpuDevice::gated_matmul(const MatmulTask& gate, const MatmulTask& up, GateKind kind,
                             const Activations& input, int64_t rows, Activations& output) {
  const auto& x = static_cast<const CpuActivations&>(input);
  auto& out = static_cast<CpuActivations&>(output);
  const int64_t n = gate.weight->slice().rows;
  SHOAL_CHECK(n <= out.columns && n == up.weight->slice().rows, "gate and up differ");
  SHOAL_CHECK(rows <= x.rows && rows <= out.rows, "more rows than the activations hold");
  out.width = n;
  SHOAL_CHECK(gate.weight->slice().cols == x.width && up.weight->slice().cols == x.width,
              "a weight's columns differ from the activations'");
  // Bands of outputs for all rows, both products and the gate: no scratch of rows × outputs.
  pool_.parallel_for(n, kGateBand, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(2 * rows * kGateBand));
    for (int64_t band = begin; band < end; band += kGateBand) {
      const int64_t count = std::min(kGateBand, end - band);
      MatmulTask parts[2] = {gate, up};
      for (int i = 0; i < 2; ++i) {
        // Outputs are addressed by their index in the weight.
        parts[i].out = scratch.data() + i * rows * kGateBand - band;
        parts[i].out_stride = kGateBand;
        matmul_rows(parts[i], x, rows, band, band + count);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const float* g = scratch.data() + r * kGateBand;
        const float* u = g + rows * kGateBand;
        float* to = out.row(r) + band;
        if (kind == GateKind::kSilu) {
          set_.silu_mul(g, u, count, to);
        } else {
          for (int64_t i = 0; i < count; ++i) to[i] = body::gelu_tanh(g[i]) * u[i];
        }
      }
    }
  });
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) finish_row(out, r);
  });
}

}  // namespace shoal

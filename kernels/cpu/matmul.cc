// Matrix products on the CPU: y[r, i] = Σ_k W[i, k] · x[r, k].
#include <algorithm>

#include "kernels/cpu/cpu_device.h"
#include "kernels/decode.h"

namespace shoal {
namespace {

// Weight rows taken together: their bytes stay in the nearest cache while the activation rows pass
// by.
constexpr int64_t kBand = 8;

bool is_plain(TensorType type) {
  return type == TensorType::kF32 || type == TensorType::kF16 || type == TensorType::kBF16;
}

void put(const MatmulTask& task, int64_t row, int64_t output, float value) {
  value *= task.out_scale;
  if (task.bias != nullptr) value += task.bias[output];
  task.out[row * task.out_stride + output] = value;
}

}  // namespace

// Outputs [begin, end) of one task for all rows.
void CpuDevice::matmul_rows(const MatmulTask& task, const CpuActivations& x, int64_t rows,
                            int64_t begin, int64_t end) {
  const auto& weight = static_cast<const CpuWeight&>(*task.weight);
  const TensorType type = weight.shape.type;
  const auto quant_dot = x.int8 ? set_.quant_dot[static_cast<uint32_t>(type)] : nullptr;
  const int64_t n = weight.features;
  const bool decode = quant_dot == nullptr && !is_plain(type);
  std::vector<float> decoded(decode ? static_cast<size_t>(kBand * n) : 0);
  for (int64_t band = begin; band < end; band += kBand) {
    const int64_t count = std::min(kBand, end - band);
    for (int64_t i = 0; decode && i < count; ++i)
      decode_row(type, weight.row(band + i), n, decoded.data() + i * n);
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
          quant_dot(bytes, weight.shape.block_count(), quant, tile, out);
        } else if (type == TensorType::kF16) {
          set_.dot_f16(bytes, values, tile, n, out);
        } else if (type == TensorType::kBF16) {
          set_.dot_bf16(bytes, values, tile, n, out);
        } else {
          const float* floats =
              decode ? decoded.data() + i * n : reinterpret_cast<const float*>(bytes);
          set_.dot(floats, values, tile, n, out);
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
  auto& out = static_cast<CpuActivations&>(output);
  const int64_t n = gate.weight->slice().rows;
  SHOAL_CHECK(n <= out.columns && n == up.weight->slice().rows, "gate and up differ");
  SHOAL_CHECK(rows <= out.rows, "gate output of too few rows");
  out.width = n;
  gate_.resize(static_cast<size_t>(rows * n));
  up_.resize(static_cast<size_t>(rows * n));
  MatmulTask tasks[2] = {gate, up};
  tasks[0].out = gate_.data();
  tasks[1].out = up_.data();
  tasks[0].out_stride = tasks[1].out_stride = n;
  matmul(tasks, input, rows);
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *g = gate_.data() + r * n, *u = up_.data() + r * n;
      if (kind == GateKind::kSilu) {
        set_.silu_mul(g, u, n, out.row(r));
      } else {
        gelu_mul(g, u, n, out.row(r));
      }
      finish_row(out, r);
    }
  });
}

}  // namespace shoal

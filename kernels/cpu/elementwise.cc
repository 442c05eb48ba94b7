// Embedding, norms and activations.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_device.h"
#include "kernels/formats/decode.h"

namespace shoal {

void CpuDevice::finish_row(CpuActivations& out, int64_t row) const {
  const int64_t end = std::min(out.columns, out.width + kActivationPad);
  std::fill(out.row(row) + out.width, out.row(row) + end, 0.0f);
  if (!out.int8) return;
  const int64_t n = (end + 31) / 32 * 32;
  const QuantRow q = out.quant(row, 0);
  set_.quantise(out.row(row), n, const_cast<int8_t*>(q.codes), const_cast<int8_t*>(q.fine),
                const_cast<float*>(q.scales), const_cast<float*>(q.sums),
                const_cast<float*>(q.half_sums));
}

void CpuDevice::embed(const Weight& table, const int32_t* ids, int64_t rows, int64_t first_id,
                      float scale, float* out) {
  const auto& weight = static_cast<const CpuWeight&>(table);
  const int64_t n = weight.shape.cols;
  SHOAL_CHECK(weight.lead == 0, "an embedding is never cut by columns");
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t id = ids[r] - first_id;
      if (id < 0 || id >= weight.shape.rows) {
        std::fill_n(out + r * n, n, 0.0f);
      } else {
        decode_row(weight.shape.type, weight.row(id), n, out + r * n);
        if (scale != 1.0f) set_.scale(scale, n, out + r * n);
      }
    }
  });
}

// x · 1/√(mean(x²) + eps) · weight
void CpuDevice::rms_norm(const float* x, int64_t n, const float* weight, float eps,
                         float* out) const {
  const float mean = set_.sum_squares(x, n) / static_cast<float>(n);
  const float factor = 1.0f / std::sqrt(mean + eps);
  if (weight != nullptr) return set_.scale_by(x, factor, weight, n, out);
  if (out != x) std::copy_n(x, n, out);
  set_.scale(factor, n, out);
}

// (x − mean) / √(variance + eps) · weight + bias
void CpuDevice::layer_norm(const float* x, int64_t n, const float* weight, const float* bias,
                           float eps, float* out) const {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += static_cast<double>(x[i]);
  const auto mean = static_cast<float>(total / static_cast<double>(n));
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] - mean;
  const float variance = set_.sum_squares(out, n) / static_cast<float>(n);
  set_.scale_by(out, 1.0f / std::sqrt(variance + eps), weight, n, out);
  if (bias != nullptr) set_.axpy(1.0f, bias, n, out);
}

void CpuDevice::residual_norm(const ResidualNorm& task, Activations& output) {
  auto& out = static_cast<CpuActivations&>(output);
  const int64_t cols = task.cols;
  SHOAL_CHECK(task.out_rows == 0 || out.columns >= cols, "norm output too narrow");
  SHOAL_CHECK(task.out_rows <= out.rows, "norm output of too few rows");
  if (task.out_rows > 0) out.width = cols;
  if (task.exchange != nullptr) task.exchange->all_reduce(task.delta, task.rows * cols);
  const auto add_delta = [&](int64_t r, std::vector<float>& scratch) {
    float* h = task.h + r * cols;
    if (task.delta_norm == nullptr) {
      if (task.delta != nullptr) set_.axpy(1.0f, task.delta + r * cols, cols, h);
      if (task.delta_bias != nullptr) set_.axpy(1.0f, task.delta_bias, cols, h);
      return;
    }
    scratch.assign(task.delta + r * cols, task.delta + (r + 1) * cols);
    if (task.delta_bias != nullptr) set_.axpy(1.0f, task.delta_bias, cols, scratch.data());
    rms_norm(scratch.data(), cols, task.delta_norm, task.eps, scratch.data());
    set_.axpy(1.0f, scratch.data(), cols, h);
  };
  const auto norm = [&](int64_t from, int64_t to) {
    const float* x = task.h + from * cols;
    if (task.form == NormKind::kRms) {
      rms_norm(x, cols, task.weight, task.eps, out.row(to));
    } else {
      layer_norm(x, cols, task.weight, task.bias, task.eps, out.row(to));
    }
    finish_row(out, to);
  };
  const bool in_order = task.row_index == nullptr;
  SHOAL_CHECK(!in_order || task.out_rows <= task.rows, "more norm rows than rows");
  SHOAL_CHECK(task.delta_norm == nullptr || task.delta != nullptr, "the norm of no delta");
  pool_.parallel_for(task.rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch;
    for (int64_t r = begin; r < end; ++r) {
      add_delta(r, scratch);
      if (in_order && r < task.out_rows) norm(r, r);
    }
  });
  if (in_order) return;
  pool_.parallel_for(task.out_rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) norm(task.row_index[r], r);
  });
}

void CpuDevice::soft_cap(float* x, int64_t count, float cap) {
  constexpr int64_t kGrain = 4096;
  pool_.parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    set_.soft_cap(x + begin, cap, end - begin);
  });
}

void CpuDevice::copy_heads(const HeadCopy& task, int64_t rows) {
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < task.heads; ++h) {
        std::copy_n(task.x + r * task.x_stride + task.x_first + h * task.x_head_stride,
                    task.features,
                    task.out + r * task.out_stride + task.out_first + h * task.out_head_stride);
      }
    }
  });
}

void CpuDevice::load_activations(const float* x, int64_t x_stride, int64_t rows,
                                 Activations& output) {
  auto& out = static_cast<CpuActivations&>(output);
  SHOAL_CHECK(rows <= out.rows, "more rows than the activations hold");
  out.width = out.columns;
  pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::copy_n(x + r * x_stride, out.columns, out.row(r));
      finish_row(out, r);
    }
  });
}

}  // namespace shoal

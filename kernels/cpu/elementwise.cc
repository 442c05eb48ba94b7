// Embedding, norms, activations, rope and the write into the KV cache.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/body/math.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_layout.h"
#include "kernels/decode.h"

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
  set_.scale_by(x, 1.0f / std::sqrt(mean + eps), weight, n, out);
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
    if (task.form == NormForm::kRms) {
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

namespace {

// cos and sin of one row's angles, in double: at position 10^6 a float angle is off by 0.03
// radians.
struct Angles {
  std::vector<float> cosine, sine;
};

void fill_angles(const AttentionInput& in, int64_t position, Angles* angles) {
  const auto pairs = static_cast<size_t>(in.rope_dims / 2);
  angles->cosine.resize(pairs);
  angles->sine.resize(pairs);
  for (size_t p = 0; p < pairs; ++p) {
    const double angle = static_cast<double>(position) * static_cast<double>(in.inv_freq[p]);
    angles->cosine[p] = static_cast<float>(std::cos(angle)) * in.rope_magnitude;
    angles->sine[p] = static_cast<float>(std::sin(angle)) * in.rope_magnitude;
  }
}

void rotate_head(const AttentionInput& in, const Angles& angles, float* head) {
  const int64_t pairs = in.rope_dims / 2;
  const bool interleaved = in.rope == RopePairing::kInterleaved;
  for (int64_t p = 0; p < pairs; ++p) {
    float* a = head + (interleaved ? 2 * p : p);
    float* b = head + (interleaved ? 2 * p + 1 : p + pairs);
    body::rotate(a, b, angles.cosine[static_cast<size_t>(p)], angles.sine[static_cast<size_t>(p)]);
  }
}

}  // namespace

void CpuDevice::store_kv(const AttentionInput& in, const StepView& step, const KvLayer& kv) {
  const int64_t dim = kv.head_dim;
  SHOAL_CHECK(in.norm == HeadNorm::kNone || in.norm == HeadNorm::kRms, "not there yet");
  const auto prepare = [&](float* head, const float* norm, const Angles& angles) {
    if (norm != nullptr) {
      const float mean = set_.sum_squares(head, dim) / static_cast<float>(dim);
      const float factor = 1.0f / std::sqrt(mean + in.norm_eps);
      set_.scale_by(head, factor, norm, dim, head);
    }
    if (in.rope != RopePairing::kNone) rotate_head(in, angles, head);
  };
  pool_.parallel_for(step.rows, 1, [&](int64_t begin, int64_t end) {
    Angles angles;
    for (int64_t r = begin; r < end; ++r) {
      if (in.rope != RopePairing::kNone) fill_angles(in, step.positions[r], &angles);
      for (int64_t h = 0; h < in.q_heads; ++h)
        prepare(in.q + r * in.q_stride + h * dim, in.q_norm, angles);
      const int64_t slot = step.kv_slots[r];
      SHOAL_CHECK(slot >= 0 && slot < kv.blocks * kv.block_tokens, "KV slot out of range");
      for (int64_t h = 0; h < kv.kv_heads; ++h) {
        float* k = in.k + r * in.kv_stride + h * dim;
        const float* v = in.v + r * in.kv_stride + h * dim;
        prepare(k, in.k_norm, angles);
        const KvPlace place = kv_place(kv, slot / kv.block_tokens, h, slot % kv.block_tokens);
        if (kv.type == KvType::kF32) {
          std::memcpy(place.key, k, static_cast<size_t>(dim) * 4);
          std::memcpy(place.value, v, static_cast<size_t>(dim) * 4);
        } else {
          set_.float_to_half(k, dim, reinterpret_cast<uint16_t*>(place.key));
          set_.float_to_half(v, dim, reinterpret_cast<uint16_t*>(place.value));
        }
      }
    }
  });
}

}  // namespace shoal

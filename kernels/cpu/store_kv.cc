// Norms of heads, rope, and the write into the KV cache.
#include <cmath>
#include <cstring>

#include "kernels/body/math.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_layout.h"

namespace shoal {
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
  const bool interleaved = in.rope == RopeStyle::kInterleaved;
  head += in.rope_first;
  for (int64_t p = 0; p < pairs; ++p) {
    float* a = head + (interleaved ? 2 * p : p);
    float* b = head + (interleaved ? 2 * p + 1 : p + pairs);
    body::rotate(a, b, angles.cosine[static_cast<size_t>(p)], angles.sine[static_cast<size_t>(p)]);
  }
}

void check_input(const AttentionInput& in, const KvLayer& kv) {
  SHOAL_CHECK(in.rope == RopeStyle::kNone || (in.rope_first >= 0 && in.rope_dims % 2 == 0 &&
                                              in.rope_first + in.rope_dims <= kv.head_dim),
              "rope beyond a head");
  SHOAL_CHECK(in.k_norm_dims <= kv.head_dim && kv.latent_dim <= kv.head_dim,
              "part of a head larger than the head");
  SHOAL_CHECK(in.temperature_scale == 0 || in.temperature_length > 0, "a temperature of length 0");
}

}  // namespace

// The norm of the first n features of a head; a head without a weight stays as it is, but for
// kRmsAfterRope, which has none.
void CpuDevice::norm_head(const AttentionInput& in, const float* weight, int64_t n,
                          float* head) const {
  if (in.norm == QkNorm::kRmsAfterRope) {
    rms_norm(head, n, nullptr, in.norm_eps, head);
  } else if (weight == nullptr) {
    return;
  } else if (in.norm == QkNorm::kLayerPerHead) {
    layer_norm(head, n, weight, nullptr, in.norm_eps, head);
  } else if (in.norm == QkNorm::kRms) {
    rms_norm(head, n, weight, in.norm_eps, head);
  }
}

void CpuDevice::store_kv(const AttentionInput& in, const StepView& step, const KvLayer& kv) {
  const int64_t dim = kv.head_dim, key_dims = in.k_norm_dims > 0 ? in.k_norm_dims : dim;
  check_input(in, kv);
  const bool rotates = in.rope != RopeStyle::kNone;
  const auto prepare = [&](float* head, const float* norm, int64_t h, int64_t dims,
                           const Angles& angles) {
    if (norm != nullptr && in.norm == QkNorm::kLayerPerHead) norm += h * dim;
    if (in.norm != QkNorm::kRmsAfterRope) norm_head(in, norm, dims, head);
    if (rotates) rotate_head(in, angles, head);
    if (in.norm == QkNorm::kRmsAfterRope) norm_head(in, norm, dims, head);
  };
  const auto store = [&](const float* x, uint8_t* to) {
    if (kv.type == KvType::kF32) {
      std::memcpy(to, x, static_cast<size_t>(dim) * 4);
    } else {
      set_.float_to_half(x, dim, reinterpret_cast<uint16_t*>(to));
    }
  };
  pool_.parallel_for(step.rows, 1, [&](int64_t begin, int64_t end) {
    Angles angles;
    for (int64_t r = begin; r < end; ++r) {
      if (rotates) fill_angles(in, step.positions[r], &angles);
      for (int64_t h = 0; h < in.q_heads; ++h) {
        prepare(in.q + r * in.q_stride + h * dim, in.q_norm, h, dim, angles);
      }
      if (in.temperature_scale != 0 && in.q_heads > 0) {
        const float factor =
            body::temperature(step.positions[r], static_cast<double>(in.temperature_scale),
                              in.temperature_offset, in.temperature_length);
        set_.scale(factor, in.q_heads * dim, in.q + r * in.q_stride);
      }
      const int64_t slot = step.kv_slots[r];
      SHOAL_CHECK(slot >= 0 && slot < kv.blocks * kv.block_tokens, "KV slot out of range");
      for (int64_t h = 0; h < kv.kv_heads; ++h) {
        float* k = in.k + r * in.kv_stride + h * dim;
        prepare(k, in.k_norm, h, key_dims, angles);
        const KvPlace place = kv_place(kv, slot / kv.block_tokens, h, slot % kv.block_tokens);
        store(k, place.key);
        if (kv.latent_dim == 0) store(in.v + r * in.kv_stride + h * dim, place.value);
      }
    }
  });
}

}  // namespace shoal

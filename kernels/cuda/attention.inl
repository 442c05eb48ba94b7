// The KV cache and attention of GpuDevice.
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_tensor.h"

namespace shoal::gpu {

template <class Backend>
uint64_t GpuDevice<Backend>::kv_layer_bytes(const KvLayer& shape) const {
  return static_cast<uint64_t>(shape.blocks) * static_cast<uint64_t>(shape.kv_heads) *
         static_cast<uint64_t>(KvPlaces::of(shape).head_bytes);
}

template <class Backend>
void GpuDevice<Backend>::store_kv(const AttentionInput& in, const StepView& step,
                                  const KvLayer& kv) {
  SHOAL_CHECK(in.rope == RopeStyle::kNone || (in.rope_first >= 0 && in.rope_dims % 2 == 0 &&
                                              in.rope_first + in.rope_dims <= kv.head_dim),
              "rope beyond a head");
  SHOAL_CHECK(in.k_norm_dims <= kv.head_dim && kv.latent_dim <= kv.head_dim,
              "part of a head larger than the head");
  SHOAL_CHECK(in.temperature_scale == 0 || in.temperature_length > 0, "a temperature of length 0");
  const auto run = [&]<KvType kType>() {
    using Kernel = StoreKv<kType>;
    typename Kernel::Params p{};
    p.q = {in.q};
    p.k = {in.k};
    p.v = {in.v};
    p.q_norm = {in.q_norm};
    p.k_norm = {in.k_norm};
    p.inv_freq = {in.inv_freq};
    p.positions = {step.positions};
    p.slots = {step.kv_slots};
    p.cache = {static_cast<uint8_t*>(kv.data)};
    p.places = KvPlaces::of(kv);
    p.rows = step.rows;
    p.q_heads = in.q_heads;
    p.head_dim = kv.head_dim;
    p.q_stride = in.q_stride;
    p.kv_stride = in.kv_stride;
    p.key_norm_dims = in.k_norm_dims > 0 ? in.k_norm_dims : kv.head_dim;
    p.rope_first = in.rope_first;
    p.rope_dims = in.rope_dims;
    p.temperature_length = in.temperature_length;
    p.temperature_offset = in.temperature_offset;
    p.temperature_scale = in.temperature_scale;
    p.rope_magnitude = in.rope_magnitude;
    p.norm_eps = in.norm_eps;
    p.norm = in.norm;
    p.rope = in.rope;
    p.has_q_norm = in.q_norm != nullptr;
    p.has_k_norm = in.k_norm != nullptr;
    p.has_values = kv.latent_dim == 0;
    const int64_t warps = step.rows * (in.q_heads + kv.kv_heads);
    start<Kernel>({.grid = {static_cast<uint32_t>((warps + Kernel::kWarps - 1) / Kernel::kWarps)},
                   .block = {32 * Kernel::kWarps},
                   .shared_bytes = Kernel::shared_bytes(kv.head_dim)},
                  p);
  };
  if (kv.type == KvType::kF32) {
    run.template operator()<KvType::kF32>();
  } else {
    run.template operator()<KvType::kF16>();
  }
}

template <class Backend>
void GpuDevice<Backend>::attention(const float* q, int64_t q_stride, const AttentionSpec& spec,
                                   const StepView& step, const KvLayer& kv, Activations& output) {
  GpuActivations& out = activations(output);
  SHOAL_CHECK(spec.q_heads * kv.value_dim() <= out.columns, "attention output too narrow");
  SHOAL_CHECK(step.rows <= out.rows, "attention output of too few rows");
  out.width = spec.q_heads * kv.value_dim();
  if (out.width == 0 || step.rows == 0) return;
  AttentionParams p{};
  p.tables = {step.block_tables};
  p.cache = {static_cast<const uint8_t*>(kv.data)};
  p.sinks = {spec.sinks};
  p.sequences = {step.sequences};
  p.places = KvPlaces::of(kv);
  p.q_stride = q_stride;
  p.out_stride = out.stride;
  p.table_stride = step.table_stride;
  p.window = spec.window;
  p.chunk = spec.chunk;
  p.q_heads = static_cast<int32_t>(spec.q_heads);
  p.head_dim = static_cast<int32_t>(kv.head_dim);
  p.value_dim = static_cast<int32_t>(kv.value_dim());
  p.group = static_cast<int32_t>(std::max<int64_t>(spec.group, 1));
  p.first_head = static_cast<int32_t>(spec.first_kv_head * p.group - spec.first_q_head);
  p.scale = spec.scale;
  p.softcap = spec.softcap;
  p.has_sinks = spec.sinks != nullptr;
  // The plan of a launch holds so many rows; what a row becomes does not depend on it.
  for (int64_t first = 0; first < step.rows; first += kAttentionRows) {
    p.rows = static_cast<int32_t>(std::min<int64_t>(kAttentionRows, step.rows - first));
    p.q = {q + first * q_stride};
    p.out = {out.values + first * out.stride};
    p.positions = {step.positions + first};
    p.sequences = {step.sequences + first};
    if (kv.type == KvType::kF32) {
      start_attention<PlainAttention<KvType::kF32>>(p);
    } else if (kv.latent_dim == 0 && kv.head_dim == 64) {
      start_attention<TensorAttention<64>>(p);
    } else if (kv.latent_dim == 0 && kv.head_dim == 80) {
      start_attention<TensorAttention<80>>(p);
    } else if (kv.latent_dim == 0 && kv.head_dim == 96) {
      start_attention<TensorAttention<96>>(p);
    } else if (kv.latent_dim == 0 && kv.head_dim == 128) {
      start_attention<TensorAttention<128>>(p);
    } else {
      start_attention<PlainAttention<KvType::kF16>>(p);
    }
  }
  finish_activations(out, step.rows);
}

// Chooses the grid, and the memory in which splits leave their results.
template <class Backend>
template <class Kernel>
void GpuDevice<Backend>::start_attention(AttentionParams& p) {
  constexpr uint32_t kBlocksPerMultiprocessor = 4;
  Kernel::shape(p);
  const int64_t sets = p.places.kv_heads * p.sets_per_kv_head;
  p.arrivals = {arrivals(static_cast<uint64_t>(kAttentionRows * sets))};
  // Positions are the card's: the host only knows what the tables could hold.
  const int64_t splits = p.rows * (p.table_stride * p.places.block_tokens / kAttentionSplit + 1);
  const int64_t blocks = std::min<int64_t>(
      splits * sets, int64_t{backend_->multiprocessors()} * kBlocksPerMultiprocessor);
  const uint64_t slot_bytes = Kernel::slot_floats(p) * sizeof(float);
  p.slots = std::min<int64_t>(splits * sets, static_cast<int64_t>(attention_bytes_ / slot_bytes));
  const auto slots = static_cast<uint64_t>(p.slots + blocks * Kernel::kBlockSlots);
  p.partials = {static_cast<float*>(scratch(slots * slot_bytes))};
  start<Kernel>({.grid = {static_cast<uint32_t>(blocks)},
                 .block = {Kernel::kThreads},
                 .shared_bytes = Kernel::shared_bytes(p)},
                p);
}

}  // namespace shoal::gpu

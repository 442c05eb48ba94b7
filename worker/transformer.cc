#include "worker/transformer.h"

#include <algorithm>

namespace shoal {
namespace {

RopePairing pairing(RopeStyle style) {
  switch (style) {
    case RopeStyle::kNone:
      return RopePairing::kNone;
    case RopeStyle::kInterleaved:
      return RopePairing::kInterleaved;
    case RopeStyle::kHalves:
      return RopePairing::kHalves;
  }
  return RopePairing::kNone;
}

}  // namespace

Result<std::unique_ptr<Transformer>> Transformer::create(const ModelShard& model, Device& device,
                                                         int64_t max_rows) {
  std::unique_ptr<Transformer> transformer(new Transformer(model, device));
  SHOAL_TRY(transformer->allocate(max_rows));
  return transformer;
}

Status Transformer::allocate(int64_t max_rows) {
  const int64_t width = model_.spec.width;
  vocab_ = model_.shard.vocab.size();
  int64_t q_cols = 0, kv_cols = 0, ffn_cols = 0;
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const int64_t head_dim = model_.spec.layer[i].attention.head_dim;
    q_cols = std::max(q_cols, model_.layers[i].range.heads.size() * head_dim);
    kv_cols = std::max(kv_cols, model_.layers[i].range.kv_heads.size() * head_dim);
    ffn_cols = std::max(ffn_cols, model_.layers[i].range.ffn.size());
  }
  const auto floats = [&](std::unique_ptr<Buffer>& out, int64_t rows, int64_t cols,
                          const char* what) -> Status {
    SHOAL_ASSIGN(out, device_.allocate(static_cast<uint64_t>(rows * cols) * sizeof(float), what));
    scratch_bytes_ += out->bytes();
    return Status::ok();
  };
  SHOAL_TRY(floats(hidden_, max_rows, width, "residual stream"));
  SHOAL_TRY(floats(delta_, max_rows, width, "block output"));
  SHOAL_TRY(floats(q_, max_rows, q_cols, "queries"));
  SHOAL_TRY(floats(k_, max_rows, kv_cols, "keys"));
  SHOAL_TRY(floats(v_, max_rows, kv_cols, "values"));
  SHOAL_TRY(floats(logits_, kLogitRows, vocab_, "logits"));
  SHOAL_ASSIGN(normed_, device_.create_activations(max_rows, width));
  SHOAL_ASSIGN(attended_, device_.create_activations(max_rows, q_cols));
  SHOAL_ASSIGN(gated_, device_.create_activations(max_rows, ffn_cols));
  SHOAL_ASSIGN(last_, device_.create_activations(kLogitRows, width));
  scratch_bytes_ += static_cast<uint64_t>(max_rows * (width + q_cols + ffn_cols)) * 6;
  return Status::ok();
}

Status Transformer::reduce(float* data, int64_t count, Collective& group, const OpContext& op) {
  if (group.world() == 1) return Status::ok();
  if (device_.host_visible()) return group.all_reduce_sum(data, count, op);
  const uint64_t bytes = static_cast<uint64_t>(count) * sizeof(float);
  staging_.resize(static_cast<size_t>(count));
  SHOAL_TRY(device_.synchronize(op.deadline));
  device_.copy_to_host(staging_.data(), data, bytes);
  SHOAL_TRY(group.all_reduce_sum(staging_.data(), count, op));
  device_.copy_to_device(data, staging_.data(), bytes);
  return Status::ok();
}

// delta = partial sums of attn_out · Attention(rope(q), rope(k), v) over this rank's heads.
Status Transformer::attention_block(size_t index, const ForwardInput& input, const KvStore& kv,
                                    const float* pending_bias) {
  const ShardLayer& layer = model_.layers[index];
  const AttentionLayer& spec = model_.spec.layer[index].attention;
  const int64_t width = model_.spec.width;
  const int64_t rows = input.step.rows;
  const int64_t q_stride = layer.range.heads.size() * spec.head_dim;
  const int64_t kv_stride = layer.range.kv_heads.size() * spec.head_dim;

  device_.residual_norm({.h = hidden_->f32(),
                         .rows = rows,
                         .cols = width,
                         .delta = index == 0 ? nullptr : delta_->f32(),
                         .delta_bias = pending_bias,
                         .weight = layer.attn_norm->f32(),
                         .eps = model_.spec.norm_eps,
                         .out_rows = rows},
                        *normed_);
  const MatmulTask qkv[] = {layer.q.task(q_->f32(), q_stride), layer.k.task(k_->f32(), kv_stride),
                            layer.v.task(v_->f32(), kv_stride)};
  device_.matmul(qkv, *normed_, rows);

  AttentionInput heads;
  heads.q = q_->f32();
  heads.k = k_->f32();
  heads.v = v_->f32();
  heads.q_heads = layer.range.heads.size();
  heads.q_stride = q_stride;
  heads.kv_stride = kv_stride;
  heads.norm = layer.q_norm ? HeadNorm::kRms : HeadNorm::kNone;
  heads.q_norm = layer.q_norm ? layer.q_norm->f32() : nullptr;
  heads.k_norm = layer.k_norm ? layer.k_norm->f32() : nullptr;
  heads.norm_eps = model_.spec.norm_eps;
  heads.rope = pairing(spec.rope.style);
  heads.rope_dims = spec.rope.dims;
  heads.inv_freq = layer.inv_freq ? layer.inv_freq->f32() : nullptr;
  heads.rope_magnitude = spec.rope.magnitude;
  device_.store_kv(heads, input.step, kv.layer(index));

  AttentionSpec attention;
  attention.q_heads = layer.range.heads.size();
  attention.first_q_head = layer.range.heads.begin;
  attention.first_kv_head = layer.range.kv_heads.begin;
  attention.group = spec.heads / spec.kv_heads;
  attention.scale = spec.scale;
  attention.window = spec.window;
  attention.chunk = spec.chunk;
  attention.softcap = spec.softcap;
  device_.attention(q_->f32(), q_stride, attention, input.step, kv.layer(index), *attended_);

  MatmulTask out = layer.attn_out.task(delta_->f32(), width);
  out.bias = nullptr;  // once, after the reduce
  device_.matmul({&out, 1}, *attended_, rows);
  return Status::ok();
}

Status Transformer::forward(const ForwardInput& input, const KvStore& kv, Collective& group,
                            const OpContext& op) {
  const int64_t width = model_.spec.width;
  const int64_t rows = input.step.rows;
  const int64_t count = rows * width;
  input_ = input;

  device_.embed(*model_.embedding.weight, input.ids, rows, model_.shard.vocab.begin,
                model_.spec.embedding_scale, hidden_->f32());
  SHOAL_TRY(reduce(hidden_->f32(), count, group, op));

  const float* pending_bias = nullptr;  // of the block whose output is in delta_
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const ShardLayer& layer = model_.layers[i];
    SHOAL_TRY(attention_block(i, input, kv, pending_bias));
    SHOAL_TRY(reduce(delta_->f32(), count, group, op));

    device_.residual_norm({.h = hidden_->f32(),
                           .rows = rows,
                           .cols = width,
                           .delta = delta_->f32(),
                           .delta_bias = layer.attn_out.bias_data(),
                           .weight = layer.ffn_norm->f32(),
                           .eps = model_.spec.norm_eps,
                           .out_rows = rows},
                          *normed_);
    const FfnLayer& ffn = model_.spec.layer[i].ffn;
    const GateKind kind = ffn.gate == GateFunction::kSilu ? GateKind::kSilu : GateKind::kGeluTanh;
    device_.gated_matmul(
        {.gate = layer.gate.task(nullptr, 0), .up = layer.up.task(nullptr, 0), .kind = kind},
        *normed_, rows, *gated_);
    MatmulTask down = layer.down.task(delta_->f32(), width);
    down.bias = nullptr;  // once, after the reduce
    device_.matmul({&down, 1}, *gated_, rows);
    SHOAL_TRY(reduce(delta_->f32(), count, group, op));
    pending_bias = layer.down.bias_data();
  }
  // The last residual add; logits() norms the sampled rows, a few at a time.
  device_.residual_norm({.h = hidden_->f32(),
                         .rows = rows,
                         .cols = width,
                         .delta = delta_->f32(),
                         .delta_bias = pending_bias},
                        *last_);
  return Status::ok();
}

float* Transformer::logits(int64_t first, int64_t count) {
  SHOAL_CHECK(count <= kLogitRows && first + count <= input_.sample_count,
              "logit rows out of range");
  device_.residual_norm({.h = hidden_->f32(),
                         .rows = input_.step.rows,
                         .cols = model_.spec.width,
                         .weight = model_.output_norm->f32(),
                         .eps = model_.spec.norm_eps,
                         .row_index = input_.sample_rows + first,
                         .out_rows = count},
                        *last_);
  const MatmulTask task = model_.output_weights().task(logits_->f32(), vocab_);
  device_.matmul({&task, 1}, *last_, count);
  return logits_->f32();
}

}  // namespace shoal

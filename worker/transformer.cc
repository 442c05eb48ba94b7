#include "worker/transformer.h"

#include <algorithm>

namespace shoal {
namespace {

const float* data_or_null(const std::unique_ptr<Buffer>& buffer) {
  return buffer ? buffer->f32() : nullptr;
}

}  // namespace

Result<std::unique_ptr<Transformer>> Transformer::create(const ModelShard& model, Device& device,
                                                         const TransformerOptions& options) {
  std::unique_ptr<Transformer> transformer(new Transformer(model, device, options));
  SHOAL_TRY(transformer->scratch_.allocate(model, device, options.max_rows));
  size_t counters = 0;
  int64_t mixtures = 0;
  for (const LayerSpec& layer : model.spec.layer) {
    transformer->expert_counters_.push_back(counters);
    transformer->mixture_index_.push_back(mixtures);
    mixtures += layer.ffn.moe.experts > 0 ? 1 : 0;
    counters += static_cast<size_t>(layer.ffn.moe.experts);
  }
  transformer->expert_tokens_.resize(counters);
  return transformer;
}

ResidualNorm Transformer::take_pending() {
  ResidualNorm sum{.h = scratch_.hidden->f32(), .rows = rows(), .cols = model_.spec.width};
  sum.eps = model_.spec.norm_eps;
  if (!pending_.exists) return sum;
  sum.delta = scratch_.delta->f32();
  sum.exchange = exchange_;
  sum.delta_bias = pending_.bias;
  sum.delta_norm = pending_.norm;
  pending_ = {};
  return sum;
}

void Transformer::norm_rows(const NormWeights& norm) {
  ResidualNorm task = take_pending();
  task.form = model_.spec.norm;
  task.weight = norm.weight_data();
  task.bias = norm.bias_data();
  task.out_rows = rows();
  device_.residual_norm(task, *scratch_.normed);
}

void Transformer::project_heads(const ShardLayer& layer, const AttentionLayer& spec) {
  const int64_t q_stride = layer.range.heads.size() * spec.head_dim;
  const int64_t kv_stride = layer.range.kv_heads.size() * spec.head_dim;
  const MatmulTask qkv[] = {layer.q.task(scratch_.q->f32(), q_stride),
                            layer.k.task(scratch_.k->f32(), kv_stride),
                            layer.v.task(scratch_.v->f32(), kv_stride)};
  device_.matmul(qkv, *scratch_.normed, rows());
}

// Absorbed latent attention: Q = [k_b q_nope | q_pe] per head, K = [c | k_pe] once.
void Transformer::project_latent(const ShardLayer& layer, const AttentionLayer& spec) {
  const LatentAttention& latent = spec.latent;
  const int64_t heads = layer.range.heads.size();
  if (heads == 0) return;
  const int64_t full_stride = heads * spec.query_dim(), q_stride = heads * spec.head_dim;
  MatmulTask first[] = {layer.kv_a.task(scratch_.k->f32(), spec.head_dim),
                        layer.q.task(scratch_.q_full->f32(), full_stride)};
  if (latent.q_rank > 0) first[1] = layer.q_a.task(scratch_.q_bottleneck->f32(), latent.q_rank);
  device_.matmul(first, *scratch_.normed, rows());
  if (latent.q_rank > 0) {
    device_.residual_norm({.h = scratch_.q_bottleneck->f32(),
                           .rows = rows(),
                           .cols = latent.q_rank,
                           .weight = layer.q_a_norm->f32(),
                           .eps = model_.spec.norm_eps,
                           .out_rows = rows()},
                          *scratch_.q_bottleneck_norm);
    const MatmulTask up = layer.q.task(scratch_.q_full->f32(), full_stride);
    device_.matmul({&up, 1}, *scratch_.q_bottleneck_norm, rows());
  }
  device_.load_activations(scratch_.q_full->f32(), full_stride, rows(), *scratch_.q_heads);
  device_.head_matmul({.weight = layer.k_b.weight.get(),
                       .heads = heads,
                       .x_first = 0,
                       .x_head_stride = spec.query_dim(),
                       .out = scratch_.q->f32(),
                       .out_stride = q_stride,
                       .out_head_stride = spec.head_dim},
                      *scratch_.q_heads, rows());
  device_.copy_heads({.heads = heads,
                      .features = spec.rope.dims,
                      .x = scratch_.q_full->f32(),
                      .x_stride = full_stride,
                      .x_first = latent.nope,
                      .x_head_stride = spec.query_dim(),
                      .out = scratch_.q->f32(),
                      .out_stride = q_stride,
                      .out_first = latent.kv_rank,
                      .out_head_stride = spec.head_dim},
                     rows());
}

void Transformer::store_heads(size_t index, const StepView& step) {
  const ShardLayer& layer = model_.layers[index];
  const AttentionLayer& spec = model_.spec.layer[index].attention;
  AttentionInput heads;
  heads.q = scratch_.q->f32();
  heads.k = scratch_.k->f32();
  heads.v = scratch_.v->f32();
  heads.q_heads = layer.range.heads.size();
  heads.q_stride = heads.q_heads * spec.head_dim;
  heads.kv_stride = layer.range.kv_heads.size() * spec.head_dim;
  heads.norm = spec.is_latent() ? QkNorm::kRms : spec.qk_norm;
  heads.q_norm = data_or_null(layer.q_norm);
  heads.k_norm = data_or_null(layer.k_norm);
  heads.k_norm_dims = spec.latent.kv_rank;
  heads.norm_eps = model_.spec.norm_eps;
  heads.rope_first = spec.latent.kv_rank;
  heads.rope = spec.rope.style;
  heads.rope_dims = spec.rope.dims;
  heads.inv_freq = data_or_null(layer.inv_freq);
  heads.rope_magnitude = spec.rope.magnitude;
  heads.temperature_scale = spec.temperature.scale;
  heads.temperature_length = std::max<int64_t>(spec.temperature.length, 1);
  heads.temperature_offset = spec.temperature.offset;
  device_.store_kv(heads, step, kv_->layer(index));
}

void Transformer::attend(size_t index, const StepView& step) {
  const ShardLayer& layer = model_.layers[index];
  const AttentionLayer& spec = model_.spec.layer[index].attention;
  const int64_t heads = layer.range.heads.size();
  AttentionSpec attention;
  attention.q_heads = heads;
  attention.first_q_head = layer.range.heads.begin;
  attention.first_kv_head = layer.range.kv_heads.begin;
  attention.group = spec.heads / spec.kv_heads;
  attention.scale = spec.scale;
  attention.window = spec.window;
  attention.chunk = spec.chunk;
  attention.softcap = spec.softcap;
  attention.sinks = data_or_null(layer.sinks);
  const bool latent = spec.is_latent() && heads > 0;
  device_.attention(scratch_.q->f32(), heads * spec.head_dim, attention, step, kv_->layer(index),
                    latent ? *scratch_.latent : *scratch_.attended);
  if (!latent) return;
  const int64_t stride = heads * spec.latent.value;
  device_.head_matmul({.weight = layer.v_b.weight.get(),
                       .heads = heads,
                       .x_first = 0,
                       .x_head_stride = spec.latent.kv_rank,
                       .out = scratch_.values->f32(),
                       .out_stride = stride,
                       .out_head_stride = spec.latent.value},
                      *scratch_.latent, rows());
  device_.load_activations(scratch_.values->f32(), stride, rows(), *scratch_.attended);
}

// delta = partial sums of attn_out · Attention(…normed…) over this rank's heads.
void Transformer::attention_block(size_t index) {
  const ShardLayer& layer = model_.layers[index];
  const AttentionLayer& spec = model_.spec.layer[index].attention;
  const StepView& step = input_.steps[static_cast<size_t>(spec.kv_group)];
  if (spec.is_latent()) {
    project_latent(layer, spec);
  } else {
    project_heads(layer, spec);
  }
  store_heads(index, step);
  attend(index, step);
  MatmulTask out = layer.attn_out.task(scratch_.delta->f32(), model_.spec.width);
  out.bias = nullptr;  // once, after the reduce
  device_.matmul({&out, 1}, *scratch_.attended, rows());
}

// A recording holds addresses: of other memory another one is made.
void Transformer::repeat(const OpKey& key, const std::function<void()>& ops) {
  if (rows() > kRepeatedRows) return ops();
  const StepView& step = input_.steps[0];  // the others' follow from it and the key
  std::vector<const void*> memory{input_.ids,       input_.sample_rows, kv_,
                                  step.positions,   step.kv_slots,      step.sequences,
                                  step.block_tables};
  if (!recorder_ || memory != recorded_memory_) {
    recorder_ = device_.make_recorder();
    recorded_memory_ = std::move(memory);
  }
  recorder_->run(key, ops);
}

void Transformer::forward(const ForwardInput& input, const KvStore& kv, Exchange& exchange) {
  input_ = input;
  kv_ = &kv;
  exchange_ = &exchange;
  if (!exchange.in_stream()) return run_layers();
  repeat({kLayers, rows(), input_.steps[0].table_stride, input_.table_sequences},
         [&] { run_layers(); });
}

void Transformer::run_layers() {
  device_.embed(*model_.embedding.weight, input_.ids, rows(), model_.shard.vocab.begin,
                model_.spec.embedding_scale, scratch_.hidden->f32());
  exchange_->all_reduce(scratch_.hidden->f32(), rows() * model_.spec.width);
  pending_ = {};
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    if (exchange_->failed()) return;  // nobody waits for the rest, and the plan is to end soon
    if (model_.spec.layer[i].parallel) {
      parallel_layer(i);
    } else {
      layer(i);
    }
  }
  device_.residual_norm(take_pending(), *scratch_.last);  // logits() norms the sampled rows
}

void Transformer::layer(size_t index) {
  const ShardLayer& layer = model_.layers[index];
  norm_rows(layer.attn_norm);
  attention_block(index);
  pending_ = {true, layer.attn_out.bias_data(), layer.attn_post_norm.weight_data()};
  norm_rows(layer.ffn_norm);
  ffn_block(index, false);
  pending_ = {true, layer.down.bias_data(), layer.ffn_post_norm.weight_data()};
}

// Attention and FFN read the same residual stream, and one sum takes both outputs.
void Transformer::parallel_layer(size_t index) {
  const ShardLayer& layer = model_.layers[index];
  norm_rows(layer.attn_norm2.weight ? layer.attn_norm2 : layer.attn_norm);
  attention_block(index);
  if (layer.attn_norm2.weight) norm_rows(layer.attn_norm);
  ffn_block(index, true);
  if (layer.attn_out.bias_data() != nullptr) {
    ResidualNorm bias = take_pending();
    bias.delta_bias = layer.attn_out.bias_data();
    device_.residual_norm(bias, *scratch_.last);
  }
  pending_ = {true, layer.down.bias_data(), layer.ffn_post_norm.weight_data()};
}

float* Transformer::logits(int64_t first, int64_t count) {
  SHOAL_CHECK(count <= kLogitRows && first + count <= input_.sample_count,
              "logit rows out of range");
  repeat({kLogits, rows(), first, count}, [&] { run_output(first, count); });
  return scratch_.logits->f32();
}

void Transformer::run_output(int64_t first, int64_t count) {
  const ModelSpec& spec = model_.spec;
  device_.residual_norm({.h = scratch_.hidden->f32(),
                         .rows = rows(),
                         .cols = spec.width,
                         .form = spec.norm,
                         .weight = model_.output_norm.weight_data(),
                         .bias = model_.output_norm.bias_data(),
                         .eps = spec.norm_eps,
                         .row_index = input_.sample_rows + first,
                         .out_rows = count},
                        *scratch_.last);
  MatmulTask task = model_.output_weights().task(scratch_.logits->f32(), logits_stride());
  task.out_scale *= spec.logit_scale;
  device_.matmul({&task, 1}, *scratch_.last, count);
  if (spec.final_softcap > 0) {
    device_.soft_cap(scratch_.logits->f32(), count * logits_stride(), spec.final_softcap);
  }
}

}  // namespace shoal

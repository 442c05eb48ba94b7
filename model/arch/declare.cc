#include <fmt/core.h>
#include <fmt/ranges.h>

#include "model/arch/arch.h"

namespace shoal {
namespace {

std::string shape_text(const TensorInfo& tensor) {
  return fmt::format("{{{}}}",
                     fmt::join(tensor.dims.begin(), tensor.dims.begin() + tensor.n_dims, ", "));
}

// Trailing dimensions of 1 may be there or not.
bool has_shape(const TensorInfo& tensor, const std::vector<int64_t>& dims) {
  for (size_t i = 0; i < std::max(dims.size(), static_cast<size_t>(tensor.n_dims)); ++i) {
    const int64_t found =
        i < static_cast<size_t>(tensor.n_dims) ? static_cast<int64_t>(tensor.dims[i]) : 1;
    if (found != (i < dims.size() ? dims[i] : 1)) return false;
  }
  return true;
}

// The scale of a matrix multiplies its products; these are looked up or folded into others.
bool takes_scale(Role role) {
  return role != Role::kTokenEmbedding && role != Role::kLatentKB && role != Role::kLatentVB;
}

std::string block_name(int layer) { return "blk." + std::to_string(layer) + "."; }

}  // namespace

bool TensorDeclarer::has(const std::string& name) const {
  return file_.find_tensor(name) != nullptr;
}

void TensorDeclarer::note_optional(const std::string& kind, const std::string& name, bool there) {
  Presence& presence = optional_[kind];
  (there ? presence.with : presence.without) = name;
}

void TensorDeclarer::need_either(const std::string& name, const std::string& other) {
  if (!status_.is_ok() || has(name) || has(other)) return;
  status_ = not_found(
      fmt::format("tensors '{}' and '{}' are missing; architecture '{}' needs one of them", name,
                  other, spec_.architecture));
}

bool TensorDeclarer::has_optional(int layer, const std::string& name) {
  const bool there = has(name);
  if (layer >= 0) note_optional(name.substr(block_name(layer).size()), name, there);
  return there;
}

Status TensorDeclarer::status() const {
  if (!status_.is_ok()) return status_;
  for (const auto& [kind, presence] : optional_) {
    if (presence.with.empty() || presence.without.empty()) continue;
    return not_found(fmt::format(
        "tensor '{}' is missing, but '{}' is there: a model has all tensors of such a kind or none",
        presence.without, presence.with));
  }
  return Status::ok();
}

void TensorDeclarer::declare(TensorDecl decl, const std::vector<int64_t>& dims) {
  if (!status_.is_ok()) return;
  const TensorInfo* tensor = file_.find_tensor(decl.name);
  if (tensor == nullptr) {
    status_ = not_found("tensor '" + decl.name + "' is missing; architecture '" +
                        spec_.architecture + "' needs it");
    return;
  }
  if (!holds_weights(tensor->type)) {
    status_ = unsupported(fmt::format("tensor '{}' is of type {}, which holds no weights",
                                      decl.name, tensor_type_name(tensor->type)));
    return;
  }
  if (!has_shape(*tensor, dims)) {
    status_ =
        invalid_argument(fmt::format("tensor '{}' has shape {} but the metadata asks for {{{}}}",
                                     decl.name, shape_text(*tensor), fmt::join(dims, ", ")));
    return;
  }
  // NVFP4 files keep a per-tensor scale beside the blocks: X.scale for X.weight.
  const std::string scale = decl.name.substr(0, decl.name.rfind('.')) + ".scale";
  if (const TensorInfo* info = file_.find_tensor(scale); info != nullptr && decl.cols > 1) {
    if (!takes_scale(decl.role)) {
      status_ = unsupported(
          fmt::format("tensor '{}': a scale of '{}' is not supported", scale, decl.name));
      return;
    }
    if (info->elements() != 1 || !holds_weights(info->type)) {
      status_ = unsupported(
          fmt::format("tensor '{}' has {} elements of type {}; one scale for '{}' was expected",
                      scale, info->elements(), tensor_type_name(info->type), decl.name));
      return;
    }
    decl.scale_name = scale;
  }
  spec_.tensors.push_back(std::move(decl));
}

void TensorDeclarer::matrix(Role role, int layer, const std::string& name, int64_t rows,
                            int64_t cols, Split split) {
  declare({.role = role, .layer = layer, .name = name, .rows = rows, .cols = cols, .split = split},
          {cols, rows});
}

void TensorDeclarer::stacked(Role role, int layer, const std::string& name, int64_t count,
                             int64_t rows, int64_t cols, Split split) {
  const TensorInfo* tensor = file_.find_tensor(name);
  std::vector<int64_t> dims = {cols, rows, count};
  if (tensor != nullptr && tensor->n_dims == 2) dims = {cols, rows * count};
  declare({.role = role,
           .layer = layer,
           .name = name,
           .rows = rows * count,
           .cols = cols,
           .split = split},
          dims);
}

void TensorDeclarer::vector(Role role, int layer, const std::string& name, int64_t n, Split split,
                            bool bias) {
  declare({.role = role,
           .layer = layer,
           .bias = bias,
           .name = name,
           .rows = n,
           .cols = 1,
           .split = split},
          {n});
}

void TensorDeclarer::optional_vector(Role role, int layer, const std::string& name, int64_t n,
                                     Split split, bool bias) {
  if (has_optional(layer, name)) vector(role, layer, name, n, split, bias);
}

void TensorDeclarer::norm(Role role, int layer, const std::string& name) {
  vector(role, layer, name + ".weight", spec_.width, Split::kReplicated);
  if (spec_.norm != NormKind::kLayer) return;
  const std::string bias = name + ".bias";
  note_optional("LayerNorm", bias, has(bias));
  if (has(bias)) vector(role, layer, bias, spec_.width, Split::kReplicated, true);
}

void TensorDeclarer::projection(Role role, int layer, const std::string& name, int64_t rows,
                                int64_t cols, Split split, Split bias_split) {
  matrix(role, layer, name + ".weight", rows, cols, split);
  optional_vector(role, layer, name + ".bias", rows, bias_split, true);
}

void TensorDeclarer::decoder(const std::string& ffn_norm) {
  globals();
  for (int layer = 0; layer < spec_.layers; ++layer) {
    attention(layer);
    ffn(layer, ffn_norm);
  }
}

void TensorDeclarer::globals() {
  matrix(Role::kTokenEmbedding, -1, "token_embd.weight", spec_.vocab, spec_.width,
         Split::kVocabRows);
  norm(Role::kOutputNorm, -1, "output_norm");
  spec_.tied_output = !has("output.weight");
  matrix(Role::kOutput, -1, spec_.tied_output ? "token_embd.weight" : "output.weight", spec_.vocab,
         spec_.width, Split::kVocabRows);
  optional_vector(Role::kOutput, -1, "output.bias", spec_.vocab, Split::kVocabRows, true);
  int64_t pairs = 0;
  for (const LayerSpec& layer : spec_.layer) pairs = std::max(pairs, layer.attention.rope.dims / 2);
  optional_vector(Role::kRopeFactors, -1, "rope_freqs.weight", pairs, Split::kReplicated);
  const std::string lengths[] = {"rope_factors_long.weight", "rope_factors_short.weight"};
  if (!has(lengths[0]) && !has(lengths[1])) return;
  vector(Role::kRopeFactorsLong, -1, lengths[0], pairs, Split::kReplicated);
  vector(Role::kRopeFactorsShort, -1, lengths[1], pairs, Split::kReplicated);
}

void TensorDeclarer::query_key_value(int layer) {
  const AttentionLayer& a = spec_.layer[static_cast<size_t>(layer)].attention;
  const std::string block = block_name(layer);
  const int64_t q_rows = a.heads * a.head_dim;
  const int64_t kv_rows = a.kv_heads * a.head_dim;
  need_either(block + "attn_q.weight", block + "attn_qkv.weight");
  if (!has(block + "attn_qkv.weight")) {
    projection(Role::kAttnQ, layer, block + "attn_q", q_rows, spec_.width, Split::kHeadRows,
               Split::kHeadRows);
    projection(Role::kAttnK, layer, block + "attn_k", kv_rows, spec_.width, Split::kKvHeadRows,
               Split::kKvHeadRows);
    projection(Role::kAttnV, layer, block + "attn_v", kv_rows, spec_.width, Split::kKvHeadRows,
               Split::kKvHeadRows);
    return;
  }
  const struct {  // rows: all q heads, all k heads, all v heads
    Role role;
    int64_t first, rows;
    Split split;
  } parts[] = {{Role::kAttnQ, 0, q_rows, Split::kHeadRows},
               {Role::kAttnK, q_rows, kv_rows, Split::kKvHeadRows},
               {Role::kAttnV, q_rows + kv_rows, kv_rows, Split::kKvHeadRows}};
  const int64_t file_rows = q_rows + 2 * kv_rows;
  for (const auto& part : parts) {
    TensorDecl decl{.role = part.role,
                    .layer = layer,
                    .name = block + "attn_qkv.weight",
                    .rows = part.rows,
                    .cols = spec_.width,
                    .first_row = part.first,
                    .split = part.split};
    declare(decl, {spec_.width, file_rows});
    if (!has_optional(layer, block + "attn_qkv.bias")) continue;
    decl.bias = true;
    decl.name = block + "attn_qkv.bias";
    decl.cols = 1;
    declare(std::move(decl), {file_rows});
  }
}

void TensorDeclarer::attention(int layer) {
  const AttentionLayer& a = spec_.layer[static_cast<size_t>(layer)].attention;
  const std::string block = block_name(layer);
  norm(Role::kAttnNorm, layer, block + "attn_norm");
  if (a.is_latent()) {
    latent_attention(layer);
  } else {
    query_key_value(layer);
  }
  // The output bias is added once, after the reduce: replicated.
  projection(Role::kAttnOut, layer, block + "attn_output", spec_.width, a.heads * a.output_dim(),
             Split::kHeadCols, Split::kReplicated);
  // Where an architecture may norm them or not, the first of the two says so.
  note_optional("attn_q_norm.weight", block + "attn_q_norm.weight",
                a.qk_norm == QkNorm::kRms || a.qk_norm == QkNorm::kLayerPerHead);
  if (a.qk_norm == QkNorm::kRms) {
    vector(Role::kAttnQNorm, layer, block + "attn_q_norm.weight", a.head_dim, Split::kReplicated);
    vector(Role::kAttnKNorm, layer, block + "attn_k_norm.weight", a.head_dim, Split::kReplicated);
  } else if (a.qk_norm == QkNorm::kLayerPerHead) {
    const auto per_head = [&](Role role, const char* name, int64_t heads, Split split) {
      declare({.role = role,
               .layer = layer,
               .name = block + name,
               .rows = heads * a.head_dim,
               .cols = 1,
               .split = split},
              {a.head_dim, heads});
    };
    per_head(Role::kAttnQNorm, "attn_q_norm.weight", a.heads, Split::kHeadRows);
    per_head(Role::kAttnKNorm, "attn_k_norm.weight", a.kv_heads, Split::kKvHeadRows);
  }
}

// DeepSeek-V2 §2.1: q from a bottleneck or at once; one vector [c | k_pe] for keys and values.
void TensorDeclarer::latent_attention(int layer) {
  const AttentionLayer& a = spec_.layer[static_cast<size_t>(layer)].attention;
  const LatentAttention& latent = a.latent;
  const std::string block = block_name(layer);
  const int64_t q_rows = a.heads * a.query_dim();
  need_either(block + "attn_q.weight", block + "attn_q_a.weight");
  if (latent.q_rank > 0) {
    matrix(Role::kLatentQA, layer, block + "attn_q_a.weight", latent.q_rank, spec_.width,
           Split::kLatent);
    vector(Role::kLatentQANorm, layer, block + "attn_q_a_norm.weight", latent.q_rank,
           Split::kLatent);
    matrix(Role::kAttnQ, layer, block + "attn_q_b.weight", q_rows, latent.q_rank, Split::kHeadRows);
  } else {
    matrix(Role::kAttnQ, layer, block + "attn_q.weight", q_rows, spec_.width, Split::kHeadRows);
  }
  matrix(Role::kLatentKvA, layer, block + "attn_kv_a_mqa.weight", latent.kv_rank + a.rope.dims,
         spec_.width, Split::kLatent);
  vector(Role::kLatentKvANorm, layer, block + "attn_kv_a_norm.weight", latent.kv_rank,
         Split::kLatent);
  latent_up_projections(layer);
}

// Newer files have the two factors apart, the keys' transposed; older ones together.
void TensorDeclarer::latent_up_projections(int layer) {
  const AttentionLayer& a = spec_.layer[static_cast<size_t>(layer)].attention;
  const LatentAttention& latent = a.latent;
  const std::string block = block_name(layer);
  if (has(block + "attn_k_b.weight") || has(block + "attn_v_b.weight")) {
    stacked(Role::kLatentKB, layer, block + "attn_k_b.weight", a.heads, latent.kv_rank, latent.nope,
            Split::kHeadRows);
    stacked(Role::kLatentVB, layer, block + "attn_v_b.weight", a.heads, latent.value,
            latent.kv_rank, Split::kHeadRows);
    return;
  }
  need_either(block + "attn_k_b.weight", block + "attn_kv_b.weight");
  const std::vector<int64_t> dims = {latent.kv_rank, a.heads * (latent.nope + latent.value)};
  declare({.role = Role::kLatentKB,
           .layer = layer,
           .name = block + "attn_kv_b.weight",
           .rows = a.heads * latent.kv_rank,
           .cols = latent.nope,
           .split = Split::kHeadRows,
           .form = TensorForm::kKeysOfKvB},
          dims);
  declare({.role = Role::kLatentVB,
           .layer = layer,
           .name = block + "attn_kv_b.weight",
           .rows = a.heads * latent.value,
           .cols = latent.kv_rank,
           .split = Split::kHeadRows,
           .form = TensorForm::kValuesOfKvB},
          dims);
}

void TensorDeclarer::ffn(int layer, const std::string& ffn_norm) {
  if (!ffn_norm.empty()) norm(Role::kFfnNorm, layer, block_name(layer) + ffn_norm);
  if (spec_.layer[static_cast<size_t>(layer)].ffn.moe.experts > 0) {
    mixture(layer);
  } else {
    dense_ffn(layer);
  }
}

void TensorDeclarer::dense_ffn(int layer) {
  const FfnLayer& ffn = spec_.layer[static_cast<size_t>(layer)].ffn;
  const int64_t features = ffn.features;
  const std::string block = block_name(layer);
  if (features == 0 && status_.is_ok()) {
    status_ = invalid_argument(fmt::format(
        "key '{}.feed_forward_length' is missing or 0 for layer {}", spec_.architecture, layer));
  }
  // Phi-3 keeps gate and up in one matrix, gate first.
  const TensorInfo* up = file_.find_tensor(block + "ffn_up.weight");
  const bool one_half = up != nullptr && static_cast<int64_t>(up->dims[1]) == features;
  if (ffn.gated && !has(block + "ffn_gate.weight") && !one_half) {
    for (const Role role : {Role::kFfnGate, Role::kFfnUp}) {
      declare({.role = role,
               .layer = layer,
               .name = block + "ffn_up.weight",
               .rows = features,
               .cols = spec_.width,
               .first_row = role == Role::kFfnGate ? 0 : features,
               .split = Split::kFfnRows},
              {spec_.width, 2 * features});
    }
  } else {
    if (ffn.gated) {
      projection(Role::kFfnGate, layer, block + "ffn_gate", features, spec_.width, Split::kFfnRows,
                 Split::kFfnRows);
    }
    projection(Role::kFfnUp, layer, block + "ffn_up", features, spec_.width, Split::kFfnRows,
               Split::kFfnRows);
  }
  projection(Role::kFfnDown, layer, block + "ffn_down", spec_.width, features, Split::kFfnCols,
             Split::kReplicated);
}

void TensorDeclarer::expert(Role role, int layer, const std::string& name, int64_t rows,
                            int64_t cols, Split split, Split bias_split, int64_t part,
                            int64_t parts) {
  const int64_t experts = spec_.layer[static_cast<size_t>(layer)].ffn.moe.experts;
  TensorDecl decl{.role = role,
                  .layer = layer,
                  .name = name + ".weight",
                  .rows = rows,
                  .cols = cols,
                  .first_row = part * rows,
                  .split = split,
                  .experts = experts,
                  .expert_rows = parts * rows};
  declare(decl, {cols, parts * rows, experts});
  if (!has_optional(layer, name + ".bias")) return;
  decl.bias = true;
  decl.name = name + ".bias";
  decl.cols = 1;
  decl.split = bias_split;
  declare(std::move(decl), {parts * rows, experts});
}

void TensorDeclarer::mixture(int layer) {
  const MoeLayer& moe = spec_.layer[static_cast<size_t>(layer)].ffn.moe;
  const std::string block = block_name(layer);
  if (has(block + "ffn_gate.0.weight") && status_.is_ok()) {
    status_ = unsupported(fmt::format(
        "tensor '{}ffn_gate.0.weight': this file keeps every expert in a tensor of its own, as "
        "conversions of early 2024 did; convert the model again or take a newer file",
        block));
  }
  projection(Role::kRouter, layer, block + "ffn_gate_inp", moe.experts, spec_.width,
             Split::kReplicated, Split::kReplicated);
  optional_vector(Role::kRouterSelectionBias, layer, block + "exp_probs_b.bias", moe.experts,
                  Split::kReplicated);
  need_either(block + "ffn_gate_exps.weight", block + "ffn_gate_up_exps.weight");
  if (has(block + "ffn_gate_up_exps.weight")) {
    expert(Role::kExpertGate, layer, block + "ffn_gate_up_exps", moe.features, spec_.width,
           Split::kExpertRows, Split::kExpertRows, 0, 2);
    expert(Role::kExpertUp, layer, block + "ffn_gate_up_exps", moe.features, spec_.width,
           Split::kExpertRows, Split::kExpertRows, 1, 2);
  } else {
    expert(Role::kExpertGate, layer, block + "ffn_gate_exps", moe.features, spec_.width,
           Split::kExpertRows, Split::kExpertRows);
    expert(Role::kExpertUp, layer, block + "ffn_up_exps", moe.features, spec_.width,
           Split::kExpertRows, Split::kExpertRows);
  }
  expert(Role::kExpertDown, layer, block + "ffn_down_exps", spec_.width, moe.features,
         Split::kExpertCols, Split::kExpertWhole);
  if (moe.shared_features > 0) {
    shared_expert(layer);
  } else if (has(block + "ffn_up_shexp.weight") && status_.is_ok()) {
    status_ = invalid_argument(fmt::format(
        "tensor '{}ffn_up_shexp.weight' is there, but the metadata names no shared expert (key "
        "'{}.expert_shared_count' or '{}.expert_shared_feed_forward_length')",
        block, spec_.architecture, spec_.architecture));
  }
}

void TensorDeclarer::shared_expert(int layer) {
  const int64_t features = spec_.layer[static_cast<size_t>(layer)].ffn.moe.shared_features;
  const std::string block = block_name(layer);
  matrix(Role::kSharedGate, layer, block + "ffn_gate_shexp.weight", features, spec_.width,
         Split::kSharedRows);
  matrix(Role::kSharedUp, layer, block + "ffn_up_shexp.weight", features, spec_.width,
         Split::kSharedRows);
  matrix(Role::kSharedDown, layer, block + "ffn_down_shexp.weight", spec_.width, features,
         Split::kSharedCols);
  if (has_optional(layer, block + "ffn_gate_inp_shexp.weight")) {
    matrix(Role::kSharedRouter, layer, block + "ffn_gate_inp_shexp.weight", 1, spec_.width,
           Split::kReplicated);
  }
}

}  // namespace shoal

// deepseek2: DeepSeek V2, V3, R1, V2-Lite, GLM-4.7-Flash and models of their shape
// (docs/models.md). Latent attention in absorbed form; the first layers dense, then experts with an
// ungated shared one.
#include <cmath>

#include <fmt/core.h>

#include "model/arch/arch.h"

namespace shoal {
namespace {

constexpr int64_t kMaxRank = 1 << 16;

// Files since 2025 describe the absorbed heads (key_length = kv_lora_rank + rope) and give the real
// ones as *_mla; older ones the real ones only.
Status read_latent(const ArchMetadata& meta, ModelSpec* spec) {
  LatentAttention latent;
  SHOAL_ASSIGN(latent.kv_rank, meta.integer("attention.kv_lora_rank", 1, kMaxRank));
  if (meta.file().find_tensor("blk.0.attn_q_a.weight") != nullptr) {
    SHOAL_ASSIGN(latent.q_rank, meta.integer("attention.q_lora_rank", 1, kMaxRank));
  }
  const bool absorbed = meta.has("attention.key_length_mla");
  const char* key_name = absorbed ? "attention.key_length_mla" : "attention.key_length";
  const char* value_name = absorbed ? "attention.value_length_mla" : "attention.value_length";
  SHOAL_ASSIGN(const int64_t key, meta.integer(key_name, 1, kMaxRank));
  SHOAL_ASSIGN(latent.value, meta.integer(value_name, 1, kMaxRank));
  SHOAL_ASSIGN(const int64_t rope_dims, meta.integer("rope.dimension_count", 2, kMaxRank));
  latent.nope = key - rope_dims;
  if (latent.nope <= 0) {
    return invalid_argument(fmt::format("key '{}' is {}; it must exceed rope.dimension_count {}",
                                        meta.key(key_name), key, rope_dims));
  }
  SHOAL_ASSIGN(const float multiplier, read_yarn_log_multiplier(meta));
  QueryTemperature temperature;  // files of Mistral Large 3's shape
  SHOAL_ASSIGN(temperature.scale, meta.number("attention.temperature_scale", 0.0, 1e3, 0.0f));
  if (temperature.scale != 0) {
    SHOAL_ASSIGN(temperature.length, meta.integer("attention.temperature_length", 1, 1 << 28));
  }
  for (LayerSpec& layer : spec->layer) {
    AttentionLayer& a = layer.attention;
    a.latent = latent;
    a.temperature = temperature;
    a.kv_heads = 1;
    a.head_dim = latent.kv_rank + rope_dims;
    SHOAL_ASSIGN(a.rope, read_rope(meta, RopeStyle::kInterleaved, rope_dims, spec->context_length));
    float m = 1.0f;
    if (a.rope.yarn && multiplier != 0) {
      a.rope.magnitude /= yarn_magnitude(a.rope, 1.0f);
      m = yarn_magnitude(a.rope, multiplier / 0.1f);  // the file has a tenth of mscale_all_dim
    }
    a.scale = m * m / std::sqrt(static_cast<float>(key));
  }
  return Status::ok();
}

// GLM-4.7-Flash files before it became a key: told by their size.
Gating default_gating(const ModelSpec& spec) {
  const int64_t blocks = spec.layers + spec.skipped_layers;
  constexpr int64_t kGlmVocab = 154880;
  return (blocks == 47 || blocks == 48) && spec.vocab == kGlmVocab ? Gating::kSigmoid
                                                                   : Gating::kSoftmax;
}

}  // namespace

Result<ModelSpec> read_deepseek2(const ArchMetadata& meta) {
  SHOAL_TRY(meta.integer("attention.kv_lora_rank", 1, kMaxRank).status());
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kInterleaved));
  SHOAL_TRY(read_latent(meta, &spec));
  SHOAL_ASSIGN(MoeLayer moe, read_moe(meta, {.gating = default_gating(spec)}));
  SHOAL_ASSIGN(const int64_t shared, meta.integer("expert_shared_count", 0, 64, 0));
  moe.shared_features = shared * moe.features;
  SHOAL_ASSIGN(const int64_t dense, meta.integer("leading_dense_block_count", 0, spec.layers, 0));
  for (int64_t i = dense; i < spec.layers; ++i) {
    FfnLayer& ffn = spec.layer[static_cast<size_t>(i)].ffn;
    ffn.features = 0;
    ffn.moe = moe;
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

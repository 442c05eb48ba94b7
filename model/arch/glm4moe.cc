// glm4moe: GLM-4.5, GLM-4.5-Air, 4.6, 4.6V (docs/models.md): partial rope, biases on q, k, v, norms
// of q and k in some; the first layers dense, then σ-gated experts selected with a bias, an ungated
// shared expert. The norm before the FFN is called post_attention_norm; trailing MTP blocks are
// skipped.
#include "model/arch/arch.h"

namespace shoal {

Result<ModelSpec> read_glm4moe(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  SHOAL_ASSIGN(MoeLayer moe, read_moe(meta, {.gating = Gating::kSigmoid, .normalise = true}));
  SHOAL_ASSIGN(const int64_t shared, meta.integer("expert_shared_count", 0, 64, 0));
  moe.shared_features = shared * moe.features;
  SHOAL_ASSIGN(const int64_t dense, meta.integer("leading_dense_block_count", 0, spec.layers, 0));
  for (int64_t i = 0; i < spec.layers; ++i) {
    LayerSpec& layer = spec.layer[static_cast<size_t>(i)];
    if (meta.file().find_tensor("blk." + std::to_string(i) + ".attn_q_norm.weight") != nullptr) {
      layer.attention.qk_norm = QkNorm::kRms;
    }
    if (i < dense) continue;
    layer.ffn.features = 0;
    layer.ffn.moe = moe;
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder("post_attention_norm");
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

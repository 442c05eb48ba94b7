// Decoders whose attention and FFN read the same norm of the residual stream and are added together
// (docs/models.md). falcon 7B, 40B: LayerNorm with bias, rope in halves, GELU without gate; 40B
// norms the attention's input apart (attn_norm_2). command-r (Command-R, R+): LayerNorm without
// bias, interleaved rope, SwiGLU, scaled logits; R+ norms q and k per head.
#include "model/arch/arch.h"

namespace shoal {

Result<ModelSpec> read_falcon(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves, NormKind::kLayer));
  for (LayerSpec& layer : spec.layer) {
    layer.parallel = true;
    layer.ffn.gate = GateFunction::kGeluTanh;
    layer.ffn.gated = false;
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder("");
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::string name = "blk." + std::to_string(layer) + ".attn_norm_2";
    if (declare.has_optional(layer, name + ".weight")) declare.norm(Role::kAttnNorm2, layer, name);
  }
  SHOAL_TRY(declare.status());
  return spec;
}

Result<ModelSpec> read_command_r(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kInterleaved, NormKind::kLayer));
  SHOAL_ASSIGN(spec.logit_scale, meta.number("logit_scale", 1e-6, 1e6, 1.0f));
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    spec.layer[i].parallel = true;
    if (meta.file().find_tensor("blk." + std::to_string(i) + ".attn_q_norm.weight") != nullptr) {
      spec.layer[i].attention.qk_norm = QkNorm::kLayerPerHead;
    }
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder("");
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

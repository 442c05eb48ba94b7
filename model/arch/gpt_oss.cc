// gpt-oss 20B, 120B (docs/models.md): biases everywhere, attention sinks, every other layer a
// sliding window, YaRN; softmax over the selected experts' logits, clamped SwiGLU. The norm before
// the mixture is called post_attention_norm.
#include "model/arch/arch.h"

namespace shoal {

Result<ModelSpec> read_gpt_oss(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  SHOAL_ASSIGN(MoeLayer moe, read_moe(meta, {.gating = Gating::kSoftmaxSelected}));
  moe.gating = Gating::kSoftmaxSelected;
  SHOAL_ASSIGN(const int64_t window, meta.integer("attention.sliding_window", 0, 1 << 28));
  for (int64_t i = 0; i < spec.layers; ++i) {
    LayerSpec& layer = spec.layer[static_cast<size_t>(i)];
    if (i % 2 == 0) layer.attention.window = window;
    layer.ffn = {.features = 0, .gate = GateFunction::kSwigluClamp, .moe = moe};
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder("post_attention_norm");
  for (int layer = 0; layer < spec.layers; ++layer) {
    declare.vector(Role::kAttnSinks, layer, "blk." + std::to_string(layer) + ".attn_sinks.weight",
                   spec.layer[static_cast<size_t>(layer)].attention.heads, Split::kHeadRows);
  }
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

// qwen2 (Qwen2, Qwen2.5): biases on q, k, v. qwen3: per-head RMSNorm of q and k before rope, no
// biases, head size from key_length. Both: rope in halves over the whole head.
#include "model/arch/arch.h"

namespace shoal {

Result<ModelSpec> read_qwen2(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  TensorDeclarer declare(meta.file(), spec);
  declare.globals();
  for (int layer = 0; layer < spec.layers; ++layer) {
    declare.attention(layer);
    declare.dense_ffn(layer);
  }
  SHOAL_TRY(declare.status());
  return spec;
}

Result<ModelSpec> read_qwen3(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  for (LayerSpec& layer : spec.layer) layer.attention.qk_norm = QkNorm::kRms;
  TensorDeclarer declare(meta.file(), spec);
  declare.globals();
  for (int layer = 0; layer < spec.layers; ++layer) {
    declare.attention(layer);
    const std::string block = "blk." + std::to_string(layer) + ".";
    const int64_t head = spec.layer[layer].attention.head_dim;
    declare.vector(Role::kAttnQNorm, layer, block + "attn_q_norm.weight", head, Split::kReplicated);
    declare.vector(Role::kAttnKNorm, layer, block + "attn_k_norm.weight", head, Split::kReplicated);
    declare.dense_ffn(layer);
  }
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

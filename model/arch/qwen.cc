// qwen2 (Qwen2, Qwen2.5): biases on q, k, v. qwen3: per-head RMSNorm of q and k before rope, no
// biases, head size from key_length. qwen2moe: softmax, weights as they are, a gated shared expert.
// qwen3moe: softmax, normalised weights. All: rope in halves over the whole head.
#include "model/arch/arch.h"

namespace shoal {
namespace {

Result<ModelSpec> declare_all(const ArchMetadata& meta, ModelSpec spec) {
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  SHOAL_TRY(declare.status());
  return spec;
}

Status make_mixture(const ArchMetadata& meta, bool normalise, ModelSpec* spec) {
  SHOAL_ASSIGN(const int64_t used, meta.integer("expert_used_count", 1, 4096));
  SHOAL_ASSIGN(const int64_t named,
               meta.integer("expert_shared_feed_forward_length", 0, 1 << 20, 0));
  for (LayerSpec& layer : spec->layer) {
    // Early Qwen2 files have a shared expert of the dense width without saying so.
    const bool unnamed =
        named == 0 && meta.file().find_tensor("blk.0.ffn_up_shexp.weight") != nullptr;
    const int64_t shared = unnamed ? layer.ffn.features : named;
    SHOAL_ASSIGN(layer.ffn.moe,
                 read_moe(meta, {.normalise = normalise, .features = layer.ffn.features / used}));
    layer.ffn.moe.shared_features = shared;
    layer.ffn.features = 0;
  }
  return Status::ok();
}

}  // namespace

Result<ModelSpec> read_qwen2(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  return declare_all(meta, std::move(spec));
}

Result<ModelSpec> read_qwen2moe(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  SHOAL_TRY(make_mixture(meta, false, &spec));
  return declare_all(meta, std::move(spec));
}

Result<ModelSpec> read_qwen3(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  for (LayerSpec& layer : spec.layer) layer.attention.qk_norm = QkNorm::kRms;
  return declare_all(meta, std::move(spec));
}

Result<ModelSpec> read_qwen3moe(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  for (LayerSpec& layer : spec.layer) layer.attention.qk_norm = QkNorm::kRms;
  SHOAL_TRY(make_mixture(meta, true, &spec));
  return declare_all(meta, std::move(spec));
}

}  // namespace shoal

// gemma3, 1B to 27B (docs/models.md): scaled embedding, norms of q and k, norms before and after
// each block, GeGLU; five layers of a sliding window with rope of their own, then one that sees
// everything.
#include <cmath>

#include "model/arch/arch.h"

namespace shoal {
namespace {

constexpr int64_t kPeriod = 6;
constexpr float kWindowRopeBase = 10000.0f;
constexpr int64_t kLayersOf27B = 62;  // the one size whose scale is not 1/√head_dim

Status read_attention(const ArchMetadata& meta, ModelSpec* spec) {
  SHOAL_ASSIGN(const int64_t window, meta.integer("attention.sliding_window", 0, 1 << 28));
  SHOAL_ASSIGN(const float base, meta.number("rope.freq_base_swa", 1.0, 1e12, kWindowRopeBase));
  for (int64_t i = 0; i < spec->layers; ++i) {
    AttentionLayer& a = spec->layer[static_cast<size_t>(i)].attention;
    a.qk_norm = QkNorm::kRms;
    if (spec->layers == kLayersOf27B && !meta.has("attention.scale")) {
      a.scale = 1.0f / std::sqrt(static_cast<float>(spec->width) / static_cast<float>(a.heads));
    }
    if (window == 0 || i % kPeriod == kPeriod - 1) continue;
    a.window = window;
    a.rope = {.style = a.rope.style, .dims = a.rope.dims, .base = base};
  }
  return Status::ok();
}

}  // namespace

Result<ModelSpec> read_gemma3(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  SHOAL_TRY(read_attention(meta, &spec));
  spec.embedding_scale = std::sqrt(static_cast<float>(spec.width));
  SHOAL_ASSIGN(spec.final_softcap, meta.number("final_logit_softcapping", 0.0, 1e6, 0.0f));
  for (LayerSpec& layer : spec.layer) layer.ffn.gate = GateFunction::kGeluTanh;
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  for (int layer = 0; layer < spec.layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    declare.norm(Role::kAttnPostNorm, layer, block + "post_attention_norm");
    declare.norm(Role::kFfnPostNorm, layer, block + "post_ffw_norm");
  }
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

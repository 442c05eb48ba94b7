// llama4: Scout, Maverick (docs/models.md). Every fourth layer has no rope, sees everything and has
// a query temperature; the others see their chunk of 8192 positions. Experts: the best one by its
// logit; σ(logit) multiplies the expert's input. A shared expert is added.
#include "model/arch/arch.h"

namespace shoal {
namespace {

constexpr int64_t kChunk = 8192;              // not in the file
constexpr int64_t kPeriod = 4;                // layers
constexpr float kTemperatureScale = 0.1f;     // not in the file
constexpr int64_t kExpertsWithoutNorm = 128;  // Maverick does not norm q and k

Status read_attention(const ArchMetadata& meta, int64_t experts, ModelSpec* spec) {
  SHOAL_ASSIGN(const int64_t window, meta.integer("attention.sliding_window", 0, 1 << 28, -1));
  const bool all_full = window == 0;
  for (int64_t i = 0; i < spec->layers; ++i) {
    AttentionLayer& attention = spec->layer[static_cast<size_t>(i)].attention;
    if (all_full || (i + 1) % kPeriod != 0) {
      attention.chunk = all_full ? 0 : kChunk;
      if (experts != kExpertsWithoutNorm) attention.qk_norm = QkNorm::kRmsAfterRope;
    } else {
      attention.rope.style = RopeStyle::kNone;
      attention.temperature = {.scale = kTemperatureScale, .length = kChunk, .offset = 1};
    }
  }
  return Status::ok();
}

}  // namespace

Result<ModelSpec> read_llama4(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kInterleaved));
  SHOAL_ASSIGN(MoeLayer moe, read_moe(meta, {.gating = Gating::kSigmoid}));
  moe.gating = Gating::kSigmoid;
  moe.scale_input = true;
  moe.shared_features = moe.features;
  SHOAL_TRY(read_attention(meta, moe.experts, &spec));
  SHOAL_ASSIGN(const int64_t step, meta.integer("interleave_moe_layer_step", 0, 1024, 1));
  for (int64_t i = 0; i < spec.layers; ++i) {
    FfnLayer& ffn = spec.layer[static_cast<size_t>(i)].ffn;
    if (step == 0 || (i + 1) % step != 0) continue;
    ffn.moe = moe;
    ffn.features = 0;
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

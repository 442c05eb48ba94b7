// llama: Llama 2, 3, 3.1, 3.3, Mistral, Mistral Large, Mixtral (docs/models.md).
//   h += Attn(RMSNorm(h)); h += SwiGLU or mixture(RMSNorm(h)); interleaved rope, rope_freqs
//   divisors if present. Mixtral: softmax over all experts, weights of the selected normalised.
// A `sliding_window` key (Mistral 7B v0.1) is ignored, as the reference implementation does.
// mistral3: the same with YaRN's two-sided magnitude and a query temperature.
#include "model/arch/arch.h"

namespace shoal {
namespace {

Result<ModelSpec> read_llama_like(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kInterleaved));
  SHOAL_ASSIGN(const int64_t experts, meta.integer("expert_count", 0, 4096, 0));
  if (experts == 0) return spec;
  for (LayerSpec& layer : spec.layer) {
    SHOAL_ASSIGN(layer.ffn.moe,
                 read_moe(meta, {.normalise = true, .features = layer.ffn.features}));
    layer.ffn.features = 0;
  }
  return spec;
}

}  // namespace

Result<ModelSpec> read_llama(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_llama_like(meta));
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  SHOAL_TRY(declare.status());
  return spec;
}

Result<ModelSpec> read_mistral3(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_llama_like(meta));
  SHOAL_ASSIGN(const float multiplier, read_yarn_log_multiplier(meta));
  SHOAL_ASSIGN(const float temperature, meta.number("attention.temperature_scale", 0.0, 1e3, 0.0f));
  for (LayerSpec& layer : spec.layer) {
    RopeSpec& rope = layer.attention.rope;
    if (rope.yarn && multiplier != 0) rope.magnitude /= yarn_magnitude(rope, multiplier);
    layer.attention.temperature = {.scale = temperature, .length = rope.original_context};
  }
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

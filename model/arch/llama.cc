// llama: Llama 2, 3, 3.1, 3.3, Mistral, Mistral Large (docs/models.md).
//   h += Attn(RMSNorm(h)); h += SwiGLU(RMSNorm(h)); interleaved rope, rope_freqs divisors if
//   present.
// A `sliding_window` key (Mistral 7B v0.1) is ignored, as the reference implementation does.
#include "model/arch/arch.h"

namespace shoal {

Result<ModelSpec> read_llama(const ArchMetadata& meta) {
  SHOAL_ASSIGN(const int64_t experts, meta.integer("expert_count", 0, 4096, 0));
  if (experts > 0) {
    return unsupported("key '" + meta.key("expert_count") + "' is " + std::to_string(experts) +
                       ": mixture-of-experts models are not supported yet");
  }
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kInterleaved));
  TensorDeclarer declare(meta.file(), spec);
  declare.globals();
  for (int layer = 0; layer < spec.layers; ++layer) {
    declare.attention(layer);
    declare.dense_ffn(layer);
  }
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

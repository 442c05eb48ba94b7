// phi3: Phi-3, Phi-3.5, Phi-4 (docs/models.md): attn_qkv and gate+up in one matrix each, rope in
// halves, LongRoPE's two tables of divisors. The sliding_window key is ignored, as the reference
// implementation does.
#include "model/arch/arch.h"

namespace shoal {

Result<ModelSpec> read_phi3(const ArchMetadata& meta) {
  SHOAL_ASSIGN(ModelSpec spec, read_decoder(meta, RopeStyle::kHalves));
  TensorDeclarer declare(meta.file(), spec);
  declare.decoder();
  SHOAL_TRY(declare.status());
  return spec;
}

}  // namespace shoal

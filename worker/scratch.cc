#include "worker/scratch.h"

#include <algorithm>

namespace shoal {

// The widest of every kind over the layers of the shard.
struct TransformerScratch::Sizes {
  int64_t q = 0, kv = 0, attended = 0, gated = 0;
  int64_t q_rank = 0, q_full = 0, latent = 0, values = 0;
  int64_t experts = 0, top_k = 0, expert_mid = 0, mixtures = 0;

  explicit Sizes(const ModelShard& model) {
    for (size_t i = 0; i < model.layers.size(); ++i) {
      const LayerShard& range = model.layers[i].range;
      const AttentionLayer& a = model.spec.layer[i].attention;
      const MoeLayer& moe = model.spec.layer[i].ffn.moe;
      const int64_t heads = range.heads.size();
      q = std::max(q, heads * a.head_dim);
      kv = std::max(kv, range.kv_heads.size() * a.head_dim);
      attended = std::max(attended, heads * a.output_dim());
      gated = std::max({gated, range.ffn.size(), range.shared.size()});
      if (a.is_latent()) {
        q_rank = std::max(q_rank, a.latent.q_rank);
        q_full = std::max(q_full, heads * a.query_dim());
        latent = std::max(latent, heads * a.latent.kv_rank);
        values = std::max(values, heads * a.latent.value);
      }
      mixtures += moe.experts > 0 ? 1 : 0;
      experts = std::max(experts, moe.experts);
      top_k = std::max(top_k, moe.top_k);
      if (!range.experts.empty()) {
        expert_mid = std::max(expert_mid, range.expert_features.size());
      }
    }
  }
};

Status TransformerScratch::allocate(const ModelShard& model, Device& device, int64_t max_rows) {
  const Sizes sizes(model);
  const int64_t width = model.spec.width;
  const auto buffer = [&](std::unique_ptr<Buffer>& out, int64_t rows, int64_t cols,
                          const char* what) -> Status {
    if (cols == 0) cols = 1;
    SHOAL_ASSIGN(out, device.allocate(static_cast<uint64_t>(rows * cols) * sizeof(float), what));
    bytes += out->bytes();
    return Status::ok();
  };
  const auto activations = [&](std::unique_ptr<Activations>& out, int64_t rows,
                               int64_t cols) -> Status {
    SHOAL_ASSIGN(out, device.create_activations(rows, cols));
    bytes += static_cast<uint64_t>(rows * cols) * 6;  // float32 and two int8 terms
    return Status::ok();
  };
  SHOAL_TRY(buffer(hidden, max_rows, width, "residual stream"));
  SHOAL_TRY(buffer(delta, max_rows, width, "block output"));
  SHOAL_TRY(buffer(q, max_rows, sizes.q, "queries"));
  SHOAL_TRY(buffer(k, max_rows, sizes.kv, "keys"));
  SHOAL_TRY(buffer(v, max_rows, sizes.kv, "values"));
  SHOAL_TRY(buffer(logits, kLogitRows, model.shard.vocab.size(), "logits"));
  SHOAL_TRY(activations(normed, max_rows, width));
  SHOAL_TRY(activations(attended, max_rows, sizes.attended));
  SHOAL_TRY(activations(gated, max_rows, sizes.gated));
  SHOAL_TRY(activations(last, kLogitRows, width));
  if (sizes.latent > 0) {
    SHOAL_TRY(buffer(q_bottleneck, max_rows, sizes.q_rank, "query bottleneck"));
    SHOAL_TRY(activations(q_bottleneck_norm, max_rows, sizes.q_rank));
    SHOAL_TRY(buffer(q_full, max_rows, sizes.q_full, "query heads"));
    SHOAL_TRY(activations(q_heads, max_rows, sizes.q_full));
    SHOAL_TRY(activations(latent, max_rows, sizes.latent));
    SHOAL_TRY(buffer(values, max_rows, sizes.values, "head values"));
  }
  if (sizes.experts > 0) {
    most_top_k = sizes.top_k;
    SHOAL_TRY(buffer(router_logits, max_rows, sizes.experts, "router logits"));
    SHOAL_TRY(buffer(expert_ids, max_rows * sizes.mixtures, sizes.top_k, "expert selection"));
    SHOAL_TRY(buffer(expert_weights, max_rows, sizes.top_k, "expert weights"));
    SHOAL_TRY(activations(expert_mid, max_rows * sizes.top_k, sizes.expert_mid));
    SHOAL_TRY(buffer(row_gate, max_rows, 1, "shared expert gate"));
  }
  return Status::ok();
}

}  // namespace shoal

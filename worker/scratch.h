// Buffers of one forward pass, sized for the largest layer of a shard. What the passes need at once
// is what is there: nothing is allocated while steps run.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/device.h"
#include "worker/model_shard.h"

namespace shoal {

struct TransformerScratch {
  static constexpr int64_t kLogitRows = 16;

  // Errors name the buffer and the bytes that do not fit.
  Status allocate(const ModelShard& model, Device& device, int64_t max_rows);

  std::unique_ptr<Buffer> hidden;         // [rows, width] residual stream
  std::unique_ptr<Buffer> delta;          // [rows, width] output of the last block, reduced
  std::unique_ptr<Buffer> q;              // [rows, heads × head_dim]
  std::unique_ptr<Buffer> k, v;           // [rows, kv_heads × head_dim]
  std::unique_ptr<Buffer> logits;         // [kLogitRows, vocab]
  std::unique_ptr<Activations> normed;    // [rows, width]
  std::unique_ptr<Activations> attended;  // [rows, heads × output_dim]
  std::unique_ptr<Activations> gated;     // [rows, dense or shared features]
  std::unique_ptr<Activations> last;      // [kLogitRows, width]

  // Latent attention
  std::unique_ptr<Buffer> q_bottleneck;            // [rows, q_rank]
  std::unique_ptr<Activations> q_bottleneck_norm;  // the same, normed
  std::unique_ptr<Buffer> q_full;                  // [rows, heads × query_dim]
  std::unique_ptr<Activations> q_heads;            // the same, as input of k_b
  std::unique_ptr<Activations> latent;             // [rows, heads × kv_rank]
  std::unique_ptr<Buffer> values;                  // [rows, heads × value]

  // Mixtures
  std::unique_ptr<Buffer> router_logits;    // [rows, experts]
  std::unique_ptr<Buffer> expert_ids;       // [mixture layers][rows × most_top_k] int32
  int64_t most_top_k = 0;                   // of any layer
  std::unique_ptr<Buffer> expert_weights;   // [rows, top_k]
  std::unique_ptr<Activations> expert_mid;  // [rows × top_k, features]
  std::unique_ptr<Buffer> row_gate;         // [rows]

  uint64_t bytes = 0;

 private:
  struct Sizes;
};

}  // namespace shoal

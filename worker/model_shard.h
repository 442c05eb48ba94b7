// The part of a model one rank holds on its device, and the loader that fills it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "model/gguf.h"
#include "model/model_spec.h"
#include "parallel/plan/shard.h"

namespace shoal {

// A weight matrix of this rank with its optional bias. The bias of a column-split matrix is whole
// and added once, after the reduce.
struct Linear {
  std::unique_ptr<Weight> weight;  // [out, in] of this rank
  std::unique_ptr<Buffer> bias;    // [out] or null
  float scale = 1.0f;              // multiplies the product (NVFP4)

  MatmulTask task(float* out, int64_t out_stride) const {
    return {weight.get(), bias ? bias->f32() : nullptr, out, out_stride, scale};
  }
  const float* bias_data() const { return bias ? bias->f32() : nullptr; }
  explicit operator bool() const { return weight != nullptr; }
};

struct NormWeights {
  std::unique_ptr<Buffer> weight;  // [width] or null
  std::unique_ptr<Buffer> bias;    // [width] or null

  const float* weight_data() const { return weight ? weight->f32() : nullptr; }
  const float* bias_data() const { return bias ? bias->f32() : nullptr; }
};

// A mixture's router, the experts held here one behind the other, and the shared expert.
struct Mixture {
  Linear router;                           // [experts, width]
  std::unique_ptr<Buffer> selection_bias;  // [experts] or null
  Linear gate, up;                         // [held × features, width]
  Linear down;                             // [held × width, features]; its bias once per group
  // Of every expert of the layer: its local number or −1; ranks that hold it and this one's place
  // among them (null where nothing is replicated).
  std::unique_ptr<Buffer> local, replicas, replica;  // [experts] int32
  Linear shared_gate, shared_up;                     // [shared, width]
  Linear shared_down;                                // [width, shared]: a partial sum
  Linear shared_router;                              // [1, width] or empty
};

struct ShardLayer {
  LayerShard range;                   // heads, KV heads, features and experts held here
  NormWeights attn_norm, attn_norm2;  // the second: the attention's own, in parallel blocks
  Linear q, k, v;                     // [heads × query_dim, …], [kv_heads × head_dim, width]
  std::unique_ptr<Buffer> q_norm, k_norm;  // of heads, or null
  std::unique_ptr<Buffer> sinks;           // [heads] or null
  Linear q_a, kv_a, k_b, v_b;              // latent attention: see Role::kLatent…
  std::unique_ptr<Buffer> q_a_norm;        // [q_rank] or null
  Linear attn_out;                         // [width, heads × output_dim]: a partial sum
  NormWeights attn_post_norm;              // of the attention's output, or empty
  NormWeights ffn_norm;                    // empty in parallel blocks
  Linear gate, up;                         // [ffn, width]; gate may be empty
  Linear down;                             // [width, ffn]: a partial sum
  NormWeights ffn_post_norm;               // of the FFN's output, or empty
  Mixture mixture;                         // instead of gate, up, down
  std::unique_ptr<Buffer> inv_freq;        // [rope.dims / 2]
};

struct ModelShard {
  ModelSpec spec;
  RankShard shard;
  Linear embedding;  // [vocab of this rank, width]
  Linear output;     // the same; empty when tied to the embedding
  NormWeights output_norm;
  std::vector<ShardLayer> layers;
  uint64_t weight_bytes = 0;  // on the device
  // Of matrices every step reads whole: not the experts', not an embedding that only looks rows up.
  uint64_t step_bytes = 0;

  const Linear& output_weights() const { return output.weight ? output : embedding; }
};

struct LoadOptions {
  int threads = 2;      // readers
  int64_t context = 0;  // tokens a sequence may have: LongRoPE has a table for long contexts
  std::atomic<uint64_t>* bytes_done = nullptr;
  std::atomic<uint64_t>* bytes_total = nullptr;
  const std::atomic<bool>* stop = nullptr;  // set: give up loading or connecting with kCancelled
};

// Reads this rank's slices and nothing else. Every device allocation is made before the first byte
// is read, so a shard that does not fit is refused at once, with the figures.
Result<std::unique_ptr<ModelShard>> load_model_shard(const GgufFile& file, const ModelSpec& spec,
                                                     const RankShard& shard, Device& device,
                                                     const LoadOptions& options);

}  // namespace shoal

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
#include "parallel/shard.h"

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
};

struct ShardLayer {
  LayerShard range;                   // heads, KV heads and FFN features held here
  std::unique_ptr<Buffer> attn_norm;  // [width]
  Linear q, k, v;                     // [heads × head_dim, width], [kv_heads × head_dim, width]
  std::unique_ptr<Buffer> q_norm, k_norm;  // [head_dim] or null
  Linear attn_out;                         // [width, heads × head_dim]: a partial sum
  std::unique_ptr<Buffer> ffn_norm;        // [width]
  Linear gate, up;                         // [ffn, width]
  Linear down;                             // [width, ffn]: a partial sum
  std::unique_ptr<Buffer> inv_freq;        // [rope.dims / 2]
};

struct ModelShard {
  ModelSpec spec;
  RankShard shard;
  Linear embedding;                     // [vocab of this rank, width]
  Linear output;                        // the same; empty when tied to the embedding
  std::unique_ptr<Buffer> output_norm;  // [width]
  std::vector<ShardLayer> layers;
  uint64_t weight_bytes = 0;  // on the device

  const Linear& output_weights() const { return output.weight ? output : embedding; }
};

struct LoadOptions {
  int threads = 2;  // readers
  std::atomic<uint64_t>* bytes_done = nullptr;
  std::atomic<uint64_t>* bytes_total = nullptr;
  const std::atomic<bool>* stop = nullptr;  // set: give up with kCancelled
};

// Reads this rank's slices and nothing else. Every device allocation is made before the first byte
// is read, so a shard that does not fit is refused at once, with the figures.
Result<std::unique_ptr<ModelShard>> load_model_shard(const GgufFile& file, const ModelSpec& spec,
                                                     const RankShard& shard, Device& device,
                                                     const LoadOptions& options);

}  // namespace shoal

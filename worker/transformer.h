// The forward pass of one rank: a block diagram over Device ops and the group's all-reduce.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "parallel/collective.h"
#include "worker/kv_store.h"
#include "worker/model_shard.h"

namespace shoal {

// One step's rows on the device; StepView plus what the ends of the model need.
struct ForwardInput {
  StepView step;
  const int32_t* ids = nullptr;          // [rows] token ids (device)
  const int32_t* sample_rows = nullptr;  // [sample_count] rows whose logits are wanted (device)
  int64_t sample_count = 0;
};

class Transformer {
 public:
  // Allocates scratch for max_rows rows; errors name the bytes that do not fit.
  static Result<std::unique_ptr<Transformer>> create(const ModelShard& model, Device& device,
                                                     int64_t max_rows);

  // Runs all layers; logits() reads the residual stream it leaves behind.
  Status forward(const ForwardInput& input, const KvStore& kv, Collective& group,
                 const OpContext& op);

  // This rank's logits of sampled rows [first, first + count): [count, vocab slice], count ≤
  // kLogitRows. Valid until the next call. REQUIRES a forward() with sample_count ≥ first + count.
  float* logits(int64_t first, int64_t count);
  int64_t logits_stride() const { return vocab_; }
  uint64_t scratch_bytes() const { return scratch_bytes_; }

  // Logits are made a few rows at a time: 16 × 128k × 4 bytes = 8 MiB instead of gigabytes.
  static constexpr int64_t kLogitRows = 16;

 private:
  Transformer(const ModelShard& model, Device& device) : model_(model), device_(device) {}
  Status allocate(int64_t max_rows);
  Status attention_block(size_t index, const ForwardInput& input, const KvStore& kv,
                         const float* pending_bias);
  Status reduce(float* data, int64_t count, Collective& group, const OpContext& op);

  const ModelShard& model_;
  Device& device_;
  int64_t vocab_ = 0;  // ids in this rank's slice
  uint64_t scratch_bytes_ = 0;
  std::unique_ptr<Buffer> hidden_;  // [rows, width] residual stream
  std::unique_ptr<Buffer> delta_;   // [rows, width] output of the last block, reduced
  std::unique_ptr<Buffer> q_, k_, v_;
  std::unique_ptr<Buffer> logits_;         // [kLogitRows, vocab]
  std::unique_ptr<Activations> normed_;    // [rows, width]
  std::unique_ptr<Activations> attended_;  // [rows, heads × head_dim]
  std::unique_ptr<Activations> gated_;     // [rows, ffn]
  std::unique_ptr<Activations> last_;      // [kLogitRows, width]
  std::vector<float> staging_;             // for devices the host cannot see
  ForwardInput input_;
};

}  // namespace shoal

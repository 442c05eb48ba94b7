// The forward pass of one rank: a block diagram over Device ops and the group's exchange.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kernels/exchange.h"
#include "worker/kv_store.h"
#include "worker/model_shard.h"
#include "worker/scratch.h"

namespace shoal {

// One step's rows on the device; what the attention ops and the ends of the model need.
struct ForwardInput {
  std::vector<StepView> steps;           // one per KV group of the model; rows and positions agree
  const int32_t* ids = nullptr;          // [rows] token ids (device)
  const int32_t* sample_rows = nullptr;  // [sample_count] rows whose logits are wanted (device)
  int64_t sample_count = 0;
  // Sequences that each of the block tables has room for. Where KV groups other than the first
  // have theirs follows from it, the rows and table_stride.
  int64_t table_sequences = 0;
};

struct TransformerOptions {
  int64_t max_rows = 0;
  // ≥ 0: that rank selects experts for all and broadcasts; −1: every rank does, which needs equal
  // arithmetic on all.
  int routing_rank = -1;
};

class Transformer {
 public:
  // Allocates scratch for max_rows rows; errors name the bytes that do not fit. `model` and
  // `device` outlive it.
  static Result<std::unique_ptr<Transformer>> create(const ModelShard& model, Device& device,
                                                     const TransformerOptions& options);

  // Runs all layers; logits() reads the residual stream it leaves behind. REQUIRES: a step of
  // `exchange` has begun, whose end_step() has the errors.
  void forward(const ForwardInput& input, const KvStore& kv, Exchange& exchange);

  // This rank's logits of sampled rows [first, first + count): [count, vocab slice], count ≤
  // kLogitRows. Valid until the next call. REQUIRES a forward() with sample_count ≥ first + count.
  float* logits(int64_t first, int64_t count);
  int64_t logits_stride() const { return model_.shard.vocab.size(); }
  uint64_t scratch_bytes() const { return scratch_.bytes; }

  // What the last forward() read and which experts it visited: one copy from the device, waits for
  // it.
  void account();
  // Bytes of matrices the accounted steps had to read here. A replicated expert counts where it is
  // held, though only one of its ranks computes a token.
  uint64_t bytes_read() const { return bytes_read_; }
  // Tokens that visited each expert in the accounted steps, [mixture layers in order][experts].
  const std::vector<uint64_t>& expert_tokens() const { return expert_tokens_; }
  double expert_seconds() const { return expert_seconds_; }  // in expert products, since then

  // Logits are made a few rows at a time: 16 × 128k × 4 bytes = 8 MiB instead of gigabytes.
  static constexpr int64_t kLogitRows = TransformerScratch::kLogitRows;

 private:
  // What the next residual sum adds: delta, this rank's part of a block's output.
  struct Pending {
    bool exists = false;
    const float* bias = nullptr;
    const float* norm = nullptr;
  };

  Transformer(const ModelShard& model, Device& device, const TransformerOptions& options)
      : model_(model), device_(device), options_(options) {}
  void layer(size_t index);
  void parallel_layer(size_t index);
  // h += what is pending, summed over the ranks, if there is anything; then nothing is.
  ResidualNorm take_pending();
  // normed = norm(h), after take_pending().
  void norm_rows(const NormWeights& norm);
  void attention_block(size_t index);
  void project_heads(const ShardLayer& layer, const AttentionLayer& spec);
  void project_latent(const ShardLayer& layer, const AttentionLayer& spec);
  void store_heads(size_t index, const StepView& step);
  void attend(size_t index, const StepView& step);
  // delta (+)= this rank's part of the layer's FFN of `normed`.
  void ffn_block(size_t index, bool accumulate);
  void dense_ffn(size_t index, bool accumulate);
  void mixture(size_t index, bool accumulate);
  void select_experts(size_t index);
  int32_t* expert_ids(size_t index) const;
  void run_experts(size_t index, bool accumulate);
  void shared_expert(size_t index);

  // Steps of few rows repeat: their ops are recorded where the device can. `key` and rows tell them
  // apart.
  static constexpr int64_t kRepeatedRows = 32;
  enum Repeated : int64_t { kLayers, kLogits };  // first of a key
  void repeat(const OpKey& key, const std::function<void()>& ops);
  void run_layers();
  void run_output(int64_t first, int64_t count);

  int64_t rows() const { return input_.steps[0].rows; }

  const ModelShard& model_;
  Device& device_;
  TransformerOptions options_;
  TransformerScratch scratch_;
  std::vector<size_t> expert_counters_;  // of each layer: index into expert_tokens_
  std::vector<int64_t> mixture_index_;   // of each layer: mixtures before it
  std::vector<uint64_t> expert_tokens_;
  uint64_t bytes_read_ = 0;
  double expert_seconds_ = 0;
  ForwardInput input_;
  const KvStore* kv_ = nullptr;  // of the last forward(), as the next
  Exchange* exchange_ = nullptr;
  Pending pending_;
  std::unique_ptr<OpRecorder> recorder_;
  std::vector<const void*> recorded_memory_;
};

}  // namespace shoal

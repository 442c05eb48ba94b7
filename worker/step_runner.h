// Runs steps: applies a Step to the sequences, lays its rows out for the device, runs the forward
// pass, samples, and reports. One thread.
#pragma once

#include <memory>
#include <vector>

#include "kernels/device.h"
#include "parallel/collective/collective.h"
#include "wire/messages.h"
#include "worker/kv_store.h"
#include "worker/model_shard.h"
#include "worker/sampler.h"
#include "worker/sequences.h"
#include "worker/staged_exchange.h"
#include "worker/transformer.h"

namespace shoal {

class StepRunner {
 public:
  // `model`, `kv`, `device` and `group` outlive the runner.
  static Result<std::unique_ptr<StepRunner>> create(const wire::Assign& plan,
                                                    const ModelShard& model, const KvStore& kv,
                                                    Device& device, Collective& group);
  // Computes steps of several sizes, up to the largest the plan allows, on this rank alone, for
  // nothing: afterwards the device has its kernels and the memory its ops want, or says what is
  // missing. Before the first run(): fills KV blocks with rubbish. A no-op where ops take no memory
  // of their own.
  Status warm_up(const OpContext& op);
  // An error means the group's state is lost: the epoch is over for this rank.
  Result<wire::StepResult> run(const wire::Step& step);
  uint64_t scratch_bytes() const { return scratch_bytes_; }
  // Since the group formed, for wire::ExpertLoad: see Transformer::expert_tokens().
  const std::vector<uint64_t>& expert_tokens() const { return transformer_->expert_tokens(); }

 private:
  // Host copies of the arrays of StepView and ForwardInput.
  struct HostRows {
    std::vector<int32_t> ids, positions, sequences, sample_rows;
    std::vector<std::vector<int64_t>> kv_slots;  // [KV groups]
    std::vector<int32_t> tables;                 // [KV groups][table_sequences_][table_stride_]
    void clear();
  };
  // Where they lie in memory_, in bytes. Follows from the number of rows, rounded up: steps of few
  // rows have it in common.
  struct Layout {
    uint64_t kv_slots = 0;  // [KV groups][stride]
    uint64_t ids = 0, positions = 0, sequences = 0, sample_rows = 0, tables = 0;
    uint64_t stride = 0;  // rows
  };
  static constexpr uint64_t kRowUnit = 32;

  StepRunner(const wire::Assign& plan, const ModelShard& model, const KvStore& kv, Device& device,
             Collective& group);
  Status allocate();
  Status lay_out(const wire::Step& step);
  void add_group(const wire::RowGroup& group, int32_t sequence_index);
  Layout layout_of(uint64_t rows) const;
  ForwardInput upload();  // one copy
  void take(std::vector<wire::RowResult> found, wire::StepResult* result);
  Status warm_up(uint64_t rows, const OpContext& op);

  wire::Assign plan_;
  const ModelShard& model_;
  const KvStore& kv_;
  Device& device_;
  Collective& group_;
  SequenceTable sequences_;
  std::unique_ptr<Transformer> transformer_;
  StagedExchange exchange_;
  Sampler sampler_;
  HostRows host_;
  int64_t table_stride_ = 0;
  int64_t table_sequences_ = 0;   // of the step, rounded up: few different ones
  uint64_t sequence_blocks_ = 0;  // of the longest sequence the plan allows
  std::vector<SampleTarget> targets_;
  std::unique_ptr<Buffer> memory_;  // of a step's rows
  std::vector<uint8_t> packed_;     // what goes there
  uint64_t scratch_bytes_ = 0;
  uint64_t last_step_ = 0;
};

}  // namespace shoal

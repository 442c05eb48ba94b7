#include "worker/step_runner.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal {

void StepRunner::HostRows::clear() {
  ids.clear();
  positions.clear();
  sequences.clear();
  sample_rows.clear();
  tables.clear();
  kv_slots.clear();
}

StepRunner::StepRunner(const wire::Assign& plan, const ModelShard& model, const KvStore& kv,
                       Device& device, Collective& group)
    : plan_(plan),
      model_(model),
      kv_(kv),
      device_(device),
      group_(group),
      sequences_({.max_slots = plan.max_slots,
                  .max_tokens = plan.max_sequence_tokens,
                  .kv_blocks = plan.kv_blocks.at(0),
                  .block_tokens = plan.block_tokens,
                  .vocab = static_cast<int32_t>(model.spec.vocab)},
                 model.shard.vocab),
      sampler_(device, group, model.shard.vocab, model.spec.vocab) {}

Result<std::unique_ptr<StepRunner>> StepRunner::create(const wire::Assign& plan,
                                                       const ModelShard& model, const KvStore& kv,
                                                       Device& device, Collective& group) {
  std::unique_ptr<StepRunner> runner(new StepRunner(plan, model, kv, device, group));
  SHOAL_TRY(runner->allocate());
  return runner;
}

Status StepRunner::allocate() {
  SHOAL_ASSIGN(transformer_, Transformer::create(model_, device_, plan_.max_rows));
  scratch_bytes_ = transformer_->scratch_bytes();
  const auto buffer = [&](std::unique_ptr<Buffer>& out, uint64_t bytes,
                          const char* what) -> Status {
    SHOAL_ASSIGN(out, device_.allocate(bytes, what));
    scratch_bytes_ += bytes;
    return Status::ok();
  };
  const uint64_t rows = plan_.max_rows;
  const uint64_t sequence_blocks =
      (plan_.max_sequence_tokens + plan_.block_tokens - 1) / plan_.block_tokens;
  // Tables of one step: no more sequences than rows, no more blocks than exist … unless shared.
  const uint64_t table_entries = std::min<uint64_t>(rows, plan_.max_slots) * sequence_blocks;
  SHOAL_TRY(buffer(ids_, rows * 4, "token ids"));
  SHOAL_TRY(buffer(positions_, rows * 4, "positions"));
  SHOAL_TRY(buffer(row_sequences_, rows * 4, "row sequences"));
  SHOAL_TRY(buffer(sample_rows_, rows * 4, "sampled rows"));
  SHOAL_TRY(buffer(kv_slots_, rows * 8, "KV slots"));
  SHOAL_TRY(buffer(tables_, table_entries * 4, "block tables"));
  return Status::ok();
}

void StepRunner::add_group(const wire::RowGroup& group, int32_t sequence_index) {
  const Sequence& sequence = sequences_.at(group.slot);
  for (uint32_t i = 0; i < group.count; ++i) {
    const uint32_t position = group.position + i;
    const int64_t block = sequence.blocks()[position / plan_.block_tokens];
    host_.ids.push_back(sequence.tokens()[position]);
    host_.positions.push_back(static_cast<int32_t>(position));
    host_.sequences.push_back(sequence_index);
    host_.kv_slots.push_back(block * plan_.block_tokens + position % plan_.block_tokens);
  }
  if (!group.sample) return;
  host_.sample_rows.push_back(static_cast<int32_t>(host_.ids.size()) - 1);
  targets_.push_back({&sequences_.at(group.slot), group.slot, group.position + group.count});
}

Status StepRunner::lay_out(const wire::Step& step) {
  host_.clear();
  targets_.clear();
  uint64_t rows = 0;
  size_t longest = 1;
  for (const auto& group : step.rows) {
    rows += group.count;
    longest = std::max(longest, sequences_.at(group.slot).blocks().size());
  }
  if (rows > plan_.max_rows) {
    return out_of_range(
        fmt::format("step {} has {} rows; the plan allows {}", step.step, rows, plan_.max_rows));
  }
  table_stride_ = static_cast<int64_t>(longest);
  if (step.rows.size() * longest * 4 > tables_->bytes()) {
    return out_of_range(fmt::format("step {} has {} sequences; the plan allows {}", step.step,
                                    step.rows.size(), plan_.max_slots));
  }
  host_.tables.assign(step.rows.size() * longest, 0);
  for (size_t i = 0; i < step.rows.size(); ++i) {
    const auto& blocks = sequences_.at(step.rows[i].slot).blocks();
    for (size_t b = 0; b < blocks.size(); ++b) {
      host_.tables[i * longest + b] = static_cast<int32_t>(blocks[b]);
    }
    add_group(step.rows[i], static_cast<int32_t>(i));
  }
  return Status::ok();
}

Result<ForwardInput> StepRunner::upload() {
  const auto copy = [&](Buffer& to, const auto& from) {
    device_.copy_to_device(to.data(), from.data(), from.size() * sizeof(from[0]));
  };
  copy(*ids_, host_.ids);
  copy(*positions_, host_.positions);
  copy(*row_sequences_, host_.sequences);
  copy(*sample_rows_, host_.sample_rows);
  copy(*tables_, host_.tables);
  copy(*kv_slots_, host_.kv_slots);
  ForwardInput input;
  input.step.rows = static_cast<int64_t>(host_.ids.size());
  input.step.positions = positions_->i32();
  input.step.kv_slots = static_cast<int64_t*>(kv_slots_->data());
  input.step.sequences = row_sequences_->i32();
  input.step.block_tables = tables_->i32();
  input.step.table_stride = table_stride_;
  input.ids = ids_->i32();
  input.sample_rows = sample_rows_->i32();
  input.sample_count = static_cast<int64_t>(host_.sample_rows.size());
  return input;
}

Result<wire::StepResult> StepRunner::run(const wire::Step& step) {
  if (step.step != last_step_ + 1) {
    return failed_precondition(
        fmt::format("step {} after step {}: a step was lost", step.step, last_step_));
  }
  last_step_ = step.step;
  SHOAL_TRY(sequences_.apply(step));
  SHOAL_TRY(lay_out(step));
  wire::StepResult result;
  result.epoch = step.epoch;
  result.step = step.step;
  if (host_.ids.empty()) return result;  // only deltas

  const auto start = std::chrono::steady_clock::now();
  const CollectiveStats before = group_.stats();
  const OpContext op{step.epoch, start + from_seconds(plan_.step_timeout_seconds), step.step};
  SHOAL_ASSIGN(const ForwardInput input, upload());
  SHOAL_TRY(transformer_->forward(input, kv_, group_, op));
  const auto computed = std::chrono::steady_clock::now();
  SHOAL_ASSIGN(std::vector<wire::RowResult> rows, sampler_.sample(*transformer_, targets_, op));
  for (size_t i = 0; i < rows.size(); ++i) targets_[i].sequence->append_token(rows[i].token);
  const auto end = std::chrono::steady_clock::now();
  const CollectiveStats after = group_.stats();
  result.stats.forward_seconds = to_seconds(computed - start);
  result.stats.sample_seconds = to_seconds(end - computed);
  result.stats.collective_seconds = after.total_seconds - before.total_seconds;
  result.stats.wait_seconds = after.wait_seconds - before.wait_seconds;
  if (plan_.rank == 0) result.rows = std::move(rows);
  return result;
}

}  // namespace shoal

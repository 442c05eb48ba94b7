#include "worker/step_runner.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace shoal {

void StepRunner::HostRows::clear() {
  ids.clear();
  positions.clear();
  sequences.clear();
  sample_rows.clear();
  for (auto& group : groups) {
    group.tables.clear();
    group.kv_slots.clear();
  }
}

namespace {

// The rank's rows of the output that stand for tokens.
Range drawn_slice(const ModelShard& model) {
  const Range rows = model.shard.vocab;
  return {std::min(rows.begin, model.spec.tokens), std::min(rows.end, model.spec.tokens)};
}

}  // namespace

StepRunner::StepRunner(const wire::Assign& plan, const ModelShard& model, const KvStore& kv,
                       Device& device, Collective& group)
    : plan_(plan),
      model_(model),
      kv_(kv),
      device_(device),
      group_(group),
      sequences_({.max_slots = plan.max_slots,
                  .max_tokens = plan.max_sequence_tokens,
                  .kv_blocks = plan.kv_blocks,
                  .kv_groups = model.spec.kv_groups,
                  .block_tokens = plan.block_tokens,
                  .vocab = static_cast<int32_t>(model.spec.tokens)},
                 drawn_slice(model)),
      sampler_(device, group, drawn_slice(model), model.spec.tokens) {}

Result<std::unique_ptr<StepRunner>> StepRunner::create(const wire::Assign& plan,
                                                       const ModelShard& model, const KvStore& kv,
                                                       Device& device, Collective& group) {
  std::unique_ptr<StepRunner> runner(new StepRunner(plan, model, kv, device, group));
  SHOAL_TRY(runner->allocate());
  return runner;
}

Status StepRunner::allocate() {
  SHOAL_ASSIGN(transformer_, Transformer::create(
                                 model_, device_,
                                 {.max_rows = plan_.max_rows, .routing_rank = plan_.routing_rank}));
  scratch_bytes_ = transformer_->scratch_bytes();
  const auto buffer = [&](std::unique_ptr<Buffer>& out, uint64_t bytes,
                          const char* what) -> Status {
    SHOAL_ASSIGN(out, device_.allocate(bytes, what));
    scratch_bytes_ += bytes;
    return Status::ok();
  };
  const uint64_t rows = plan_.max_rows;
  sequence_blocks_ = (plan_.max_sequence_tokens + plan_.block_tokens - 1) / plan_.block_tokens;
  // Tables of one step: no more sequences than rows, no more blocks than exist … unless shared.
  const uint64_t table_entries = std::min<uint64_t>(rows, plan_.max_slots) * sequence_blocks_;
  SHOAL_TRY(buffer(ids_, rows * 4, "token ids"));
  SHOAL_TRY(buffer(positions_, rows * 4, "positions"));
  SHOAL_TRY(buffer(row_sequences_, rows * 4, "row sequences"));
  SHOAL_TRY(buffer(sample_rows_, rows * 4, "sampled rows"));
  groups_.resize(plan_.kv_blocks.size());
  host_.groups.resize(groups_.size());
  for (GroupBuffers& group : groups_) {
    SHOAL_TRY(buffer(group.kv_slots, rows * 8, "KV slots"));
    SHOAL_TRY(buffer(group.tables, table_entries * 4, "block tables"));
  }
  return Status::ok();
}

void StepRunner::add_group(const wire::RowGroup& group, int32_t sequence_index) {
  const Sequence& sequence = sequences_.at(group.slot);
  for (uint32_t i = 0; i < group.count; ++i) {
    const uint32_t position = group.position + i;
    for (size_t g = 0; g < groups_.size(); ++g) {
      const int64_t block = sequence.blocks(g)[position / plan_.block_tokens];
      host_.groups[g].kv_slots.push_back(block * plan_.block_tokens +
                                         position % plan_.block_tokens);
    }
    host_.ids.push_back(sequence.tokens()[position]);
    host_.positions.push_back(static_cast<int32_t>(position));
    host_.sequences.push_back(sequence_index);
  }
  const auto first = static_cast<uint32_t>(host_.ids.size()) - group.count;
  Sequence& owner = sequences_.at(group.slot);
  for (uint32_t i = 0; group.score && i < group.count; ++i) {
    const uint32_t next = group.position + i + 1;
    if (next >= owner.prompt_tokens()) break;
    host_.sample_rows.push_back(static_cast<int32_t>(first + i));
    targets_.push_back({&owner, group.slot, next, owner.tokens()[next]});
  }
  if (group.draw == 0) return;  // one token, however many may be drawn
  host_.sample_rows.push_back(static_cast<int32_t>(first + group.count) - 1);
  targets_.push_back({&owner, group.slot, group.position + group.count});
}

// What the targets gave: samples, which become part of their sequences, and the scores of prompts.
void StepRunner::take(std::vector<wire::RowResult> found, wire::StepResult* result) {
  uint32_t last_scored = UINT32_MAX;  // slot
  for (size_t i = 0; i < found.size(); ++i) {
    wire::RowResult& row = found[i];
    const SampleTarget& target = targets_[i];
    if (target.known < 0) {
      target.sequence->append_token(row.token);
      result->rows.push_back(std::move(row));
      continue;
    }
    if (row.slot != std::exchange(last_scored, row.slot)) {
      result->scores.push_back({row.slot, row.generation, target.position, {}, false});
    }
    wire::PromptScores& scores = result->scores.back();
    scores.broken = scores.broken || row.broken;
    scores.tokens.push_back({row.logprob, std::move(row.top)});
  }
}

Status StepRunner::lay_out(const wire::Step& step) {
  host_.clear();
  targets_.clear();
  uint64_t rows = 0;
  size_t longest = 1;
  for (const auto& group : step.rows) {
    rows += group.count;
    for (size_t g = 0; g < groups_.size(); ++g) {
      longest = std::max(longest, sequences_.at(group.slot).blocks(g).size());
    }
  }
  if (rows > plan_.max_rows) {
    return out_of_range(
        fmt::format("step {} has {} rows; the plan allows {}", step.step, rows, plan_.max_rows));
  }
  // Coarse, so that steps of a growing sequence look alike to the device.
  constexpr size_t kStrideStep = 64;
  longest = std::min((longest + kStrideStep - 1) / kStrideStep * kStrideStep,
                     std::max(longest, sequence_blocks_));
  table_stride_ = static_cast<int64_t>(longest);
  if (step.rows.size() * longest * 4 > groups_[0].tables->bytes()) {
    return out_of_range(fmt::format(
        "step {} has {} sequences with up to {} KV blocks; the plan allows {} sequences of {} "
        "tokens",
        step.step, step.rows.size(), longest, plan_.max_slots, plan_.max_sequence_tokens));
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<int32_t>& tables = host_.groups[g].tables;
    tables.assign(step.rows.size() * longest, 0);
    for (size_t i = 0; i < step.rows.size(); ++i) {
      const auto& blocks = sequences_.at(step.rows[i].slot).blocks(g);
      for (size_t b = 0; b < blocks.size(); ++b) {
        // What nobody looks at may be any block.
        if (blocks[b] != wire::kNoBlock) tables[i * longest + b] = static_cast<int32_t>(blocks[b]);
      }
    }
  }
  for (size_t i = 0; i < step.rows.size(); ++i) {
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
  ForwardInput input;
  for (size_t g = 0; g < groups_.size(); ++g) {
    copy(*groups_[g].tables, host_.groups[g].tables);
    copy(*groups_[g].kv_slots, host_.groups[g].kv_slots);
    StepView& view = input.steps.emplace_back();
    view.rows = static_cast<int64_t>(host_.ids.size());
    view.positions = positions_->i32();
    view.kv_slots = static_cast<int64_t*>(groups_[g].kv_slots->data());
    view.sequences = row_sequences_->i32();
    view.block_tables = groups_[g].tables->i32();
    view.table_stride = table_stride_;
  }
  input.ids = ids_->i32();
  input.sample_rows = sample_rows_->i32();
  input.sample_count = static_cast<int64_t>(host_.sample_rows.size());
  return input;
}

Status StepRunner::warm_up(const OpContext& op) {
  if (device_.host_visible()) return Status::ok();
  uint64_t most = std::min<uint64_t>(plan_.max_rows, sequence_blocks_ * plan_.block_tokens);
  for (const uint32_t blocks : plan_.kv_blocks) {
    most = std::min<uint64_t>(most, uint64_t{blocks} * plan_.block_tokens);
  }
  // Steps of different sizes take different kernels.
  for (const uint64_t rows : {most, uint64_t{32}, uint64_t{16}, uint64_t{8}, uint64_t{1}}) {
    if (rows >= 1 && rows <= most) SHOAL_TRY(warm_up(rows, op));
  }
  return Status::ok();
}

Status StepRunner::warm_up(uint64_t rows, const OpContext& op) {
  host_.clear();
  for (uint64_t r = 0; r < rows; ++r) {
    host_.ids.push_back(0);
    host_.positions.push_back(static_cast<int32_t>(r));
    host_.sequences.push_back(0);
    for (auto& group : host_.groups) group.kv_slots.push_back(static_cast<int64_t>(r));
    if (r < Transformer::kLogitRows) host_.sample_rows.push_back(static_cast<int32_t>(r));
  }
  table_stride_ = static_cast<int64_t>(sequence_blocks_);
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<int32_t>& table = host_.groups[g].tables;
    table.resize(sequence_blocks_);
    for (size_t b = 0; b < table.size(); ++b) {
      table[b] = static_cast<int32_t>(std::min<size_t>(b, plan_.kv_blocks[g] - 1));
    }
  }
  SHOAL_ASSIGN(const ForwardInput input, upload());
  const auto alone = make_single_collective(plan_.epoch);
  SHOAL_TRY(transformer_->forward(input, kv_, *alone, op));
  float* logits = transformer_->logits(0, input.sample_count);
  const std::vector<SampleRow> wanted(static_cast<size_t>(input.sample_count),
                                      {.top_logprobs = 64, .shaped_candidates = 64});
  std::vector<LocalSample> found(wanted.size());
  const Range vocab = model_.shard.vocab;
  device_.sample_local(logits, transformer_->logits_stride(), vocab.size(), vocab.begin, wanted,
                       found);
  return device_.synchronize(op.deadline);
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
  const double experts_before = transformer_->expert_seconds();
  const uint64_t bytes_before = transformer_->bytes_read();
  const OpContext op{step.epoch, start + from_seconds(plan_.step_timeout_seconds), step.step};
  SHOAL_ASSIGN(const ForwardInput input, upload());
  SHOAL_TRY(transformer_->forward(input, kv_, group_, op));
  const auto computed = std::chrono::steady_clock::now();
  SHOAL_ASSIGN(std::vector<wire::RowResult> rows, sampler_.sample(*transformer_, targets_, op));
  take(std::move(rows), &result);
  transformer_->account();
  const auto end = std::chrono::steady_clock::now();
  const CollectiveStats after = group_.stats();
  result.stats.forward_seconds = to_seconds(computed - start);
  result.stats.sample_seconds = to_seconds(end - computed);
  result.stats.collective_seconds = after.total_seconds - before.total_seconds;
  result.stats.expert_seconds = transformer_->expert_seconds() - experts_before;
  result.stats.weight_bytes = transformer_->bytes_read() - bytes_before;
  result.stats.wait_seconds = after.wait_seconds - before.wait_seconds;
  if (plan_.rank != 0) result.rows.clear(), result.scores.clear();
  return result;
}

}  // namespace shoal

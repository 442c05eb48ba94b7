#include "worker/step_runner.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/core.h>

namespace shoal {

void StepRunner::HostRows::clear() {
  ids.clear();
  positions.clear();
  sequences.clear();
  sample_rows.clear();
  for (auto& slots : kv_slots) slots.clear();
  tables.clear();
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
      exchange_(device, group),
      sampler_(device, group, exchange_, drawn_slice(model), model.spec.tokens) {}

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
  sequence_blocks_ = (plan_.max_sequence_tokens + plan_.block_tokens - 1) / plan_.block_tokens;
  // Tables of one step: no more sequences than rows, no more blocks than exist … unless shared.
  const uint64_t tables = std::bit_ceil(std::min(plan_.max_rows, plan_.max_slots)) *
                          sequence_blocks_ * plan_.kv_blocks.size();
  const uint64_t bytes = layout_of(plan_.max_rows).tables + tables * sizeof(int32_t);
  SHOAL_ASSIGN(memory_, device_.allocate(bytes, "rows of a step"));
  scratch_bytes_ += bytes;
  host_.kv_slots.resize(plan_.kv_blocks.size());
  return Status::ok();
}

StepRunner::Layout StepRunner::layout_of(uint64_t rows) const {
  Layout out;
  out.stride = (rows + kRowUnit - 1) / kRowUnit * kRowUnit;
  out.ids = plan_.kv_blocks.size() * out.stride * sizeof(int64_t);
  out.positions = out.ids + out.stride * sizeof(int32_t);
  out.sequences = out.positions + out.stride * sizeof(int32_t);
  out.sample_rows = out.sequences + out.stride * sizeof(int32_t);
  out.tables = out.sample_rows + out.stride * sizeof(int32_t);
  return out;
}

void StepRunner::add_group(const wire::RowGroup& group, int32_t sequence_index) {
  const Sequence& sequence = sequences_.at(group.slot);
  for (uint32_t i = 0; i < group.count; ++i) {
    const uint32_t position = group.position + i;
    for (size_t g = 0; g < host_.kv_slots.size(); ++g) {
      const int64_t block = sequence.blocks(g)[position / plan_.block_tokens];
      host_.kv_slots[g].push_back(block * plan_.block_tokens + position % plan_.block_tokens);
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
  const size_t groups = plan_.kv_blocks.size();
  uint64_t rows = 0;
  size_t longest = 1;
  for (const auto& group : step.rows) {
    rows += group.count;
    for (size_t g = 0; g < groups; ++g) {
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
  const size_t sequences = std::bit_ceil(std::max<size_t>(step.rows.size(), 1));
  table_sequences_ = static_cast<int64_t>(sequences);
  const uint64_t tables = groups * sequences * longest;
  if (layout_of(rows).tables + tables * sizeof(int32_t) > memory_->bytes()) {
    return out_of_range(fmt::format(
        "step {} has {} sequences with up to {} KV blocks; the plan allows {} sequences of {} "
        "tokens",
        step.step, step.rows.size(), longest, plan_.max_slots, plan_.max_sequence_tokens));
  }
  host_.tables.assign(tables, 0);
  for (size_t i = 0; i < step.rows.size(); ++i) {
    for (size_t g = 0; g < groups; ++g) {
      int32_t* table = host_.tables.data() + (g * sequences + i) * longest;
      for (const uint32_t block : sequences_.at(step.rows[i].slot).blocks(g)) {
        // What nobody looks at may be any block.
        *table++ = block == wire::kNoBlock ? 0 : static_cast<int32_t>(block);
      }
    }
  }
  for (size_t i = 0; i < step.rows.size(); ++i) {
    add_group(step.rows[i], static_cast<int32_t>(i));
  }
  return Status::ok();
}

ForwardInput StepRunner::upload() {
  const size_t groups = host_.kv_slots.size();
  const Layout at = layout_of(host_.ids.size());
  packed_.resize(at.tables + host_.tables.size() * sizeof(int32_t));
  const auto pack = [&](uint64_t offset, const auto& values) {
    std::copy_n(reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(values[0]),
                packed_.data() + offset);
  };
  for (size_t g = 0; g < groups; ++g) {
    pack(at.kv_slots + g * at.stride * sizeof(int64_t), host_.kv_slots[g]);
  }
  pack(at.ids, host_.ids);
  pack(at.positions, host_.positions);
  pack(at.sequences, host_.sequences);
  pack(at.sample_rows, host_.sample_rows);
  pack(at.tables, host_.tables);
  device_.copy_to_device(memory_->data(), packed_.data(), packed_.size());

  auto* base = static_cast<uint8_t*>(memory_->data());
  const auto ints = [&](uint64_t offset) { return reinterpret_cast<int32_t*>(base + offset); };
  ForwardInput input;
  for (size_t g = 0; g < groups; ++g) {
    StepView& view = input.steps.emplace_back();
    view.rows = static_cast<int64_t>(host_.ids.size());
    view.positions = ints(at.positions);
    view.kv_slots = reinterpret_cast<int64_t*>(base + at.kv_slots) + g * at.stride;
    view.sequences = ints(at.sequences);
    view.block_tables =
        ints(at.tables) + static_cast<int64_t>(g) * table_sequences_ * table_stride_;
    view.table_stride = table_stride_;
  }
  input.ids = ints(at.ids);
  input.sample_rows = ints(at.sample_rows);
  input.sample_count = static_cast<int64_t>(host_.sample_rows.size());
  input.table_sequences = table_sequences_;
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
    for (auto& slots : host_.kv_slots) slots.push_back(static_cast<int64_t>(r));
    if (r < Transformer::kLogitRows) host_.sample_rows.push_back(static_cast<int32_t>(r));
  }
  table_stride_ = static_cast<int64_t>(sequence_blocks_);
  table_sequences_ = 1;
  for (const uint32_t blocks : plan_.kv_blocks) {
    for (uint64_t b = 0; b < sequence_blocks_; ++b) {
      host_.tables.push_back(static_cast<int32_t>(std::min<uint64_t>(b, blocks - 1)));
    }
  }
  const ForwardInput input = upload();
  const auto alone = make_single_collective(plan_.epoch);
  StagedExchange exchange(device_, *alone);
  exchange.begin_step({op.epoch, op.step, op.deadline});
  transformer_->forward(input, kv_, exchange);
  SHOAL_TRY(exchange.end_step());
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
  const ForwardInput input = upload();
  exchange_.begin_step({op.epoch, op.step, op.deadline});
  transformer_->forward(input, kv_, exchange_);
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

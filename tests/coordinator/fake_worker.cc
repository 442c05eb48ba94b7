#include "tests/coordinator/fake_worker.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal::testing {
namespace {

constexpr Duration kCoordinatorSilence = std::chrono::seconds(5);

}  // namespace

int32_t FakeModel::sample(uint64_t seed, const std::vector<int32_t>& tokens) const {
  uint64_t h = mix64(seed);
  for (size_t i = 0; i < tokens.size(); ++i) {
    h = mix64(h ^ (static_cast<uint64_t>(tokens[i]) << 32 | i));
  }
  if (end_odds > 0 && (h >> 40) % end_odds == 0) return end_token;
  return static_cast<int32_t>(h % static_cast<uint64_t>(vocab));
}

float FakeModel::logprob(std::span<const int32_t> tokens) const {
  uint64_t h = 1;
  for (const int32_t token : tokens) h = mix64(h ^ static_cast<uint64_t>(token));
  return -static_cast<float>(h % 100000) / 1000;
}

std::vector<int32_t> FakeModel::expected(std::vector<int32_t> prompt, uint64_t seed,
                                         uint32_t max_tokens, bool ignore_end) const {
  std::vector<int32_t> out;
  while (out.size() < max_tokens) {
    out.push_back(sample(seed, prompt));
    prompt.push_back(out.back());
    if (out.back() == end_token && !ignore_end) break;
  }
  return out;
}

FakeWorker::FakeWorker(const FakeWorkerOptions& options, const FakeModel& model,
                       wire::WorkerLink& link, const Clock& clock, uint64_t seed)
    : options_(options),
      model_(model),
      link_(link),
      clock_(clock),
      rng_(seed),
      min_step_(options.min_step),
      max_step_(options.max_step),
      fail_load_(options.fail_load),
      epoch_(options.seen_epoch) {}

void FakeWorker::send(const wire::ToCoordinator& message) { (void)link_.send(message); }

void FakeWorker::turn() {
  if (exited_ || frozen_) return;
  const TimePoint now = clock_.now();
  while (auto message = link_.receive(Duration::zero())) {
    heard_ = now;
    welcome_ = true;
    take(*message);
    if (exited_) return;
  }
  if (welcome_ && now - heard_ > kCoordinatorSilence) {
    give_up();
    welcome_ = false;
  }
  work(now);
  if (now - last_beat_ < options_.heartbeat) return;
  last_beat_ = now;
  if (welcome_) {
    const bool busy = load_due_ || step_due_;
    send(wire::WorkerHeartbeat{epoch_, last_step_, 1u << 20, busy});
    return;
  }
  wire::Hello hello;
  hello.protocol_version = options_.protocol_version;
  hello.build = "fake 1";
  hello.incarnation = options_.incarnation;
  hello.name = options_.name;
  hello.host_id = hello.host_name = options_.host;
  hello.device_kind = "cpu";
  hello.device = "fake";
  hello.memory_bytes = 1u << 30;
  hello.data_address = options_.data_address;
  hello.model_digest = loaded_rank_ >= 0 ? "digest" : "";
  hello.pid = options_.pid;
  hello.newest_epoch = epoch_;
  send(hello);
}

std::optional<TimePoint> FakeWorker::next_due() const {
  if (exited_ || frozen_) return std::nullopt;
  TimePoint due = last_beat_ + options_.heartbeat;
  if (!hung_ && load_due_) due = std::min(due, *load_due_);
  if (!hung_ && step_due_) due = std::min(due, *step_due_);
  return due;
}

void FakeWorker::give_up() {
  given_up_ = true;
  steps_.clear();
  if (hung_) return;  // what hangs stays busy
  load_due_.reset();
  step_due_.reset();
}

void FakeWorker::take(const wire::ToWorker& message) {
  if (const auto* plan = std::get_if<wire::Assign>(&message)) {
    if (plan->epoch <= epoch_) return;
    give_up();
    epoch_ = plan->epoch;
    given_up_ = false;
    plan_ = *plan;
    last_step_ = 0;
    slots_.clear();
    const bool keeps = loaded_rank_ == static_cast<int>(plan->rank);
    load_due_ = clock_.now() + (keeps ? Duration::zero() : options_.load_time);
  } else if (const auto* step = std::get_if<wire::Step>(&message)) {
    if (step->epoch != epoch_ || given_up_) return;
    steps_.push_back(*step);
    if (!step_due_) step_due_ = clock_.now() + draw_step_time();
  } else if (const auto* abort = std::get_if<wire::Abort>(&message)) {
    if (abort->epoch == epoch_) give_up();
  } else if (const auto* refused = std::get_if<wire::Refused>(&message)) {
    exited_ = true;
    exit_reason_ = refused->reason;
  } else if (const auto* shutdown = std::get_if<wire::Shutdown>(&message)) {
    exited_ = true;
    exit_reason_ = shutdown->reason;
  }
}

Duration FakeWorker::draw_step_time() {
  return min_step_ + from_seconds(rng_.uniform() * to_seconds(max_step_ - min_step_));
}

void FakeWorker::work(TimePoint now) {
  if (hung_) return;
  if (load_due_ && *load_due_ <= now) finish_load();
  while (step_due_ && *step_due_ <= now) {
    const wire::Step step = std::move(steps_.front());
    steps_.pop_front();
    run_step(step);
    if (given_up_ || steps_.empty()) {
      step_due_.reset();
    } else {
      step_due_ = *step_due_ + draw_step_time();
    }
  }
}

void FakeWorker::finish_load() {
  load_due_.reset();
  if (!fail_load_.empty()) {
    send(wire::Failed{epoch_, true, fail_load_, options_.fail_kind});
    return give_up();
  }
  if (loaded_rank_ != static_cast<int>(plan_.rank)) ++loads_;
  loaded_rank_ = static_cast<int>(plan_.rank);
  caches_.assign(model_.rules.size(), {});
  for (size_t group = 0; group < caches_.size(); ++group) {
    caches_[group].resize(size_t{plan_.kv_blocks.at(group)} * plan_.block_tokens);
  }
  send(wire::LoadProgress{epoch_, 100, 100});
  send(wire::Ready{epoch_, 100, 200, 300, 0.1});
}

void FakeWorker::run_step(const wire::Step& step) {
  std::string error = std::exchange(fail_step_, "");
  const bool asked_to_fail = !error.empty();
  wire::StepResult result;
  result.epoch = step.epoch;
  result.step = step.step;
  if (error.empty()) error = apply(step);
  for (const wire::RowGroup& rows : step.rows) {
    if (error.empty()) error = run_rows(rows, result);
  }
  if (!error.empty()) {
    if (!asked_to_fail && violation_.empty())
      violation_ = fmt::format("step {}: {}", step.step, error);
    send(wire::Failed{epoch_, false, error});
    return give_up();
  }
  last_step_ = step.step;
  ++steps_run_;
  if (plan_.rank != 0) result.rows.clear();
  result.stats = {0.002, 0.001, 0.0005, 0.0001};
  send(result);
}

std::string FakeWorker::apply(const wire::Step& step) {
  if (step.step != last_step_ + 1) return fmt::format("follows step {}", last_step_);
  for (const uint32_t slot : step.ended) {
    if (slots_.erase(slot) == 0) return fmt::format("end of slot {}, which is empty", slot);
  }
  for (const auto& start : step.started) {
    if (start.slot >= plan_.max_slots) return fmt::format("slot {} does not exist", start.slot);
    if (start.tokens.size() > plan_.max_sequence_tokens) return "a sequence beyond the context";
    if (!slots_.emplace(start.slot, Slot{start, start.tokens, {}, {}, 0}).second) {
      return fmt::format("slot {} is in use", start.slot);
    }
  }
  for (const wire::BlockAppend& blocks : step.appended) {
    if (std::string error = append(blocks); !error.empty()) return error;
  }
  uint64_t rows = 0;
  for (const auto& group : step.rows) rows += group.count;
  rows_run_ += rows;
  if (rows > plan_.max_rows) return fmt::format("{} rows", rows);
  return "";
}

std::string FakeWorker::append(const wire::BlockAppend& append) {
  const auto slot = slots_.find(append.slot);
  if (slot == slots_.end()) return fmt::format("blocks for slot {}, which is empty", append.slot);
  if (append.group >= caches_.size()) return fmt::format("KV group {}", append.group);
  slot->second.blocks.resize(caches_.size());
  for (const uint32_t block : append.blocks) {
    if (block != wire::kNoBlock && block >= plan_.kv_blocks.at(append.group)) {
      return fmt::format("block {} does not exist", block);
    }
    slot->second.blocks[append.group].push_back(block);
  }
  return "";
}

FakeWorker::Cell* FakeWorker::cell(uint32_t group, uint32_t position, const Slot& slot) {
  const uint32_t index = position / plan_.block_tokens;
  if (group >= slot.blocks.size() || index >= slot.blocks[group].size()) return nullptr;
  const uint32_t block = slot.blocks[group][index];
  if (block == wire::kNoBlock) return nullptr;
  return &caches_[group][size_t{block} * plan_.block_tokens + position % plan_.block_tokens];
}

std::string FakeWorker::write(uint32_t group, uint32_t position, uint32_t slot) {
  const Slot& writer = slots_.at(slot);
  Cell* const written = cell(group, position, writer);
  if (written == nullptr) {
    return fmt::format("row {} of slot {} has no block in group {}", position, slot, group);
  }
  // Nobody else may count on what the block holds. What a sequence no longer sees it has given up.
  const uint32_t block = writer.blocks[group][position / plan_.block_tokens];
  for (const auto& [other, state] : slots_) {
    if (other == slot || state.blocks.empty()) continue;
    const auto& table = state.blocks[group];
    const uint64_t seen = model_.rules[group].first_visible(state.end) / plan_.block_tokens;
    if (std::find(table.begin() + static_cast<ptrdiff_t>(std::min(seen, table.size())), table.end(),
                  block) != table.end()) {
      return fmt::format("slot {} writes into block {} of group {}, which slot {} sees", slot,
                         block, group, other);
    }
  }
  *written = {writer.prefixes[position], writer.start.seed, last_step_ + 1};
  return "";
}

std::string FakeWorker::read(uint32_t group, uint32_t position, uint32_t slot) {
  const Slot& reader = slots_.at(slot);
  for (uint64_t q = model_.rules[group].first_visible(position); q <= position; ++q) {
    const Cell* const seen = cell(group, static_cast<uint32_t>(q), reader);
    if (seen == nullptr || seen->prefix != reader.prefixes[q]) {
      return fmt::format("row {} of slot {} sees position {} in group {}, which is {}", position,
                         slot, q, group, seen == nullptr ? "missing" : "not its own");
    }
    if (seen->seed == reader.start.seed) continue;
    shared_.emplace(seen->seed, reader.start.seed);
    if (seen->step == last_step_ + 1) {
      return fmt::format("slot {} reads what the same step writes for another sequence", slot);
    }
  }
  return "";
}

std::string FakeWorker::score(const wire::RowGroup& rows, const Slot& slot,
                              wire::StepResult& result) {
  wire::PromptScores scores{rows.slot, slot.start.generation, rows.position + 1, {}, false};
  const uint32_t end = std::min(rows.position + rows.count + 1, slot.start.prompt_tokens);
  for (uint32_t p = scores.position; p < end; ++p) {
    const std::span<const int32_t> tokens(slot.tokens.data(), p + 1);
    scores.tokens.push_back({model_.logprob(tokens), {{tokens.back(), model_.logprob(tokens)}}});
    scores.broken |= std::find(tokens.begin(), tokens.end() - 1, model_.poison) != tokens.end() - 1;
  }
  if (scores.tokens.empty()) return "scores of what is no prompt";
  if (slot.start.sampling.top_logprobs < 0) return "scores nobody wants";
  result.scores.push_back(std::move(scores));
  return "";
}

std::string FakeWorker::run_rows(const wire::RowGroup& rows, wire::StepResult& result) {
  const auto found = slots_.find(rows.slot);
  if (found == slots_.end()) return fmt::format("rows for slot {}, which is empty", rows.slot);
  Slot& slot = found->second;
  const uint64_t end = uint64_t{rows.position} + rows.count;
  if (end > slot.tokens.size()) return fmt::format("rows beyond slot {}", rows.slot);
  for (size_t i = slot.prefixes.size(); i < slot.tokens.size(); ++i) {
    slot.prefixes.push_back(mix64((i == 0 ? 0 : slot.prefixes.back()) ^
                                  (static_cast<uint64_t>(slot.tokens[i]) << 32 | i)));
  }
  std::string error;
  for (uint32_t group = 0; group < caches_.size(); ++group) {
    for (uint32_t p = rows.position; p < end && error.empty(); ++p) {
      error = write(group, p, rows.slot);
    }
    for (uint32_t p = rows.position; p < end && error.empty(); ++p) {
      error = read(group, p, rows.slot);
    }
  }
  if (!error.empty()) return error;
  slot.end = static_cast<uint32_t>(end);
  if (rows.score) {
    error = score(rows, slot, result);
    if (!error.empty()) return error;
  }
  if (!rows.sample) return "";
  if (end != slot.tokens.size() || end >= plan_.max_sequence_tokens) return "a sample too early";
  const bool broken =
      std::find(slot.tokens.begin(), slot.tokens.end(), model_.poison) != slot.tokens.end();
  const int32_t token = broken ? 0 : model_.sample(slot.start.seed, slot.tokens);
  slot.tokens.push_back(token);
  result.rows.push_back({rows.slot, slot.start.generation, token, broken ? 0 : -1.0f, {}, broken});
  return "";
}

}  // namespace shoal::testing

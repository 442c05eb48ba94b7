#include "tests/coordinator/fake_worker.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal::testing {
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
      core_({.heartbeat = options.heartbeat, .newest_epoch = options.seen_epoch}),
      fail_load_(options.fail_load) {}

void FakeWorker::send(const wire::ToCoordinator& message) { (void)link_.send(message); }

void FakeWorker::turn() {
  if (exited_ || frozen_) return;
  last_turn_ = clock_.now();
  while (auto message = link_.receive(Duration::zero())) {
    tell(std::move(*message));
    if (exited_) return;
  }
  tell(worker::Tick{});
  work(clock_.now());
}

void FakeWorker::tell(const worker::Event& event) {
  worker::Actions actions = core_.handle(event, clock_.now());
  for (worker::Action& action : actions) perform(action);
}

void FakeWorker::perform(worker::Action& action) {
  if (const auto* hello = std::get_if<worker::Introduce>(&action)) {
    introduce(hello->newest_epoch);
  } else if (const auto* beat = std::get_if<worker::Beat>(&action)) {
    send(beat->heartbeat);
  } else if (const auto* message = std::get_if<worker::Send>(&action)) {
    send(message->message);
  } else if (auto* load = std::get_if<worker::Load>(&action)) {
    jobs_.push_back(std::move(*load));
    if (jobs_.size() == 1) begin();
  } else if (auto* step = std::get_if<worker::Compute>(&action)) {
    jobs_.push_back(std::move(*step));
    if (jobs_.size() == 1) begin();
  } else if (std::holds_alternative<worker::Withdraw>(action)) {
    if (due_ && !hung_) due_ = clock_.now();  // what hangs stays busy
  } else if (const auto* end = std::get_if<worker::End>(&action)) {
    exited_ = true;
    exit_reason_ = end->reason;
  }
}

void FakeWorker::introduce(uint64_t newest_epoch) {
  wire::Hello hello;
  hello.protocol_version = options_.protocol_version;
  hello.build = "fake 1";
  hello.incarnation = options_.incarnation;
  hello.name = options_.name;
  hello.host_id = hello.host_name = options_.host;
  hello.device_kind = "cpu";
  hello.device = "fake";
  hello.memory_bytes = options_.memory_bytes;
  hello.data_address = options_.data_address;
  hello.model_digest = loaded_rank_ >= 0 ? "digest" : "";
  hello.pid = options_.pid;
  hello.newest_epoch = newest_epoch;
  send(hello);
}

void FakeWorker::see_epoch(uint64_t epoch) {
  wire::Assign plan = plan_;
  plan.epoch = epoch;
  tell(plan);
}

std::optional<TimePoint> FakeWorker::next_due() const {
  if (exited_ || frozen_) return std::nullopt;
  const TimePoint turn = last_turn_ + options_.heartbeat / 4;
  return !hung_ && due_ ? std::min(turn, *due_) : turn;
}

void FakeWorker::begin() {
  due_.reset();
  if (jobs_.empty()) return;
  if (const auto* load = std::get_if<worker::Load>(&jobs_.front())) {
    const bool keeps = loaded_rank_ == static_cast<int>(load->plan.rank);
    due_ = clock_.now() + (keeps ? Duration::zero() : options_.load_time);
  } else {
    due_ =
        clock_.now() + min_step_ + from_seconds(rng_.uniform() * to_seconds(max_step_ - min_step_));
  }
}

void FakeWorker::work(TimePoint now) {
  while (!hung_ && !exited_ && due_ && *due_ <= now) {
    const auto job = std::move(jobs_.front());
    jobs_.pop_front();
    if (const auto* plan = std::get_if<worker::Load>(&job)) {
      load(plan->plan);
    } else {
      compute(std::get<worker::Compute>(job).step);
    }
    begin();
  }
}

void FakeWorker::load(const wire::Assign& plan) {
  if (!core_.in_force(plan.epoch)) return tell(worker::Dropped{});
  plan_ = plan;
  last_step_ = 0;
  slots_.clear();
  if (!fail_load_.empty()) {
    const bool memory = options_.fail_kind == wire::FailureKind::kMemory;
    const bool file = options_.fail_kind == wire::FailureKind::kFile;
    const Status why = memory ? resource_exhausted(fail_load_) : data_loss(fail_load_);
    return tell(worker::LoadOver{plan.epoch, why, file});
  }
  if (loaded_rank_ != static_cast<int>(plan.rank)) ++loads_;
  loaded_rank_ = static_cast<int>(plan.rank);
  caches_.assign(model_.rules.size(), {});
  for (size_t group = 0; group < caches_.size(); ++group) {
    caches_[group].resize(size_t{plan.kv_blocks.at(group)} * plan.block_tokens);
  }
  send(wire::LoadProgress{plan.epoch, 100, 100});
  tell(worker::LoadOver{plan.epoch, wire::Ready{plan.epoch, 100, 200, 300, 0.1}});
}

void FakeWorker::compute(const wire::Step& step) {
  if (!core_.in_force(step.epoch)) return tell(worker::Dropped{});
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
    return tell(worker::StepOver{step.epoch, unavailable(error)});
  }
  last_step_ = step.step;
  ++steps_run_;
  if (plan_.rank != 0) result.rows.clear();
  result.stats = {0.002, 0.001, 0.0005, 0.0001};
  tell(worker::StepOver{step.epoch, std::move(result)});
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
  if (std::string error = cover(slot, rows.position, end); !error.empty()) return error;
  if (rows.score) {
    if (std::string error = score(rows, slot, result); !error.empty()) return error;
  }
  if (rows.draw == 0) return "";
  if (end != slot.tokens.size() || end >= plan_.max_sequence_tokens) return "a sample too early";
  return draw(rows, slot, result);
}

// K and V of positions [begin, end).
std::string FakeWorker::cover(Slot& slot, uint32_t begin, uint64_t end) {
  for (size_t i = slot.prefixes.size(); i < slot.tokens.size(); ++i) {
    slot.prefixes.push_back(mix64((i == 0 ? 0 : slot.prefixes.back()) ^
                                  (static_cast<uint64_t>(slot.tokens[i]) << 32 | i)));
  }
  std::string error;
  for (uint32_t group = 0; group < caches_.size(); ++group) {
    for (uint32_t p = begin; p < end && error.empty(); ++p)
      error = write(group, p, slot.start.slot);
    for (uint32_t p = begin; p < end && error.empty(); ++p) error = read(group, p, slot.start.slot);
  }
  slot.end = static_cast<uint32_t>(end);
  return error;
}

std::string FakeWorker::draw(const wire::RowGroup& rows, Slot& slot, wire::StepResult& result) {
  // The same on every rank, and nothing the coordinator could know.
  const uint64_t chance = mix64(slot.start.seed ^ slot.tokens.size() << 20 ^ result.step);
  const uint32_t count = 1 + static_cast<uint32_t>(chance % rows.draw);
  for (uint32_t i = 0; i < count; ++i) {
    const auto position = static_cast<uint32_t>(slot.tokens.size()) - 1;
    if (i > 0) {
      if (std::string error = cover(slot, position, position + 1); !error.empty()) return error;
    }
    const bool broken =
        std::find(slot.tokens.begin(), slot.tokens.end(), model_.poison) != slot.tokens.end();
    const int32_t token = broken ? 0 : model_.sample(slot.start.seed, slot.tokens);
    slot.tokens.push_back(token);
    result.rows.push_back(
        {rows.slot, slot.start.generation, token, broken ? 0 : -1.0f, {}, broken});
    if (broken) break;
  }
  return "";
}

}  // namespace shoal::testing

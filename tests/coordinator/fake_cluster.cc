#include "tests/coordinator/fake_cluster.h"

#include <gtest/gtest.h>

#include <fmt/core.h>

namespace shoal::testing {

using namespace std::chrono_literals;

CoreOptions small_core_options(uint32_t world) {
  CoreOptions options;
  options.context_tokens = 64;
  options.vocab = 1000;
  options.end_tokens = {7};
  options.queue = {64, 100000};
  options.scheduler = {.max_rows = 8,
                       .max_sequences = 4,
                       .max_slots = 8,
                       .prefill_chunk = 4,
                       .depth = 2,
                       .block_tokens = 4};
  MembershipOptions& membership = options.membership;
  membership.world = world;
  membership.segment_prefix = "/shoal.test";
  membership.terms.model_path = "/model.gguf";
  membership.terms.model_digest = "digest";
  membership.terms.kv_blocks = {32};
  membership.terms.step_timeout_seconds = 3;
  membership.terms.form_timeout_seconds = 10;
  membership.load_timeout = 20s;
  membership.abort_timeout = 2s;
  return options;
}

FakeCluster::FakeCluster(CoreOptions options, FakeModel the_model, uint64_t seed,
                         wire::LinkFaults faults)
    : model(the_model),
      network(clock, {.seed = seed, .faults = faults}),
      core(std::move(options), observer),
      rng_(mix64(seed)) {}

FakeWorker& FakeCluster::add_worker(const std::string& name) {
  FakeWorkerOptions options;
  options.name = name;
  return add_worker(options);
}

FakeWorker& FakeCluster::add_worker(FakeWorkerOptions options) {
  options.incarnation = ++last_incarnation_;
  options.pid = static_cast<int64_t>(1000 + last_incarnation_);
  Process process;
  process.link = network.connect(options.name);
  process.peer = network.peer_of(options.name);
  process.worker = std::make_unique<FakeWorker>(options, model, *process.link, clock, rng_());
  std::string key = options.name;
  while (workers_.count(key) == 1) key += "'";  // a second process with the same name
  return *(workers_[key] = std::move(process)).worker;
}

void FakeCluster::kill(const std::string& name) {
  network.disconnect(workers_.at(name).peer);
  workers_.erase(name);
}

RequestId FakeCluster::submit(std::vector<int32_t> prompt, uint32_t max_tokens, uint64_t seed) {
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.seed = seed;
  return submit(std::move(request));
}

RequestId FakeCluster::submit(GenerationRequest request) {
  const RequestId id = ++last_id_;
  streams[id].request = request;
  handle(SubmitEvent{id, std::move(request)});
  return id;
}

void FakeCluster::cancel(RequestId id) {
  streams.at(id).cancelled = true;
  handle(CancelEvent{id});
}

std::vector<RequestId> FakeCluster::submit_together(
    const std::vector<GenerationRequest>& requests) {
  std::vector<RequestId> ids;
  std::vector<Event> events;
  for (const GenerationRequest& request : requests) {
    ids.push_back(++last_id_);
    streams[ids.back()].request = request;
    events.push_back(SubmitEvent{ids.back(), request});
  }
  handle(std::move(events));
  return ids;
}

void FakeCluster::handle(Event event) {
  std::vector<Event> events;
  events.push_back(std::move(event));
  handle(std::move(events));
}

void FakeCluster::handle(std::vector<Event> events) {
  while (!events.empty()) {
    std::vector<Event> follow_up;
    perform(core.handle(events, clock.now()), follow_up);
    core.check_invariants();
    events = std::move(follow_up);
  }
}

void FakeCluster::record(const SendAction& action) {
  if (const auto* abort = std::get_if<wire::Abort>(&action.message)) aborts.push_back(*abort);
  const auto* step = std::get_if<wire::Step>(&action.message);
  if (step == nullptr) return;
  steps.push_back({*step, static_cast<size_t>(step->step - returned_[step->epoch])});
}

void FakeCluster::on_finish(const FinishAction& finish) {
  Stream& stream = streams.at(finish.id);
  ++stream.finishes;
  stream.finish = finish.event;
  stream.finished_at = clock.now();
}

void FakeCluster::perform(const Actions& actions, std::vector<Event>& follow_up) {
  for (const Action& action : actions) {
    if (const auto* message = std::get_if<SendAction>(&action)) {
      record(*message);
      const auto sent = network.coordinator().send(message->peers, message->message);
      for (size_t i = 0; i < sent.size(); ++i) {
        EXPECT_NE(sent[i].code(), Code::kInvalidArgument) << sent[i].message();
        if (!sent[i]) follow_up.push_back(PeerGoneEvent{message->peers[i], sent[i].message()});
      }
    } else if (const auto* prompt = std::get_if<PromptAction>(&action)) {
      Stream& stream = streams.at(prompt->id);
      EXPECT_TRUE(stream.finishes == 0 && stream.tokens.empty()) << "scores come first";
      EXPECT_EQ(prompt->event.position, stream.scores.size() + 1) << "in order, and once";
      for (const auto& scored : prompt->event.tokens) stream.scores.push_back(scored.logprob);
    } else if (const auto* token = std::get_if<TokenAction>(&action)) {
      Stream& stream = streams.at(token->id);
      EXPECT_EQ(stream.finishes, 0) << "a token after the end";
      stream.tokens.push_back(token->event.token);
    } else if (const auto* finish = std::get_if<FinishAction>(&action)) {
      on_finish(*finish);
    } else if (const auto* gone = std::get_if<WorkerLostAction>(&action)) {
      lost.push_back(*gone);
    } else if (const auto* line = std::get_if<LogAction>(&action)) {
      log.push_back(
          fmt::format("{:.3f} {}", to_seconds(clock.now().time_since_epoch()), line->text));
    }
  }
}

void FakeCluster::turn() {
  for (auto& [name, process] : workers_) process.worker->turn();
  while (auto peer = network.coordinator().next_disconnected()) handle(DisconnectedEvent{*peer});
  while (auto incoming = network.coordinator().receive(Duration::zero())) {
    if (const auto* result = std::get_if<wire::StepResult>(&incoming->message)) {
      uint64_t& newest = returned_[result->epoch];
      newest = std::max(newest, result->step);
    }
    handle(std::move(*incoming));
  }
  handle(TickEvent{});
}

bool FakeCluster::run_until(const std::function<bool()>& done, Duration limit) {
  const TimePoint deadline = clock.now() + limit;
  for (;;) {
    turn();
    if (done()) return true;
    if (clock.now() >= deadline) return false;
    TimePoint next = clock.now() + 20ms;
    if (const auto delivery = network.next_delivery()) next = std::min(next, *delivery);
    for (const auto& [name, process] : workers_) {
      if (const auto due = process.worker->next_due()) next = std::min(next, *due);
    }
    // Whatever is due now has been done in this turn, or starts in the next: time always moves.
    clock.advance(std::max<Duration>(next - clock.now(), 10us));
  }
}

void FakeCluster::run_for(Duration duration) {
  run_until([] { return false; }, duration);
}

void FakeCluster::check_streams() const {
  for (const auto& [id, stream] : streams) {
    EXPECT_LE(stream.finishes, 1) << "request " << id << " ended twice";
    const auto expected = model.expected(stream.request.prompt, stream.request.seed,
                                         stream.request.max_tokens, stream.request.ignore_eos);
    const std::vector<int32_t> prefix(
        expected.begin(), expected.begin() + std::min(expected.size(), stream.tokens.size()));
    EXPECT_EQ(stream.tokens, prefix) << "request " << id;
    const std::vector<int32_t>& prompt = stream.request.prompt;
    EXPECT_LE(stream.scores.size(), stream.request.score_prompt ? prompt.size() - 1 : 0);
    for (size_t i = 0; i < stream.scores.size(); ++i) {
      EXPECT_EQ(stream.scores[i], model.logprob({prompt.data(), i + 2})) << "request " << id;
    }
    if (stream.request.score_prompt && !stream.tokens.empty()) {
      EXPECT_EQ(stream.scores.size(), prompt.size() - 1) << "request " << id;
    }
    if (stream.finishes == 0) continue;
    if (stream.finish.reason == FinishReason::kStop ||
        stream.finish.reason == FinishReason::kLength) {
      EXPECT_EQ(stream.tokens.size(), expected.size()) << "request " << id;
    }
  }
  for (const auto& [name, process] : workers_) EXPECT_EQ(process.worker->violation(), "") << name;
}

}  // namespace shoal::testing

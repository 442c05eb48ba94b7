// Fuzz target: what several workers say to a coordinator over time, in any order. An input is a
// list of operations: mostly valid messages of a handful of processes (two names known, one not,
// two keys), some of them wrong in one field, raw frames, connections that break, failed sends,
// time that passes or jumps, requests that come and go. All of it runs through the pure core.
//
// Whatever comes, invariants hold after every event, whatever goes out is valid and of the right
// direction, a request ends exactly once and gets no token afterwards, and a worker that follows
// the protocol never gets a step it would refuse: ranks keep the tables a real worker keeps
// (worker/sequences.h), which also see the steps among the raw frames and must only refuse them.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "coordinator/core/core.h"
#include "wire/codec.h"
#include "wire/validate.h"
#include "worker/sequences.h"

namespace shoal {
namespace {

constexpr int32_t kVocab = 50;
constexpr uint32_t kContext = 24;
constexpr size_t kPeers = 6;
constexpr size_t kMaxOperations = 400;

// The input, consumed byte by byte; zeros after its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ == size_; }
  uint8_t byte() { return empty() ? 0 : data_[at_++]; }
  uint64_t below(uint64_t bound) { return byte() % bound; }
  uint64_t number() {  // small ones often, any sometimes
    const uint8_t first = byte();
    if (first < 240) return first % 16;
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  std::string_view bytes(size_t count) {
    count = std::min(count, size_ - at_);
    at_ += count;
    return {reinterpret_cast<const char*>(data_ + at_ - count), count};
  }

 private:
  const uint8_t* const data_;
  const size_t size_;
  size_t at_ = 0;
};

CoreOptions core_options() {
  CoreOptions options;
  options.context_tokens = kContext;
  options.vocab = kVocab;
  options.end_tokens = {7};
  options.queue = {16, 1000};
  options.scheduler = {.max_rows = 8,
                       .max_sequences = 3,
                       .max_slots = 5,
                       .prefill_chunk = 4,
                       .depth = 2,
                       .block_tokens = 4};
  MembershipOptions& membership = options.membership;
  membership.world = 2;
  membership.keys = {{"b", "key b"}};
  membership.segment_prefix = "/shoal.fuzz";
  membership.terms.model_path = "/model.gguf";
  membership.terms.model_digest = "digest";
  membership.terms.kv_blocks = {8};
  membership.terms.step_timeout_seconds = 3;
  membership.terms.form_timeout_seconds = 10;
  membership.load_timeout = std::chrono::seconds(20);
  return options;
}

std::unique_ptr<SequenceTable> make_table() {
  return std::make_unique<SequenceTable>(SequenceLimits{.max_slots = 5,
                                                        .max_tokens = kContext,
                                                        .kv_blocks = {8},
                                                        .kv_groups = {},
                                                        .block_tokens = 4,
                                                        .vocab = kVocab},
                                         Range{0, kVocab});
}

struct Peer {  // one process
  std::string name, key;
  std::optional<wire::Assign> plan;
  std::deque<wire::Step> steps;  // to be run
  std::unique_ptr<SequenceTable> table;
  bool said_ready = false;
  bool unreachable = false;
};

struct Request {
  bool ended = false;
};

class Harness {
 public:
  explicit Harness(Input input) : input_(input), core_(core_options(), observer_) {
    constexpr const char* kNames[] = {"a", "b", "c"};
    for (size_t i = 0; i < kPeers; ++i) {
      peers_[i].name = kNames[i % 3];
      peers_[i].key = std::string("key ") + kNames[i % 3];
    }
  }

  void run() {
    for (size_t i = 0; i < kMaxOperations && !input_.empty(); ++i) operate();
    handle(StopEvent{"the end"});
    for (const auto& [id, request] : requests_) SHOAL_CHECK(request.ended, "a request has no end");
  }

 private:
  Peer& any_peer() { return peers_[input_.below(kPeers)]; }
  wire::PeerId id_of(const Peer& peer) const {
    return peer.name + "#" + std::to_string(&peer - peers_.data());
  }
  uint64_t epoch_for(const Peer& peer) {
    const uint64_t mine = peer.plan ? peer.plan->epoch : 0;
    const uint8_t how = input_.byte();
    if (how < 200) return mine;
    return how < 240 ? mine + how - 220 : input_.number();
  }

  void operate() {
    const uint8_t kind = input_.byte() % 20;
    Peer& peer = any_peer();
    if (kind < 3) return hello(peer);
    if (kind < 9) return run_step(peer);
    if (kind < 13) return submit_or_cancel();
    if (kind < 15) return pass_time();
    if (kind < 17) return say(peer, small_message(peer));
    if (kind == 17) return raw(peer);
    break_something(peer);
  }

  void hello(Peer& peer) {
    wire::Hello hello;
    hello.incarnation = static_cast<uint64_t>(&peer - peers_.data()) + 1;
    hello.name = peer.name;
    hello.host_id = hello.host_name = "host";
    hello.device_kind = "cpu";
    hello.data_address = "10.0.0.1";
    hello.memory_bytes = 1u << 20;
    hello.pid = 100;
    hello.newest_epoch = peer.plan ? peer.plan->epoch : 0;
    switch (input_.byte()) {
      case 1:
        hello.protocol_version = static_cast<uint32_t>(input_.number());
        break;
      case 2:
        hello.name = std::string(input_.bytes(input_.below(70)));
        break;
      case 3:
        hello.newest_epoch = input_.number();
        break;
      case 4:
        hello.incarnation = input_.number();
        break;
      case 5:
        hello.host_id = "elsewhere";
        break;
      case 6:
        hello.memory_bytes = input_.number();
        break;
      case 7:
        hello.held_bytes = input_.number();
        break;
      case 8:
        hello.device_kind = "cuda";
        break;
      case 9:
        hello.data_address.clear();
        break;
      case 10:
        hello.model_digest = "digest";
        break;
      default:
        break;
    }
    say(peer, hello);
  }

  wire::ToCoordinator small_message(Peer& peer) {
    const uint64_t epoch = epoch_for(peer);
    switch (input_.below(11)) {
      case 0:
      case 1:
        return wire::WorkerHeartbeat{epoch, input_.number(), 0, input_.below(4) == 0};
      case 2:
      case 3:
        return wire::Ready{epoch, input_.number(), input_.number(), 0, 0.1};
      case 4:
        return wire::LoadProgress{epoch, input_.number(), input_.number()};
      case 5:
        return wire::Failed{epoch, input_.below(2) == 0, std::string(input_.bytes(8)),
                            static_cast<wire::FailureKind>(input_.below(4))};
      case 6:
        return wire::ModelChanged{epoch};
      case 7:
        return wire::Goodbye{std::string(input_.bytes(4))};
      case 8:
        return wire::StoreSet{epoch, std::string(input_.bytes(2)), "value"};
      case 9:
        return wire::StoreGet{epoch, std::string(input_.bytes(2))};
      default:
        return wire::ExpertLoad{epoch, 2, {input_.number(), input_.number()}};
    }
  }

  // What a worker does: readiness first, then the steps in order, as the plan asks.
  void run_step(Peer& peer) {
    if (!peer.plan) return;
    if (!std::exchange(peer.said_ready, true)) {
      return say(peer, wire::Ready{peer.plan->epoch, 1, 2, 3, 0.1});
    }
    if (peer.steps.empty()) return;
    const wire::Step step = std::move(peer.steps.front());
    peer.steps.pop_front();
    const Status applied = peer.table->apply(step);
    SHOAL_CHECK(applied.is_ok(), "a step no worker would run: " + applied.message());
    wire::StepResult result;
    result.epoch = step.epoch;
    result.step = step.step;
    for (const wire::RowGroup& rows : step.rows) {
      if (rows.score && peer.plan->rank == 0) score(peer, rows, result);
      if (rows.draw == 0) continue;
      const auto token = static_cast<int32_t>(input_.below(kVocab));
      Sequence& sequence = peer.table->at(rows.slot);
      sequence.append_token(token);
      if (peer.plan->rank == 0) {
        result.rows.push_back({rows.slot, sequence.generation(), token, -1.0f, {}});
      }
    }
    spoil(result);
    say(peer, result);
  }

  static void score(Peer& peer, const wire::RowGroup& rows, wire::StepResult& result) {
    const Sequence& sequence = peer.table->at(rows.slot);
    const uint32_t end = std::min(rows.position + rows.count + 1, sequence.prompt_tokens());
    result.scores.push_back({rows.slot, sequence.generation(), rows.position + 1,
                             std::vector<wire::ScoredToken>(end - rows.position - 1), false});
  }

  void spoil(wire::StepResult& result) {
    switch (input_.byte()) {
      case 1:
        result.step += input_.number();
        break;
      case 2:
        result.epoch = input_.number();
        break;
      case 3:
        result.rows.clear();
        break;
      case 4:
        result.rows.push_back({4, 1, 3, 0, {}});
        break;
      case 5:
        for (auto& row : result.rows) row.token = static_cast<int32_t>(input_.number());
        break;
      case 6:
        for (auto& row : result.rows) row.generation ^= 1;
        break;
      case 7:
        for (auto& row : result.rows) row.broken = true;
        for (auto& scores : result.scores) scores.broken = true;
        break;
      case 8:
        for (auto& scores : result.scores) scores.position += 1;
        break;
      case 9:
        for (auto& scores : result.scores) scores.tokens.emplace_back();
        break;
      default:
        break;
    }
  }

  void raw(Peer& peer) {
    const std::string_view frame = input_.bytes(input_.byte());
    if (const auto decoded = wire::decode<wire::ToWorker>(frame)) {
      const auto* step = std::get_if<wire::Step>(&decoded->message);
      if (step != nullptr) (void)make_table()->apply(*step);
    }
    if (const auto decoded = wire::decode<wire::ToCoordinator>(frame)) say(peer, decoded->message);
  }

  void submit_or_cancel() {
    if (input_.below(4) == 0 && !requests_.empty()) {
      return handle(CancelEvent{1 + input_.number() % (requests_.size() + 1)});
    }
    GenerationRequest request;
    const uint64_t prompt = 1 + input_.below(kContext);
    for (uint64_t i = 0; i < prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>((input_.byte() / 64) * (i + 1) % kVocab));
    }
    request.max_tokens = 1 + static_cast<uint32_t>(input_.below(kContext));
    request.ignore_eos = input_.below(2) == 0;
    request.score_prompt = input_.below(4) == 0;
    request.sampling.top_logprobs = request.score_prompt ? 0 : -1;
    const RequestId id = requests_.size() + 1;
    requests_[id] = {};
    handle(SubmitEvent{id, std::move(request)});
  }

  void pass_time() {
    const uint8_t how = input_.byte();
    const int64_t milliseconds = how < 200 ? how : (how - 199) * int64_t{1000};
    const int64_t ticks = how % 4 == 0 ? 1 : 1 + milliseconds / 50;  // one: it stood still
    for (int64_t i = 0; i < std::min<int64_t>(ticks, 64); ++i) {
      now_ += std::chrono::milliseconds(milliseconds / ticks);
      handle(TickEvent{});
    }
  }

  void break_something(Peer& peer) {
    switch (input_.below(5)) {
      case 0:
        return handle(DisconnectedEvent{id_of(peer)});
      case 1:
        return handle(PeerGoneEvent{id_of(peer), "it cannot be reached"});
      case 2:
        return handle(WorkerDiedEvent{peer.name, input_.below(2) == 0 ? 0 : 100, "died"});
      case 3:
        peer.unreachable = !peer.unreachable;
        return;
      default:  // another process: it knows nothing
        peer.plan.reset();
        peer.steps.clear();
        peer.table.reset();
        peer.unreachable = false;
    }
  }

  // As a link would: only what survives the codec and the validator arrives.
  void say(Peer& peer, const wire::ToCoordinator& message) {
    const auto decoded = wire::decode<wire::ToCoordinator>(
        wire::encode(message, {wire::kProtocolVersion, "fuzz", 1, 1, 0}));
    if (!decoded) return;
    handle(wire::Incoming{id_of(peer), decoded->message, peer.key});
  }

  void handle(Event event) {
    std::vector<Event> events;
    events.push_back(std::move(event));
    while (!events.empty()) {
      const Actions actions = core_.handle(events, now_);
      core_.check_invariants();
      events.clear();
      for (const Action& action : actions) perform(action, events);
    }
    (void)core_.admission();
    (void)core_.state(now_);
  }

  void perform(const Action& action, std::vector<Event>& follow_up) {
    if (const auto* send = std::get_if<SendAction>(&action)) {
      deliver(*send, follow_up);
    } else if (const auto* token = std::get_if<TokenAction>(&action)) {
      SHOAL_CHECK(!requests_.at(token->id).ended, "a token after the end");
    } else if (const auto* finish = std::get_if<FinishAction>(&action)) {
      SHOAL_CHECK(!std::exchange(requests_.at(finish->id).ended, true), "a request ended twice");
    }
  }

  void deliver(const SendAction& send, std::vector<Event>& follow_up) {
    const auto cleaned = wire::with_clean_text(send.message);
    const wire::ToWorker& message = cleaned ? *cleaned : send.message;
    const Status valid = wire::validate(message);
    SHOAL_CHECK(valid.is_ok(), "the coordinator sends " + valid.message());
    for (const wire::PeerId& id : send.peers) {
      const auto peer =
          std::find_if(peers_.begin(), peers_.end(), [&](const Peer& p) { return id_of(p) == id; });
      SHOAL_CHECK(peer != peers_.end(), "a message to nobody");
      if (peer->unreachable) {
        follow_up.push_back(PeerGoneEvent{id, "it cannot be reached"});
      } else {
        arrive(*peer, message);
      }
    }
  }

  static void arrive(Peer& peer, const wire::ToWorker& message) {
    if (const auto* plan = std::get_if<wire::Assign>(&message)) {
      if (peer.plan && plan->epoch <= peer.plan->epoch) return;
      peer.plan = *plan;
      peer.steps.clear();
      peer.table = make_table();
      peer.said_ready = false;
    } else if (const auto* step = std::get_if<wire::Step>(&message)) {
      if (peer.plan && step->epoch == peer.plan->epoch) peer.steps.push_back(*step);
    } else if (std::holds_alternative<wire::Abort>(message)) {
      peer.steps.clear();
    }
  }

  Input input_;
  CoreObserver observer_;
  Core core_;
  TimePoint now_{std::chrono::hours(1)};
  std::array<Peer, kPeers> peers_;
  std::map<RequestId, Request> requests_;
};

}  // namespace
}  // namespace shoal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  shoal::Harness(shoal::Input(data, size)).run();
  return 0;
}

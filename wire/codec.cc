#include "wire/codec.h"

#include <initializer_list>

#include <fmt/core.h>
#include <google/protobuf/arena.h>

#include "base/utf8.h"
#include "wire/frame_check.h"
#include "wire/shoal.pb.h"
#include "wire/validate.h"

namespace shoal::wire {
namespace {

constexpr uint32_t kWantsScores = 1, kDrawUnit = 2;  // Step.row_wants

// ------------------------------------------------------------------------------------- encoding

void put(const Hello& m, pb::Envelope& e) {
  auto& p = *e.mutable_hello();
  p.set_protocol_version(m.protocol_version);
  p.set_build(m.build);
  p.set_incarnation(m.incarnation);
  p.set_name(m.name);
  p.set_host_id(m.host_id);
  p.set_host_name(m.host_name);
  p.set_device_kind(m.device_kind);
  p.set_device(m.device);
  p.set_memory_bytes(m.memory_bytes);
  p.set_threads(m.threads);
  p.set_data_address(m.data_address);
  p.set_model_digest(m.model_digest);
  p.set_pid(m.pid);
  p.set_arithmetic(m.arithmetic);
  p.set_held_bytes(m.held_bytes);
  p.set_newest_epoch(m.newest_epoch);
  p.set_settings_id(m.settings_id);
}

void put(const LoadProgress& m, pb::Envelope& e) {
  auto& p = *e.mutable_load_progress();
  p.set_epoch(m.epoch);
  p.set_bytes_done(m.bytes_done);
  p.set_bytes_total(m.bytes_total);
}

void put(const Ready& m, pb::Envelope& e) {
  auto& p = *e.mutable_ready();
  p.set_epoch(m.epoch);
  p.set_weight_bytes(m.weight_bytes);
  p.set_kv_bytes(m.kv_bytes);
  p.set_scratch_bytes(m.scratch_bytes);
  p.set_load_seconds(m.load_seconds);
}

void put(const Failed& m, pb::Envelope& e) {
  auto& p = *e.mutable_failed();
  p.set_epoch(m.epoch);
  p.set_permanent(m.permanent);
  p.set_message(m.message);
  p.set_kind(static_cast<pb::FailureKind>(m.kind));
}

void put(const ModelChanged& m, pb::Envelope& e) { e.mutable_model_changed()->set_epoch(m.epoch); }

void put(const StepResult& m, pb::Envelope& e) {
  auto& p = *e.mutable_step_result();
  p.set_epoch(m.epoch);
  p.set_step(m.step);
  for (const RowResult& row : m.rows) {
    auto& r = *p.add_rows();
    r.set_slot(row.slot);
    r.set_generation(row.generation);
    r.set_token(row.token);
    r.set_logprob(row.logprob);
    r.set_broken(row.broken);
    for (const TokenLogprob& top : row.top) {
      r.add_top_id(top.id);
      r.add_top_logprob(top.logprob);
    }
  }
  for (const PromptScores& scores : m.scores) {
    auto& s = *p.add_scores();
    s.set_slot(scores.slot);
    s.set_generation(scores.generation);
    s.set_position(scores.position);
    s.set_broken(scores.broken);
    for (const ScoredToken& token : scores.tokens) {
      s.add_logprob(token.logprob);
      s.add_top_count(static_cast<uint32_t>(token.top.size()));
      for (const TokenLogprob& top : token.top) {
        s.add_top_id(top.id);
        s.add_top_logprob(top.logprob);
      }
    }
  }
  p.set_forward_seconds(m.stats.forward_seconds);
  p.set_collective_seconds(m.stats.collective_seconds);
  p.set_wait_seconds(m.stats.wait_seconds);
  p.set_sample_seconds(m.stats.sample_seconds);
  p.set_expert_seconds(m.stats.expert_seconds);
  p.set_weight_bytes(m.stats.weight_bytes);
}

void put(const WorkerHeartbeat& m, pb::Envelope& e) {
  auto& p = *e.mutable_worker_heartbeat();
  p.set_epoch(m.epoch);
  p.set_last_step(m.last_step);
  p.set_resident_bytes(m.resident_bytes);
  p.set_busy(m.busy);
}

void put(const ExpertLoad& m, pb::Envelope& e) {
  auto& p = *e.mutable_expert_load();
  p.set_epoch(m.epoch);
  p.set_experts(m.experts);
  p.mutable_tokens()->Add(m.tokens.begin(), m.tokens.end());
}

void put(const Goodbye& m, pb::Envelope& e) { e.mutable_goodbye()->set_reason(m.reason); }

void put(const Assign& m, pb::Envelope& e) {
  auto& p = *e.mutable_assign();
  p.set_epoch(m.epoch);
  p.set_rank(m.rank);
  p.set_world(m.world);
  p.mutable_shares()->Add(m.shares.begin(), m.shares.end());
  p.set_model_path(m.model_path);
  p.set_model_digest(m.model_digest);
  p.set_model_full_digest(m.model_full_digest);
  p.set_kv(static_cast<pb::KvPrecision>(m.kv));
  p.mutable_kv_blocks()->Add(m.kv_blocks.begin(), m.kv_blocks.end());
  p.mutable_expert_shares()->Add(m.experts.shares.begin(), m.experts.shares.end());
  p.mutable_expert_ranks()->Add(m.experts.ranks.begin(), m.experts.ranks.end());
  p.set_routing_rank(m.routing_rank);
  p.set_block_tokens(m.block_tokens);
  p.set_max_rows(m.max_rows);
  p.set_max_slots(m.max_slots);
  p.set_max_sequence_tokens(m.max_sequence_tokens);
  p.set_engine(static_cast<pb::CollectiveEngine>(m.engine));
  p.set_segment(m.segment);
  p.set_int8_activations(m.int8_activations);
  p.set_step_timeout_seconds(m.step_timeout_seconds);
  p.set_form_timeout_seconds(m.form_timeout_seconds);
}

void put(const SamplingParams& m, pb::SamplingParams& p) {
  p.set_temperature(m.temperature);
  p.set_top_p(m.top_p);
  p.set_min_p(m.min_p);
  p.set_top_k(m.top_k);
  p.set_presence(m.presence);
  p.set_frequency(m.frequency);
  p.set_repetition(m.repetition);
  p.set_top_logprobs(m.top_logprobs);
  for (const auto& [id, bias] : m.logit_bias) {
    p.add_bias_id(id);
    p.add_bias(bias);
  }
}

void put(const Step& m, pb::Envelope& e) {
  auto& p = *e.mutable_step();
  p.set_epoch(m.epoch);
  p.set_step(m.step);
  p.mutable_ended()->Add(m.ended.begin(), m.ended.end());
  for (const NewSequence& started : m.started) {
    auto& s = *p.add_started();
    s.set_slot(started.slot);
    s.set_generation(started.generation);
    s.mutable_tokens()->Add(started.tokens.begin(), started.tokens.end());
    s.set_prompt_tokens(started.prompt_tokens);
    s.set_seed(started.seed);
    s.set_choice(started.choice);
    put(started.sampling, *s.mutable_sampling());
  }
  for (const BlockAppend& append : m.appended) {
    auto& a = *p.add_appended();
    a.set_slot(append.slot);
    a.set_group(append.group);
    a.mutable_blocks()->Add(append.blocks.begin(), append.blocks.end());
  }
  for (const RowGroup& row : m.rows) {
    p.add_row_slot(row.slot);
    p.add_row_position(row.position);
    p.add_row_count(row.count);
    p.add_row_wants(kDrawUnit * row.draw + (row.score ? kWantsScores : 0));
  }
}

void put(const CoordinatorHeartbeat& m, pb::Envelope& e) {
  e.mutable_coordinator_heartbeat()->set_epoch(m.epoch);
}

void put(const Abort& m, pb::Envelope& e) {
  e.mutable_abort()->set_epoch(m.epoch);
  e.mutable_abort()->set_reason(m.reason);
}

void put(const Settings& m, pb::Envelope& e) {
  auto& p = *e.mutable_settings();
  p.set_threads(m.threads);
  p.mutable_cores()->Add(m.cores.begin(), m.cores.end());
  p.set_device(m.device);
}

void put(const Refused& m, pb::Envelope& e) { e.mutable_refused()->set_reason(m.reason); }
void put(const Shutdown& m, pb::Envelope& e) { e.mutable_shutdown()->set_reason(m.reason); }

void put(const StoreSet& m, pb::Envelope& e) {
  auto& p = *e.mutable_store_set();
  p.set_epoch(m.epoch);
  p.set_key(m.key);
  p.set_value(m.value);
}

void put(const StoreGet& m, pb::Envelope& e) {
  e.mutable_store_get()->set_epoch(m.epoch);
  e.mutable_store_get()->set_key(m.key);
}

// ------------------------------------------------------------------------------------- decoding

// Enums are open on the wire; anything a uint8_t cannot hold must not wrap into a known value.
template <class E>
E narrow(int value) {
  return static_cast<E>(static_cast<uint8_t>(value < 0 || value > 255 ? 255 : value));
}

Status columns(std::string_view list, std::initializer_list<int> sizes) {
  for (const int size : sizes) {
    if (size == *sizes.begin()) continue;
    return invalid_argument(
        fmt::format("{}: columns of {} and {} entries; must be equal", list, *sizes.begin(), size));
  }
  return Status::ok();
}

Settings get(const pb::Settings& p) {
  return {p.threads(), {p.cores().begin(), p.cores().end()}, p.device()};
}

Hello get(const pb::Hello& p) {
  Hello m;
  m.protocol_version = p.protocol_version();
  m.build = p.build();
  m.incarnation = p.incarnation();
  m.name = p.name();
  m.host_id = p.host_id();
  m.host_name = p.host_name();
  m.device_kind = p.device_kind();
  m.device = p.device();
  m.memory_bytes = p.memory_bytes();
  m.threads = p.threads();
  m.data_address = p.data_address();
  m.model_digest = p.model_digest();
  m.pid = p.pid();
  m.arithmetic = p.arithmetic();
  m.held_bytes = p.held_bytes();
  m.newest_epoch = p.newest_epoch();
  m.settings_id = p.settings_id();
  return m;
}

Status get(const pb::PromptScores& p, int i, PromptScores* m) {
  *m = {p.slot(), p.generation(), p.position(), {}, p.broken()};
  const std::string name = fmt::format("StepResult.scores[{}]", i);
  SHOAL_TRY(columns(name, {p.logprob_size(), p.top_count_size()}));
  SHOAL_TRY(columns(name + ".top", {p.top_id_size(), p.top_logprob_size()}));
  m->tokens.reserve(static_cast<size_t>(p.logprob_size()));
  int at = 0;
  for (int t = 0; t < p.logprob_size(); ++t) {
    ScoredToken& token = m->tokens.emplace_back(ScoredToken{p.logprob(t), {}});
    if (p.top_count(t) > static_cast<uint32_t>(p.top_id_size() - at)) {
      return invalid_argument(fmt::format("{}.top_count[{}]: more than there are", name, t));
    }
    for (const int end = at + static_cast<int>(p.top_count(t)); at < end; ++at) {
      token.top.push_back({p.top_id(at), p.top_logprob(at)});
    }
  }
  if (at != p.top_id_size()) {
    return invalid_argument(
        fmt::format("{}.top: {} entries belong to no token", name, p.top_id_size() - at));
  }
  return Status::ok();
}

Result<StepResult> get(const pb::StepResult& p) {
  StepResult m;
  m.epoch = p.epoch();
  m.step = p.step();
  m.rows.reserve(static_cast<size_t>(p.rows_size()));
  for (int i = 0; i < p.rows_size(); ++i) {
    const auto& r = p.rows(i);
    SHOAL_TRY(columns(fmt::format("StepResult.rows[{}].top", i),
                      {r.top_id_size(), r.top_logprob_size()}));
    RowResult& row = m.rows.emplace_back(
        RowResult{r.slot(), r.generation(), r.token(), r.logprob(), {}, r.broken()});
    for (int j = 0; j < r.top_id_size(); ++j) row.top.push_back({r.top_id(j), r.top_logprob(j)});
  }
  m.scores.resize(static_cast<size_t>(p.scores_size()));
  for (int i = 0; i < p.scores_size(); ++i) {
    SHOAL_TRY(get(p.scores(i), i, &m.scores[static_cast<size_t>(i)]));
  }
  m.stats = {p.forward_seconds(), p.collective_seconds(), p.wait_seconds(),
             p.sample_seconds(),  p.expert_seconds(),     p.weight_bytes()};
  return m;
}

Assign get(const pb::Assign& p) {
  Assign m;
  m.epoch = p.epoch();
  m.rank = p.rank();
  m.world = p.world();
  m.shares.assign(p.shares().begin(), p.shares().end());
  m.model_path = p.model_path();
  m.model_digest = p.model_digest();
  m.model_full_digest = p.model_full_digest();
  m.kv = narrow<KvPrecision>(p.kv());
  m.kv_blocks.assign(p.kv_blocks().begin(), p.kv_blocks().end());
  m.experts.shares.assign(p.expert_shares().begin(), p.expert_shares().end());
  m.experts.ranks.assign(p.expert_ranks().begin(), p.expert_ranks().end());
  m.routing_rank = p.routing_rank();
  m.block_tokens = p.block_tokens();
  m.max_rows = p.max_rows();
  m.max_slots = p.max_slots();
  m.max_sequence_tokens = p.max_sequence_tokens();
  m.engine = narrow<CollectiveEngine>(p.engine());
  m.segment = p.segment();
  m.int8_activations = p.int8_activations();
  m.step_timeout_seconds = p.step_timeout_seconds();
  m.form_timeout_seconds = p.form_timeout_seconds();
  return m;
}

SamplingParams get(const pb::SamplingParams& p) {
  SamplingParams m;
  m.temperature = p.temperature();
  m.top_p = p.top_p();
  m.min_p = p.min_p();
  m.top_k = p.top_k();
  m.presence = p.presence();
  m.frequency = p.frequency();
  m.repetition = p.repetition();
  m.top_logprobs = p.top_logprobs();
  m.logit_bias.reserve(static_cast<size_t>(p.bias_size()));
  for (int i = 0; i < p.bias_size(); ++i) m.logit_bias.emplace_back(p.bias_id(i), p.bias(i));
  return m;
}

Result<Step> get(const pb::Step& p) {
  Step m;
  m.epoch = p.epoch();
  m.step = p.step();
  m.ended.assign(p.ended().begin(), p.ended().end());
  m.started.reserve(static_cast<size_t>(p.started_size()));
  for (int i = 0; i < p.started_size(); ++i) {
    const auto& s = p.started(i);
    SHOAL_TRY(columns(fmt::format("Step.started[{}].sampling.logit_bias", i),
                      {s.sampling().bias_id_size(), s.sampling().bias_size()}));
    NewSequence& started = m.started.emplace_back();
    started.slot = s.slot();
    started.generation = s.generation();
    started.tokens.assign(s.tokens().begin(), s.tokens().end());
    started.prompt_tokens = s.prompt_tokens();
    started.seed = s.seed();
    started.choice = s.choice();
    started.sampling = get(s.sampling());
  }
  m.appended.reserve(static_cast<size_t>(p.appended_size()));
  for (const auto& a : p.appended()) {
    m.appended.push_back({a.slot(), a.group(), {a.blocks().begin(), a.blocks().end()}});
  }
  SHOAL_TRY(columns("Step.rows", {p.row_slot_size(), p.row_position_size(), p.row_count_size(),
                                  p.row_wants_size()}));
  m.rows.reserve(static_cast<size_t>(p.row_slot_size()));
  for (int i = 0; i < p.row_slot_size(); ++i) {
    const uint32_t wants = p.row_wants(i);
    m.rows.push_back({p.row_slot(i), p.row_position(i), p.row_count(i), wants / kDrawUnit,
                      wants % kDrawUnit == kWantsScores});
  }
  return m;
}

template <class M, class T>
constexpr bool kCarries = false;
template <class... Ts, class T>
constexpr bool kCarries<std::variant<Ts...>, T> = (std::is_same_v<Ts, T> || ...);

// The message as one of those that M may be.
template <class M, class T>
Result<M> as(T message) {
  if constexpr (kCarries<M, T>) {
    return M(std::move(message));
  } else {
    using Other = std::conditional_t<std::is_same_v<M, ToWorker>, ToCoordinator, ToWorker>;
    return invalid_argument(fmt::format("{}: not a message a {} sends",
                                        message_name(Other(std::move(message))),
                                        std::is_same_v<M, ToWorker> ? "coordinator" : "worker"));
  }
}

template <class M, class T>
Result<M> as(Result<T> message) {
  if (!message) return message.status();
  return as<M>(std::move(message).value());
}

template <class M>
Result<M> get_body(const pb::Envelope& e) {
  switch (e.body_case()) {
    case pb::Envelope::kHello:
      return as<M>(get(e.hello()));
    case pb::Envelope::kLoadProgress: {
      const auto& p = e.load_progress();
      return as<M>(LoadProgress{p.epoch(), p.bytes_done(), p.bytes_total()});
    }
    case pb::Envelope::kReady: {
      const auto& p = e.ready();
      return as<M>(
          Ready{p.epoch(), p.weight_bytes(), p.kv_bytes(), p.scratch_bytes(), p.load_seconds()});
    }
    case pb::Envelope::kFailed: {
      const auto& p = e.failed();
      return as<M>(Failed{p.epoch(), p.permanent(), p.message(), narrow<FailureKind>(p.kind())});
    }
    case pb::Envelope::kModelChanged:
      return as<M>(ModelChanged{e.model_changed().epoch()});
    case pb::Envelope::kStepResult:
      return as<M>(get(e.step_result()));
    case pb::Envelope::kWorkerHeartbeat: {
      const auto& p = e.worker_heartbeat();
      return as<M>(WorkerHeartbeat{p.epoch(), p.last_step(), p.resident_bytes(), p.busy()});
    }
    case pb::Envelope::kExpertLoad: {
      const auto& p = e.expert_load();
      return as<M>(ExpertLoad{p.epoch(), p.experts(), {p.tokens().begin(), p.tokens().end()}});
    }
    case pb::Envelope::kGoodbye:
      return as<M>(Goodbye{e.goodbye().reason()});
    case pb::Envelope::kAssign:
      return as<M>(get(e.assign()));
    case pb::Envelope::kStep:
      return as<M>(get(e.step()));
    case pb::Envelope::kCoordinatorHeartbeat:
      return as<M>(CoordinatorHeartbeat{e.coordinator_heartbeat().epoch()});
    case pb::Envelope::kAbort:
      return as<M>(Abort{e.abort().epoch(), e.abort().reason()});
    case pb::Envelope::kRefused:
      return as<M>(Refused{e.refused().reason()});
    case pb::Envelope::kShutdown:
      return as<M>(Shutdown{e.shutdown().reason()});
    case pb::Envelope::kSettings:
      return as<M>(get(e.settings()));
    case pb::Envelope::kStoreSet: {
      const auto& p = e.store_set();
      return as<M>(StoreSet{p.epoch(), p.key(), p.value()});
    }
    case pb::Envelope::kStoreGet:
      return as<M>(StoreGet{e.store_get().epoch(), e.store_get().key()});
    case pb::Envelope::BODY_NOT_SET:
      break;
  }
  return data_loss("a frame without a known message");
}

Status check_envelope(const pb::Envelope& e) {
  const auto body = e.body_case();
  const bool for_ever = body == pb::Envelope::kHello || body == pb::Envelope::kRefused;
  if (e.protocol_version() != kProtocolVersion && !for_ever) {
    return unsupported(fmt::format("Envelope.protocol_version: {}; this build speaks {}",
                                   e.protocol_version(), kProtocolVersion));
  }
  if (e.cluster().empty() || e.cluster().size() > kMaxClusterId || !is_valid_utf8(e.cluster())) {
    return invalid_argument(
        fmt::format("Envelope.cluster: must be 1 … {} bytes of UTF-8", kMaxClusterId));
  }
  if (e.incarnation() == 0) {
    return invalid_argument("Envelope.incarnation: 0; must be a random number");
  }
  if (e.sequence() == 0) return invalid_argument("Envelope.sequence: 0; must be at least 1");
  return Status::ok();
}

template <class M>
std::string body_of(const M& message) {
  google::protobuf::Arena arena;
  auto& e = *google::protobuf::Arena::CreateMessage<pb::Envelope>(&arena);
  std::visit([&e](const auto& m) { put(m, e); }, message);
  return e.SerializeAsString();
}

}  // namespace

std::string encode_body(const ToWorker& message) { return body_of(message); }
std::string encode_body(const ToCoordinator& message) { return body_of(message); }

// A message's bytes are its fields' one after the other: the envelope's and its body's.
std::string encode_frame(const EnvelopeInfo& envelope, std::string_view body) {
  pb::Envelope e;
  e.set_protocol_version(envelope.protocol_version);
  e.set_cluster(envelope.cluster);
  e.set_incarnation(envelope.incarnation);
  e.set_sequence(envelope.sequence);
  e.set_acknowledged(envelope.acknowledged);
  std::string frame;
  frame.reserve(e.ByteSizeLong() + body.size());
  e.AppendToString(&frame);
  frame.append(body);
  return frame;
}

template <class M>
Result<Decoded<M>> decode(std::string_view frame) {
  if (frame.size() > kMaxMessageBytes) {
    return data_loss(
        fmt::format("a frame of {} bytes; at most {}", frame.size(), kMaxMessageBytes));
  }
  SHOAL_TRY(check_nested_count(frame));
  google::protobuf::Arena arena;
  auto& e = *google::protobuf::Arena::CreateMessage<pb::Envelope>(&arena);
  if (!e.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
    return data_loss("a malformed frame");
  }
  SHOAL_TRY(check_envelope(e));
  SHOAL_ASSIGN(M message, get_body<M>(e));
  SHOAL_TRY(validate(message));
  return Decoded<M>{
      {e.protocol_version(), e.cluster(), e.incarnation(), e.sequence(), e.acknowledged()},
      std::move(message)};
}

template Result<Decoded<ToWorker>> decode(std::string_view frame);
template Result<Decoded<ToCoordinator>> decode(std::string_view frame);

}  // namespace shoal::wire

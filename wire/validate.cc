#include "wire/validate.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <concepts>
#include <string>

#include <fmt/core.h>

#include "base/host.h"
#include "base/quote.h"
#include "base/utf8.h"

namespace shoal::wire {
namespace {

constexpr double kMaxSeconds = 86400.0 * 365;  // a finite bound; nothing real comes near it
constexpr float kMaxTemperature = 100.0f;
constexpr float kMaxPenalty = 100.0f;
constexpr float kMaxBias = 1e6f;
constexpr uint32_t kMaxBlockTokens = 4096;
constexpr uint32_t kMaxKvBlocks = 1u << 30;
constexpr uint32_t kMaxThreads = 1u << 16;
constexpr uint32_t kMaxChoices = 1u << 16;
constexpr double kMaxShare = 1e9;

// Which field, spelled out only when it is wrong: "Step.started[2].sampling.logit_bias[0].bias".
struct Field {
  const char* name;
  int64_t index = -1;
  const char* leaf = "";
  int64_t leaf_index = -1;
  const char* leaf_of_leaf = "";

  std::string spell() const {
    std::string path = name;
    if (index >= 0) path += fmt::format("[{}]", index);
    if (*leaf) path += fmt::format(".{}", leaf);
    if (leaf_index >= 0) path += fmt::format("[{}]", leaf_index);
    if (*leaf_of_leaf) path += fmt::format(".{}", leaf_of_leaf);
    return path;
  }
};

Status bad(const Field& field, std::string_view what) {
  return invalid_argument(fmt::format("{}: {}", field.spell(), what));
}

// low ≤ value ≤ high; NaN and infinities fail for floating types because every bound is finite.
template <class T>
Status within(const Field& field, T value, std::type_identity_t<T> low,
              std::type_identity_t<T> high) {
  if (value >= low && value <= high) return Status::ok();
  if constexpr (std::floating_point<T>) {
    if (!std::isfinite(value)) return bad(field, fmt::format("{}; must be finite", value));
  }
  if (value < low) return bad(field, fmt::format("{}; must be at least {}", value, low));
  return bad(field, fmt::format("{}; must be at most {}", value, high));
}

Status positive(const Field& field, double value, double high) {
  if (value == 0) return bad(field, "0; must be above 0");
  return within(field, value, 0.0, high);
}

Status text(const Field& field, const std::string& value, size_t min_bytes = 0,
            size_t max_bytes = kMaxString) {
  if (value.size() < min_bytes) return bad(field, "is empty");
  if (value.size() > max_bytes) {
    return bad(field, fmt::format("{} bytes; must be at most {}", value.size(), max_bytes));
  }
  if (!is_valid_utf8(value)) return bad(field, "is not valid UTF-8");
  if (value.find('\0') != std::string::npos) return bad(field, "contains a NUL byte");
  return Status::ok();
}

Status size_within(const Field& field, size_t size, size_t low, size_t high) {
  if (size < low) return bad(field, fmt::format("{} entries; must be at least {}", size, low));
  if (size > high) return bad(field, fmt::format("{} entries; must be at most {}", size, high));
  return Status::ok();
}

// Slots below kMaxSlots, each at most once in a list.
class SlotSet {
 public:
  Status add(const Field& field, uint32_t slot) {
    SHOAL_TRY(within(field, slot, 0, kMaxSlots - 1));
    if (seen_[slot]) return bad(field, fmt::format("slot {} appears twice", slot));
    seen_[slot] = true;
    return Status::ok();
  }

 private:
  std::bitset<kMaxSlots> seen_;
};

// What a worker says of itself: shown in logs and answers, so a line of moderate length.
Status label(const Field& field, const std::string& value, size_t min_bytes = 0) {
  SHOAL_TRY(text(field, value, min_bytes, kMaxLabel));
  if (excerpt(value, kMaxLabel) != value) return bad(field, "contains a control character");
  return Status::ok();
}

Status check(const Hello& m) {
  // protocol_version may be any: the coordinator refuses others with a reason.
  SHOAL_TRY(label({"Hello.build"}, m.build));
  if (m.incarnation == 0) return bad({"Hello.incarnation"}, "0; must be a random number");
  SHOAL_TRY(label({"Hello.name"}, m.name, 1));
  SHOAL_TRY(label({"Hello.host_id"}, m.host_id));
  SHOAL_TRY(label({"Hello.host_name"}, m.host_name));
  SHOAL_TRY(label({"Hello.device_kind"}, m.device_kind, 1));
  SHOAL_TRY(label({"Hello.device"}, m.device));
  SHOAL_TRY(label({"Hello.arithmetic"}, m.arithmetic));
  SHOAL_TRY(within({"Hello.threads"}, m.threads, 0, kMaxThreads));
  SHOAL_TRY(label({"Hello.data_address"}, m.data_address));
  if (!m.data_address.empty() && !parse_host(m.data_address)) {
    return bad({"Hello.data_address"}, "is not an address");
  }
  SHOAL_TRY(label({"Hello.model_digest"}, m.model_digest));
  return within({"Hello.pid"}, m.pid, 0, int64_t{1} << 32);
}

Status check(const LoadProgress& m) {
  SHOAL_TRY(within({"LoadProgress.epoch"}, m.epoch, 1, UINT64_MAX));
  // 0 of 0 before the total is known; then never more than all.
  if (m.bytes_total != 0) {
    SHOAL_TRY(within({"LoadProgress.bytes_done"}, m.bytes_done, 0, m.bytes_total));
  }
  return Status::ok();
}

Status check(const Ready& m) {
  SHOAL_TRY(within({"Ready.epoch"}, m.epoch, 1, UINT64_MAX));
  return within({"Ready.load_seconds"}, m.load_seconds, 0, kMaxSeconds);
}

Status check(const Failed& m) {
  SHOAL_TRY(
      within({"Failed.kind"}, static_cast<int>(m.kind), 0, static_cast<int>(FailureKind::kMemory)));
  return text({"Failed.message"}, m.message);
}

Status check(const ModelChanged& m) {
  return within({"ModelChanged.epoch"}, m.epoch, 1, UINT64_MAX);
}

// Of the token `i` of `list`. A log-probability is at most 0; rounding of the sum of exponentials
// may exceed it slightly.
Status check_logprobs(const char* list, int64_t i, float logprob,
                      const std::vector<TokenLogprob>& top) {
  SHOAL_TRY(within({list, i, "logprob"}, logprob, -1e30f, 1.0f));
  SHOAL_TRY(size_within({list, i, "top"}, top.size(), 0, kMaxTopLogprobs));
  for (size_t j = 0; j < top.size(); ++j) {
    const auto at = static_cast<int64_t>(j);
    SHOAL_TRY(within({list, i, "top", at, "id"}, top[j].id, 0, INT32_MAX));
    SHOAL_TRY(within({list, i, "top", at, "logprob"}, top[j].logprob, -1e30f, 1.0f));
    if (j > 0 && top[j].logprob > top[j - 1].logprob) {
      return bad({list, i, "top", at, "logprob"}, "must not exceed the one before it");
    }
  }
  return Status::ok();
}

Status check_scores(const std::vector<PromptScores>& scores) {
  SHOAL_TRY(size_within({"StepResult.scores"}, scores.size(), 0, kMaxSlots));
  SlotSet slots;
  uint64_t total = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const PromptScores& s = scores[i];
    const auto at = static_cast<int64_t>(i);
    SHOAL_TRY(slots.add({"StepResult.scores", at, "slot"}, s.slot));
    SHOAL_TRY(within({"StepResult.scores", at, "position"}, s.position, 1, kMaxSequenceTokens - 1));
    SHOAL_TRY(size_within({"StepResult.scores", at, "tokens"}, s.tokens.size(), 1,
                          kMaxRowsPerStep - total));
    total += s.tokens.size();
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      SHOAL_TRY(check_logprobs("StepResult.scores.tokens", static_cast<int64_t>(t),
                               s.tokens[t].logprob, s.tokens[t].top));
    }
  }
  return Status::ok();
}

Status check(const StepResult& m) {
  SHOAL_TRY(within({"StepResult.epoch"}, m.epoch, 1, UINT64_MAX));
  SHOAL_TRY(within({"StepResult.step"}, m.step, 1, UINT64_MAX));
  SHOAL_TRY(size_within({"StepResult.rows"}, m.rows.size(), 0, kMaxRowsPerStep));
  SlotSet slots;
  size_t span = 0;
  for (size_t i = 0; i < m.rows.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (i > 0 && m.rows[i].slot == m.rows[i - 1].slot) {
      SHOAL_TRY(within({"StepResult.rows", at, "tokens of the slot"}, ++span, 1, kMaxDraw));
    } else {
      SHOAL_TRY(slots.add({"StepResult.rows", at, "slot"}, m.rows[i].slot));
      span = 1;
    }
    SHOAL_TRY(within({"StepResult.rows", at, "token"}, m.rows[i].token, 0, INT32_MAX));
    SHOAL_TRY(check_logprobs("StepResult.rows", at, m.rows[i].logprob, m.rows[i].top));
  }
  SHOAL_TRY(check_scores(m.scores));
  const StepStats& s = m.stats;
  SHOAL_TRY(within({"StepResult.stats.forward_seconds"}, s.forward_seconds, 0, kMaxSeconds));
  SHOAL_TRY(within({"StepResult.stats.collective_seconds"}, s.collective_seconds, 0, kMaxSeconds));
  SHOAL_TRY(within({"StepResult.stats.wait_seconds"}, s.wait_seconds, 0, kMaxSeconds));
  SHOAL_TRY(within({"StepResult.stats.sample_seconds"}, s.sample_seconds, 0, kMaxSeconds));
  return within({"StepResult.stats.expert_seconds"}, s.expert_seconds, 0, kMaxSeconds);
}

Status check(const ExpertLoad& m) {
  SHOAL_TRY(within({"ExpertLoad.epoch"}, m.epoch, 1, UINT64_MAX));
  SHOAL_TRY(within({"ExpertLoad.experts"}, m.experts, 1, kMaxExpertEntries));
  SHOAL_TRY(size_within({"ExpertLoad.tokens"}, m.tokens.size(), m.experts, kMaxExpertEntries));
  if (m.tokens.size() % m.experts != 0) {
    return bad({"ExpertLoad.tokens"}, fmt::format("{} entries; must be a multiple of experts = {}",
                                                  m.tokens.size(), m.experts));
  }
  return Status::ok();
}

Status check(const WorkerHeartbeat&) { return Status::ok(); }  // counters: any value
Status check(const Goodbye& m) { return text({"Goodbye.reason"}, m.reason); }

// A rank may hold nothing, not all of them.
Status check_shares(const char* field, const std::vector<double>& shares) {
  double total = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    SHOAL_TRY(within({field, static_cast<int64_t>(i)}, shares[i], 0, kMaxShare));
    total += shares[i];
  }
  if (!(total > 0)) return bad({field}, "all are 0; some rank must hold the model");
  return Status::ok();
}

Status check_experts(const Assign& m) {
  if (!m.experts.shares.empty()) {
    if (m.experts.shares.size() != m.world) {
      return bad({"Assign.experts.shares"}, fmt::format("{} entries; must be world = {} or none",
                                                        m.experts.shares.size(), m.world));
    }
    SHOAL_TRY(check_shares("Assign.experts.shares", m.experts.shares));
  }
  SHOAL_TRY(size_within({"Assign.experts.ranks"}, m.experts.ranks.size(), 0, kMaxExpertEntries));
  const uint64_t all = m.world >= 64 ? UINT64_MAX : (uint64_t{1} << m.world) - 1;
  for (size_t i = 0; i < m.experts.ranks.size(); ++i) {
    const uint64_t ranks = m.experts.ranks[i];
    if (ranks != 0 && (ranks & ~all) == 0) continue;
    return bad({"Assign.experts.ranks", static_cast<int64_t>(i)},
               fmt::format("{:#x}; must name ranks below world = {}", ranks, m.world));
  }
  return within({"Assign.routing_rank"}, m.routing_rank, -1, static_cast<int32_t>(m.world) - 1);
}

Status check(const Assign& m) {
  SHOAL_TRY(within({"Assign.epoch"}, m.epoch, 1, UINT64_MAX));
  SHOAL_TRY(within({"Assign.world"}, m.world, 1, kMaxWorld));
  if (m.rank >= m.world) {
    return bad({"Assign.rank"}, fmt::format("{}; must be below world = {}", m.rank, m.world));
  }
  if (m.shares.size() != m.world) {
    return bad({"Assign.shares"},
               fmt::format("{} entries; must be world = {}", m.shares.size(), m.world));
  }
  SHOAL_TRY(check_shares("Assign.shares", m.shares));
  SHOAL_TRY(check_experts(m));
  SHOAL_TRY(text({"Assign.model_path"}, m.model_path, 1));
  SHOAL_TRY(text({"Assign.model_digest"}, m.model_digest));
  SHOAL_TRY(text({"Assign.model_full_digest"}, m.model_full_digest));
  SHOAL_TRY(within<unsigned>({"Assign.kv"}, static_cast<unsigned>(m.kv), 0, 1));
  SHOAL_TRY(size_within({"Assign.kv_blocks"}, m.kv_blocks.size(), 1, kMaxKvGroups));
  for (size_t i = 0; i < m.kv_blocks.size(); ++i) {
    SHOAL_TRY(
        within({"Assign.kv_blocks", static_cast<int64_t>(i)}, m.kv_blocks[i], 1, kMaxKvBlocks));
  }
  SHOAL_TRY(within({"Assign.block_tokens"}, m.block_tokens, 1, kMaxBlockTokens));
  SHOAL_TRY(within({"Assign.max_rows"}, m.max_rows, 1, kMaxRowsPerStep));
  SHOAL_TRY(within({"Assign.max_slots"}, m.max_slots, 1, kMaxSlots));
  SHOAL_TRY(within({"Assign.max_sequence_tokens"}, m.max_sequence_tokens, 1, kMaxSequenceTokens));
  SHOAL_TRY(within<unsigned>({"Assign.engine"}, static_cast<unsigned>(m.engine), 0, 2));
  if (m.world > 1 && m.engine == CollectiveEngine::kNone) {
    return bad({"Assign.engine"}, fmt::format("none; {} ranks need one", m.world));
  }
  SHOAL_TRY(text({"Assign.segment"}, m.segment,
                 m.world > 1 && m.engine == CollectiveEngine::kShm ? 1 : 0));
  SHOAL_TRY(positive({"Assign.step_timeout_seconds"}, m.step_timeout_seconds, kMaxSeconds));
  return positive({"Assign.form_timeout_seconds"}, m.form_timeout_seconds, kMaxSeconds);
}

Status check_sampling(const SamplingParams& p, int64_t i) {
  constexpr const char* kStarted = "Step.started";
  SHOAL_TRY(within({kStarted, i, "sampling.temperature"}, p.temperature, 0, kMaxTemperature));
  SHOAL_TRY(within({kStarted, i, "sampling.top_p"}, p.top_p, 0, 1));
  SHOAL_TRY(within({kStarted, i, "sampling.min_p"}, p.min_p, 0, 1));
  SHOAL_TRY(within({kStarted, i, "sampling.top_k"}, p.top_k, 0, INT32_MAX));
  SHOAL_TRY(within({kStarted, i, "sampling.presence"}, p.presence, -kMaxPenalty, kMaxPenalty));
  SHOAL_TRY(within({kStarted, i, "sampling.frequency"}, p.frequency, -kMaxPenalty, kMaxPenalty));
  SHOAL_TRY(positive({kStarted, i, "sampling.repetition"}, p.repetition, kMaxPenalty));
  SHOAL_TRY(within({kStarted, i, "sampling.top_logprobs"}, p.top_logprobs, -1,
                   static_cast<int32_t>(kMaxTopLogprobs)));
  SHOAL_TRY(
      size_within({kStarted, i, "sampling.logit_bias"}, p.logit_bias.size(), 0, kMaxLogitBias));
  for (size_t j = 0; j < p.logit_bias.size(); ++j) {
    const auto at = static_cast<int64_t>(j);
    const auto& [id, bias] = p.logit_bias[j];
    SHOAL_TRY(within({kStarted, i, "sampling.logit_bias", at, "id"}, id, 0, INT32_MAX));
    SHOAL_TRY(within({kStarted, i, "sampling.logit_bias", at, "bias"}, bias, -kMaxBias, kMaxBias));
  }
  return Status::ok();
}

Status check_started(const NewSequence& s, int64_t i) {
  SHOAL_TRY(size_within({"Step.started", i, "tokens"}, s.tokens.size(), 1, kMaxSequenceTokens));
  for (size_t j = 0; j < s.tokens.size(); ++j) {
    if (s.tokens[j] < 0) {
      return bad({"Step.started", i, "tokens", static_cast<int64_t>(j)},
                 fmt::format("{}; must be at least 0", s.tokens[j]));
    }
  }
  SHOAL_TRY(within({"Step.started", i, "prompt_tokens"}, s.prompt_tokens, 1,
                   static_cast<uint32_t>(s.tokens.size())));
  SHOAL_TRY(within({"Step.started", i, "choice"}, s.choice, 0, kMaxChoices));
  return check_sampling(s.sampling, i);
}

Status check_rows(const std::vector<RowGroup>& rows) {
  SHOAL_TRY(size_within({"Step.rows"}, rows.size(), 0, kMaxSlots));
  SlotSet slots;
  uint64_t total = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const RowGroup& row = rows[i];
    const auto at = static_cast<int64_t>(i);
    SHOAL_TRY(slots.add({"Step.rows", at, "slot"}, row.slot));
    SHOAL_TRY(within({"Step.rows", at, "position"}, row.position, 0, kMaxSequenceTokens - 1));
    SHOAL_TRY(within({"Step.rows", at, "count"}, row.count, 1, kMaxRowsPerStep));
    SHOAL_TRY(within({"Step.rows", at, "draw"}, row.draw, 0, kMaxDraw));
    if (uint64_t{row.position} + row.count > kMaxSequenceTokens) {
      return bad({"Step.rows", at},
                 fmt::format("ends at token {}; must be at most {}",
                             uint64_t{row.position} + row.count, kMaxSequenceTokens));
    }
    total += row.count;
  }
  if (total > kMaxRowsPerStep) {
    return bad({"Step.rows"},
               fmt::format("{} tokens in all; must be at most {}", total, kMaxRowsPerStep));
  }
  return Status::ok();
}

Status check(const Step& m) {
  SHOAL_TRY(within({"Step.epoch"}, m.epoch, 1, UINT64_MAX));
  SHOAL_TRY(within({"Step.step"}, m.step, 1, UINT64_MAX));
  SHOAL_TRY(size_within({"Step.ended"}, m.ended.size(), 0, kMaxSlots));
  SlotSet ended;
  for (size_t i = 0; i < m.ended.size(); ++i) {
    SHOAL_TRY(ended.add({"Step.ended", static_cast<int64_t>(i)}, m.ended[i]));
  }
  SHOAL_TRY(size_within({"Step.started"}, m.started.size(), 0, kMaxSlots));
  SlotSet started;
  for (size_t i = 0; i < m.started.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    SHOAL_TRY(started.add({"Step.started", at, "slot"}, m.started[i].slot));
    SHOAL_TRY(check_started(m.started[i], at));
  }
  SHOAL_TRY(size_within({"Step.appended"}, m.appended.size(), 0, kMaxSlots * kMaxKvGroups));
  SlotSet appended[kMaxKvGroups];
  for (size_t i = 0; i < m.appended.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    const BlockAppend& append = m.appended[i];
    SHOAL_TRY(within({"Step.appended", at, "group"}, append.group, 0, kMaxKvGroups - 1));
    SHOAL_TRY(appended[append.group].add({"Step.appended", at, "slot"}, append.slot));
    SHOAL_TRY(
        size_within({"Step.appended", at, "blocks"}, append.blocks.size(), 1, kMaxSequenceTokens));
    for (size_t j = 0; j < append.blocks.size(); ++j) {
      if (append.blocks[j] == kNoBlock) continue;
      SHOAL_TRY(within({"Step.appended", at, "blocks", static_cast<int64_t>(j)}, append.blocks[j],
                       0, kMaxKvBlocks - 1));
    }
  }
  return check_rows(m.rows);
}

Status check(const CoordinatorHeartbeat&) { return Status::ok(); }
Status check(const Abort& m) { return text({"Abort.reason"}, m.reason); }
Status check(const Refused& m) { return text({"Refused.reason"}, m.reason); }
Status check(const Shutdown& m) { return text({"Shutdown.reason"}, m.reason); }

Status check(const Settings& m) {
  SHOAL_TRY(within({"Settings.threads"}, m.threads, 0, kMaxThreads));
  SHOAL_TRY(size_within({"Settings.cores"}, m.cores.size(), 0, kMaxCores));
  for (size_t i = 0; i < m.cores.size(); ++i) {
    const uint32_t lowest = i == 0 ? 0 : m.cores[i - 1] + 1;
    SHOAL_TRY(
        within({"Settings.cores", static_cast<int64_t>(i)}, m.cores[i], lowest, kMaxCores - 1));
  }
  return label({"Settings.device"}, m.device);
}

Status check(const StoreSet& m) {
  SHOAL_TRY(within({"StoreSet.epoch"}, m.epoch, 1, UINT64_MAX));
  SHOAL_TRY(text({"StoreSet.key"}, m.key, 1));
  if (m.value.size() > kMaxStoreValue) {
    return bad({"StoreSet.value"},
               fmt::format("{} bytes; must be at most {}", m.value.size(), kMaxStoreValue));
  }
  return Status::ok();  // the value is the collective engine's bytes, not text
}

Status check(const StoreGet& m) {
  SHOAL_TRY(within({"StoreGet.epoch"}, m.epoch, 1, UINT64_MAX));
  return text({"StoreGet.key"}, m.key, 1);
}

// One for every message: another one does not compile until it has a name and a check().
std::string_view name_of(const Hello&) { return "Hello"; }
std::string_view name_of(const LoadProgress&) { return "LoadProgress"; }
std::string_view name_of(const Ready&) { return "Ready"; }
std::string_view name_of(const Failed&) { return "Failed"; }
std::string_view name_of(const StepResult&) { return "StepResult"; }
std::string_view name_of(const WorkerHeartbeat&) { return "WorkerHeartbeat"; }
std::string_view name_of(const ExpertLoad&) { return "ExpertLoad"; }
std::string_view name_of(const Goodbye&) { return "Goodbye"; }
std::string_view name_of(const ModelChanged&) { return "ModelChanged"; }
std::string_view name_of(const Assign&) { return "Assign"; }
std::string_view name_of(const Step&) { return "Step"; }
std::string_view name_of(const CoordinatorHeartbeat&) { return "CoordinatorHeartbeat"; }
std::string_view name_of(const Abort&) { return "Abort"; }
std::string_view name_of(const Refused&) { return "Refused"; }
std::string_view name_of(const Shutdown&) { return "Shutdown"; }
std::string_view name_of(const Settings&) { return "Settings"; }
std::string_view name_of(const StoreSet&) { return "StoreSet"; }
std::string_view name_of(const StoreGet&) { return "StoreGet"; }

// The part of a message that is for people.
template <class M>
auto free_text(M& message) -> decltype(&message.reason) {
  return &message.reason;
}
std::string* free_text(Failed& message) { return &message.message; }
template <class M>
concept HasFreeText = requires(M& message) {
  free_text(message);
};

template <class AnyMessage>
std::optional<AnyMessage> clean_copy(const AnyMessage& message) {
  return std::visit(
      [](const auto& m) -> std::optional<AnyMessage> {
        using M = std::remove_cvref_t<decltype(m)>;
        if constexpr (HasFreeText<M>) {
          M copy = m;
          std::string& text = *free_text(copy);
          std::string clean = bounded_message(text);
          if (clean == text) return {};
          text = std::move(clean);
          return AnyMessage(std::move(copy));
        }
        return {};
      },
      message);
}

constexpr auto kName = [](const auto& m) { return name_of(m); };
constexpr auto kCheck = [](const auto& m) { return check(m); };

}  // namespace

std::string_view message_name(const ToWorker& message) { return std::visit(kName, message); }
std::string_view message_name(const ToCoordinator& message) { return std::visit(kName, message); }
Status validate(const ToWorker& message) { return std::visit(kCheck, message); }
Status validate(const ToCoordinator& message) { return std::visit(kCheck, message); }

std::optional<ToWorker> with_clean_text(const ToWorker& message) { return clean_copy(message); }
std::optional<ToCoordinator> with_clean_text(const ToCoordinator& message) {
  return clean_copy(message);
}

}  // namespace shoal::wire

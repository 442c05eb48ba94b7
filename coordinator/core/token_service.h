// TokenService: what the HTTP gateway asks of the rest of the coordinator. The gateway turns HTTP
// and text into token requests and tokens back into text; everything from admission to the last
// token is behind this interface (request table, scheduler, membership).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "wire/link.h"
#include "wire/messages.h"

namespace shoal {

using RequestId = uint64_t;

struct GenerationRequest {      // one choice; n choices are n requests with choice = 0 … n−1
  std::vector<int32_t> prompt;  // ≥ 1 token, ids < vocab
  wire::SamplingParams sampling;
  uint64_t seed = 0;
  uint32_t choice = 0;
  uint32_t max_tokens = 0;           // ≥ 1; prompt + max_tokens ≤ context, checked by submit()
  std::vector<int32_t> stop_tokens;  // besides the model's end-of-generation set
  // Computed prefixes are shared between requests of equal scope only: the API key's number and the
  // request's own salt, in whatever form.
  std::string cache_scope;
  // Log-probabilities of the prompt's tokens too: TokenSink::on_prompt(). Wants
  // sampling.top_logprobs ≥ 0. All of the prompt is computed then, whatever is cached.
  bool score_prompt = false;
  bool ignore_eos = false;  // end-of-generation tokens do not stop it (stop_tokens still do)
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kError };

struct TokenEvent {
  int32_t token = 0;
  bool is_stop = false;  // an end-of-generation or stop token: not part of the text
  float logprob = 0;
  std::vector<wire::TokenLogprob> top;
};

// Log-probabilities of consecutive tokens of the prompt. The first token has none; every other
// comes once, in order, before the first TokenEvent.
struct PromptEvent {
  uint32_t position = 0;  // of the first of `tokens`
  std::vector<wire::ScoredToken> tokens;
};

struct FinishEvent {
  FinishReason reason = FinishReason::kStop;
  int32_t stop_token = -1;            // the token that ended it, if one did
  Status error;                       // for kError: kUnavailable → the client may try again
  uint32_t cached_prompt_tokens = 0;  // not computed again: found in the prefix cache
};

// Called on the core's thread: must not block. on_finish comes exactly once, last.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // Only where the request asked for it.
  virtual void on_prompt(const PromptEvent& event) { (void)event; }
  virtual void on_token(const TokenEvent& event) = 0;
  virtual void on_finish(const FinishEvent& event) = 0;
};

struct WorkerState {
  std::string name, host, device, state;  // state: "connected", "loading", "ready", "lost"
  int rank = -1;
  int64_t pid = 0;
  double seconds_since_heard = 0;
  uint64_t load_bytes_done = 0, load_bytes_total = 0;
  uint64_t weight_bytes = 0, kv_bytes = 0;
};

struct ServiceState {
  bool ready = false;  // a full shard set answers, and no step is overdue
  bool draining = false;
  std::string not_ready_reason;
  // Why a group cannot be formed, by what a worker or the plan said that trying again does not
  // change; empty once one has served.
  std::string permanent_failure;
  double seconds_since_loop = 0;  // since the core's loop last turned: /health
  uint64_t epoch = 0;
  uint64_t running = 0, waiting = 0;
  uint64_t kv_blocks_total = 0, kv_blocks_used = 0;  // of all KV groups; used: by sequences
  uint64_t kv_blocks_cached = 0;  // not used, but their content may be: given away when needed
  double kv_usage = 0;            // share of blocks in use in the fullest group
  wire::LinkCounters control;     // what the control plane turned away
  uint64_t refused_hellos = 0;    // workers it let speak, but not join
  std::vector<WorkerState> workers;
};

// All methods are thread-safe.
class TokenService {
 public:
  virtual ~TokenService() = default;
  // kResourceExhausted: the queue is full (429); kUnavailable: not ready or draining (503);
  // kInvalidArgument: does not fit the context (400). On error the sink is never called.
  virtual Result<RequestId> submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) = 0;
  // Idempotent; the sink still gets its on_finish(kCancelled), unless it finished before.
  virtual void cancel(RequestId id) = 0;
  virtual ServiceState state() const = 0;
  virtual uint32_t context_tokens() const = 0;
  // Stop admitting; running requests go on. Used by SIGTERM.
  virtual void drain() = 0;
};

}  // namespace shoal

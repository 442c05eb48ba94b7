// Generation: one answer in the making. Submits every choice to the core, turns what comes back
// into a body or a stream, and cancels at the core whatever nobody waits for any more.
//
// After start() everything runs on the client's connection thread; the core's thread only hands
// events over.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/token_service.h"
#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/choice.h"
#include "coordinator/gateway/echo.h"
#include "coordinator/gateway/http.h"
#include "coordinator/gateway/responses.h"

namespace shoal::gateway {

struct GenerationPlan {
  ResponseHead head;
  GenerationOptions options;
  std::vector<std::vector<int32_t>> prompts;  // each ≥ 1 token and < context
  std::vector<Echo> echoes;                   // with options.echo: of the prompts
  uint64_t seed = 0;
  std::string cache_scope;  // as in GenerationRequest
  // A stream that is silent so long (a long queue or prompt) gets a comment line, so that proxies
  // do not take it for dead. Until then the status line waits too: an early failure is a proper
  // 503.
  Duration silence = std::chrono::seconds(10);
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `service` and `codec` outlive every answer.
  Generation(TokenService& service, const TextCodec& codec, std::shared_ptr<Exchange> exchange,
             GenerationPlan plan);

  void start();  // any thread

 private:
  friend class ChoiceSink;

  struct Slot {
    explicit Slot(Choice c) : choice(std::move(c)) {}
    Choice choice;
    size_t echoed = 0;  // tokens of the prompt
    RequestId id = 0;
    bool submitted = false, finished = false, cancelled = false;
    uint32_t cached_prompt_tokens = 0;
    FinishedChoice result;  // collected when not streaming
  };

  void submit_all();
  Status submit(size_t index);
  void on_prompt(size_t index, const PromptEvent& event);
  void echo(size_t index, size_t end, const PromptEvent& event);
  void echo_rest(size_t index);
  uint64_t least_logprobs() const;
  void on_token(size_t index, const TokenEvent& event);
  void on_finish(size_t index, const FinishEvent& event);
  void emit(size_t index, ChoiceDelta delta);
  void complete();
  void fail(const ApiError& error);
  void client_gone();
  void cancel_all();
  void ensure_stream();
  void keep_alive();
  Usage usage() const;
  void note_tokens();

  TokenService& service_;
  const std::shared_ptr<Exchange> exchange_;
  const AnswerFormat format_;
  const GenerationOptions options_;
  std::vector<std::vector<int32_t>> prompts_;
  const std::vector<Echo> echoes_;
  const uint64_t seed_;
  const std::string cache_scope_;
  const Duration silence_;
  uint64_t prompt_tokens_ = 0;

  std::vector<Slot> slots_;  // prompt-major: all choices of the first prompt, then of the second
  size_t unfinished_ = 0;
  uint64_t collected_logprobs_ = 0;
  bool over_ = false;  // answered, failed or abandoned: later events are dropped
  bool stream_started_ = false;
  bool wrote_lately_ = false;
};

}  // namespace shoal::gateway

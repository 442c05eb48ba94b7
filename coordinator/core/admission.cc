#include "coordinator/core/admission.h"

#include <fmt/core.h>

namespace shoal {
namespace {

Status check_tokens(const AdmissionView& view, const std::vector<int32_t>& tokens,
                    const char* what) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= view.vocab) {
      return invalid_argument(fmt::format("{}[{}]: token id {} is outside the vocabulary of {}",
                                          what, i, tokens[i], view.vocab));
    }
  }
  return Status::ok();
}

}  // namespace

Status check_admission(const AdmissionView& view, const GenerationRequest& request) {
  if (request.prompt.empty()) return invalid_argument("prompt: there must be at least one token");
  if (request.max_tokens == 0) return invalid_argument("max_tokens: must be at least 1");
  const uint64_t prompt = request.prompt.size();
  if (prompt + request.max_tokens > view.context_tokens) {
    return invalid_argument(
        fmt::format("the prompt has {} tokens and max_tokens is {}: together more than the context "
                    "of {}",
                    prompt, request.max_tokens, view.context_tokens));
  }
  SHOAL_TRY(check_tokens(view, request.prompt, "prompt"));
  if (request.score_prompt && request.sampling.top_logprobs < 0) {
    return invalid_argument("logprobs: those of the prompt come with those of the answer");
  }
  if (view.draining) return unavailable("the server is shutting down");
  if (!view.ready) return unavailable("not ready: " + view.not_ready_reason);
  if (prompt + request.max_tokens - 1 > view.kv_tokens) {
    return invalid_argument(fmt::format(
        "the prompt has {} tokens and max_tokens is {}: the KV cache holds {} tokens in "
        "all",
        prompt, request.max_tokens, view.kv_tokens));
  }
  if (view.waiting + 1 > view.limits.requests) {
    return resource_exhausted(
        fmt::format("{} requests are waiting; the queue is full", view.waiting));
  }
  // One request always fits an empty queue, however long its prompt.
  if (view.waiting > 0 && view.waiting_tokens + prompt > view.limits.tokens) {
    return resource_exhausted(
        fmt::format("{} prompt tokens are waiting and this request has {}; the queue takes {}",
                    view.waiting_tokens, prompt, view.limits.tokens));
  }
  return Status::ok();
}

std::string_view rejection_reason(const Status& error) {
  switch (error.code()) {
    case Code::kResourceExhausted:
      return "queue_full";
    case Code::kUnavailable:
      return "not_ready";
    default:
      return "invalid";
  }
}

}  // namespace shoal

#include "coordinator/gateway/generate.h"

#include <fmt/format.h>

#include <utility>

#include "coordinator/gateway/reply.h"

namespace shoal::gateway {

void generate(const Services& services, AnswerKind kind, const HttpRequest& request,
              GenerationOptions options, std::vector<std::vector<int32_t>> prompts,
              std::vector<Echo> echoes, const std::shared_ptr<Exchange>& exchange) {
  const char* param = kind == AnswerKind::kChat ? "messages" : "prompt";
  const uint32_t context = services.context_tokens();
  for (const auto& prompt : prompts) {
    if (prompt.empty()) {
      send_error(*exchange, invalid_field(param, fmt::format("'{}' gives no tokens", param)));
      return;
    }
    if (prompt.size() >= context) {
      send_error(
          *exchange,
          invalid_field(param,
                        fmt::format("the prompt has {} tokens; this model's maximum context "
                                    "length is {} tokens, one of them at least for the answer",
                                    prompt.size(), context),
                        "context_length_exceeded"));
      return;
    }
  }
  GenerationPlan plan;
  plan.head.kind = kind;
  plan.head.id = request.ticket.clients_id
                     ? services.new_id(kind == AnswerKind::kChat ? kChatId : kCompletionId)
                     : request.ticket.request_id;
  plan.head.created = services.deps.wall_seconds();
  plan.head.model = options.model;
  plan.head.system_fingerprint = services.options.system_fingerprint;
  plan.head.logprobs = options.logprobs();
  plan.head.token_ids = options.return_token_ids;
  plan.head.include_usage = options.include_usage;
  plan.seed = options.seed ? *options.seed : services.deps.random();
  plan.silence = services.options.silence;
  // The number of the key stays apart from whatever salt its owner chooses.
  plan.cache_scope = fmt::format("{}:{}", request.ticket.key.value_or(0), options.cache_salt);
  plan.options = std::move(options);
  plan.prompts = std::move(prompts);
  plan.echoes = std::move(echoes);
  std::make_shared<Generation>(*services.deps.service, *services.deps.codec, exchange,
                               std::move(plan))
      ->start();
}

}  // namespace shoal::gateway

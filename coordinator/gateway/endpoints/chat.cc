// POST /v1/chat/completions
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/gateway/generate.h"
#include "coordinator/gateway/reply.h"
#include "coordinator/gateway/route.h"
#include "model/chat_template.h"

namespace shoal::gateway::endpoints {

void chat(const Services& services, const HttpRequest& request,
          const std::shared_ptr<Exchange>& exchange) {
  const auto json = json_body(request, services.options.json, *exchange);
  if (!json) return;
  auto parsed = parse_chat_request(*json, services.options.limits);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  auto& chat_request = std::get<ChatRequest>(parsed);
  // Nobody waits for the prompt once the client has gone, or the server has cut it off to stop.
  const auto control = std::make_shared<RenderControl>();
  exchange->on_gone([control] { control->cancel(); });
  auto prompt = chat_prompt_tokens(*services.deps.codec, services.controls, chat_request,
                                   services.context_tokens(), *control);
  if (control->cancelled()) return;
  if (!prompt) {
    // Whatever the template stumbled over, a limit included, came with the messages.
    send_error(*exchange, encoding_error(prompt.status(), "messages"));
    return;
  }
  std::vector<std::vector<int32_t>> prompts;
  prompts.push_back(std::move(prompt).value());
  generate(services, AnswerKind::kChat, request, std::move(chat_request.options),
           std::move(prompts), {}, exchange);
}

}  // namespace shoal::gateway::endpoints

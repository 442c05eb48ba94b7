// POST /v1/completions
#include <fmt/format.h>

#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/gateway/echo.h"
#include "coordinator/gateway/generate.h"
#include "coordinator/gateway/reply.h"
#include "coordinator/gateway/route.h"

namespace shoal::gateway::endpoints {
namespace {

constexpr uint64_t kMaxEchoBytes = 64 << 20;

// Every choice holds its prompt's text until the answer is written.
std::optional<ApiError> check_echo(const GenerationOptions& options,
                                   const std::vector<Echo>& echoes) {
  uint64_t bytes = 0;
  for (const Echo& echo : echoes) bytes += echo.bytes() * options.n;
  if (bytes <= kMaxEchoBytes) return std::nullopt;
  return invalid_field("echo",
                       fmt::format("the prompts of all choices are {} bytes; at most {} are echoed",
                                   bytes, kMaxEchoBytes),
                       "answer_too_large");
}

}  // namespace

void completion(const Services& services, const HttpRequest& request,
                const std::shared_ptr<Exchange>& exchange) {
  const auto json = json_body(request, services.options.json, *exchange);
  if (!json) return;
  auto parsed = parse_completion_request(*json, services.options.limits);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  auto& completion_request = std::get<CompletionRequest>(parsed);
  const GenerationOptions& asked = completion_request.options;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<Echo> echoes;
  for (Prompt& prompt : completion_request.prompts) {
    if (auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
      if (asked.echo) echoes.emplace_back(*services.deps.codec, *ids);
      prompts.push_back(std::move(*ids));
      continue;
    }
    // Who writes a raw prompt writes its control tokens, too.
    EncodeOptions encode;
    encode.add_bos = completion_request.add_special;
    encode.parse_special = true;
    auto ids = encode_within(*services.deps.codec, std::get<std::string>(prompt), encode,
                             services.context_tokens());
    if (!ids) {
      send_error(*exchange, encoding_error(ids.status(), "prompt"));
      return;
    }
    if (asked.echo && !ids->empty()) {
      echoes.emplace_back(*services.deps.codec, *ids, std::move(std::get<std::string>(prompt)));
    }
    prompts.push_back(std::move(ids).value());
  }
  if (const auto error = check_echo(asked, echoes)) return send_error(*exchange, *error);
  generate(services, AnswerKind::kCompletion, request, std::move(completion_request.options),
           std::move(prompts), std::move(echoes), exchange);
}

}  // namespace shoal::gateway::endpoints

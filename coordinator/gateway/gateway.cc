#include "coordinator/gateway/gateway.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/quote.h"
#include "coordinator/gateway/generation.h"
#include "model/chat_template.h"

namespace shoal::gateway {
namespace {

constexpr size_t kTrimBytes = 1 << 20;
constexpr size_t kMaxRequestId = 128;
constexpr uint64_t kMaxEchoBytes = 64 << 20;
constexpr const char* kChatId = "chatcmpl";
constexpr const char* kCompletionId = "cmpl";

bool matches(std::string_view pattern, std::string_view path) {
  if (pattern.ends_with('*')) return path.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == path;
}

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

HttpVerdict refusal(const ApiError& error, HttpRefusal reason) {
  HttpVerdict verdict;
  verdict.answer = error_response(error);
  verdict.reason = reason;
  return verdict;
}

HttpVerdict not_found(const HttpRequest& request, const std::string& known_paths) {
  ApiError error;
  error.status = 404;
  const bool twice = plain_path(request.path).starts_with("/v1/v1/");
  error.message =
      fmt::format("no such path: {} {}; {}", excerpt(request.method), excerpt(request.path),
                  twice ? "/v1 is there twice: in the base URL, and added to it by the "
                          "client"
                        : "there are " + known_paths);
  error.code = "not_found";
  return refusal(error, HttpRefusal::kNoRoute);
}

HttpVerdict method_not_allowed(const HttpRequest& request, const std::string& allow) {
  ApiError error;
  error.status = 405;
  error.message = fmt::format("{} takes {}", excerpt(request.path), allow);
  error.code = "method_not_allowed";
  HttpVerdict verdict = refusal(error, HttpRefusal::kNoRoute);
  verdict.answer->headers.emplace_back("Allow", allow);
  if (request.method == "OPTIONS") {
    verdict.answer->status = 204;
    verdict.answer->body.clear();
    verdict.reason.reset();
  }
  return verdict;
}

HttpVerdict unauthorized() {
  ApiError error;
  error.status = 401;
  error.message =
      "a valid API key is required, as \"Authorization: Bearer KEY\" or \"X-API-Key: KEY\"";
  error.type = "authentication_error";
  error.code = "invalid_api_key";
  HttpVerdict verdict = refusal(error, HttpRefusal::kUnauthorized);
  verdict.answer->headers.emplace_back("WWW-Authenticate", "Bearer");
  return verdict;
}

HttpVerdict draining_refusal() {
  ApiError error;
  error.status = 503;
  error.type = "unavailable_error";
  error.message = "the server is shutting down";
  error.code = "unavailable";
  error.retry_after_seconds = 2;
  return refusal(error, HttpRefusal::kDraining);
}

}  // namespace

void send_error(Exchange& exchange, const ApiError& error) {
  exchange.respond(error_response(error));
}

void send_json(Exchange& exchange, int status, const Json& body) {
  HttpResponse response;
  response.status = status;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  exchange.respond(std::move(response));
}

// Everything needs a key unless it says otherwise.
const Gateway::Route Gateway::kRoutes[] = {
    {"POST", "/v1/chat/completions", false, &Gateway::chat},
    {"POST", "/v1/completions", false, &Gateway::completion},
    {"GET", "/v1/models", false, &Gateway::models},
    {"GET", "/v1/models/*", false, &Gateway::model},
    {"POST", "/tokenize", false, &Gateway::tokenize},
    {"POST", "/detokenize", false, &Gateway::detokenize},
    {"GET", "/health", true, &Gateway::health},
    {"GET", "/ready", true, &Gateway::ready},
    {"GET", "/metrics", false, &Gateway::metrics},
    {"GET", "/cluster", false, &Gateway::cluster},
    {"GET", "/", false, &Gateway::root},
};

Gateway::Gateway(GatewayDependencies dependencies, GatewayOptions options)
    : deps_(std::move(dependencies)),
      options_(std::move(options)),
      controls_(deps_.codec->control_texts()),
      created_(deps_.wall_seconds()) {
  options_.limits.vocab_size = deps_.codec->vocab_size();
  options_.limits.served_model = options_.served_model;
}

bool Gateway::is_open(const Route& route) const {
  return route.open || (route.handler == &Gateway::metrics && !options_.metrics_need_key);
}

bool Gateway::answers_while_draining(const Route& route) const {
  return route.open || route.handler == &Gateway::metrics;
}

std::string Gateway::known_paths() const {
  std::string known;
  for (const Route& route : kRoutes) {
    if (route.handler == &Gateway::metrics && !options_.metrics) continue;
    known += fmt::format("{}{} {}", known.empty() ? "" : ", ", route.method, route.path);
  }
  return known;
}

// The route of that path and method. `named`: of that path only, null if there is none; `allow`:
// its methods.
const Gateway::Route* Gateway::find_route(const HttpRequest& head, const Route** named,
                                          std::string* allow) const {
  const Route* found = nullptr;
  const std::string path = plain_path(head.path);
  for (const Route& route : kRoutes) {
    if (route.handler == &Gateway::metrics && !options_.metrics) continue;
    if (!matches(route.path, path)) continue;
    *named = &route;
    *allow = std::string_view(route.method) == "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
    if (route.method == head.method && !(head.head && (*allow)[0] == 'P')) found = &route;
  }
  return found;
}

HttpVerdict Gateway::judge(const HttpRequest& head, bool draining) {
  const Route* named = nullptr;
  std::string allow;
  const Route* found = find_route(head, &named, &allow);
  const auto key = deps_.keys.identify(head);
  HttpVerdict verdict;
  if (CorsPolicy::is_preflight(head)) {  // browsers send no key with it
    verdict.answer = options_.cors.preflight(head);
  } else if (!(named != nullptr && is_open(*named)) && !key) {
    verdict = unauthorized();
  } else if (found == nullptr) {
    verdict = named != nullptr ? method_not_allowed(head, allow) : not_found(head, known_paths());
  } else if (draining && !answers_while_draining(*found)) {
    verdict = draining_refusal();
  }
  verdict.ticket.route_name = named != nullptr ? named->path : "other";
  verdict.ticket.route =
      static_cast<size_t>((found != nullptr ? found : std::end(kRoutes)) - kRoutes);
  verdict.ticket.key = key;
  name_request(head, &verdict.ticket);
  verdict.headers = options_.cors.headers(head);
  verdict.headers.emplace_back("X-Request-Id", verdict.ticket.request_id);
  verdict.takes_body = found != nullptr && std::string_view(found->method) == "POST";
  if (key && !deps_.keys.empty()) verdict.client = key;
  return verdict;
}

// The client's own name for the request, if it is fit to be shown; else what a completion's answer
// is called, too.
void Gateway::name_request(const HttpRequest& head, HttpTicket* ticket) {
  const std::string_view given = head.header("x-request-id");
  ticket->clients_id =
      !given.empty() && given.size() <= kMaxRequestId &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (ticket->clients_id) {
    ticket->request_id = given;
    return;
  }
  const Handler handler =
      ticket->route < std::size(kRoutes) ? kRoutes[ticket->route].handler : nullptr;
  const char* prefix = handler == &Gateway::chat         ? kChatId
                       : handler == &Gateway::completion ? kCompletionId
                                                         : "req";
  ticket->request_id = new_id(prefix);
}

void Gateway::refused(HttpRefusal reason) {
  if (deps_.refusal_observer) deps_.refusal_observer(refusal_name(reason));
}

void Gateway::over(const HttpRecord& record) {
  if (deps_.on_record) deps_.on_record(record);
}

void Gateway::handle(std::shared_ptr<const HttpRequest> request, std::shared_ptr<Exchange> client) {
  const Route& route = kRoutes[request->ticket.route];
  const std::string_view name = request->ticket.route_name;
  const auto exchange =
      std::make_shared<GuardedExchange>(std::move(client), name, deps_.fault_observer);
  exchange->run([&] { (this->*route.handler)(*request, exchange); });
  // The allocator would keep what a large request took in pieces.
  const bool large = request->body.size() > kTrimBytes;
  request.reset();
  if (large) ::malloc_trim(0);
}

std::shared_ptr<const Json> Gateway::body(const HttpRequest& request, Exchange& exchange) const {
  auto parsed = parse_json(request.body, options_.json);
  if (parsed) return share_json(std::move(parsed).value());
  send_error(exchange, invalid_field("", parsed.status().message(), "invalid_json"));
  return nullptr;
}

ApiError Gateway::encoding_error(const Status& status, const char* param) {
  if (status.code() == Code::kInternal) return from_status(status);
  return invalid_field(
      param, status.message(),
      status.code() == Code::kOutOfRange ? "context_length_exceeded" : "invalid_value");
}

std::string Gateway::new_id(const char* prefix) {
  return fmt::format("{}-{:016x}{:016x}", prefix, deps_.random(), deps_.random());
}

void Gateway::chat(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  const auto json = body(request, *exchange);
  if (!json) return;
  auto parsed = parse_chat_request(*json, options_.limits);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  auto& chat_request = std::get<ChatRequest>(parsed);
  // Nobody waits for the prompt once the client has gone, or the server has cut it off to stop.
  const auto control = std::make_shared<RenderControl>();
  exchange->on_gone([control] { control->cancel(); });
  auto prompt = chat_prompt_tokens(*deps_.codec, controls_, chat_request,
                                   deps_.engine->context_tokens(), *control);
  if (control->cancelled()) return;
  if (!prompt) {
    // Whatever the template stumbled over, a limit included, came with the messages.
    send_error(*exchange, encoding_error(prompt.status(), "messages"));
    return;
  }
  std::vector<std::vector<int32_t>> prompts;
  prompts.push_back(std::move(prompt).value());
  generate(Endpoint::kChat, request, std::move(chat_request.options), std::move(prompts), {},
           exchange);
}

void Gateway::completion(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  const auto json = body(request, *exchange);
  if (!json) return;
  auto parsed = parse_completion_request(*json, options_.limits);
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
      if (asked.echo) echoes.emplace_back(*deps_.codec, *ids);
      prompts.push_back(std::move(*ids));
      continue;
    }
    // Who writes a raw prompt writes its control tokens, too.
    EncodeOptions encode;
    encode.add_bos = completion_request.add_special;
    encode.parse_special = true;
    auto ids = encode_within(*deps_.codec, std::get<std::string>(prompt), encode,
                             deps_.engine->context_tokens());
    if (!ids) {
      send_error(*exchange, encoding_error(ids.status(), "prompt"));
      return;
    }
    if (asked.echo && !ids->empty()) {
      echoes.emplace_back(*deps_.codec, *ids, std::move(std::get<std::string>(prompt)));
    }
    prompts.push_back(std::move(ids).value());
  }
  if (const auto error = check_echo(asked, echoes)) return send_error(*exchange, *error);
  generate(Endpoint::kCompletion, request, std::move(completion_request.options),
           std::move(prompts), std::move(echoes), exchange);
}

void Gateway::generate(Endpoint endpoint, const HttpRequest& request, GenerationOptions options,
                       std::vector<std::vector<int32_t>> prompts, std::vector<Echo> echoes,
                       const std::shared_ptr<Exchange>& exchange) {
  const char* param = endpoint == Endpoint::kChat ? "messages" : "prompt";
  const uint32_t context = deps_.engine->context_tokens();
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
  plan.head.endpoint = endpoint;
  plan.head.id = request.ticket.clients_id
                     ? new_id(endpoint == Endpoint::kChat ? kChatId : kCompletionId)
                     : request.ticket.request_id;
  plan.head.created = deps_.wall_seconds();
  plan.head.model = options.model;
  plan.head.system_fingerprint = options_.system_fingerprint;
  plan.head.logprobs = options.logprobs();
  plan.head.token_ids = options.return_token_ids;
  plan.head.include_usage = options.include_usage;
  plan.seed = options.seed ? *options.seed : deps_.random();
  plan.silence = options_.silence;
  // The number of the key stays apart from whatever salt its owner chooses.
  plan.cache_scope = fmt::format("{}:{}", request.ticket.key.value_or(0), options.cache_salt);
  plan.options = std::move(options);
  plan.prompts = std::move(prompts);
  plan.echoes = std::move(echoes);
  std::make_shared<Generation>(*deps_.engine, *deps_.codec, exchange, std::move(plan))->start();
}

}  // namespace shoal::gateway

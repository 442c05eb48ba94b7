// Gateway: the routes of Shoal's HTTP API. docs/http-api.md is the reference.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/engine.h"
#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/auth.h"
#include "coordinator/gateway/chat_prompt.h"
#include "coordinator/gateway/cors.h"
#include "coordinator/gateway/echo.h"
#include "coordinator/gateway/guarded_exchange.h"
#include "coordinator/gateway/http.h"
#include "coordinator/gateway/http_server.h"
#include "coordinator/gateway/responses.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway {

struct GatewayOptions {
  std::string served_model;        // /v1/models, and the name for requests without one
  std::string system_fingerprint;  // changes with the build and the model
  RequestLimits limits;            // vocab_size and served_model are filled in
  JsonLimits json;
  CorsPolicy cors;
  bool metrics = true;           // false: /metrics is 404
  bool metrics_need_key = true;  // /metrics like other paths; false: open like /health
  Duration silence = std::chrono::seconds(10);  // see GenerationPlan
  double loop_limit_seconds = 5;  // /health fails when the engine's loop stood still for longer …
  // … or when a thread has been busy with one small, one large request's parsing for longer. /ready
  // fails, too, when a small one has waited for so long.
  double small_limit_seconds = 10, large_limit_seconds = 300;
};

// Everything outlives the gateway, the gateway outlives the HTTP server.
struct GatewayDependencies {
  Engine* engine = nullptr;
  const TextCodec* codec = nullptr;
  ApiKeys keys;
  std::function<std::string()> metrics;   // Prometheus text; may be empty
  std::function<int64_t()> wall_seconds;  // Unix time
  std::function<uint64_t()> random;       // seeds and ids; thread-safe
  // Of every request, when it is over. Any thread; must not block; may be empty.
  std::function<void(const HttpRecord&)> on_record;
  FaultObserver fault_observer;  // of exceptions in handlers, by route; may be empty
  std::function<void(std::string_view reason)> refusal_observer;  // may be empty; see HttpRefusal
  std::function<HttpServerState()> http;                          // may be empty
};

class Gateway : public HttpService {
 public:
  Gateway(GatewayDependencies dependencies, GatewayOptions options);

  // Path, method and key, in that order of what is told to whom: without a key nobody learns more.
  HttpVerdict judge(const HttpRequest& head, bool draining) override;
  // Of requests that judge() let in.
  void handle(std::shared_ptr<const HttpRequest> request,
              std::shared_ptr<Exchange> exchange) override;
  void refused(HttpRefusal reason) override;
  void over(const HttpRecord& record) override;

 private:
  using Handler = void (Gateway::*)(const HttpRequest&, const std::shared_ptr<Exchange>&);
  struct Route {
    const char* method;
    const char* path;  // a trailing '*' matches any rest
    bool open;         // needs no key
    Handler handler;
  };
  static const Route kRoutes[];

  const Route* find_route(const HttpRequest& head, const Route** named, std::string* allow) const;
  std::string known_paths() const;  // for who asks for another
  bool is_open(const Route& route) const;
  bool answers_while_draining(const Route& route) const;
  HttpServerState http_state() const { return deps_.http ? deps_.http() : HttpServerState{}; }
  std::string hung_reason() const;
  void chat(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void completion(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void models(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void model(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void tokenize(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void detokenize(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void health(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void ready(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void metrics(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void cluster(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);
  void root(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange);

  // The body as JSON, or nothing after an error has been sent.
  std::shared_ptr<const Json> body(const HttpRequest& request, Exchange& exchange) const;
  void generate(Endpoint endpoint, const HttpRequest& request, GenerationOptions options,
                std::vector<std::vector<int32_t>> prompts, std::vector<Echo> echoes,
                const std::shared_ptr<Exchange>& exchange);
  // What an encoding that failed is to the client; `param` held the text.
  static ApiError encoding_error(const Status& status, const char* param);
  std::string new_id(const char* prefix);
  void name_request(const HttpRequest& head, HttpTicket* ticket);
  Json model_json() const;

  const GatewayDependencies deps_;
  GatewayOptions options_;
  const ControlTexts controls_;
  const int64_t created_;
};

void send_error(Exchange& exchange, const ApiError& error);
void send_json(Exchange& exchange, int status, const Json& body);

}  // namespace shoal::gateway

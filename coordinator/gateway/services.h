// What endpoints work with: the services behind the gateway and its options.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "coordinator/core/token_service.h"
#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/auth.h"
#include "coordinator/gateway/chat_prompt.h"
#include "coordinator/gateway/cors.h"
#include "coordinator/gateway/guarded_exchange.h"
#include "coordinator/gateway/http.h"
#include "coordinator/gateway/http_server.h"
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
  double loop_limit_seconds = 5;  // /health fails when the core's loop stood still for longer …
  // … or when a thread has been busy with one small, one large request's parsing for longer. /ready
  // fails, too, when a small one has waited for so long.
  double small_limit_seconds = 10, large_limit_seconds = 300;
};

// Everything outlives the gateway, the gateway outlives the HTTP server.
struct GatewayDependencies {
  TokenService* service = nullptr;
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

// Immutable; thread-safe as what it refers to.
struct Services {
  Services(GatewayDependencies dependencies, GatewayOptions gateway_options);

  uint32_t context_tokens() const { return deps.service->context_tokens(); }
  HttpServerState http() const { return deps.http ? deps.http() : HttpServerState{}; }
  std::string new_id(const char* prefix) const;  // "PREFIX-" and 32 hexadecimal digits

  const GatewayDependencies deps;
  const GatewayOptions options;
  const ControlTexts controls;
  const int64_t created;  // Unix seconds: when serving began
};

}  // namespace shoal::gateway

// The routes that generate nothing.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/quote.h"
#include "base/utf8.h"
#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/json_writer.h"

namespace shoal::gateway {
namespace {

// Of answers that grow with a request: 30 bytes or more for each token with its piece; a token of
// four bytes of request may stand for hundreds.
constexpr size_t kMaxPieces = 1 << 20;
constexpr size_t kMaxDetokenizedBytes = 16 << 20;

// {"id": …, "piece": text, or its bytes where they are part of a character}
void append_piece(std::string* out, int32_t id, const std::string& bytes) {
  *out += "{\"id\":";
  append_json_integer(out, id);
  *out += ",\"piece\":";
  if (is_valid_utf8(bytes)) {
    append_json_string(out, bytes);
  } else {
    *out += '[';
    for (const unsigned char byte : bytes) {
      if (out->back() != '[') *out += ',';
      append_json_integer(out, byte);
    }
    *out += ']';
  }
  *out += '}';
}

}  // namespace

Json Gateway::model_json() const {
  Json out = Json::object();
  out["id"] = options_.served_model;
  out["object"] = "model";
  out["created"] = created_;
  out["owned_by"] = "shoal";
  out["max_model_len"] = deps_.engine->context_tokens();
  return out;
}

void Gateway::models(const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  Json out = Json::object();
  out["object"] = "list";
  out["data"] = Json::array();
  out["data"].push_back(model_json());
  send_json(*exchange, 200, out);
}

void Gateway::model(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  const std::string name = plain_path(request.path).substr(std::string_view("/v1/models/").size());
  if (name == options_.served_model) {
    send_json(*exchange, 200, model_json());
    return;
  }
  ApiError error;
  error.status = 404;
  error.message = fmt::format("the model {} is not served here; {} is", in_quotes(name),
                              in_quotes(options_.served_model));
  error.param = "model";
  error.code = "model_not_found";
  send_error(*exchange, error);
}

void Gateway::tokenize(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  const auto json = body(request, *exchange);
  if (!json) return;
  auto parsed = parse_tokenize_request(*json);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  const auto& wanted = std::get<TokenizeRequest>(parsed);
  EncodeOptions options;
  options.add_bos = options.add_eos = wanted.add_special;
  options.parse_special = wanted.parse_special;
  const auto ids =
      encode_within(*deps_.codec, wanted.content, options, deps_.engine->context_tokens());
  if (!ids) {
    send_error(*exchange, encoding_error(ids.status(), "content"));
    return;
  }
  if (wanted.with_pieces && ids->size() > kMaxPieces) {
    send_error(*exchange,
               invalid_field("with_pieces",
                             fmt::format("the text has {} tokens; 'with_pieces' shows at most {}: "
                                         "send the text in parts, or without it",
                                         ids->size(), kMaxPieces),
                             "answer_too_large"));
    return;
  }
  HttpResponse response;
  std::string& body = response.body;
  body = "{\"tokens\":[";
  for (const int32_t id : *ids) {
    if (body.back() != '[') body += ',';
    if (wanted.with_pieces) {
      append_piece(&body, id, deps_.codec->token_bytes(id));
    } else {
      append_json_integer(&body, id);
    }
  }
  body += fmt::format("],\"count\":{},\"max_model_len\":{}}}", ids->size(),
                      deps_.engine->context_tokens());
  exchange->respond(std::move(response));
}

void Gateway::detokenize(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange) {
  const auto json = body(request, *exchange);
  if (!json) return;
  auto parsed = parse_detokenize_request(*json, options_.limits);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  std::string bytes;
  int32_t previous = -1;
  for (const int32_t id : std::get<std::vector<int32_t>>(parsed)) {
    bytes += deps_.codec->text_bytes(id, std::exchange(previous, id));
    if (bytes.size() <= kMaxDetokenizedBytes) continue;
    send_error(*exchange, invalid_field("tokens",
                                        fmt::format("the tokens stand for more than {} bytes of "
                                                    "text; send them in parts",
                                                    kMaxDetokenizedBytes),
                                        "answer_too_large"));
    return;
  }
  HttpResponse response;
  response.body = "{\"content\":";
  append_json_string(&response.body, bytes);
  response.body += '}';
  exchange->respond(std::move(response));
}

// Why the process is of no use any more; "" if it is alive.
std::string Gateway::hung_reason() const {
  const double loop = deps_.engine->state().seconds_since_loop;
  if (loop > options_.loop_limit_seconds) {
    return fmt::format("the engine's loop has not turned for {:.1f} s", loop);
  }
  const HttpServerState http = http_state();
  const double small = http.small_pool.longest_run_seconds;
  if (small > options_.small_limit_seconds) {
    return fmt::format("a thread has been busy with one request for {:.1f} s", small);
  }
  const double large = http.large_pool.longest_run_seconds;
  if (large > options_.large_limit_seconds) {
    return fmt::format("a thread has been busy with one large request for {:.1f} s", large);
  }
  return {};
}

void Gateway::health(const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  const std::string reason = hung_reason();
  Json out = Json::object();
  out["status"] = reason.empty() ? "ok" : "hung";
  if (!reason.empty()) out["reason"] = reason;
  send_json(*exchange, reason.empty() ? 200 : 503, out);
}

void Gateway::ready(const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  const EngineState state = deps_.engine->state();
  const HttpServerState http = http_state();
  const bool draining = state.draining || http.draining;
  const double waited = http.small_pool.longest_wait_seconds;
  std::string reason = hung_reason();
  if (draining) {
    reason = "the server is shutting down";
  } else if (!state.ready) {
    reason = state.not_ready_reason;
  } else if (reason.empty() && waited > options_.small_limit_seconds) {
    reason = fmt::format("overloaded: a request has waited for {:.1f} s to be read", waited);
  }
  if (state.ready && reason.empty()) {
    send_json(*exchange, 200, Json::object({{"status", "ready"}}));
    return;
  }
  HttpResponse response;
  response.status = 503;
  response.headers.emplace_back("Retry-After", "2");
  Json out = Json::object();
  out["status"] = draining ? "draining" : "not ready";
  out["reason"] = reason;
  response.body = out.dump(-1, ' ', false, Json::error_handler_t::replace);
  exchange->respond(std::move(response));
}

void Gateway::metrics(const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  if (deps_.metrics) response.body = deps_.metrics();
  exchange->respond(std::move(response));
}

void Gateway::cluster(const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  const EngineState state = deps_.engine->state();
  Json workers = Json::array();
  for (const WorkerState& worker : state.workers) {
    Json out = Json::object();
    out["name"] = worker.name;
    out["host"] = worker.host;
    out["device"] = worker.device;
    out["state"] = worker.state;
    out["rank"] = worker.rank;
    out["pid"] = worker.pid;
    out["seconds_since_heard"] = worker.seconds_since_heard;
    out["load_bytes_done"] = worker.load_bytes_done;
    out["load_bytes_total"] = worker.load_bytes_total;
    out["weight_bytes"] = worker.weight_bytes;
    out["kv_bytes"] = worker.kv_bytes;
    workers.push_back(std::move(out));
  }
  Json out = Json::object();
  out["model"] = options_.served_model;
  out["ready"] = state.ready;
  out["draining"] = state.draining;
  out["not_ready_reason"] = state.not_ready_reason;
  out["seconds_since_loop"] = state.seconds_since_loop;
  out["epoch"] = state.epoch;
  out["running"] = state.running;
  out["waiting"] = state.waiting;
  out["kv_blocks_total"] = state.kv_blocks_total;
  out["kv_blocks_used"] = state.kv_blocks_used;
  out["kv_blocks_cached"] = state.kv_blocks_cached;
  out["kv_usage"] = state.kv_usage;
  out["context_tokens"] = deps_.engine->context_tokens();
  out["workers"] = std::move(workers);
  send_json(*exchange, 200, out);
}

void Gateway::root(const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  response.body = fmt::format(
      "Shoal serves {}.\n"
      "POST /v1/chat/completions, /v1/completions, /tokenize, /detokenize\n"
      "GET  /v1/models, /health, /ready, /metrics, /cluster\n",
      options_.served_model);
  exchange->respond(std::move(response));
}

}  // namespace shoal::gateway

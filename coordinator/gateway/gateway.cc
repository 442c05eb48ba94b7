#include "coordinator/gateway/gateway.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <utility>

#include "base/quote.h"

namespace shoal::gateway {
namespace {

constexpr size_t kTrimBytes = 1 << 20;
constexpr size_t kMaxRequestId = 128;

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

Gateway::Gateway(GatewayDependencies dependencies, GatewayOptions options)
    : services_(std::move(dependencies), std::move(options)) {}

bool Gateway::exists(const Route& route) const {
  return route.access != Access::kMetrics || services_.options.metrics;
}

bool Gateway::is_open(const Route& route) const {
  return route.access == Access::kOpen ||
         (route.access == Access::kMetrics && !services_.options.metrics_need_key);
}

std::string Gateway::known_paths() const {
  std::string known;
  for (const Route& route : routes()) {
    if (!exists(route)) continue;
    known += fmt::format("{}{} {}", known.empty() ? "" : ", ", route.method, route.path);
  }
  return known;
}

// The route of that path and method. `named`: of that path only, null if there is none; `allow`:
// its methods.
const Route* Gateway::find_route(const HttpRequest& head, const Route** named,
                                 std::string* allow) const {
  const Route* found = nullptr;
  const std::string path = plain_path(head.path);
  for (const Route& route : routes()) {
    if (!exists(route) || !matches(route, path)) continue;
    *named = &route;
    *allow = route.method == "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
    if (route.method == head.method && !(head.head && (*allow)[0] == 'P')) found = &route;
  }
  return found;
}

HttpVerdict Gateway::judge(const HttpRequest& head, bool draining) {
  const Route* named = nullptr;
  std::string allow;
  const Route* found = find_route(head, &named, &allow);
  const auto key = services_.deps.keys.identify(head);
  HttpVerdict verdict;
  if (CorsPolicy::is_preflight(head)) {  // browsers send no key with it
    verdict.answer = services_.options.cors.preflight(head);
  } else if (!(named != nullptr && is_open(*named)) && !key) {
    verdict = unauthorized();
  } else if (found == nullptr) {
    verdict = named != nullptr ? method_not_allowed(head, allow) : not_found(head, known_paths());
  } else if (draining && found->access == Access::kKey) {
    verdict = draining_refusal();
  }
  verdict.ticket.route_name = named != nullptr ? named->path : "other";
  if (found != nullptr) verdict.ticket.route = static_cast<size_t>(found - routes().data());
  verdict.ticket.key = key;
  name_request(head, found, &verdict.ticket);
  verdict.headers = services_.options.cors.headers(head);
  verdict.headers.emplace_back("X-Request-Id", verdict.ticket.request_id);
  verdict.takes_body = found != nullptr && found->method == "POST";
  if (key && !services_.deps.keys.empty()) verdict.client = key;
  return verdict;
}

// The client's own name for the request, if it is fit to be shown; else what a completion's answer
// is called, too.
void Gateway::name_request(const HttpRequest& head, const Route* route, HttpTicket* ticket) {
  const std::string_view given = head.header("x-request-id");
  ticket->clients_id =
      !given.empty() && given.size() <= kMaxRequestId &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (ticket->clients_id) {
    ticket->request_id = given;
    return;
  }
  ticket->request_id = services_.new_id(route != nullptr ? route->id_prefix : "req");
}

void Gateway::refused(HttpRefusal reason) {
  if (services_.deps.refusal_observer) services_.deps.refusal_observer(refusal_name(reason));
}

void Gateway::over(const HttpRecord& record) {
  if (services_.deps.on_record) services_.deps.on_record(record);
}

void Gateway::handle(std::shared_ptr<const HttpRequest> request, std::shared_ptr<Exchange> client) {
  const Route& route = routes()[request->ticket.route];
  const std::string_view name = request->ticket.route_name;
  const auto exchange =
      std::make_shared<GuardedExchange>(std::move(client), name, services_.deps.fault_observer);
  exchange->run([&] { route.endpoint(services_, *request, exchange); });
  // The allocator would keep what a large request took in pieces.
  const bool large = request->body.size() > kTrimBytes;
  request.reset();
  if (large) ::malloc_trim(0);
}

}  // namespace shoal::gateway

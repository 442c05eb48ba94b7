// GET /health and /ready
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "coordinator/gateway/reply.h"
#include "coordinator/gateway/route.h"

namespace shoal::gateway::endpoints {
namespace {

// Why the process is of no use any more; "" if it is alive.
std::string hung_reason(const Services& services) {
  const double loop = services.deps.service->state().seconds_since_loop;
  if (loop > services.options.loop_limit_seconds) {
    return fmt::format("the core's loop has not turned for {:.1f} s", loop);
  }
  const HttpServerState http = services.http();
  const double small = http.small_pool.longest_run_seconds;
  if (small > services.options.small_limit_seconds) {
    return fmt::format("a thread has been busy with one request for {:.1f} s", small);
  }
  const double large = http.large_pool.longest_run_seconds;
  if (large > services.options.large_limit_seconds) {
    return fmt::format("a thread has been busy with one large request for {:.1f} s", large);
  }
  return {};
}

}  // namespace

void health(const Services& services, const HttpRequest&,
            const std::shared_ptr<Exchange>& exchange) {
  const std::string reason = hung_reason(services);
  Json out = Json::object();
  out["status"] = reason.empty() ? "ok" : "hung";
  if (!reason.empty()) out["reason"] = reason;
  send_json(*exchange, reason.empty() ? 200 : 503, out);
}

void ready(const Services& services, const HttpRequest&,
           const std::shared_ptr<Exchange>& exchange) {
  const ServiceState state = services.deps.service->state();
  const HttpServerState http = services.http();
  const bool draining = state.draining || http.draining;
  const double waited = http.small_pool.longest_wait_seconds;
  std::string reason = hung_reason(services);
  if (draining) {
    reason = "the server is shutting down";
  } else if (!state.ready) {
    reason = state.not_ready_reason;
  } else if (reason.empty() && waited > services.options.small_limit_seconds) {
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

}  // namespace shoal::gateway::endpoints

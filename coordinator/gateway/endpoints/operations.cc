// GET /metrics, /cluster, /version and /
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/version.h"
#include "coordinator/gateway/reply.h"
#include "coordinator/gateway/route.h"

namespace shoal::gateway::endpoints {

void metrics(const Services& services, const HttpRequest&,
             const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  if (services.deps.metrics) response.body = services.deps.metrics();
  exchange->respond(std::move(response));
}

void cluster(const Services& services, const HttpRequest&,
             const std::shared_ptr<Exchange>& exchange) {
  const ServiceState state = services.deps.service->state();
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
  out["model"] = services.options.served_model;
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
  out["context_tokens"] = services.context_tokens();
  out["workers"] = std::move(workers);
  send_json(*exchange, 200, out);
}

void version(const Services&, const HttpRequest&, const std::shared_ptr<Exchange>& exchange) {
  send_json(*exchange, 200, Json::object({{"version", kVersion}}));
}

void summary(const Services& services, const HttpRequest&,
             const std::shared_ptr<Exchange>& exchange) {
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  response.body = fmt::format("Shoal serves {}.\n", services.options.served_model);
  for (const Route& route : routes()) {
    if (route.access == Access::kMetrics && !services.options.metrics) continue;
    response.body += fmt::format("{:<4} {}\n", route.method, route.path);
  }
  exchange->respond(std::move(response));
}

}  // namespace shoal::gateway::endpoints

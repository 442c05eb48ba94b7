#include "coordinator/gateway/from_config.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/rng.h"

namespace shoal::gateway {

HttpServerOptions server_options(const config::Config& config) {
  const config::Limits& limits = config.coordinator.limits;
  HttpServerOptions out;
  out.host = config.coordinator.listen.host;
  out.port = config.coordinator.listen.port;
  out.header_bytes = limits.max_header_bytes;
  out.body_bytes = limits.max_body_bytes;
  // Of each client's part at least one body must fit.
  out.total_body_bytes =
      std::max<size_t>(out.total_body_bytes, out.body_shares * limits.max_body_bytes);
  out.max_connections = limits.max_connections;
  out.header_timeout = limits.header_timeout;
  out.body_timeout = limits.body_timeout;
  out.write_timeout = limits.write_timeout;
  out.idle_timeout = limits.keep_alive;
  return out;
}

GatewayOptions gateway_options(const config::Config& config, bool keys, std::string served_model,
                               std::string system_fingerprint) {
  const config::Limits& limits = config.coordinator.limits;
  GatewayOptions out;
  out.served_model = std::move(served_model);
  out.system_fingerprint = std::move(system_fingerprint);
  out.json.depth = limits.max_json_depth;
  out.limits.max_n = limits.max_n;
  out.limits.max_stop = limits.max_stop_sequences;
  out.limits.max_logit_bias = limits.max_logit_bias;
  out.limits.max_top_logprobs = limits.max_top_logprobs;
  const config::Sampling& sampling = config.sampling;
  out.limits.sampling.temperature = static_cast<float>(sampling.temperature);
  out.limits.sampling.top_p = static_cast<float>(sampling.top_p);
  out.limits.sampling.min_p = static_cast<float>(sampling.min_p);
  out.limits.sampling.top_k = static_cast<int32_t>(sampling.top_k);
  out.limits.sampling.presence = static_cast<float>(sampling.presence_penalty);
  out.limits.sampling.frequency = static_cast<float>(sampling.frequency_penalty);
  out.limits.sampling.repetition = static_cast<float>(sampling.repetition_penalty);
  if (sampling.max_tokens > 0) out.limits.max_tokens = sampling.max_tokens;
  out.cors = CorsPolicy(config.coordinator.cors_origins, keys);
  out.metrics = config.metrics.enabled;
  out.metrics_need_key = config.metrics.require_key;
  return out;
}

AccessLog make_access_log(const config::Config& config, bool keys) {
  return AccessLog(
      {config.coordinator.access_log, config.coordinator.access_log_sample, keys},
      [] { return random_seed(); }, [](const std::string& line) { log_info(line); });
}

Result<ApiKeys> load_keys(const config::Config& config) {
  const config::Coordinator& coordinator = config.coordinator;
  ApiKeys keys;
  if (!coordinator.api_keys.empty()) {
    SHOAL_ASSIGN(keys, ApiKeys::load(coordinator.api_keys, config.security.allow_open_key_files));
  }
  SHOAL_TRY(check_exposure(coordinator.listen.host, keys, coordinator.allow_unauthenticated));
  return keys;
}

}  // namespace shoal::gateway

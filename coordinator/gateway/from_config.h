// The gateway's options as the configuration file has them.
#pragma once

#include <string>

#include "config/config.h"
#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/http_server.h"

namespace shoal::gateway {

HttpServerOptions server_options(const config::Config& config);
// `served_model` and `system_fingerprint` come from the model that was loaded.
GatewayOptions gateway_options(const config::Config& config, std::string served_model,
                               std::string system_fingerprint);
// Loads the keys and checks that nothing unguarded listens off loopback.
Result<ApiKeys> load_keys(const config::Config& config);

}  // namespace shoal::gateway

// The gateway's options as the configuration file has them.
#pragma once

#include <string>

#include "config/config.h"
#include "coordinator/gateway/access_log.h"
#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/http_server.h"

namespace shoal::gateway {

HttpServerOptions server_options(const config::Config& config);
// `keys`: are there any to ask for? `served_model` and `system_fingerprint` come from the model that was loaded.
GatewayOptions gateway_options(const config::Config& config, bool keys, std::string served_model,
                               std::string system_fingerprint);
// To this process's log.
AccessLog make_access_log(const config::Config& config, bool keys);
// Loads the keys and checks that nothing unguarded listens off loopback.
Result<ApiKeys> load_keys(const config::Config& config);

}  // namespace shoal::gateway

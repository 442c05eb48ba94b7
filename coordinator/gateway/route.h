// The table of routes: what the API is, in one place (routes.cc). An endpoint is a function in a
// file of endpoints/.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "coordinator/gateway/http.h"
#include "coordinator/gateway/services.h"

namespace shoal::gateway {

// Answers `exchange`, at once or later; any exception becomes an error for this client alone.
// Called as HttpService::handle() is.
using Endpoint = void(const Services& services, const HttpRequest& request,
                      const std::shared_ptr<Exchange>& exchange);

enum class Access : uint8_t {
  kKey,      // needs a key, if there are any
  kOpen,     // needs none, and is answered while the server drains
  kMetrics,  // as options.metrics and options.metrics_need_key say, and while the server drains
};

struct Route {
  std::string_view method;  // GET or POST; POST takes a body
  const char* path;         // a trailing '*' matches any rest
  Endpoint* endpoint;
  Access access = Access::kKey;
  const char* id_prefix = "req";  // of the ids of requests that bring none
};

std::span<const Route> routes();

// Is the path, as plain_path() makes it, one of the route's?
bool matches(const Route& route, std::string_view path);

}  // namespace shoal::gateway

// Which web pages may call the server and read its answers: Cross-Origin Resource Sharing (the
// Fetch standard, "CORS protocol"). Immutable after construction.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/origin.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

class CorsPolicy {
 public:
  CorsPolicy() = default;  // no page of another origin

  // As config::Coordinator::cors_origins has them. "auto": any origin if the server asks for
  // `keys`, which a page must know then, else pages that this machine serves itself (localhost,
  // 127.x.x.x,
  // [::1], any port). What is no origin allows nothing.
  CorsPolicy(const std::vector<std::string>& origins, bool keys);

  bool allows(std::string_view origin) const;
  // What every answer to this request carries.
  HttpHeaders headers(const HttpRequest& request) const;
  // Does a browser ask whether a page may send a request? It does so without any key.
  static bool is_preflight(const HttpRequest& request);
  // The answer, besides headers().
  HttpResponse preflight(const HttpRequest& request) const;

 private:
  std::vector<config::Origin> patterns_;
  bool any_ = false, null_ = false, loopback_ = false;
};

}  // namespace shoal::gateway

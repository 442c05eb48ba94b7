// Gateway: Shoal's HTTP API. routes.cc is the table of what there is, docs/http-api.md the
// reference.
#pragma once

#include <memory>
#include <string>

#include "coordinator/gateway/route.h"
#include "coordinator/gateway/services.h"

namespace shoal::gateway {

class Gateway : public HttpService {
 public:
  // Everything in `dependencies` outlives the gateway, the gateway outlives the HTTP server.
  Gateway(GatewayDependencies dependencies, GatewayOptions options);

  // Path, method and key, in that order of what is told to whom: without a key nobody learns more.
  HttpVerdict judge(const HttpRequest& head, bool draining) override;
  // Of requests that judge() let in.
  void handle(std::shared_ptr<const HttpRequest> request,
              std::shared_ptr<Exchange> exchange) override;
  void refused(HttpRefusal reason) override;
  void over(const HttpRecord& record) override;

 private:
  const Route* find_route(const HttpRequest& head, const Route** named, std::string* allow) const;
  std::string known_paths() const;  // for who asks for another
  bool exists(const Route& route) const;
  bool is_open(const Route& route) const;
  void name_request(const HttpRequest& head, const Route* route, HttpTicket* ticket);

  const Services services_;
};

}  // namespace shoal::gateway

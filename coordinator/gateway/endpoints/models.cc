// GET /v1/models and /v1/models/NAME
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/quote.h"
#include "coordinator/gateway/reply.h"
#include "coordinator/gateway/route.h"

namespace shoal::gateway::endpoints {
namespace {

Json model_json(const Services& services) {
  Json out = Json::object();
  out["id"] = services.options.served_model;
  out["object"] = "model";
  out["created"] = services.created;
  out["owned_by"] = "shoal";
  out["max_model_len"] = services.context_tokens();
  return out;
}

}  // namespace

void models(const Services& services, const HttpRequest&,
            const std::shared_ptr<Exchange>& exchange) {
  Json out = Json::object();
  out["object"] = "list";
  out["data"] = Json::array();
  out["data"].push_back(model_json(services));
  send_json(*exchange, 200, out);
}

void model(const Services& services, const HttpRequest& request,
           const std::shared_ptr<Exchange>& exchange) {
  const std::string name = plain_path(request.path).substr(std::string_view("/v1/models/").size());
  if (name == services.options.served_model) {
    send_json(*exchange, 200, model_json(services));
    return;
  }
  ApiError error;
  error.status = 404;
  error.message = fmt::format("the model {} is not served here; {} is", in_quotes(name),
                              in_quotes(services.options.served_model));
  error.param = "model";
  error.code = "model_not_found";
  send_error(*exchange, error);
}

}  // namespace shoal::gateway::endpoints

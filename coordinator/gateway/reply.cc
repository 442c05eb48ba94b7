#include "coordinator/gateway/reply.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace shoal::gateway {

void send_error(Exchange& exchange, const ApiError& error) {
  exchange.respond(error_response(error));
}

void send_json(Exchange& exchange, int status, const Json& body) {
  HttpResponse response;
  response.status = status;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  exchange.respond(std::move(response));
}

std::shared_ptr<const Json> json_body(const HttpRequest& request, const JsonLimits& limits,
                                      Exchange& exchange) {
  auto parsed = parse_json(request.body, limits);
  if (parsed) return share_json(std::move(parsed).value());
  send_error(exchange, invalid_field("", parsed.status().message(), "invalid_json"));
  return nullptr;
}

ApiError encoding_error(const Status& status, const char* param) {
  if (status.code() == Code::kInternal) return from_status(status);
  return invalid_field(
      param, status.message(),
      status.code() == Code::kOutOfRange ? "context_length_exceeded" : "invalid_value");
}

}  // namespace shoal::gateway

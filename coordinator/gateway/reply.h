// What many endpoints do with a request's body and with errors.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "base/status.h"
#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/http.h"
#include "coordinator/gateway/json_reader.h"

namespace shoal::gateway {

void send_error(Exchange& exchange, const ApiError& error);
void send_json(Exchange& exchange, int status, const Json& body);

// The body as JSON, or null after an error has been sent.
std::shared_ptr<const Json> json_body(const HttpRequest& request, const JsonLimits& limits,
                                      Exchange& exchange);

// What an encoding that failed is to the client; `param` held the text.
ApiError encoding_error(const Status& status, const char* param);

}  // namespace shoal::gateway

// The error every HTTP answer uses: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <string>

#include "base/status.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;            // the field at fault, e.g. "messages[2].content"; empty → null
  std::string code;             // machine-readable; empty → null
  int retry_after_seconds = 0;  // > 0: a Retry-After header goes with it
};

// As it is sent.
HttpResponse error_response(const ApiError& error);

// The response body; one line, valid UTF-8 and bounded (base/quote.h) whatever the message holds.
std::string error_body(const ApiError& error);

// `message` names the field for people, `param` for programs.
ApiError invalid_field(std::string param, std::string message, std::string code = "invalid_value");

// What a service's refusal or failure is over HTTP: kInvalidArgument 400, kResourceExhausted 429,
// kUnavailable 503, everything else 500.
ApiError from_status(const Status& status);

}  // namespace shoal::gateway

#include "coordinator/gateway/api_error.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/quote.h"

namespace shoal::gateway {
namespace {

nlohmann::ordered_json string_or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
}

}  // namespace

std::string error_body(const ApiError& error) {
  nlohmann::ordered_json inner;
  inner["message"] = bounded_message(error.message);
  inner["type"] = error.type;
  inner["param"] = string_or_null(excerpt(error.param));
  inner["code"] = string_or_null(error.code);
  nlohmann::ordered_json body;
  body["error"] = std::move(inner);
  return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

HttpResponse error_response(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = error_body(error);
  if (error.retry_after_seconds > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
  }
  return response;
}

ApiError invalid_field(std::string param, std::string message, std::string code) {
  ApiError error;
  error.message = std::move(message);
  error.param = std::move(param);
  error.code = std::move(code);
  return error;
}

ApiError from_status(const Status& status) {
  ApiError error;
  error.message = status.message();
  switch (status.code()) {
    case Code::kInvalidArgument:
    case Code::kOutOfRange:
    case Code::kUnsupported:
      error.status = 400;
      error.code = "invalid_value";
      break;
    case Code::kResourceExhausted:
      error.status = 429;
      error.type = "rate_limit_error";
      error.code = "queue_full";
      error.retry_after_seconds = 1;
      break;
    case Code::kUnavailable:
      error.status = 503;
      error.type = "unavailable_error";
      error.code = "unavailable";
      error.retry_after_seconds = 2;
      break;
    default:
      error.status = 500;
      error.type = "server_error";
      error.code = "internal_error";
      break;
  }
  return error;
}

}  // namespace shoal::gateway

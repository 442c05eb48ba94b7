// Request bodies: the first byte picks the endpoint, the rest is the JSON. Nothing may crash, every
// error must itself be valid JSON, and what is accepted must keep its promises.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/check.h"
#include "coordinator/gateway/api_request.h"
#include "wire/validate.h"

namespace {

using namespace shoal::gateway;

void check_error(const ApiError& error) {
  SHOAL_CHECK(error.status >= 400 && !error.message.empty(), "an error without words");
  const Json body = Json::parse(error_body(error));
  SHOAL_CHECK(body["error"].size() == 4, "an error of another shape");
}

void check_options(const GenerationOptions& options, const RequestLimits& limits) {
  SHOAL_CHECK(options.n >= 1 && options.n <= limits.max_n, "n");
  SHOAL_CHECK(!options.max_tokens || *options.max_tokens >= 1 || options.echo, "max_tokens");
  // Whatever is accepted can be sent to a worker.
  shoal::wire::NewSequence sequence;
  sequence.generation = 1;
  sequence.tokens = {1};
  sequence.prompt_tokens = 1;
  sequence.sampling = options.sampling;
  shoal::wire::Step step;
  step.epoch = step.step = 1;
  step.started = {sequence};
  const shoal::Status sendable = shoal::wire::validate(shoal::wire::ToWorker(step));
  SHOAL_CHECK(sendable.is_ok(), sendable.message());
  SHOAL_CHECK(options.stop.size() <= limits.max_stop, "stop");
  for (const auto& stop : options.stop) SHOAL_CHECK(!stop.empty(), "stop");
  for (const auto& [id, bias] : options.sampling.logit_bias) {
    SHOAL_CHECK(id >= 0 && id < limits.vocab_size && bias >= -100 && bias <= 100, "logit_bias");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  auto json = parse_json(text);
  if (!json) return 0;
  RequestLimits limits;
  limits.vocab_size = 1000;
  limits.served_model = "m";
  switch (data[0] % 4) {
    case 0: {
      auto parsed = parse_chat_request(*json, limits);
      if (auto* error = std::get_if<ApiError>(&parsed)) return check_error(*error), 0;
      const auto& request = std::get<ChatRequest>(parsed);
      check_options(request.options, limits);
      for (const Json& message : *request.messages) {
        SHOAL_CHECK(message["content"].is_string() && message["role"].is_string(), "message");
      }
      return 0;
    }
    case 1: {
      auto parsed = parse_completion_request(*json, limits);
      if (auto* error = std::get_if<ApiError>(&parsed)) return check_error(*error), 0;
      const auto& request = std::get<CompletionRequest>(parsed);
      check_options(request.options, limits);
      SHOAL_CHECK(!request.prompts.empty(), "no prompt");
      return 0;
    }
    case 2: {
      auto parsed = parse_tokenize_request(*json);
      if (auto* error = std::get_if<ApiError>(&parsed)) check_error(*error);
      return 0;
    }
    default: {
      auto parsed = parse_detokenize_request(*json, limits);
      if (auto* error = std::get_if<ApiError>(&parsed)) check_error(*error);
      return 0;
    }
  }
}

// /v1/completions, /tokenize and /detokenize.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/field_reader.h"
#include "coordinator/gateway/parse_options.h"

namespace shoal::gateway {
namespace {

constexpr size_t kAnyLength = SIZE_MAX;  // bounded by the body

ApiError not_an_object() {
  return invalid_field("", "the body must be a JSON object", "invalid_json");
}

// No text is a prompt where the model adds a token in front; elsewhere it gives no tokens, which is
// found when it is encoded.
bool add_text_prompt(const Json& value, CompletionRequest* out) {
  out->prompts.emplace_back(value.get_ref<const std::string&>());
  return true;
}

bool add_token_prompt(FieldReader& fields, const std::string& name, const Json& value,
                      int32_t vocab_size, CompletionRequest* out) {
  std::vector<int32_t> ids;
  if (!parse_token_ids(fields, name, value, vocab_size, &ids)) return false;
  if (ids.empty()) {
    fields.fail(name, fmt::format("'{}' must not be empty", name));
    return false;
  }
  out->prompts.emplace_back(std::move(ids));
  return true;
}

// A text, an array of tokens, an array of texts, or an array of arrays of tokens.
void parse_prompt(FieldReader& fields, const RequestLimits& limits, CompletionRequest* out) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) {
    fields.fail("prompt", "'prompt' is required", "missing_required_parameter");
    return;
  }
  if (prompt->is_string()) {
    add_text_prompt(*prompt, out);
    return;
  }
  if (!prompt->is_array() || prompt->empty()) {
    fields.must("prompt", "a text, a token array, or a non-empty array of these");
    return;
  }
  const Json& first = prompt->front();
  if (first.is_number()) {
    add_token_prompt(fields, "prompt", *prompt, limits.vocab_size, out);
    return;
  }
  if (prompt->size() > limits.max_choices) {
    fields.must("prompt", fmt::format("at most {} prompts", limits.max_choices));
    return;
  }
  for (size_t i = 0; i < prompt->size(); ++i) {
    const Json& element = (*prompt)[i];
    const std::string name = fmt::format("prompt[{}]", i);
    if (element.type() != first.type() || !(element.is_string() || element.is_array())) {
      fields.must(name, "of the same kind as the other prompts: a text or a token array");
      return;
    }
    const bool good = element.is_string()
                          ? add_text_prompt(element, out)
                          : add_token_prompt(fields, name, element, limits.vocab_size, out);
    if (!good) return;
  }
}

}  // namespace

std::variant<CompletionRequest, ApiError> parse_completion_request(const Json& body,
                                                                   const RequestLimits& limits) {
  if (!body.is_object()) return not_an_object();
  std::optional<ApiError> error;
  FieldReader fields(body, "", &error);
  CompletionRequest request;
  parse_prompt(fields, limits, &request);
  const bool full_text = fields.boolean("return_full_text").value_or(false);  // Hugging Face's
  request.options.echo = fields.boolean("echo").value_or(full_text);
  parse_options(fields, limits, &request.options);
  if (const auto count = fields.integer("logprobs", 0, limits.max_top_logprobs)) {
    request.options.sampling.top_logprobs = static_cast<int32_t>(*count);
  }
  request.add_special = fields.boolean("add_special_tokens").value_or(true);
  refuse_unsupported(fields, AnswerKind::kCompletion);
  if (request.prompts.size() * request.options.n > limits.max_choices) {
    fields.must("n", fmt::format("such that prompts × n is at most {}", limits.max_choices));
  }
  if (error) return *error;
  return request;
}

std::variant<TokenizeRequest, ApiError> parse_tokenize_request(const Json& body) {
  if (!body.is_object()) return not_an_object();
  std::optional<ApiError> error;
  FieldReader fields(body, "", &error);
  TokenizeRequest request;
  const char* name = fields.find("content") != nullptr ? "content" : "prompt";
  const auto text = fields.string(name, kAnyLength);
  if (!text && !error) {
    fields.fail("content", "'content' (or 'prompt') is required", "missing_required_parameter");
  }
  request.content = text.value_or("");
  request.add_special = fields.boolean("add_special").value_or(request.add_special);
  request.parse_special = fields.boolean("parse_special").value_or(request.parse_special);
  request.with_pieces = fields.boolean("with_pieces").value_or(request.with_pieces);
  if (error) return *error;
  return request;
}

std::variant<std::vector<int32_t>, ApiError> parse_detokenize_request(const Json& body,
                                                                      const RequestLimits& limits) {
  if (!body.is_object()) return not_an_object();
  std::optional<ApiError> error;
  FieldReader fields(body, "", &error);
  const Json* tokens = fields.array("tokens");
  if (tokens == nullptr) {
    fields.fail("tokens", "'tokens' is required", "missing_required_parameter");
    return *error;
  }
  std::vector<int32_t> ids;
  parse_token_ids(fields, "tokens", *tokens, limits.vocab_size, &ids);
  if (error) return *error;
  return ids;
}

}  // namespace shoal::gateway

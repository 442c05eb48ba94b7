// The OpenAI requests as plain structs, and the parsers that make them from JSON. A parser checks
// type and range of every field it knows; fields nobody knows are ignored, fields that are known
// but not supported are refused by name (docs/http-api.md has the table).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/json_reader.h"
#include "wire/messages.h"

namespace shoal::gateway {

// Bounds of one request, each with its reason.
struct RequestLimits {
  int32_t vocab_size = 0;         // token ids are below it
  std::string served_model;       // for requests that name no model
  uint32_t max_n = 16;            // choices per prompt
  uint32_t max_choices = 128;     // prompts × n: what one request may take of the queue
  uint32_t max_stop = 16;         // matching costs stops × text
  uint32_t max_stop_bytes = 256;  // this much text may be held back from a stream
  uint32_t max_messages = 16384;
  uint32_t max_top_logprobs = wire::kMaxTopLogprobs;
  uint32_t max_logit_bias = wire::kMaxLogitBias;
  // For requests that do not say.
  wire::SamplingParams sampling;
  std::optional<uint32_t> max_tokens;
};

struct GenerationOptions {  // what chat and text completions have in common
  std::string model;        // echoed
  bool stream = false;
  bool include_usage = false;
  uint32_t n = 1;
  // ≥ 1, with `echo` ≥ 0; absent: what the context leaves
  std::optional<uint32_t> max_tokens;
  wire::SamplingParams sampling;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  std::string cache_salt;  // shares cached prefixes only with requests of the same
  bool return_token_ids = false;
  bool echo = false;  // completions: the text begins with the prompt

  bool logprobs() const { return sampling.top_logprobs >= 0; }
};

struct ChatRequest {
  GenerationOptions options;
  std::shared_ptr<const Json> messages;  // [{role, content: string, …}], ready for the template
  std::shared_ptr<const Json> template_arguments;  // chat_template_kwargs: an object, or null
  bool add_generation_prompt = true;
  bool continues = false;  // the last message, an assistant's, is the beginning of the answer
};

using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  GenerationOptions options;
  std::vector<Prompt> prompts;  // ≥ 1, none empty
  bool add_special = true;      // for text prompts; token arrays get nothing added
};

struct TokenizeRequest {
  std::string content;
  bool add_special = false;
  bool parse_special = true;
  bool with_pieces = false;
};

// REQUIRES body.is_object() for none of these: anything else is an error like the others.
std::variant<ChatRequest, ApiError> parse_chat_request(const Json& body,
                                                       const RequestLimits& limits);
std::variant<CompletionRequest, ApiError> parse_completion_request(const Json& body,
                                                                   const RequestLimits& limits);
std::variant<TokenizeRequest, ApiError> parse_tokenize_request(const Json& body);
// {"tokens": [ids]}
std::variant<std::vector<int32_t>, ApiError> parse_detokenize_request(const Json& body,
                                                                      const RequestLimits& limits);

}  // namespace shoal::gateway

// Inside the request parsers: the fields that chat and text completions share.
#pragma once

#include <string_view>
#include <vector>

#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/field_reader.h"

namespace shoal::gateway {

enum class AnswerKind { kChat, kCompletion };

// Everything in GenerationOptions except `echo`, which must be there before, and logprobs, whose
// form differs between the two.
void parse_options(FieldReader& fields, const RequestLimits& limits, GenerationOptions* out);

// Refuses by name the fields that OpenAI or other engines define and Shoal does not do, unless
// their value asks for nothing ("tools": []).
void refuse_unsupported(FieldReader& fields, AnswerKind kind);

// An array of token ids below vocab_size; `name` may be an element such as "prompt[1]".
bool parse_token_ids(FieldReader& fields, std::string_view name, const Json& array,
                     int32_t vocab_size, std::vector<int32_t>* out);

}  // namespace shoal::gateway

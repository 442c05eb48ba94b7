// Appends JSON to a string: for answers, where building a document first would cost twenty times
// the memory of the text (half a million log-probabilities in one body are legal).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace shoal::gateway {

// `text` with quotes; invalid UTF-8 becomes U+FFFD.
void append_json_string(std::string* out, std::string_view text);
// The shortest decimal that reads back as this float. JSON has no infinity: −inf and NaN become
// −9999, OpenAI's word for "practically impossible".
void append_json_logprob(std::string* out, std::optional<float> value);  // nothing is null
void append_json_integer(std::string* out, int64_t value);

}  // namespace shoal::gateway

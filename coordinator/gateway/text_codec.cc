#include "coordinator/gateway/text_codec.h"

#include <fmt/format.h>

namespace shoal::gateway {

Result<std::vector<int32_t>> encode_within(const TextCodec& codec, std::string_view text,
                                           const EncodeOptions& options, uint32_t context_tokens) {
  // Clients tell this error by OpenAI's words "maximum context length" (so does Gateway::generate).
  const uint64_t least = codec.least_tokens(text);
  if (least > context_tokens) {
    return out_of_range(
        fmt::format("the text has {} bytes, which are at least {} tokens; this model's maximum "
                    "context length is {} tokens",
                    text.size(), least, context_tokens));
  }
  return codec.encode(text, options);
}

}  // namespace shoal::gateway

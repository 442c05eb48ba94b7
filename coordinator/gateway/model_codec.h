// TextCodec over a model file's own tokenizer and chat template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal {
class GgufFile;
}

namespace shoal::gateway {

struct ModelCodec {
  std::unique_ptr<TextCodec> codec;
  std::vector<int32_t> end_tokens;  // the end-of-generation set, ascending
};

// kUnsupported: a tokenizer Shoal does not know. A chat template that does not parse is no error
// here: the model serves text completions, and chat requests are told why not.
Result<ModelCodec> make_model_codec(const GgufFile& file);

}  // namespace shoal::gateway

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
  std::vector<std::string> warnings;
};

// For a model whose embedding has `rows` rows (fit_vocab()). kUnsupported: a tokenizer Shoal does
// not know. A chat template that does not parse is a warning: the model serves text completions,
// and chat requests are told why not.
// `chat_template`: what to use instead of the file's own; a name of one of those the file has
// besides (tokenizer.chat_template.NAME), "chatml", or the path of a file of at most 1 MiB. Empty:
// the file's own, and one that cannot be used is a warning; else it is an error.
Result<ModelCodec> make_model_codec(const GgufFile& file, int64_t rows,
                                    const std::string& chat_template = "");

}  // namespace shoal::gateway

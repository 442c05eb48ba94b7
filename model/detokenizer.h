// Text from a stream of tokens, never ending inside a character.
#pragma once

#include <cstdint>
#include <string>

#include "model/tokenizer.h"

namespace shoal {

// One per stream; single-threaded. `tokenizer` outlives it.
class Detokenizer {
 public:
  // `continues`: the stream goes on after text that is already there, so a leading space is kept.
  explicit Detokenizer(const Tokenizer& tokenizer, bool continues = false)
      : tokenizer_(tokenizer), at_start_(!continues) {}

  // What is complete after this token; invalid bytes come out as U+FFFD.
  std::string push(int32_t id);
  // What is left when no token follows: half characters as U+FFFD.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool at_start_;
  std::string pending_;  // an incomplete character
};

}  // namespace shoal

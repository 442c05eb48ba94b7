// Token ids to text as they come. Not thread-safe; the tokenizer must outlive it.
#pragma once

#include <cstdint>
#include <string>

#include "model/tokenizer.h"

namespace shoal {

class Detokenizer {
 public:
  // Where the ids stand. At the start of a text the space that encoding put in front is taken away;
  // an answer continues a prompt, and keeps the space of its first word.
  enum class Position { kStart, kContinuation };

  explicit Detokenizer(const Tokenizer& tokenizer, Position position = Position::kContinuation)
      : tokenizer_(tokenizer),
        drop_space_(position == Position::kStart && tokenizer.adds_space_prefix()) {}

  // The text that became complete: always whole characters, possibly "". Control tokens print
  // nothing; bytes that cannot become UTF-8 come out as U+FFFD. The texts of all pushes and the
  // flush() together do not depend on where one push ends. REQUIRES: id in [0, vocab_size).
  std::string push(int32_t id);

  // What is left of an unfinished character, as U+FFFD; the object then starts anew mid-text.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool drop_space_;
  std::string pending_;  // an unfinished character, at most 3 bytes
};

}  // namespace shoal

// Echo: a prompt as the beginning of its completion's text, with the places of its tokens in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/gateway/choice.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway {

class Echo {
 public:
  // `text` is what `ids` (≥ 1) were made from, and is given back as it is. Tokens that are not in
  // it, such as a BOS put in front, take no room.
  Echo(const TextCodec& codec, std::vector<int32_t> ids, std::string text);
  // The text of ids alone is what detokenising makes of them.
  Echo(const TextCodec& codec, std::vector<int32_t> ids);

  size_t tokens() const { return ids_.size(); }
  size_t bytes() const { return text_.size(); }
  size_t characters() const { return characters_; }
  // Text and records of tokens [first, last), without log-probabilities. The parts of consecutive
  // ranges make up the whole text; none ends inside a character. REQUIRES first ≤ last ≤ tokens().
  ChoiceDelta part(size_t first, size_t last) const;

 private:
  void place(const TextCodec& codec);  // tokens in text_
  size_t begin(size_t token) const;    // byte; tokens() gives the end of the text

  std::vector<int32_t> ids_;
  std::string text_;
  std::vector<size_t> begins_;   // [tokens] byte at which each begins, moved back to a character's
  std::vector<size_t> offsets_;  // [tokens] in characters
  size_t characters_ = 0;
};

}  // namespace shoal::gateway

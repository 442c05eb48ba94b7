// From chat messages to prompt tokens, such that text from a message never becomes a control token
// (docs/chat-templates.md explains the method and what was rejected).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway {

// Finds the texts of control tokens. Immutable; a query costs a trie walk per byte.
class ControlTexts {
 public:
  explicit ControlTexts(const std::vector<std::string>& texts);

  // For every occurrence, overlapping ones included, the offset behind its first character: text
  // broken there does not hold that control text any more. Sorted, no duplicates.
  std::vector<size_t> inner_breaks(std::string_view text) const;
  bool contains(std::string_view text) const { return !inner_breaks(text).empty(); }
  // Could `text` form a control text together with what stands before or after it: it ends with the
  // beginning of one, begins with the end of one, or is part of the middle of one?
  bool edge_risk(std::string_view text) const;

 private:
  struct Node {
    std::vector<std::pair<unsigned char, uint32_t>> next;
    bool end = false;
  };
  uint32_t child(uint32_t node, char byte) const;  // 0: none

  std::vector<std::string> texts_;
  std::vector<Node> trie_;
  std::unordered_set<std::string> proper_suffixes_;
  size_t longest_ = 0;
};

// kInvalidArgument: the template refused the messages (with its own words), or they hold a control
// text that cannot be told from the template's own. kOutOfRange: what it made of them cannot fit
// into `context_tokens`.
Result<std::vector<int32_t>> chat_prompt_tokens(const TextCodec& codec,
                                                const ControlTexts& controls,
                                                const ChatRequest& request,
                                                uint32_t context_tokens);

}  // namespace shoal::gateway

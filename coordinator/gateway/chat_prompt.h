// From chat messages to prompt tokens, such that text from a message never becomes a control token
// (docs/chat-templates.md explains the method and what was rejected).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
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
  // Could `text` form a control text together with what stands on one side of it: it ends with the
  // beginning of one, or begins with the end of one?
  bool joins(std::string_view text) const;
  // Is all of `text` a piece of one? It could form one with what stands on both sides.
  bool is_piece(std::string_view text) const;
  // Any of it.
  bool is_risky(std::string_view text) const {
    return contains(text) || joins(text) || is_piece(text);
  }

 private:
  class Trie {
   public:
    Trie() : nodes_(1) {}
    void insert(std::string_view text, bool marks_end);
    uint32_t child(uint32_t node, char byte) const;  // 0: none
    bool ends(uint32_t node) const { return nodes_[node].end; }

   private:
    struct Node {
      std::vector<std::pair<unsigned char, uint32_t>> next;
      bool end = false;
    };
    std::vector<Node> nodes_;
    std::array<uint32_t, 256> first_{};  // the root's children: nearly every walk ends there
  };

  Trie texts_;
  Trie substrings_;  // of the texts; those that are proper suffixes end there
  size_t longest_ = 0;
};

// kInvalidArgument: the template refused the messages (with its own words), or they hold a control
// text that cannot be told from the template's own. kOutOfRange: what it made of them cannot fit
// into `context_tokens`. kResourceExhausted: the template takes more time or memory for them than
// `control`, which all its renderings share, allows. kCancelled.
Result<std::vector<int32_t>> chat_prompt_tokens(const TextCodec& codec,
                                                const ControlTexts& controls,
                                                const ChatRequest& request, uint32_t context_tokens,
                                                RenderControl& control);

}  // namespace shoal::gateway

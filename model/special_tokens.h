// Finding special tokens in text: an Aho-Corasick automaton over their texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace shoal {

struct SpecialToken {
  int32_t id = 0;
  std::string text;              // not empty
  bool may_span_breaks = false;  // user-defined tokens: harmless in text from outside
  bool strips_left = false;      // swallows white space before it
  bool strips_right = false;     // and after it
};

struct SpecialMatch {
  int32_t id;
  size_t begin;  // byte range, swallowed white space included
  size_t end;
};

// Immutable, thread-safe.
class SpecialTokens {
 public:
  explicit SpecialTokens(std::vector<SpecialToken> tokens);  // of equal texts the last one counts

  // Matches in ascending order, not overlapping. Longer texts claim their place before shorter
  // ones, wherever they stand; among equal lengths the leftmost. Time: linear in the text, times
  // the number of distinct lengths where matches lie.
  std::vector<SpecialMatch> find(std::string_view text, std::span<const size_t> breaks) const;

 private:
  struct Node {
    uint32_t fail = 0;
    uint32_t next_output = 0;  // nearest node on the fail chain that ends a text; 0: none
    int32_t token = -1;        // index into tokens_ of the text ending here
  };
  uint32_t child(uint32_t node, uint8_t byte) const;
  void insert(size_t token);
  void link();
  void claim(std::string_view text, std::span<const size_t> breaks, const SpecialToken& token,
             size_t end, std::vector<bool>* taken, std::vector<SpecialMatch>* out) const;

  std::vector<SpecialToken> tokens_;
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, uint32_t> children_;  // node << 8 | byte
};

}  // namespace shoal

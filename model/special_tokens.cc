#include "model/special_tokens.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

namespace shoal {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

SpecialTokens::SpecialTokens(std::vector<SpecialToken> tokens)
    : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) insert(i);
  link();
}

uint32_t SpecialTokens::child(uint32_t node, uint8_t byte) const {
  const auto found = children_.find(uint64_t{node} << 8 | byte);
  return found == children_.end() ? 0 : found->second;
}

void SpecialTokens::insert(size_t token) {
  uint32_t node = 0;
  for (const char c : tokens_[token].text) {
    uint32_t& next = children_[uint64_t{node} << 8 | static_cast<uint8_t>(c)];
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
    }
    node = next;
  }
  nodes_[node].token = static_cast<int32_t>(token);
}

// Fail links in order of depth: each follows its parent's.
void SpecialTokens::link() {
  std::vector<std::vector<std::pair<uint8_t, uint32_t>>> edges(nodes_.size());
  for (const auto& [key, to] : children_) {
    edges[key >> 8].emplace_back(static_cast<uint8_t>(key & 0xff), to);
  }
  std::vector<uint32_t> order{0};
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t parent = order[i];
    for (const auto& [byte, node] : edges[parent]) {
      order.push_back(node);
      if (parent == 0) continue;
      uint32_t state = nodes_[parent].fail;
      while (state != 0 && child(state, byte) == 0) state = nodes_[state].fail;
      const uint32_t fail = child(state, byte);
      nodes_[node].fail = fail;
      nodes_[node].next_output = nodes_[fail].token >= 0 ? fail : nodes_[fail].next_output;
    }
  }
}

void SpecialTokens::claim(std::string_view text, std::span<const size_t> breaks,
                          const SpecialToken& token, size_t end, std::vector<bool>* taken,
                          std::vector<SpecialMatch>* out) const {
  size_t begin = end - token.text.size();
  // What is taken is at least as long as this text, so it cannot lie strictly inside.
  if ((*taken)[begin] || (*taken)[end - 1]) return;
  if (!token.may_span_breaks) {
    const auto inside = std::upper_bound(breaks.begin(), breaks.end(), begin);
    if (inside != breaks.end() && *inside < end) return;
  }
  if (token.strips_left) {
    while (begin > 0 && is_space(text[begin - 1]) && !(*taken)[begin - 1]) --begin;
  }
  if (token.strips_right) {
    while (end < text.size() && is_space(text[end]) && !(*taken)[end]) ++end;
  }
  std::fill(taken->begin() + static_cast<ptrdiff_t>(begin),
            taken->begin() + static_cast<ptrdiff_t>(end), true);
  out->push_back({token.id, begin, end});
}

std::vector<SpecialMatch> SpecialTokens::find(std::string_view text,
                                              std::span<const size_t> breaks) const {
  std::vector<SpecialMatch> matches;
  if (tokens_.empty()) return matches;
  // Where texts end: (end, the node of the longest text ending there).
  std::vector<std::pair<size_t, uint32_t>> ends;
  std::set<size_t, std::greater<>> lengths;  // those that occur, longest first
  std::vector<bool> seen(nodes_.size());
  uint32_t state = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    uint32_t next = child(state, byte);
    while (next == 0 && state != 0) {
      state = nodes_[state].fail;
      next = child(state, byte);
    }
    state = next;
    const uint32_t longest = nodes_[state].token >= 0 ? state : nodes_[state].next_output;
    if (longest == 0) continue;
    ends.emplace_back(i + 1, longest);
    for (uint32_t node = longest; node != 0 && !seen[node]; node = nodes_[node].next_output) {
      seen[node] = true;
      lengths.insert(tokens_[static_cast<size_t>(nodes_[node].token)].text.size());
    }
  }
  std::vector<bool> taken(text.size());
  for (const size_t length : lengths) {
    for (auto& [end, node] : ends) {
      if (node == 0) continue;
      const SpecialToken& token = tokens_[static_cast<size_t>(nodes_[node].token)];
      if (token.text.size() != length) continue;
      claim(text, breaks, token, end, &taken, &matches);
      node = nodes_[node].next_output;  // the next shorter one, for a later round
    }
  }
  std::sort(matches.begin(), matches.end(),
            [](const SpecialMatch& a, const SpecialMatch& b) { return a.begin < b.begin; });
  return matches;
}

}  // namespace shoal

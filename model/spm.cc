// SentencePiece-style encoding: merge the adjacent pair whose joined text is the token with the
// highest score, leftmost first, until no pair is a token.
#include <queue>
#include <unordered_map>
#include <utility>

#include "base/utf8.h"
#include "model/subword.h"

namespace shoal {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

// A run of the text; a linked list by index. Length 0: merged into its left neighbour.
struct Symbol {
  size_t begin;
  size_t length;
  int64_t previous;  // −1: none
  int64_t next;
  int32_t token;  // −1: not a token (single characters only)
};

struct Pair {
  float score;
  int64_t left, right;
  size_t length;  // of both when queued: tells that neither has changed since
  int32_t token;
  // priority_queue pops the largest: the highest score, then the leftmost.
  bool operator<(const Pair& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

class SpmEncoder final : public SubwordEncoder {
 public:
  SpmEncoder(const Vocab& vocab, bool add_space_prefix)
      : texts_(vocab.tokens), scores_(vocab.scores), add_space_prefix_(add_space_prefix) {
    bytes_.assign(256, -1);
    ids_.reserve(texts_.size());
    for (size_t i = 0; i < texts_.size(); ++i) {
      if (!is_text_token(vocab, i)) continue;
      const int value = byte_token_value(texts_[i]);
      if (vocab.kinds[i] == TokenKind::kByte && value >= 0) {
        bytes_[static_cast<size_t>(value)] = static_cast<int32_t>(i);
        continue;
      }
      ids_[texts_[i]] = static_cast<int32_t>(i);  // of equal texts the last one counts
    }
    unknown_ = vocab.unknown.value_or(-1);
  }

  bool adds_bos_by_default() const override { return true; }

  Status encode(std::string_view text, std::vector<int32_t>* out) const override {
    std::string marked;
    marked.reserve(text.size() + text.size() / 2 + 3);
    if (add_space_prefix_) marked += kSpaceMark;
    for (const char c : text) {
      if (c == ' ') {
        marked += kSpaceMark;
      } else {
        marked += c;
      }
    }
    std::vector<Symbol> symbols = characters(marked);
    merge(marked, &symbols);
    for (int64_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      const Symbol& symbol = symbols[static_cast<size_t>(i)];
      if (symbol.token >= 0) {
        out->push_back(symbol.token);
      } else {
        SHOAL_TRY(fall_back(std::string_view(marked).substr(symbol.begin, symbol.length), out));
      }
    }
    return Status::ok();
  }

 private:
  int32_t find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  std::vector<Symbol> characters(std::string_view text) const {
    std::vector<Symbol> symbols;
    symbols.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      next_code_point(text, &at);
      const auto index = static_cast<int64_t>(symbols.size());
      const int32_t token = find(text.substr(begin, at - begin));
      symbols.push_back({begin, at - begin, index - 1, index + 1, token});
    }
    symbols.back().next = -1;
    return symbols;
  }

  void merge(std::string_view text, std::vector<Symbol>* symbols) const {
    std::vector<Symbol>& all = *symbols;
    std::priority_queue<Pair> queue;
    const auto offer = [&](int64_t left, int64_t right) {
      if (left < 0 || right < 0) return;
      const Symbol& a = all[static_cast<size_t>(left)];
      const size_t length = a.length + all[static_cast<size_t>(right)].length;
      const int32_t token = find(text.substr(a.begin, length));
      if (token < 0) return;
      queue.push({scores_[static_cast<size_t>(token)], left, right, length, token});
    };
    for (size_t i = 1; i < all.size(); ++i) {
      offer(static_cast<int64_t>(i) - 1, static_cast<int64_t>(i));
    }
    while (!queue.empty()) {
      const Pair pair = queue.top();
      queue.pop();
      Symbol& left = all[static_cast<size_t>(pair.left)];
      Symbol& right = all[static_cast<size_t>(pair.right)];
      if (left.length == 0 || right.length == 0 || left.length + right.length != pair.length) {
        continue;
      }
      left.length = pair.length;
      left.token = pair.token;
      left.next = right.next;
      right.length = 0;
      if (right.next >= 0) all[static_cast<size_t>(right.next)].previous = pair.left;
      offer(left.previous, pair.left);
      offer(pair.left, left.next);
    }
  }

  // A character that is no token: its bytes, as byte tokens.
  Status fall_back(std::string_view character, std::vector<int32_t>* out) const {
    for (const char c : character) {
      int32_t token = bytes_[static_cast<uint8_t>(c)];
      if (token < 0) token = find(std::string_view(&c, 1));
      if (token < 0) token = unknown_;
      if (token < 0) {
        return invalid_argument("the vocabulary has no token for byte " +
                                std::to_string(static_cast<uint8_t>(c)) +
                                " and no unknown token: the text cannot be written in it");
      }
      out->push_back(token);
    }
    return Status::ok();
  }

  const std::vector<std::string> texts_;  // ids_ views them
  const std::vector<float> scores_;
  const bool add_space_prefix_;
  std::unordered_map<std::string_view, int32_t> ids_;
  std::vector<int32_t> bytes_;  // [256] byte tokens, −1: none
  int32_t unknown_ = -1;
};

}  // namespace

int byte_token_value(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

Result<std::unique_ptr<const SubwordEncoder>> make_spm_encoder(const Vocab& vocab,
                                                               bool add_space_prefix) {
  if (vocab.scores.size() != vocab.tokens.size()) {
    return invalid_argument(
        "key 'tokenizer.ggml.scores' is missing: a vocabulary of model 'llama' needs a score for "
        "every token");
  }
  return std::unique_ptr<const SubwordEncoder>(
      std::make_unique<SpmEncoder>(vocab, add_space_prefix));
}

}  // namespace shoal

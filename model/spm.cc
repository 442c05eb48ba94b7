// SentencePiece-style encoding: merge the adjacent pair whose joined text is the token with the
// highest score, leftmost first, until no pair is a token.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/utf8.h"
#include "model/subword.h"

namespace shoal {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";
constexpr size_t kMaxPieceBytes = 1u << 30;  // what 32-bit offsets and indices reach

// A run of the piece; a linked list by index. Length 0: merged into its left neighbour. Small: of a
// text without spaces there is one per character.
struct Symbol {
  uint32_t begin;
  uint32_t length;
  int32_t previous;  // −1: none
  int32_t next;
  int32_t token;  // −1: not a token (single characters only)
};

// A symbol and its right neighbour that could become one token.
struct Pair {
  float score;
  int32_t left;
  uint32_t length;  // of both when queued: tells that neither has changed since
  int32_t token;
  // A heap's top is its largest: the highest score, then the leftmost.
  bool operator<(const Pair& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

// What encoding one piece needs, kept for the next.
struct Scratch {
  std::vector<Symbol> symbols;
  std::vector<Pair> heap;
};

// Does a mark follow another character somewhere in `text`?
bool has_inner_mark(std::string_view text) {
  const size_t after_marks = [&] {
    size_t at = 0;
    while (text.substr(at).starts_with(kSpaceMark)) at += kSpaceMark.size();
    return at;
  }();
  return text.find(kSpaceMark, after_marks) != text.npos;
}

class SpmEncoder final : public SubwordEncoder {
 public:
  SpmEncoder(const Vocab& vocab, bool add_space_prefix)
      : texts_(vocab.tokens), scores_(vocab.scores), add_space_prefix_(add_space_prefix) {
    bytes_.assign(256, -1);
    ids_.reserve(texts_.size());
    for (size_t i = 0; i < texts_.size(); ++i) {
      if (!is_text_token(vocab, i)) continue;
      words_end_at_marks_ &= !has_inner_mark(texts_[i]);
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
  bool writes_all_bytes() const override { return true; }  // or the text is refused

  // Where no token holds a mark behind another character, nothing is ever merged across such a
  // place: the text is cut there, which gives the same tokens in a fraction of the memory.
  Status encode(std::string_view text, std::vector<int32_t>* out) const override {
    Scratch scratch;
    std::string piece = add_space_prefix_ ? std::string(kSpaceMark) : std::string();
    bool after_mark = true;
    for (size_t at = 0; at < text.size();) {
      const bool literal = text.substr(at).starts_with(kSpaceMark);
      const bool mark = literal || text[at] == ' ';
      if (mark && !after_mark && words_end_at_marks_) {
        SHOAL_TRY(encode_piece(piece, &scratch, out));
        piece.clear();
      }
      if (mark) {
        piece += kSpaceMark;
      } else {
        piece += text[at];
      }
      at += literal ? kSpaceMark.size() : 1;
      after_mark = mark;
    }
    return encode_piece(piece, &scratch, out);
  }

 private:
  Status encode_piece(std::string_view piece, Scratch* scratch, std::vector<int32_t>* out) const {
    if (piece.size() > kMaxPieceBytes) {
      return invalid_argument("the text holds a word of more than " +
                              std::to_string(kMaxPieceBytes) + " bytes");
    }
    split_characters(piece, &scratch->symbols);
    merge(piece, scratch);
    const std::vector<Symbol>& symbols = scratch->symbols;
    for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      const Symbol& symbol = symbols[static_cast<size_t>(i)];
      if (symbol.token >= 0) {
        out->push_back(symbol.token);
      } else {
        SHOAL_TRY(fall_back(piece.substr(symbol.begin, symbol.length), out));
      }
    }
    return Status::ok();
  }

  int32_t find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }

  void split_characters(std::string_view text, std::vector<Symbol>* symbols) const {
    symbols->clear();
    symbols->reserve(static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
      return (static_cast<uint8_t>(c) & 0xc0) != 0x80;
    })));
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      next_code_point(text, &at);
      const auto index = static_cast<int32_t>(symbols->size());
      const int32_t token = find(text.substr(begin, at - begin));
      symbols->push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(at - begin),
                          index - 1, index + 1, token});
    }
    if (!symbols->empty()) symbols->back().next = -1;
  }

  void merge(std::string_view text, Scratch* scratch) const {
    std::vector<Symbol>& all = scratch->symbols;
    std::vector<Pair>& heap = scratch->heap;
    heap.clear();
    heap.reserve(2 * all.size());  // a merge takes one out and puts two in: it never grows again
    const auto offer = [&](int32_t left) {
      if (left < 0 || all[static_cast<size_t>(left)].next < 0) return;
      const Symbol& a = all[static_cast<size_t>(left)];
      const uint32_t length = a.length + all[static_cast<size_t>(a.next)].length;
      const int32_t token = find(text.substr(a.begin, length));
      if (token < 0) return;
      heap.push_back({scores_[static_cast<size_t>(token)], left, length, token});
      std::push_heap(heap.begin(), heap.end());
    };
    for (size_t i = 0; i + 1 < all.size(); ++i) offer(static_cast<int32_t>(i));
    while (!heap.empty()) {
      const Pair pair = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      Symbol& left = all[static_cast<size_t>(pair.left)];
      if (left.length == 0 || left.next < 0) continue;
      // Symbols only grow: if the two still have this length together, they are the two of old.
      Symbol& right = all[static_cast<size_t>(left.next)];
      if (left.length + right.length != pair.length) continue;
      left.length = pair.length;
      left.token = pair.token;
      left.next = right.next;
      right.length = 0;
      if (left.next >= 0) all[static_cast<size_t>(left.next)].previous = pair.left;
      offer(left.previous);
      offer(pair.left);
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
  bool words_end_at_marks_ = true;  // no token holds a mark behind another character
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

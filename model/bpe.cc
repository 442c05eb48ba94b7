// Byte-level BPE: cut the text into words, then in each word merge the adjacent pair with the
// lowest rank, leftmost first.
#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <utility>

#include "base/utf8.h"
#include "model/pretokenizer.h"
#include "model/subword.h"

namespace shoal {
namespace {

// Byte → code point of the alphabet: printable Latin-1 stands for itself, the other 68 bytes are
// numbered from U+0100 on.
constexpr std::array<uint32_t, 256> make_alphabet() {
  std::array<uint32_t, 256> alphabet{};
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}
constexpr std::array<uint32_t, 256> kAlphabet = make_alphabet();
constexpr uint32_t kAlphabetEnd = 0x100 + 68;

constexpr std::array<int, kAlphabetEnd> make_inverse() {
  std::array<int, kAlphabetEnd> inverse{};
  for (int& value : inverse) value = -1;
  for (uint32_t byte = 0; byte < 256; ++byte) inverse[kAlphabet[byte]] = static_cast<int>(byte);
  return inverse;
}
constexpr std::array<int, kAlphabetEnd> kInverse = make_inverse();

// What may stand in a word while merging: every token and every part of a merge has a number, so
// that merging compares integers.
using Piece = uint32_t;
constexpr size_t kMaxWordBytes = 1u << 30;  // what 32-bit indices reach
constexpr Piece kNoPiece = std::numeric_limits<Piece>::max();

struct Merge {
  uint32_t rank;
  Piece joined;
};

// Small: of a word as long as its text there is one per byte.
struct Symbol {
  Piece piece;             // kNoPiece: merged into its left neighbour
  int32_t previous, next;  // −1: none
};

struct Pair {
  uint32_t rank;
  int32_t left, right;
  Piece left_piece, right_piece;  // when queued: tells that neither has changed since
  Piece joined;
  // A heap's top is its largest: the lowest rank, then the leftmost.
  bool operator<(const Pair& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

// What encoding one word needs, kept for the next.
struct Scratch {
  std::vector<Symbol> symbols;
  std::vector<Pair> heap;
};

class BpeEncoder final : public SubwordEncoder {
 public:
  static Result<std::unique_ptr<const SubwordEncoder>> create(const Vocab& vocab) {
    if (vocab.merges.empty()) {
      return invalid_argument(
          "key 'tokenizer.ggml.merges' is missing or empty: without merges a tokenizer of model "
          "'gpt2' would cut every text into bytes");
    }
    auto encoder = std::make_unique<BpeEncoder>();
    SHOAL_ASSIGN(encoder->words_, PreTokenizer::create(vocab.pre));
    encoder->build(vocab);
    return std::unique_ptr<const SubwordEncoder>(std::move(encoder));
  }

  bool adds_bos_by_default() const override { return words_->adds_bos(); }
  bool writes_all_bytes() const override {
    return std::all_of(bytes_.begin(), bytes_.end(),
                       [&](Piece piece) { return tokens_[piece] >= 0; });
  }

  Status encode(std::string_view text, std::vector<int32_t>* out) const override {
    SHOAL_ASSIGN(const auto words, words_->split(text));
    Scratch scratch;
    for (const std::string_view word : words) {
      if (words_->ignore_merges()) {
        const auto whole = whole_.find(std::string(word));
        if (whole != whole_.end()) {
          out->push_back(whole->second);
          continue;
        }
      }
      if (word.size() > kMaxWordBytes) {
        return invalid_argument("the text holds a word of more than " +
                                std::to_string(kMaxWordBytes) + " bytes");
      }
      encode_word(word, &scratch, out);
    }
    return Status::ok();
  }

 private:
  Piece intern(const std::string& text) {
    const auto [at, is_new] = pieces_.try_emplace(text, static_cast<Piece>(tokens_.size()));
    if (is_new) tokens_.push_back(-1);
    return at->second;
  }

  void build(const Vocab& vocab) {
    pieces_.reserve(vocab.tokens.size() * 5 / 4 + 256);
    for (size_t byte = 0; byte < 256; ++byte) {
      std::string text;
      append_utf8(kAlphabet[byte], &text);
      bytes_[byte] = intern(text);
    }
    for (size_t i = 0; i < vocab.tokens.size(); ++i) {
      if (!is_text_token(vocab, i)) continue;
      tokens_[intern(vocab.tokens[i])] = static_cast<int32_t>(i);  // the last of equal texts counts
      if (words_->ignore_merges() && vocab.kinds[i] == TokenKind::kNormal) {
        whole_[bpe_text_to_bytes(vocab.tokens[i])] = static_cast<int32_t>(i);
      }
    }
    merges_.reserve(vocab.merges.size());
    for (size_t rank = 0; rank < vocab.merges.size(); ++rank) {
      const std::string& merge = vocab.merges[rank];
      const size_t space = merge.find(' ', 1);
      const std::string left = merge.substr(0, space);
      const std::string right = merge.substr(space + 1);
      const Piece joined = intern(left + right);
      merges_.try_emplace(key(intern(left), intern(right)),
                          Merge{static_cast<uint32_t>(rank), joined});
    }
    texts_.resize(tokens_.size());
    for (const auto& [text, piece] : pieces_) {
      if (tokens_[piece] < 0) texts_[piece] = bpe_text_to_bytes(text);
    }
    pieces_.clear();
  }

  static uint64_t key(Piece left, Piece right) { return uint64_t{left} << 32 | right; }

  void encode_word(std::string_view word, Scratch* scratch, std::vector<int32_t>* out) const {
    std::vector<Symbol>& symbols = scratch->symbols;
    symbols.clear();
    symbols.reserve(word.size());
    for (const char c : word) {
      const auto index = static_cast<int32_t>(symbols.size());
      symbols.push_back({bytes_[static_cast<uint8_t>(c)], index - 1, index + 1});
    }
    symbols.back().next = -1;
    merge(scratch);
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      emit(symbols[static_cast<size_t>(i)].piece, out);
    }
  }

  void merge(Scratch* scratch) const {
    std::vector<Symbol>& all = scratch->symbols;
    std::vector<Pair>& heap = scratch->heap;
    heap.clear();
    heap.reserve(2 * all.size());  // a merge takes one out and puts two in: it never grows again
    const auto offer = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0) return;
      const Piece a = all[static_cast<size_t>(left)].piece;
      const Piece b = all[static_cast<size_t>(right)].piece;
      const auto found = merges_.find(key(a, b));
      if (found == merges_.end()) return;
      heap.push_back({found->second.rank, left, right, a, b, found->second.joined});
      std::push_heap(heap.begin(), heap.end());
    };
    for (size_t i = 1; i < all.size(); ++i) {
      offer(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
    }
    while (!heap.empty()) {
      const Pair pair = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      Symbol& left = all[static_cast<size_t>(pair.left)];
      Symbol& right = all[static_cast<size_t>(pair.right)];
      if (left.piece != pair.left_piece || right.piece != pair.right_piece ||
          left.next != pair.right) {
        continue;
      }
      left.piece = pair.joined;
      left.next = right.next;
      right.piece = kNoPiece;
      if (right.next >= 0) all[static_cast<size_t>(right.next)].previous = pair.left;
      offer(left.previous, pair.left);
      offer(pair.left, left.next);
    }
  }

  // A piece that is no token is written byte by byte; bytes without a token are dropped, as the
  // format has no unknown token for them.
  void emit(Piece piece, std::vector<int32_t>* out) const {
    if (tokens_[piece] >= 0) {
      out->push_back(tokens_[piece]);
      return;
    }
    for (const char c : texts_[piece]) {
      const int32_t token = tokens_[bytes_[static_cast<uint8_t>(c)]];
      if (token >= 0) out->push_back(token);
    }
  }

  std::unique_ptr<const PreTokenizer> words_;
  std::unordered_map<std::string, Piece> pieces_;  // while building
  std::vector<int32_t> tokens_;                    // [piece] its token, −1: none
  std::vector<std::string> texts_;                 // [piece] the bytes of those without a token
  std::array<Piece, 256> bytes_{};                 // single bytes
  std::unordered_map<uint64_t, Merge> merges_;
  std::unordered_map<std::string, int32_t> whole_;  // bytes → token, for ignore_merges
};

}  // namespace

std::string bpe_text_to_bytes(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t point = next_code_point(text, &at);
    if (point < kAlphabetEnd && kInverse[point] >= 0) {
      bytes += static_cast<char>(kInverse[point]);
    } else {
      bytes += text.substr(begin, at - begin);
    }
  }
  return bytes;
}

std::string bytes_to_bpe_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(kAlphabet[static_cast<uint8_t>(c)], &text);
  return text;
}

Result<std::unique_ptr<const SubwordEncoder>> make_bpe_encoder(const Vocab& vocab) {
  return BpeEncoder::create(vocab);
}

}  // namespace shoal

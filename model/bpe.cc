// Byte-level BPE: a pre-tokenizer cuts words; a word's bytes, each written as one printable
// character, merge by rank, lowest first, leftmost among equals (Sennrich et al. 2016; the byte
// alphabet is GPT-2's).
#include <queue>
#include <unordered_map>

#include "base/utf8.h"
#include "model/pretokenizer.h"
#include "model/tokenizer.h"

namespace shoal {
namespace {

// Byte b as a character: printable Latin-1 stays, the other 68 bytes follow from U+0100 on.
struct ByteAlphabet {
  std::string text[256];
  std::unordered_map<uint32_t, uint8_t> bytes;

  ByteAlphabet() {
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      const uint32_t c = printable ? b : next++;
      append_utf8(c, &text[b]);
      bytes[c] = static_cast<uint8_t>(b);
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet table;
  return table;
}

constexpr size_t kShortWord = 32;  // symbols; shorter words are scanned, longer ones use a queue

class BpeTokenizer final : public Tokenizer {
 public:
  BpeTokenizer(Vocab vocab, std::unique_ptr<PreTokenizer> pre)
      : Tokenizer(std::move(vocab)), pre_(std::move(pre)) {
    constexpr int32_t kLegacyEnd = 11;  // files from before the keys existed (falcon)
    if (!vocab_.bos && vocab_.pre != "glm4" && vocab_.pre != "chatglm-bpe" &&
        kLegacyEnd < vocab_size()) {
      vocab_.bos = kLegacyEnd;
    }
    if (!vocab_.eos && kLegacyEnd < vocab_size()) vocab_.eos = kLegacyEnd;
    adds_bos_ = vocab_.add_bos.value_or(pre_->adds_bos());
    adds_eos_ = vocab_.add_eos.value_or(false);
    space_prefix_ = vocab_.add_space_prefix.value_or(false);
    index();
    finish();
  }

 private:
  struct Merge {
    int32_t rank;
    int32_t result;  // symbol
  };
  struct Symbol {
    int32_t id;  // −1: merged into its left neighbour
    int32_t previous, next;
  };
  struct Candidate {
    int32_t rank, left, left_id, right_id;
  };
  struct Later {
    bool operator()(const Candidate& a, const Candidate& b) const {
      return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
    }
  };

  static uint64_t pair_key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  // Symbols are token ids, then ids of our own for merge parts that are no token.
  int32_t symbol_of(std::string_view text) {
    if (const auto it = ids_.find(text); it != ids_.end()) return it->second;
    const auto id = static_cast<int32_t>(vocab_.tokens.size() + extra_.size());
    extra_.push_back(std::make_unique<std::string>(text));
    ids_.emplace(*extra_.back(), id);
    return id;
  }

  void index() {
    ids_.reserve(vocab_.tokens.size() * 2);
    for (size_t i = 0; i < vocab_.tokens.size(); ++i)
      ids_[vocab_.tokens[i]] = static_cast<int32_t>(i);
    for (int b = 0; b < 256; ++b) byte_symbols_[b] = symbol_of(alphabet().text[b]);
    merges_.reserve(vocab_.merges.size() * 2);
    for (size_t rank = 0; rank < vocab_.merges.size(); ++rank) {
      const std::string& merge = vocab_.merges[rank];
      const size_t space = merge.find(' ', 1);
      if (space == std::string::npos) continue;
      const int32_t left = symbol_of(std::string_view(merge).substr(0, space));
      const int32_t right = symbol_of(std::string_view(merge).substr(space + 1));
      const int32_t result = symbol_of(merge.substr(0, space) + merge.substr(space + 1));
      merges_.try_emplace(pair_key(left, right), Merge{static_cast<int32_t>(rank), result});
    }
  }

  Status encode_plain(std::string_view text, bool first, std::vector<int32_t>* out) const override {
    std::string prefixed;
    if (first && space_prefix_) {
      prefixed = " " + std::string(text);
      text = prefixed;
    }
    SHOAL_ASSIGN(const auto words, pre_->split(text));
    std::string mapped;
    for (const std::string_view word : words) {
      if (pre_->ignore_merges()) {
        mapped.clear();
        for (const char c : word) mapped += alphabet().text[static_cast<uint8_t>(c)];
        const auto it = ids_.find(mapped);
        if (it != ids_.end() && it->second < vocab_size()) {
          out->push_back(it->second);
          continue;
        }
      }
      encode_word(word, out);
    }
    return Status::ok();
  }

  const Merge* find_merge(int32_t left, int32_t right) const {
    const auto it = merges_.find(pair_key(left, right));
    return it == merges_.end() ? nullptr : &it->second;
  }

  void encode_word(std::string_view word, std::vector<int32_t>* out) const {
    std::vector<int32_t> symbols;
    symbols.reserve(word.size());
    // Symbols start as characters of the mapped text, which are single bytes of the word.
    for (const char c : word) symbols.push_back(byte_symbols_[static_cast<uint8_t>(c)]);
    symbols.size() <= kShortWord ? merge_short(symbols) : merge_long(symbols);
    for (const int32_t symbol : symbols) emit(symbol, out);
  }

  void merge_short(std::vector<int32_t>& symbols) const {
    while (symbols.size() > 1) {
      const Merge* best = nullptr;
      size_t at = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const Merge* merge = find_merge(symbols[i], symbols[i + 1]);
        if (merge != nullptr && (best == nullptr || merge->rank < best->rank)) {
          best = merge;
          at = i;
        }
      }
      if (best == nullptr) return;
      symbols[at] = best->result;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  }

  void merge_long(std::vector<int32_t>& ids) const {
    std::vector<Symbol> symbols;
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto index = static_cast<int32_t>(i);
      symbols.push_back({ids[i], index - 1, i + 1 < ids.size() ? index + 1 : -1});
    }
    std::priority_queue<Candidate, std::vector<Candidate>, Later> queue;
    const auto offer = [&](int32_t left) {
      if (left < 0) return;
      const Symbol& a = symbols[static_cast<size_t>(left)];
      if (a.next < 0) return;
      const int32_t right_id = symbols[static_cast<size_t>(a.next)].id;
      if (const Merge* merge = find_merge(a.id, right_id))
        queue.push({merge->rank, left, a.id, right_id});
    };
    for (size_t i = 0; i < symbols.size(); ++i) offer(static_cast<int32_t>(i));
    while (!queue.empty()) {
      const Candidate c = queue.top();
      queue.pop();
      Symbol& a = symbols[static_cast<size_t>(c.left)];
      if (a.id != c.left_id || a.next < 0) continue;  // stale
      Symbol& b = symbols[static_cast<size_t>(a.next)];
      if (b.id != c.right_id) continue;
      a.id = find_merge(a.id, b.id)->result;
      b.id = -1;
      a.next = b.next;
      if (b.next >= 0) symbols[static_cast<size_t>(b.next)].previous = c.left;
      offer(a.previous);
      offer(c.left);
    }
    ids.clear();
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
      ids.push_back(symbols[static_cast<size_t>(i)].id);
  }

  void emit(int32_t symbol, std::vector<int32_t>* out) const {
    if (symbol < vocab_size()) {
      out->push_back(symbol);
      return;
    }
    // A merge result that is no token: character by character; characters without a token are
    // dropped.
    const std::string& text = *extra_[static_cast<size_t>(symbol - vocab_size())];
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      (void)next_code_point(text, &pos);
      const auto it = ids_.find(std::string_view(text).substr(begin, pos - begin));
      if (it != ids_.end() && it->second < vocab_size()) out->push_back(it->second);
    }
  }

  std::string plain_bytes(int32_t id) const override {
    const std::string& text = token_text(id);
    std::string out;
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      const uint32_t c = next_code_point(text, &pos);
      const auto it = alphabet().bytes.find(c);
      if (it != alphabet().bytes.end()) {
        out += static_cast<char>(it->second);
      } else {
        out.append(text, begin, pos - begin);  // not of the alphabet: stands for itself
      }
    }
    return out;
  }

  std::unique_ptr<PreTokenizer> pre_;
  std::unordered_map<std::string_view, int32_t> ids_;  // views into vocab_.tokens and extra_
  std::vector<std::unique_ptr<std::string>> extra_;
  std::unordered_map<uint64_t, Merge> merges_;
  int32_t byte_symbols_[256];
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(Vocab vocab) {
  SHOAL_ASSIGN(auto pre, PreTokenizer::create(vocab.pre));
  return std::unique_ptr<Tokenizer>(
      std::make_unique<BpeTokenizer>(std::move(vocab), std::move(pre)));
}

}  // namespace shoal

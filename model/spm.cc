// SentencePiece-style tokenizer: spaces become ▁ (U+2581); adjacent pieces whose concatenation is a
// token merge, highest score first, leftmost among equals; characters that are no token become byte
// tokens.
#include <queue>
#include <unordered_map>

#include "base/utf8.h"
#include "model/tokenizer.h"

namespace shoal {
namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";

// "<0x1F>" → 0x1f, or −1.
int byte_token_value(const std::string& text) {
  if (text.size() != 6 || text.rfind("<0x", 0) != 0 || text[5] != '>') return -1;
  int value = 0;
  for (const char c : {text[3], text[4]}) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

class SpmTokenizer final : public Tokenizer {
 public:
  explicit SpmTokenizer(Vocab vocab) : Tokenizer(std::move(vocab)) {
    const auto default_id = [&](std::optional<int32_t>& id, int32_t value) {
      if (!id && value < static_cast<int32_t>(vocab_.tokens.size())) id = value;
    };
    default_id(vocab_.bos, 1);
    default_id(vocab_.eos, 2);
    default_id(vocab_.unknown, 0);
    adds_bos_ = vocab_.add_bos.value_or(true);
    adds_eos_ = vocab_.add_eos.value_or(false);
    space_prefix_ = vocab_.add_space_prefix.value_or(true);
    std::fill(std::begin(byte_tokens_), std::end(byte_tokens_), -1);
    for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
      ids_[vocab_.tokens[i]] = static_cast<int32_t>(i);
      const int value = byte_token_value(vocab_.tokens[i]);
      if (value >= 0 && vocab_.kinds[i] == TokenKind::kByte)
        byte_tokens_[value] = static_cast<int32_t>(i);
    }
    finish();
  }

 private:
  struct Symbol {
    size_t begin, size;  // bytes of the text; size 0: merged into its left neighbour
    int32_t previous, next;
  };
  struct Pair {
    float score;
    int32_t left, right;
    size_t size;  // of both together when it was queued; a mismatch means it is stale
  };
  struct Worse {
    bool operator()(const Pair& a, const Pair& b) const {
      return a.score != b.score ? a.score < b.score : a.left > b.left;
    }
  };

  float score(int32_t id) const {
    return vocab_.scores.empty() ? 0.0f : vocab_.scores[static_cast<size_t>(id)];
  }

  Status encode_plain(std::string_view raw, bool first, std::vector<int32_t>* out) const override {
    std::string text;
    text.reserve(raw.size() + 3);
    if (first && space_prefix_) text += kSpace;
    for (const char c : raw) {
      if (c == ' ') {
        text += kSpace;
      } else {
        text += c;
      }
    }
    std::vector<Symbol> symbols;
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      (void)next_code_point(text, &pos);
      const auto index = static_cast<int32_t>(symbols.size());
      symbols.push_back({begin, pos - begin, index - 1, index + 1});
    }
    if (!symbols.empty()) symbols.back().next = -1;
    merge(text, symbols);
    for (const Symbol& symbol : symbols) {
      if (symbol.size > 0) emit(std::string_view(text).substr(symbol.begin, symbol.size), out);
    }
    return Status::ok();
  }

  void merge(std::string_view text, std::vector<Symbol>& symbols) const {
    std::priority_queue<Pair, std::vector<Pair>, Worse> queue;
    const auto offer = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0) return;
      const Symbol &a = symbols[static_cast<size_t>(left)],
                   &b = symbols[static_cast<size_t>(right)];
      const auto it = ids_.find(text.substr(a.begin, a.size + b.size));
      if (it != ids_.end()) queue.push({score(it->second), left, right, a.size + b.size});
    };
    for (size_t i = 1; i < symbols.size(); ++i)
      offer(static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
    while (!queue.empty()) {
      const Pair pair = queue.top();
      queue.pop();
      Symbol &a = symbols[static_cast<size_t>(pair.left)],
             &b = symbols[static_cast<size_t>(pair.right)];
      if (a.size == 0 || b.size == 0 || a.size + b.size != pair.size || a.next != pair.right)
        continue;
      a.size += b.size;
      b.size = 0;
      a.next = b.next;
      if (b.next >= 0) symbols[static_cast<size_t>(b.next)].previous = pair.left;
      offer(a.previous, pair.left);
      offer(pair.left, a.next);
    }
  }

  void emit(std::string_view piece, std::vector<int32_t>* out) const {
    const auto it = ids_.find(piece);
    if (it != ids_.end()) {
      out->push_back(it->second);
      return;
    }
    for (const char c : piece) {
      const int32_t id = byte_tokens_[static_cast<uint8_t>(c)];
      if (id >= 0) {
        out->push_back(id);
      } else if (const auto raw = ids_.find(std::string_view(&c, 1)); raw != ids_.end()) {
        out->push_back(raw->second);
      } else if (vocab_.unknown) {
        out->push_back(*vocab_.unknown);
      }
    }
  }

  std::string plain_bytes(int32_t id) const override {
    const std::string& text = token_text(id);
    if (vocab_.kinds[static_cast<size_t>(id)] == TokenKind::kByte) {
      const int value = byte_token_value(text);
      if (value >= 0) return std::string(1, static_cast<char>(value));
    }
    std::string out;
    for (size_t pos = 0; pos < text.size();) {
      if (text.compare(pos, kSpace.size(), kSpace) == 0) {
        out += ' ';
        pos += kSpace.size();
      } else {
        out += text[pos++];
      }
    }
    return out;
  }

  std::unordered_map<std::string_view, int32_t> ids_;  // views into vocab_.tokens
  int32_t byte_tokens_[256];
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_spm_tokenizer(Vocab vocab) {
  return std::unique_ptr<Tokenizer>(std::make_unique<SpmTokenizer>(std::move(vocab)));
}

}  // namespace shoal

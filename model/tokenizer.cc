#include "model/tokenizer.h"

#include <algorithm>
#include <unordered_map>

#include "base/check.h"
#include "base/utf8.h"

namespace shoal {
namespace {

constexpr const char* kEndTexts[] = {"<|eot_id|>",
                                     "<|im_end|>",
                                     "<|end|>",
                                     "<|return|>",
                                     "<|call|>",
                                     "<|flush|>",
                                     "<|calls|>",
                                     "<end_of_turn>",
                                     "<|endoftext|>",
                                     "</s>",
                                     "<|eom_id|>",
                                     "<EOT>",
                                     "_<EOT>",
                                     "[EOT]",
                                     "[EOS]",
                                     "<|end_of_text|>",
                                     "<end_of_utterance>",
                                     "<eos>",
                                     "<turn|>",
                                     "<|tool_response>",
                                     "<｜end▁of▁sentence｜>"};
constexpr const char* kEotTexts[] = {
    "<|eot_id|>",        "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>",   "<EOT>",      "_<EOT>",  "[EOT]",         "<｜end▁of▁sentence｜>",
    "<end_of_utterance>"};

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

// Texts of special tokens, byte by byte.
class Tokenizer::SpecialTrie {
 public:
  void add(std::string_view text, int32_t id, bool always) {
    uint32_t node = 0;
    for (const char c : text) {
      const auto [it, is_new] =
          edges_.try_emplace(key(node, c), static_cast<uint32_t>(nodes_.size()));
      if (is_new) nodes_.push_back({});
      node = it->second;
    }
    nodes_[node] = {id, always};
  }

  struct Match {
    int32_t id = -1;
    size_t length = 0;
  };
  // The longest text that starts at `at` and may be taken; none of the control ones may cross
  // `limit`.
  Match longest(std::string_view text, size_t at, bool controls, size_t limit) const {
    Match best;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const auto it = edges_.find(key(node, text[i]));
      if (it == edges_.end()) break;
      node = it->second;
      const Node& found = nodes_[node];
      if (found.id >= 0 && (found.always || (controls && i + 1 <= limit)))
        best = {found.id, i + 1 - at};
    }
    return best;
  }

 private:
  struct Node {
    int32_t id = -1;
    bool always = false;  // user-defined: matched whatever the options
  };
  static uint64_t key(uint32_t node, char c) {
    return uint64_t{node} << 8 | static_cast<uint8_t>(c);
  }

  std::vector<Node> nodes_{1};
  std::unordered_map<uint64_t, uint32_t> edges_;
};

Tokenizer::Tokenizer(Vocab vocab) : vocab_(std::move(vocab)) {}

void Tokenizer::finish() {
  // gpt-oss prints its channel markers: clients parse them.
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    const std::string& text = vocab_.tokens[i];
    if (vocab_.kinds[i] == TokenKind::kControl &&
        (text == "<|channel|>" || text == "<|message|>" || text == "<|start|>" ||
         text == "<|constrain|>")) {
      vocab_.kinds[i] = TokenKind::kUserDefined;
    }
  }
  auto specials = std::make_shared<SpecialTrie>();
  bytes_.reserve(vocab_.tokens.size());
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const TokenKind kind = vocab_.kinds[i];
    const bool control = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
    const bool user = kind == TokenKind::kUserDefined;
    if (control || user) {
      if (!vocab_.tokens[i].empty()) specials->add(vocab_.tokens[i], id, user);
      bytes_.push_back(user ? vocab_.tokens[i] : "");
      if (kind == TokenKind::kControl) control_texts_.push_back(vocab_.tokens[i]);
    } else {
      bytes_.push_back(plain_bytes(id));
    }
  }
  specials_ = std::move(specials);
  std::string name = vocab_.model_name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  swallow_space_after_special_ =
      name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
  find_end_tokens();
}

void Tokenizer::find_end_tokens() {
  std::unordered_map<std::string_view, int32_t> by_text;
  for (size_t i = 0; i < vocab_.tokens.size(); ++i)
    by_text[vocab_.tokens[i]] = static_cast<int32_t>(i);
  const auto find = [&](const char* text) {
    const auto it = by_text.find(text);
    return it == by_text.end() ? std::optional<int32_t>() : it->second;
  };
  for (const char* text : kEotTexts) {
    if (!vocab_.eot) vocab_.eot = find(text);
  }
  if (!vocab_.eom) vocab_.eom = find("<|eom_id|>");
  std::vector<int32_t> ends;
  for (const auto& id :
       {vocab_.eos, vocab_.eot, vocab_.eom, vocab_.fim_pad, vocab_.fim_rep, vocab_.fim_sep}) {
    if (id) ends.push_back(*id);
  }
  for (const char* text : kEndTexts) {
    if (const auto id = find(text)) ends.push_back(*id);
  }
  const auto remove_if_all = [&](std::initializer_list<const char*> present, const char* removed) {
    const bool all = std::all_of(present.begin(), present.end(),
                                 [&](const char* text) { return find(text).has_value(); });
    const auto id = find(removed);
    if (all && id) std::erase(ends, *id);
  };
  remove_if_all({"<|return|>", "<|call|>"},
                "<|end|>");  // gpt-oss: <|end|> closes a message, not a turn
  remove_if_all({"<|calls|>", "<|flush|>"}, "<|end|>");
  remove_if_all({"<|tool_response>"}, "</s>");
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  end_tokens_ = std::move(ends);
}

bool Tokenizer::is_control(int32_t id) const {
  const TokenKind kind = vocab_.kinds[static_cast<size_t>(id)];
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

bool Tokenizer::is_end_of_generation(int32_t id) const {
  return std::binary_search(end_tokens_.begin(), end_tokens_.end(), id);
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  if (!is_valid_utf8(text)) return invalid_argument("the text is not valid UTF-8");
  std::vector<int32_t> out;
  if (options.add_special && adds_bos_ && vocab_.bos) out.push_back(*vocab_.bos);
  size_t plain = 0;   // where the plain stretch begins
  bool first = true;  // it starts the text or follows a special token
  size_t next_break = 0;
  const auto flush = [&](size_t end) -> Status {
    if (end == plain) return Status::ok();
    SHOAL_TRY(encode_plain(text.substr(plain, end - plain), first, &out));
    first = false;
    return Status::ok();
  };
  for (size_t at = 0; at < text.size();) {
    while (next_break < options.breaks.size() && options.breaks[next_break] <= at) ++next_break;
    const size_t limit =
        next_break < options.breaks.size() ? options.breaks[next_break] : text.size();
    const SpecialTrie::Match match = specials_->longest(text, at, options.parse_special, limit);
    if (match.id < 0) {
      ++at;
      continue;
    }
    SHOAL_TRY(flush(at));
    out.push_back(match.id);
    at += match.length;
    while (swallow_space_after_special_ && at < text.size() && is_ascii_space(text[at])) ++at;
    plain = at;
    first = true;
  }
  SHOAL_TRY(flush(text.size()));
  if (options.add_special && adds_eos_ && vocab_.eos) out.push_back(*vocab_.eos);
  return out;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string out;
  bool at_start = true;
  for (const int32_t id : ids) {
    SHOAL_CHECK(id >= 0 && id < vocab_size(), "token id out of range");
    std::string_view piece = token_bytes(id);
    if (at_start && space_prefix_ && !is_control(id) && piece.starts_with(' '))
      piece.remove_prefix(1);
    if (!is_control(id)) at_start = false;
    out += piece;
  }
  return out;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(Vocab vocab) {
  if (vocab.tokens.empty()) return invalid_argument("the vocabulary is empty");
  vocab.kinds.resize(vocab.tokens.size(), TokenKind::kNormal);
  if (vocab.model == "llama") return make_spm_tokenizer(std::move(vocab));
  if (vocab.model == "gpt2") return make_bpe_tokenizer(std::move(vocab));
  return unsupported("key 'tokenizer.ggml.model' is '" + vocab.model +
                     "'; supported: llama (SentencePiece), gpt2 (byte-level BPE)");
}

}  // namespace shoal

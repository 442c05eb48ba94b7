#include "model/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "model/detokenizer.h"
#include "model/special_tokens.h"
#include "model/subword.h"

namespace shoal {
namespace {

using TextIds = std::unordered_map<std::string_view, int32_t>;

// Texts that end a generation in the models that have them, whatever the id keys say.
constexpr std::array<std::string_view, 21> kEndTexts = {"<|eot_id|>",
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
// Candidates for the end-of-turn token where the file names none, in this order.
constexpr std::array<std::string_view, 11> kTurnTexts = {
    "<|eot_id|>",        "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>",   "<EOT>",      "_<EOT>",  "[EOT]",         "<｜end▁of▁sentence｜>",
    "<end_of_utterance>"};
// gpt-oss: control tokens that structure its output must be visible to whoever parses it. They stay
// control tokens on input: text from outside must not open a channel.
constexpr std::array<std::string_view, 4> kHarmonyTexts = {"<|channel|>", "<|message|>",
                                                           "<|start|>", "<|constrain|>"};

TextIds ids_by_text(const Vocab& vocab) {
  TextIds ids;
  ids.reserve(vocab.tokens.size());
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    if (!vocab.tokens[i].empty()) ids[vocab.tokens[i]] = static_cast<int32_t>(i);
  }
  return ids;
}

bool is_control_kind(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

void find_turn_tokens(const TextIds& ids, Vocab* vocab) {
  for (const std::string_view text : kTurnTexts) {
    const auto found = ids.find(text);
    if (vocab->eot || found == ids.end()) continue;
    vocab->eot = found->second;
  }
  const auto eom = ids.find("<|eom_id|>");
  if (!vocab->eom && eom != ids.end()) vocab->eom = eom->second;
}

// Tokens known by their text are control tokens even where a converter called them normal: a model
// must not be able to write its end of turn as text.
void correct_kinds(const TextIds& ids, Vocab* vocab) {
  const auto set = [&](std::string_view text, TokenKind kind) {
    const auto found = ids.find(text);
    if (found == ids.end()) return;
    TokenKind& now = vocab->kinds[static_cast<size_t>(found->second)];
    if (now != TokenKind::kUnknown) now = kind;
  };
  for (const std::string_view text : kEndTexts) set(text, TokenKind::kControl);
}

std::vector<int32_t> find_eog(const TextIds& ids, const Vocab& vocab) {
  std::vector<int32_t> eog;
  for (const auto& id :
       {vocab.eos, vocab.eot, vocab.eom, vocab.fim_pad, vocab.fim_rep, vocab.fim_sep}) {
    if (id) eog.push_back(*id);
  }
  for (const std::string_view text : kEndTexts) {
    const auto found = ids.find(text);
    if (found != ids.end()) eog.push_back(found->second);
  }
  const auto remove = [&](std::string_view text) {
    const auto found = ids.find(text);
    if (found != ids.end()) std::erase(eog, found->second);
  };
  // gpt-oss and its like end a message with <|end|> and go on with the next one.
  const bool harmony = ids.contains("<|return|>") && ids.contains("<|call|>");
  if (harmony || (ids.contains("<|calls|>") && ids.contains("<|flush|>"))) remove("<|end|>");
  if (ids.contains("<|tool_response>")) remove("</s>");
  std::sort(eog.begin(), eog.end());
  eog.erase(std::unique(eog.begin(), eog.end()), eog.end());
  return eog;
}

bool is_phi3(std::string name) {
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
}

std::vector<SpecialToken> special_tokens(const Vocab& vocab, bool with_control) {
  const bool phi3 = is_phi3(vocab.model_name);
  std::vector<SpecialToken> tokens;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const TokenKind kind = vocab.kinds[i];
    const bool user_defined = kind == TokenKind::kUserDefined;
    if (vocab.tokens[i].empty() || !(user_defined || (with_control && is_control_kind(kind)))) {
      continue;
    }
    // Phi-3's control tokens swallow the white space behind them.
    const bool strips = phi3 && kind == TokenKind::kControl;
    tokens.push_back({static_cast<int32_t>(i), vocab.tokens[i], user_defined, false, strips});
  }
  return tokens;
}

const std::string kNoText;

// Ids a SentencePiece file may leave out.
void apply_spm_defaults(Vocab* vocab) {
  const auto fall_back = [&](std::optional<int32_t>* id, int32_t value) {
    if (!*id && static_cast<size_t>(value) < vocab->tokens.size()) *id = value;
  };
  fall_back(&vocab->bos, 1);
  fall_back(&vocab->eos, 2);
  fall_back(&vocab->unknown, 0);
}

}  // namespace

Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(Vocab vocab) {
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer());
  SHOAL_TRY(tokenizer->build(std::move(vocab)));
  return tokenizer;
}

Status Tokenizer::build(Vocab vocab) {
  vocab_ = std::move(vocab);
  if (vocab_.tokens.empty()) return invalid_argument("the vocabulary is empty");
  SHOAL_CHECK(vocab_.kinds.size() == vocab_.tokens.size(), "every token has a kind");
  const bool spm = vocab_.model == "llama";
  if (!spm && vocab_.model != "gpt2") {
    return unsupported("key 'tokenizer.ggml.model' is " + in_quotes(vocab_.model) +
                       ", a kind of tokenizer Shoal does not know; known: llama, gpt2");
  }
  if (spm) apply_spm_defaults(&vocab_);
  const TextIds ids = ids_by_text(vocab_);
  find_turn_tokens(ids, &vocab_);
  correct_kinds(ids, &vocab_);
  end_tokens_ = find_eog(ids, vocab_);

  adds_space_prefix_ = vocab_.add_space_prefix.value_or(spm) && spm;
  SHOAL_ASSIGN(encoder_,
               spm ? make_spm_encoder(vocab_, adds_space_prefix_) : make_bpe_encoder(vocab_));
  adds_bos_ = vocab_.add_bos.value_or(encoder_->adds_bos_by_default() && vocab_.bos);
  adds_eos_ = vocab_.add_eos.value_or(false);
  if (adds_bos_ && !vocab_.bos) {
    return invalid_argument(
        "key 'tokenizer.ggml.add_bos_token' is true, but 'tokenizer.ggml.bos_token_id' is missing");
  }
  if (adds_eos_ && !vocab_.eos) {
    return invalid_argument(
        "key 'tokenizer.ggml.add_eos_token' is true, but 'tokenizer.ggml.eos_token_id' is missing");
  }
  build_token_bytes();
  all_special_ = std::make_unique<SpecialTokens>(special_tokens(vocab_, true));
  user_defined_ = std::make_unique<SpecialTokens>(special_tokens(vocab_, false));
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    if (is_control_kind(vocab_.kinds[i]) && !vocab_.tokens[i].empty()) {
      control_texts_.push_back(vocab_.tokens[i]);
    }
    longest_token_ = std::max({longest_token_, bytes_[i].size(), vocab_.tokens[i].size()});
  }
  if (!encoder_->writes_all_bytes()) longest_token_ = 0;
  swallows_space_ = is_phi3(vocab_.model_name);
  return Status::ok();
}

void Tokenizer::build_token_bytes() {
  const bool spm = vocab_.model == "llama";
  bytes_.reserve(vocab_.tokens.size());
  for (size_t i = 0; i < vocab_.tokens.size(); ++i) {
    const std::string& text = vocab_.tokens[i];
    const TokenKind kind = vocab_.kinds[i];
    const int byte = spm && kind == TokenKind::kByte ? byte_token_value(text) : -1;
    if (byte >= 0) {
      bytes_.emplace_back(1, static_cast<char>(byte));
    } else if (is_control_kind(kind)) {
      const bool visible =
          std::find(kHarmonyTexts.begin(), kHarmonyTexts.end(), text) != kHarmonyTexts.end();
      bytes_.push_back(visible ? text : "");
    } else if (kind == TokenKind::kUserDefined) {
      bytes_.push_back(text);
    } else if (!spm) {
      bytes_.push_back(bpe_text_to_bytes(text));
    } else {
      constexpr std::string_view kMark = "\u2581";
      std::string plain;
      size_t done = 0;
      for (size_t at; (at = text.find(kMark, done)) != std::string::npos;
           done = at + kMark.size()) {
        plain.append(text, done, at - done).push_back(' ');
      }
      bytes_.push_back(plain.append(text, done));
    }
  }
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  if (!is_valid_utf8(text)) return invalid_argument("the text is not valid UTF-8");
  if (!std::is_sorted(options.breaks.begin(), options.breaks.end())) {
    return invalid_argument("the breaks of a text must be ascending byte offsets");
  }
  std::vector<int32_t> out;
  if (options.add_special && adds_bos_) out.push_back(*vocab_.bos);
  const SpecialTokens& special = options.parse_special ? *all_special_ : *user_defined_;
  size_t done = 0;
  const auto plain_until = [&](size_t end) {
    return end == done ? Status::ok() : encoder_->encode(text.substr(done, end - done), &out);
  };
  for (const SpecialMatch& match : special.find(text, options.breaks)) {
    SHOAL_TRY(plain_until(match.begin));
    out.push_back(match.id);
    done = match.end;
  }
  SHOAL_TRY(plain_until(text.size()));
  if (options.add_special && adds_eos_) out.push_back(*vocab_.eos);
  return out;
}

uint64_t Tokenizer::least_tokens(std::string_view text) const {
  if (longest_token_ == 0) return 0;
  size_t bytes = text.size();
  if (swallows_space_) {
    bytes = static_cast<size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return c != ' ' && (c < '\t' || c > '\r'); }));
  }
  return (bytes + longest_token_ - 1) / longest_token_;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  Detokenizer stream(*this, Detokenizer::Position::kStart);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.flush();
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  return has_token(id) ? bytes_[static_cast<size_t>(id)] : kNoText;
}

const std::string& Tokenizer::token_text(int32_t id) const {
  return has_token(id) ? vocab_.tokens[static_cast<size_t>(id)] : kNoText;
}

bool Tokenizer::is_control(int32_t id) const {
  return !has_token(id) || is_control_kind(vocab_.kinds[static_cast<size_t>(id)]);
}

bool Tokenizer::is_special(int32_t id) const {
  return is_control(id) || vocab_.kinds[static_cast<size_t>(id)] == TokenKind::kUserDefined;
}

bool Tokenizer::is_end_of_generation(int32_t id) const {
  return std::binary_search(end_tokens_.begin(), end_tokens_.end(), id);
}

}  // namespace shoal

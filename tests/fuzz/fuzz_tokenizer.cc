// Fuzz target: any text in any family of tokenizer, and vocabularies made of the input. Nothing may
// crash; ids lie in the vocabulary; plain text makes no control tokens; where all bytes are tokens,
// decoding gives the text back; streams say what whole decoding says.
//
// Byte 0: the tokenizer (0 SentencePiece, else a BPE family; bit 7: a vocabulary from the input).
// Byte 1: bit 0 parse_special, bit 1 add_special, the rest a break. A vocabulary from the input is
// lines of "kind text" and "left right" up to an empty line; then comes the text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "model/detokenizer.h"
#include "model/pretokenizer.h"
#include "model/subword.h"
#include "model/tokenizer.h"

namespace shoal {
namespace {

void add(Vocab* vocab, std::string text, TokenKind kind, float score = 0) {
  vocab->tokens.push_back(std::move(text));
  vocab->kinds.push_back(kind);
  vocab->scores.push_back(score);
}

Vocab empty_vocab(size_t family) {
  static const std::vector<std::string> families = PreTokenizer::family_names();
  Vocab vocab;
  vocab.model = family == 0 ? "llama" : "gpt2";
  vocab.pre = family == 0 ? "" : families[(family - 1) % families.size()];
  vocab.add_bos = false;
  return vocab;
}

void add_bytes(Vocab* vocab) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
    const bool spm = vocab->model == "llama";
    add(vocab, spm ? text : bytes_to_bpe_text(std::string_view(&c, 1)),
        spm ? TokenKind::kByte : TokenKind::kNormal);
  }
}

Vocab full_vocab(size_t family) {
  Vocab vocab = empty_vocab(family);
  add(&vocab, "<unk>", TokenKind::kUnknown);
  add(&vocab, "<s>", TokenKind::kControl);
  add(&vocab, "</s>", TokenKind::kControl);
  vocab.bos = 1;
  vocab.eos = 2;
  vocab.add_bos = vocab.add_eos = true;
  add_bytes(&vocab);
  float score = 0;
  for (const char* text : {"▁", "aa", "aaaa", "ab", "▁a", "▁▁", "</", "s>", "he", "llo", "e"}) {
    add(&vocab, text, TokenKind::kNormal, score -= 1);
  }
  vocab.merges = {"a a", "aa aa", "a b", "Ġ a", "Ġ Ġ", "< /", "s >", "h e"};
  add(&vocab, "<|im_end|>", TokenKind::kControl);
  add(&vocab, "<|", TokenKind::kUserDefined);
  add(&vocab, "  ", TokenKind::kUserDefined);
  return vocab;
}

// What a file may hold: anything read_vocab lets through.
Vocab vocab_from(std::string_view* input, size_t family) {
  Vocab vocab = empty_vocab(family);
  while (!input->empty()) {
    const size_t end = std::min(input->find('\n'), input->size());
    const std::string line(input->substr(0, end));
    input->remove_prefix(std::min(end + 1, input->size()));
    if (line.empty()) break;
    const size_t space = line.find(' ', 1);
    if (line[0] >= '0' && line[0] <= '6' && space == 1) {
      add(&vocab, line.substr(2), static_cast<TokenKind>(line[0] - '0'),
          static_cast<float>(line.size() % 5));
    } else if (space != std::string::npos && space + 1 < line.size()) {
      vocab.merges.push_back(line);
    }
  }
  return vocab;
}

void check_stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Detokenizer stream(tokenizer, Detokenizer::Position::kStart);
  std::string text;
  for (const int32_t id : ids) {
    const std::string step = stream.push(id);
    SHOAL_CHECK(is_valid_utf8(step), "a stream gave half a character");
    text += step;
  }
  SHOAL_CHECK(text + stream.flush() == tokenizer.decode(ids), "stream and whole decoding differ");
}

// Decoding gives the text back, except for the mark that stands for a space in SentencePiece, and
// the space that it puts after a user-defined token.
bool is_exact(const Tokenizer& tokenizer, std::string_view text) {
  if (tokenizer.vocab().model == "gpt2") return true;
  for (const char* part : {"▁", "<|", "  "}) {
    if (text.find(part) != std::string_view::npos) return false;
  }
  return true;
}

void check_text(const Tokenizer& tokenizer, std::string_view text, uint8_t flags, bool full) {
  const std::vector<size_t> breaks{static_cast<size_t>(flags >> 2)};
  const EncodeOptions options{
      .add_special = (flags & 2) != 0, .parse_special = (flags & 1) != 0, .breaks = breaks};
  const auto ids = tokenizer.encode(text, options);
  SHOAL_CHECK(ids.is_ok() || !full || !is_valid_utf8(text), "a text was refused");
  if (!ids) return;
  for (const int32_t id : *ids) {
    SHOAL_CHECK(id >= 0 && id < tokenizer.vocab_size(), "an id outside the vocabulary");
    SHOAL_CHECK((flags & 3) != 0 || !full || !tokenizer.is_control(id),
                "text made a control token");
  }
  check_stream(tokenizer, *ids);
  if (full && (flags & 1) == 0 && is_exact(tokenizer, text)) {
    SHOAL_CHECK(tokenizer.decode(*ids) == text, "decoding does not give the text back");
  }
}

}  // namespace
}  // namespace shoal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace shoal;
  if (size < 2) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t family = data[0] & 0x7f;
  if (data[0] & 0x80) {
    auto made = Tokenizer::create(vocab_from(&input, family));
    if (made) check_text(**made, sanitize_utf8(input), data[1], false);
    return 0;
  }
  static std::map<size_t, std::unique_ptr<Tokenizer>> full;
  std::unique_ptr<Tokenizer>& tokenizer = full[family];
  if (!tokenizer) tokenizer = std::move(Tokenizer::create(full_vocab(family)).value());
  check_text(*tokenizer, input, data[1], true);
  check_text(*tokenizer, sanitize_utf8(input), data[1], true);
  return 0;
}

// Small vocabularies for tests, made in memory.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/utf8.h"
#include "model/gguf.h"
#include "model/pretokenizer.h"
#include "model/subword.h"
#include "model/tokenizer.h"
#include "model/vocab.h"

namespace shoal::testing {

inline int32_t add_token(Vocab* vocab, std::string text, TokenKind kind = TokenKind::kNormal,
                         float score = 0) {
  vocab->tokens.push_back(std::move(text));
  vocab->kinds.push_back(kind);
  vocab->scores.push_back(score);
  return static_cast<int32_t>(vocab->tokens.size()) - 1;
}

// <unk> <s> </s>, 256 byte tokens, then some words and parts of words. Without byte tokens if
// asked.
inline Vocab spm_vocab(bool with_bytes = true) {
  Vocab vocab;
  vocab.model = "llama";
  add_token(&vocab, "<unk>", TokenKind::kUnknown);
  add_token(&vocab, "<s>", TokenKind::kControl);
  add_token(&vocab, "</s>", TokenKind::kControl);
  for (int byte = 0; with_bytes && byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
    add_token(&vocab, text, TokenKind::kByte);
  }
  float score = -1;
  for (const char* text : {"▁▁", "▁▁▁▁", "he", "ll", "▁he", "llo", "▁hello", "▁", "h", "e", "l",
                           "o", "a", "aa", "aaaa", "</", "s>"}) {
    add_token(&vocab, text, TokenKind::kNormal, score);
    score -= 1;
  }
  return vocab;
}

// All bytes, merges that make a few words letter by letter, control tokens <|im_start|> and
// <|im_end|>.
inline Vocab bpe_vocab(const std::string& pre = "qwen2") {
  Vocab vocab;
  vocab.model = "gpt2";
  vocab.pre = pre;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    add_token(&vocab, bytes_to_bpe_text(std::string_view(&c, 1)));
  }
  const auto merge = [&](const std::string& left, const std::string& right) {
    vocab.merges.push_back(bytes_to_bpe_text(left) + " " + bytes_to_bpe_text(right));
    add_token(&vocab, bytes_to_bpe_text(left + right));
  };
  for (const std::string word : {"hello", "aaaaaaaa", "        "}) {
    for (size_t n = 1; n < word.size(); ++n) merge(word.substr(0, n), word.substr(n, 1));
  }
  merge(" ", "hello");
  add_token(&vocab, "<|im_start|>", TokenKind::kControl);
  vocab.eos = add_token(&vocab, "<|im_end|>", TokenKind::kControl);
  return vocab;
}

inline std::unique_ptr<Tokenizer> make_tokenizer(Vocab vocab) {
  auto made = Tokenizer::create(std::move(vocab));
  EXPECT_TRUE(made) << made.status().to_string();
  return made ? std::move(*made) : nullptr;
}

inline std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path) {
  const auto file = GgufFile::open(path);
  EXPECT_TRUE(file) << file.status().to_string();
  auto vocab = read_vocab(*file);
  EXPECT_TRUE(vocab) << vocab.status().to_string();
  return make_tokenizer(std::move(*vocab));
}

inline std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text,
                                   const EncodeOptions& options = {}) {
  const auto ids = tokenizer.encode(text, options);
  EXPECT_TRUE(ids) << ids.status().to_string();
  return ids ? *ids : std::vector<int32_t>{};
}

// Text of `length` characters from many scripts, with white space, digits and markers mixed in.
inline std::string random_text(Rng* rng, size_t length) {
  static constexpr std::pair<uint32_t, uint32_t> kRanges[] = {
      {0x20, 0x7e},     {0x20, 0x7e},       {'a', 'z'},         {'0', '9'},       {0xa0, 0x17f},
      {0x300, 0x36f},   {0x370, 0x52f},     {0x5d0, 0x5ea},     {0x600, 0x6ff},   {0x900, 0x97f},
      {0xe00, 0xe7f},   {0x2000, 0x206f},   {0x3000, 0x30ff},   {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
      {0xff00, 0xffef}, {0x1f300, 0x1f6ff}, {0x10000, 0x10ffff}};
  static constexpr const char* kPhrases[] = {
      " ", "  ", "\n", "\r\n", "\t", "'s", "'LL", " hello", "<|im_end|>", "</s>", "\xe2\x96\x81"};
  std::string text;
  for (size_t i = 0; i < length; ++i) {
    if (rng->below(4) == 0) {
      text += kPhrases[rng->below(std::size(kPhrases))];
      continue;
    }
    const auto [low, high] = kRanges[rng->below(std::size(kRanges))];
    append_utf8(low + static_cast<uint32_t>(rng->below(high - low + 1)), &text);
  }
  return text;
}

}  // namespace shoal::testing

// Merging against the rule itself, written down naively; how few tokens a text can have; what
// encoding takes of memory.
#include <algorithm>

#include "tests/model/tokenizer_support.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/support.h"

namespace shoal::testing {
namespace {

constexpr const char* kMark = "\xe2\x96\x81";

std::vector<std::string> characters_of(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    next_code_point(text, &at);
    out.push_back(text.substr(begin, at - begin));
  }
  return out;
}

// "Merge the adjacent pair whose text is the token of highest score, leftmost first, until none
// is."
std::vector<int32_t> merge_naively(const Vocab& vocab, const std::string& text) {
  std::string marked = kMark;
  for (const char c : text) {
    if (c == ' ') {
      marked += kMark;
    } else {
      marked += c;
    }
  }
  const auto id_of = [&](const std::string& piece) {
    int32_t found = -1;
    for (size_t i = 0; i < vocab.tokens.size(); ++i) {
      if (vocab.kinds[i] == TokenKind::kNormal && vocab.tokens[i] == piece) {
        found = static_cast<int32_t>(i);
      }
    }
    return found;
  };
  std::vector<std::string> pieces = characters_of(marked);
  for (;;) {
    int64_t best = -1;
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
      const int32_t id = id_of(pieces[i] + pieces[i + 1]);
      if (id < 0) continue;
      const float score = vocab.scores[static_cast<size_t>(id)];
      if (best < 0 ||
          score > vocab.scores[static_cast<size_t>(id_of(pieces[static_cast<size_t>(best)] +
                                                         pieces[static_cast<size_t>(best) + 1]))]) {
        best = static_cast<int64_t>(i);
      }
    }
    if (best < 0) break;
    const auto at = pieces.begin() + best;
    *at += *(at + 1);
    pieces.erase(at + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& piece : pieces) {
    if (const int32_t id = id_of(piece); id >= 0) {
      ids.push_back(id);
      continue;
    }
    for (const char byte : piece) ids.push_back(3 + static_cast<unsigned char>(byte));
  }
  return ids;
}

// Random tokens over a small alphabet; with tokens that hold a space between letters if asked.
Vocab random_vocab(Rng* rng, bool inner_marks) {
  static constexpr const char* kLetters[] = {"a", "b", "c", "\xc3\xa9"};
  Vocab vocab = spm_vocab();
  for (int i = 0; i < 40; ++i) {
    std::string token;
    for (uint64_t n = rng->below(3); n > 0; --n) token += kMark;
    for (uint64_t n = 1 + rng->below(4); n > 0; --n) token += kLetters[rng->below(4)];
    if (inner_marks && rng->below(3) == 0) token += std::string(kMark) + kLetters[rng->below(4)];
    add_token(&vocab, token, TokenKind::kNormal, static_cast<float>(rng->below(20)));
  }
  return vocab;
}

TEST(SpmMerge, IsTheRuleOnRandomTextsWhereverTheyAreCut) {
  const uint64_t seed = test_seed(41);
  Rng rng(seed);
  for (int round = 0; round < 60; ++round) {
    const Vocab vocab = random_vocab(&rng, round % 2 == 1);
    const auto tokenizer = make_tokenizer(vocab);
    for (int text_index = 0; text_index < 10; ++text_index) {
      static constexpr const char* kParts[] = {"a", "b", "c", "\xc3\xa9", " ", "  ", "z", kMark};
      std::string text;
      for (uint64_t n = 1 + rng.below(24); n > 0; --n) text += kParts[rng.below(8)];
      EXPECT_EQ(encode(*tokenizer, text), merge_naively(vocab, text))
          << "'" << text << "', seed " << seed << ", round " << round;
    }
  }
}

void expect_bound(const Tokenizer& tokenizer, const std::string& text) {
  for (const bool special : {false, true}) {
    EXPECT_LE(tokenizer.least_tokens(text),
              encode(tokenizer, text, {.parse_special = special}).size())
        << text.substr(0, 200);
  }
}

TEST(LeastTokens, NeverExceedWhatEncodingGives) {
  const uint64_t seed = test_seed(41);
  Rng rng(seed);
  const auto spm = make_tokenizer(spm_vocab());
  const auto bpe = make_tokenizer(bpe_vocab());
  for (int i = 0; i < 300; ++i) {
    const std::string text = random_text(&rng, rng.below(200));
    expect_bound(*spm, text);
    expect_bound(*bpe, text);
  }
  EXPECT_EQ(spm->least_tokens(""), 0u);
  // The longest token of bpe_vocab() is that of eight spaces, in its alphabet 16 bytes.
  EXPECT_EQ(bpe->least_tokens(std::string(1600, 'a')), 100u);
}

TEST(LeastTokens, OfAVocabularyThatDropsBytesAreNotKnown) {
  Vocab vocab = bpe_vocab();
  vocab.kinds[static_cast<size_t>('q')] = TokenKind::kControl;  // no text becomes it
  const auto tokenizer = make_tokenizer(vocab);
  EXPECT_TRUE(encode(*tokenizer, "qqqq").empty());
  EXPECT_EQ(tokenizer->least_tokens(std::string(100000, 'q')), 0u);
}

TEST(LeastTokens, DoNotCountWhiteSpaceThatTokensSwallow) {
  Vocab vocab = spm_vocab();
  vocab.model_name = "Phi-3 mini";
  const auto tokenizer = make_tokenizer(vocab);
  expect_bound(*tokenizer, "</s>" + std::string(100000, ' '));
  EXPECT_GT(tokenizer->least_tokens(std::string(100000, 'a')), 1000u);
}

TEST(LeastTokens, OfSharedVocabularies) {
  SHOAL_SKIP_WITHOUT_SHARED("vocabs/llama-spm.gguf");
  for (const char* name : {"llama-spm", "llama-bpe", "deepseek-llm", "gpt-2", "falcon"}) {
    const auto path = shared_path(std::string("vocabs/") + name + ".gguf");
    const auto tokenizer = load_tokenizer(*path);
    Rng rng(7);
    for (int i = 0; i < 20; ++i) expect_bound(*tokenizer, random_text(&rng, 400));
    expect_bound(*tokenizer, std::string(5000, ' '));
    expect_bound(*tokenizer, std::string(5000, '-'));
  }
}

// The header promises 80 bytes for each byte of text.
TEST(EncodeMemory, IsBoundedByTheText) {
  constexpr size_t kBytes = 1 << 20;
  const auto spm = make_tokenizer(spm_vocab());
  const auto bpe = make_tokenizer(bpe_vocab());
  const auto repeated = [](std::string_view unit) {
    std::string text;
    while (text.size() < kBytes) text += unit;
    return text;
  };
  for (const char* unit : {"a", "b", " ", "\n", "a b", "a. ", "hello ", "\xf0\x9f\x98\x80", "</s>",
                           "1", "'s", "\xe2\x96\x81", "he llo\n", "<|im_end|>"}) {
    const std::string text = repeated(unit);
    for (const Tokenizer* tokenizer : {spm.get(), bpe.get()}) {
      const size_t before = live_bytes();
      reset_peak_bytes();
      const size_t tokens = encode(*tokenizer, text, {.parse_special = true}).size();
      const size_t factor = (peak_bytes() - before) / text.size();
      EXPECT_LE(factor, 80u) << "unit '" << unit << "', " << tokens << " tokens, "
                             << tokenizer->vocab().model;
    }
  }
}

}  // namespace
}  // namespace shoal::testing

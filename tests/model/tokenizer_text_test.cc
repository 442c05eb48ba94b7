// Text to ids and back: round trips, streaming, small vocabularies worked out by hand, and texts
// chosen to be slow.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "model/detokenizer.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using testing::bpe_vocab;
using testing::encode;
using testing::make_tokenizer;
using testing::spm_vocab;

std::vector<std::string> texts_of(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<std::string> texts;
  for (const int32_t id : ids) texts.push_back(tokenizer.token_text(id));
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Spm, MergesByScoreAndFallsBackToBytes) {
  const auto tokenizer = make_tokenizer(spm_vocab());
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "hello")), (Texts{"▁hello"}));
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "hell")), (Texts{"▁he", "ll"}));
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "é")), (Texts{"▁", "<0xC3>", "<0xA9>"}));
  // Ties: the leftmost pair first.
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "aaaaa")), (Texts{"▁", "aaaa", "a"}));
  EXPECT_TRUE(encode(*tokenizer, "").empty());
}

TEST(Spm, AddsASpaceUnlessTheFileSaysNo) {
  Vocab vocab = spm_vocab();
  vocab.add_space_prefix = false;
  const auto tokenizer = make_tokenizer(std::move(vocab));
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "hello")), (Texts{"he", "llo"}));
  EXPECT_EQ(tokenizer->decode(encode(*tokenizer, " hello")), " hello");
}

TEST(Spm, WithoutByteTokensUsesTheUnknownToken) {
  const auto tokenizer = make_tokenizer(spm_vocab(false));
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "hé")), (Texts{"▁", "h", "<unk>", "<unk>"}));
  Vocab vocab = spm_vocab(false);
  vocab.kinds[0] = TokenKind::kUnused;
  vocab.unknown = 3;  // any id but the default: an ordinary token
  EXPECT_EQ(encode(*make_tokenizer(std::move(vocab)), "é").size(), 3u);
}

TEST(Bpe, MergesByRankAndWritesUnknownPiecesByteByByte) {
  Vocab vocab = bpe_vocab();
  const auto tokenizer = make_tokenizer(vocab);
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "hello hello")), (Texts{"hello", "Ġhello"}));
  EXPECT_EQ(texts_of(*tokenizer, encode(*tokenizer, "hella")), (Texts{"hell", "a"}));
  // "hel" is made by a merge but is no token any more.
  for (std::string& text : vocab.tokens) {
    if (text == "hel") text = "<gone>";
  }
  const auto without = make_tokenizer(vocab);
  EXPECT_EQ(texts_of(*without, encode(*without, "hel")), (Texts{"h", "e", "l"}));
  EXPECT_EQ(texts_of(*without, encode(*without, "hello")), (Texts{"hello"}));
}

TEST(Bpe, IgnoreMergesTakesAWholeWordThatIsAToken) {
  Vocab vocab = bpe_vocab("llama-bpe");
  testing::add_token(&vocab, "zebra");
  EXPECT_EQ(encode(*make_tokenizer(vocab), "zebra").size(), 1u);
  vocab.pre = "qwen2";  // the same token, but no merges lead to it
  EXPECT_EQ(encode(*make_tokenizer(vocab), "zebra").size(), 5u);
}

class RoundTrip : public ::testing::Test {
 protected:
  void check(const Tokenizer& tokenizer, int rounds) {
    const uint64_t seed = testing::test_seed(0x70c);
    Rng rng(seed);
    for (int round = 0; round < rounds; ++round) {
      const std::string text = testing::random_text(&rng, rng.below(60));
      const auto ids = encode(tokenizer, text);
      ASSERT_EQ(tokenizer.decode(ids), text) << "seed " << seed << " round " << round;
      for (const int32_t id : ids) ASSERT_FALSE(tokenizer.is_control(id)) << text;
    }
  }
};

TEST_F(RoundTrip, ByteLevelBpeOfEveryFamily) {
  for (const std::string& name : PreTokenizer::known_names()) {
    SCOPED_TRACE(name);
    Vocab vocab = bpe_vocab(name);
    vocab.bos = vocab.eos;
    check(*make_tokenizer(std::move(vocab)), 300);
  }
}

TEST_F(RoundTrip, ShippedModel) {
  check(*testing::load_tokenizer(testing::model_path("shoal-tiny-dense-q8_0.gguf")), 3000);
}

TEST_F(RoundTrip, SharedVocabularies) {
  // Not falcon: it has no tokens for some control characters and for byte F2.
  for (const char* name : {"llama-bpe", "gpt-2", "deepseek-llm"}) {
    const std::string file = std::string("vocabs/") + name + ".gguf";
    SHOAL_SKIP_WITHOUT_SHARED(file);
    SCOPED_TRACE(name);
    check(*testing::load_tokenizer(*testing::shared_path(file)), 500);
  }
}

TEST_F(RoundTrip, SentencePieceExceptForTheSpaceMarkItself) {
  const auto tokenizer = make_tokenizer(spm_vocab());
  const uint64_t seed = testing::test_seed(0x59);
  Rng rng(seed);
  for (int round = 0; round < 3000; ++round) {
    std::string text = testing::random_text(&rng, rng.below(60));
    const auto ids = encode(*tokenizer, text);
    for (size_t at; (at = text.find("▁")) != std::string::npos;) text.replace(at, 3, " ");
    ASSERT_EQ(tokenizer->decode(ids), text) << "seed " << seed << " round " << round;
  }
}

// Pushing token by token gives, after every prefix, what decoding the prefix gives.
void check_streaming(const Tokenizer& tokenizer) {
  const uint64_t seed = testing::test_seed(0x57);
  Rng rng(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> ids;
    const size_t count = rng.below(30);
    for (size_t i = 0; i < count; ++i) {
      // Half of them from the first tokens, which are bytes: broken sequences of all kinds.
      const uint64_t range = rng.below(2) ? 260 : static_cast<uint64_t>(tokenizer.vocab_size());
      ids.push_back(static_cast<int32_t>(rng.below(range)));
    }
    Detokenizer stream(tokenizer, Detokenizer::Position::kStart);
    std::string text;
    for (size_t n = 0; n < ids.size(); ++n) {
      const std::string step = stream.push(ids[n]);
      ASSERT_TRUE(is_valid_utf8(step)) << "seed " << seed;
      text += step;
      Detokenizer copy = stream;
      ASSERT_EQ(text + copy.flush(), tokenizer.decode(std::span(ids).first(n + 1)))
          << "seed " << seed << " round " << round << " token " << n;
    }
  }
}

TEST(Streaming, EqualsWholeDecodingForEveryPrefix) {
  check_streaming(*make_tokenizer(spm_vocab()));
  check_streaming(*make_tokenizer(bpe_vocab()));
}

TEST(Streaming, HoldsBackUnfinishedCharacters) {
  const auto tokenizer = make_tokenizer(bpe_vocab());
  const auto ids = encode(*tokenizer, "€");
  ASSERT_EQ(ids.size(), 3u);
  Detokenizer stream(*tokenizer);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "€");
  EXPECT_EQ(stream.flush(), "");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.flush(), "\ufffd");
}

TEST(Streaming, AnAnswerKeepsTheSpaceOfItsFirstWord) {
  const auto tokenizer = make_tokenizer(spm_vocab());
  const auto ids = encode(*tokenizer, "hello");
  Detokenizer answer(*tokenizer);
  EXPECT_EQ(answer.push(ids[0]), " hello");
  Detokenizer start(*tokenizer, Detokenizer::Position::kStart);
  EXPECT_EQ(start.push(*tokenizer->bos()), "");
  EXPECT_EQ(start.push(ids[0]), "hello");
  EXPECT_EQ(start.push(ids[0]), " hello");
}

// Long runs of what tends to be quadratic somewhere. The bound is loose: quadratic time would be
// minutes.
TEST(Speed, LongMonotonousTexts) {
  const char* slow = std::getenv("SHOAL_TEST_SLOWDOWN");
  const double bound_s = 10.0 * (slow ? std::atof(slow) : 1.0);
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  tokenizers.push_back(make_tokenizer(spm_vocab()));
  for (const std::string& family : PreTokenizer::family_names()) {
    Vocab vocab = bpe_vocab(family);
    vocab.bos = vocab.eos;
    tokenizers.push_back(make_tokenizer(std::move(vocab)));
  }
  for (const auto& tokenizer : tokenizers) {
    for (const char* unit : {" ", "a", "A", "1", "\n", "\t", ".", "'", "中", "\u0301", " \n", "\r",
                             "<|im_end|", "aA", "e\u0301", "\u3000", "ก"}) {
      const bool common = tokenizer->vocab().model == "llama" || tokenizer->vocab().pre == "qwen2";
      const size_t bytes = common ? 1 << 20 : 1 << 17;
      std::string text;
      while (text.size() < bytes) text += unit;
      for (const char* end : {"", "x"}) {
        SCOPED_TRACE(tokenizer->vocab().model + " " + tokenizer->vocab().pre + " '" + unit +
                     "' then '" + end + "'");
        const auto begin = std::chrono::steady_clock::now();
        const auto ids = tokenizer->encode(text + end, {.parse_special = true});
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        ASSERT_TRUE(ids) << ids.status().to_string();
        ASSERT_LT(took.count(), bound_s);
      }
    }
  }
}

}  // namespace
}  // namespace shoal

// Special tokens: recognised where asked, never made from plain text, and which of them end a
// generation.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/special_tokens.h"
#include "tests/model/tokenizer_support.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using testing::add_token;
using testing::bpe_vocab;
using testing::encode;
using testing::make_tokenizer;
using testing::spm_vocab;

using Texts = std::vector<std::string>;

Texts matched(const SpecialTokens& tokens, std::string_view text,
              const std::vector<size_t>& breaks = {}) {
  Texts out;
  for (const SpecialMatch& match : tokens.find(text, breaks)) {
    out.push_back(std::to_string(match.id) + "@" + std::to_string(match.begin) + "-" +
                  std::to_string(match.end));
  }
  return out;
}

TEST(SpecialTokens, LongerTextsClaimTheirPlaceFirst) {
  const SpecialTokens tokens({{1, "ab"}, {2, "abcd"}, {3, "cdefg"}, {4, "c"}, {5, "xx"}});
  EXPECT_EQ(matched(tokens, "abcd"), (Texts{"2@0-4"}));
  // "cdefg" is longer than the "abcd" that starts before it.
  EXPECT_EQ(matched(tokens, "abcdefg"), (Texts{"1@0-2", "3@2-7"}));
  EXPECT_EQ(matched(tokens, "abcab"), (Texts{"1@0-2", "4@2-3", "1@3-5"}));
  EXPECT_EQ(matched(tokens, "xxxxx"), (Texts{"5@0-2", "5@2-4"}));
  EXPECT_TRUE(matched(tokens, "").empty());
  EXPECT_TRUE(matched(SpecialTokens({}), "abc").empty());
}

TEST(SpecialTokens, OfEqualTextsTheLastCounts) {
  EXPECT_EQ(matched(SpecialTokens({{1, "ab"}, {2, "ab"}}), "ab"), (Texts{"2@0-2"}));
}

TEST(SpecialTokens, SwallowsWhiteSpace) {
  const SpecialTokens tokens({{1, "<a>", false, true, true}, {2, "<b>"}});
  EXPECT_EQ(matched(tokens, "x <a>\n <b> <a>"), (Texts{"1@1-7", "2@7-10", "1@10-14"}));
}

// Against the rule as it is stated: texts by length, each searched in what the longer ones left.
TEST(SpecialTokens, AgreesWithThePlainRule) {
  const uint64_t seed = testing::test_seed(0x5e);
  Rng rng(seed);
  for (int round = 0; round < 3000; ++round) {
    std::vector<SpecialToken> tokens;
    for (int i = 0; i < 6; ++i) {
      std::string text;
      for (uint64_t n = 1 + rng.below(5); n > 0; --n) text += static_cast<char>('a' + rng.below(2));
      bool repeated = false;
      for (const SpecialToken& other : tokens) repeated |= other.text.size() == text.size();
      if (!repeated) tokens.push_back({i, text});
    }
    std::string text;
    for (uint64_t n = rng.below(40); n > 0; --n) text += static_cast<char>('a' + rng.below(2));

    std::vector<int> owner(text.size(), -1);
    std::vector<size_t> starts;
    for (size_t length = 5; length > 0; --length) {
      for (const SpecialToken& token : tokens) {
        for (size_t at = 0; token.text.size() == length && at + length <= text.size(); ++at) {
          bool free = text.compare(at, length, token.text) == 0;
          for (size_t i = at; i < at + length; ++i) free = free && owner[i] < 0;
          for (size_t i = at; free && i < at + length; ++i) owner[i] = token.id;
          if (free) starts.push_back(at);
        }
      }
    }
    std::sort(starts.begin(), starts.end());
    std::vector<size_t> found;
    for (const SpecialMatch& match : SpecialTokens(tokens).find(text, {})) {
      found.push_back(match.begin);
      ASSERT_EQ(owner[match.begin], match.id) << text << " seed " << seed;
    }
    ASSERT_EQ(found, starts) << text << " seed " << seed << " round " << round;
  }
}

TEST(Special, ControlTextsOnlyWhenAskedUserDefinedAlways) {
  Vocab vocab = bpe_vocab();
  const int32_t user = add_token(&vocab, "<think>", TokenKind::kUserDefined);
  const auto tokenizer = make_tokenizer(vocab);
  const int32_t end = *tokenizer->eos();
  const std::string text = "a<think>b<|im_end|>";
  const auto plain = encode(*tokenizer, text);
  const auto parsed = encode(*tokenizer, text, {.parse_special = true});
  EXPECT_EQ(parsed, (std::vector<int32_t>{'a', user, 'b', end}));
  EXPECT_EQ(plain[1], user);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(tokenizer->decode(plain), text);
  EXPECT_EQ(tokenizer->decode(parsed), "a<think>b");
  EXPECT_EQ(tokenizer->control_texts(), (Texts{"<|im_start|>", "<|im_end|>"}));
  EXPECT_EQ(tokenizer->token_bytes(end), "");
  EXPECT_EQ(tokenizer->token_text(end), "<|im_end|>");
}

TEST(Special, ControlTextsDoNotSpanBreaks) {
  const auto tokenizer = make_tokenizer(bpe_vocab());
  const int32_t end = *tokenizer->eos();
  const std::string text = "a<|im_end|>";  // the control text is bytes 1 to 11
  for (size_t at = 0; at <= text.size(); ++at) {
    const std::vector<size_t> breaks{at};
    const auto ids = encode(*tokenizer, text, {.parse_special = true, .breaks = breaks});
    const bool inside = at > 1 && at < 11;
    EXPECT_EQ(std::count(ids.begin(), ids.end(), end), inside ? 0 : 1) << at;
  }
  const std::vector<size_t> descending{5, 3};
  const auto refused = tokenizer->encode(text, {.parse_special = true, .breaks = descending});
  EXPECT_EQ(refused.status().code(), Code::kInvalidArgument);
}

TEST(Special, PlainTextNeverBecomesAControlToken) {
  // "</s>" could be merged from "</" and "s>", were it not a control token.
  const auto spm = make_tokenizer(spm_vocab());
  const auto ids = encode(*spm, "a</s>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 0);
  EXPECT_EQ(spm->decode(ids), "a</s>");
  EXPECT_EQ(encode(*spm, "</s>", {.parse_special = true}), (std::vector<int32_t>{2}));

  // A whole word that has the text of a control token, in a family that looks words up first.
  Vocab vocab = bpe_vocab("llama-bpe");
  vocab.bos = add_token(&vocab, "begin", TokenKind::kControl);
  const auto bpe = make_tokenizer(vocab);
  const auto word = encode(*bpe, "begin");
  EXPECT_EQ(std::count(word.begin(), word.end(), *bpe->bos()), 0);
}

TEST(Special, NoControlTextOfTheSharedVocabulariesGetsThrough) {
  for (const char* name : {"llama-spm", "llama-bpe", "gpt-2", "falcon", "deepseek-llm"}) {
    const std::string file = std::string("vocabs/") + name + ".gguf";
    SHOAL_SKIP_WITHOUT_SHARED(file);
    const auto tokenizer = testing::load_tokenizer(*testing::shared_path(file));
    EXPECT_FALSE(tokenizer->control_texts().empty()) << name;
    for (const std::string& text : tokenizer->control_texts()) {
      for (const int32_t id : encode(*tokenizer, "x" + text + text + "y")) {
        ASSERT_FALSE(tokenizer->is_control(id)) << name << " " << text;
      }
      const auto ids = encode(*tokenizer, text, {.parse_special = true});
      ASSERT_EQ(ids.size(), 1u) << name << " " << text;
      ASSERT_EQ(tokenizer->token_text(ids[0]), text);
    }
  }
}

TEST(Special, BosAndEosAsTheFileSays) {
  Vocab vocab = spm_vocab();
  EXPECT_EQ(encode(*make_tokenizer(vocab), "", {.add_special = true}), (std::vector<int32_t>{1}));
  vocab.add_eos = true;
  EXPECT_EQ(encode(*make_tokenizer(vocab), "", {.add_special = true}),
            (std::vector<int32_t>{1, 2}));
  vocab.add_bos = false;
  EXPECT_EQ(encode(*make_tokenizer(vocab), "", {.add_special = true}), (std::vector<int32_t>{2}));

  Vocab bpe = bpe_vocab("qwen2");
  bpe.bos = bpe.eos;
  EXPECT_FALSE(make_tokenizer(bpe)->adds_bos());
  for (const char* pre : {"llama-bpe", "tekken"}) {
    bpe.pre = pre;
    EXPECT_TRUE(make_tokenizer(bpe)->adds_bos()) << pre;
  }
  bpe.bos.reset();  // the family would add it, but there is none
  EXPECT_FALSE(make_tokenizer(bpe)->adds_bos());
}

TEST(Special, SpacePrefixAfterASpecialToken) {
  const auto tokenizer = make_tokenizer(spm_vocab());
  const auto ids = encode(*tokenizer, "hello</s>hello", {.parse_special = true});
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(tokenizer->token_text(ids[2]), "▁hello");
}

TEST(Special, Phi3SwallowsSpaceAfterControlTokens) {
  Vocab vocab = spm_vocab();
  const int32_t turn = add_token(&vocab, "<|user|>", TokenKind::kControl);
  vocab.add_space_prefix = false;
  const std::string text = "<|user|> \n h";
  EXPECT_GT(encode(*make_tokenizer(vocab), text, {.parse_special = true}).size(), 2u);
  vocab.model_name = "Phi-3 Mini";
  const auto ids = encode(*make_tokenizer(vocab), text, {.parse_special = true});
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(ids[0], turn);
}

struct EndCase {
  Texts tokens;  // added to the vocabulary, control
  Texts ends;    // those of them that end a generation
};

TEST(EndOfGeneration, KnownTextsWithTheirExceptions) {
  const EndCase cases[] = {
      {{"<|eot_id|>", "<|eom_id|>", "<|user|>"}, {"<|eot_id|>", "<|eom_id|>"}},
      {{"<|end|>", "<|user|>"}, {"<|end|>"}},
      {{"<|end|>", "<|return|>", "<|call|>"}, {"<|return|>", "<|call|>"}},
      {{"<|end|>", "<|calls|>", "<|flush|>"}, {"<|calls|>", "<|flush|>"}},
      {{"</s>", "<end_of_turn>"}, {"</s>", "<end_of_turn>"}},
      {{"</s>", "<|tool_response>"}, {"<|tool_response>"}},
      {{"<｜end▁of▁sentence｜>"}, {"<｜end▁of▁sentence｜>"}},
  };
  for (const EndCase& c : cases) {
    Vocab vocab = bpe_vocab();
    const int32_t eos = *vocab.eos;  // <|im_end|>, always in the set
    for (const std::string& text : c.tokens) add_token(&vocab, text, TokenKind::kControl);
    const auto tokenizer = make_tokenizer(std::move(vocab));
    Texts ends;
    for (const int32_t id : tokenizer->end_of_generation()) {
      EXPECT_TRUE(tokenizer->is_end_of_generation(id));
      if (id != eos) ends.push_back(tokenizer->token_text(id));
    }
    EXPECT_EQ(ends, c.ends) << c.tokens.front();
    EXPECT_TRUE(tokenizer->is_end_of_generation(eos));
    EXPECT_FALSE(tokenizer->is_end_of_generation('a'));
    EXPECT_FALSE(tokenizer->is_end_of_generation(-1));
    EXPECT_FALSE(tokenizer->is_end_of_generation(1 << 30));
  }
}

TEST(EndOfGeneration, IdsOfTheFileCount) {
  Vocab vocab = bpe_vocab();
  vocab.eot = add_token(&vocab, "<|user|>", TokenKind::kControl);
  vocab.eom = add_token(&vocab, "<|observation|>", TokenKind::kControl);
  vocab.fim_pad = add_token(&vocab, "<|fim_pad|>", TokenKind::kControl);
  const auto tokenizer = make_tokenizer(vocab);
  EXPECT_EQ(tokenizer->end_of_generation(),
            (std::vector<int32_t>{*vocab.eos, *vocab.eot, *vocab.eom, *vocab.fim_pad}));
}

TEST(EndOfGeneration, EndTextsAreControlTokensWhateverTheFileCallsThem) {
  Vocab vocab = bpe_vocab();
  const int32_t end = add_token(&vocab, "<end_of_turn>", TokenKind::kNormal);
  const auto tokenizer = make_tokenizer(std::move(vocab));
  EXPECT_TRUE(tokenizer->is_control(end));
  EXPECT_EQ(encode(*tokenizer, "<end_of_turn>", {.parse_special = true}),
            (std::vector<int32_t>{end}));
}

TEST(Special, ChannelMarkersOfGptOssAreVisible) {
  Vocab vocab = bpe_vocab("gpt-4o");
  const int32_t channel = add_token(&vocab, "<|channel|>", TokenKind::kControl);
  add_token(&vocab, "<|constrain|>", TokenKind::kControl);
  add_token(&vocab, "<|return|>", TokenKind::kControl);
  const auto tokenizer = make_tokenizer(std::move(vocab));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{channel, 'a'}), "<|channel|>a");
  const auto ids = encode(*tokenizer, "<|channel|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), channel), 0) << "but text cannot open a channel";
}

}  // namespace
}  // namespace shoal

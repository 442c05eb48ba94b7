// Vocabularies as they stand in files: what is read, and what is refused with the key named.
#include "model/vocab.h"

#include <gtest/gtest.h>

#include <cmath>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/gguf_writer.h"
#include "tests/model/tokenizer_support.h"

namespace shoal {
namespace {

using Values = std::map<std::string, GgufValue>;

Values good() {
  return {{"general.name", gguf_value("a model")},
          {"tokenizer.ggml.model", gguf_value("gpt2")},
          {"tokenizer.ggml.pre", gguf_value("qwen2")},
          {"tokenizer.ggml.tokens", gguf_value(std::vector<std::string>{"a", "b", "ab", "<s>"})},
          {"tokenizer.ggml.token_type", gguf_value(std::vector<int32_t>{1, 1, 1, 3})},
          {"tokenizer.ggml.scores", gguf_value(std::vector<float>{0, -1, -2, 0})},
          {"tokenizer.ggml.merges", gguf_value(std::vector<std::string>{"a b"})},
          {"tokenizer.ggml.bos_token_id", gguf_value(uint32_t{3})},
          {"tokenizer.ggml.add_bos_token", gguf_value(true)},
          {"tokenizer.chat_template", gguf_value("{{ x }}")},
          {"tokenizer.chat_templates", gguf_value(std::vector<std::string>{"tool_use"})},
          {"tokenizer.chat_template.tool_use", gguf_value("{{ y }}")}};
}

Result<Vocab> read(const Values& values) {
  GgufWriter writer;
  for (const auto& [key, value] : values) writer.add_kv(key, value);
  auto bytes = writer.finish_bytes();
  EXPECT_TRUE(bytes) << bytes.status().to_string();
  const auto file = GgufFile::parse(make_memory_source("vocab.gguf", std::move(*bytes)));
  EXPECT_TRUE(file) << file.status().to_string();
  return read_vocab(*file);
}

TEST(Vocab, ReadsEverything) {
  const auto vocab = read(good());
  ASSERT_TRUE(vocab) << vocab.status().to_string();
  EXPECT_EQ(vocab->model, "gpt2");
  EXPECT_EQ(vocab->pre, "qwen2");
  EXPECT_EQ(vocab->tokens, (std::vector<std::string>{"a", "b", "ab", "<s>"}));
  EXPECT_EQ(vocab->kinds.back(), TokenKind::kControl);
  EXPECT_EQ(vocab->scores, (std::vector<float>{0, -1, -2, 0}));
  EXPECT_EQ(vocab->merges, (std::vector<std::string>{"a b"}));
  EXPECT_EQ(vocab->bos, 3);
  EXPECT_FALSE(vocab->eos);
  EXPECT_EQ(vocab->add_bos, true);
  EXPECT_FALSE(vocab->add_eos);
  EXPECT_EQ(vocab->chat_template, "{{ x }}");
  EXPECT_EQ(vocab->named_templates.at("tool_use"), "{{ y }}");
  EXPECT_EQ(vocab->model_name, "a model");
}

TEST(Vocab, MissingKindsAreNormalAndMinusOneIsNoId) {
  Values values = good();
  values.erase("tokenizer.ggml.token_type");
  values.erase("tokenizer.ggml.pre");
  values["tokenizer.ggml.eos_token_id"] = gguf_value(uint32_t{0xffffffff});
  const auto vocab = read(values);
  ASSERT_TRUE(vocab) << vocab.status().to_string();
  EXPECT_EQ(vocab->kinds, std::vector<TokenKind>(4, TokenKind::kNormal));
  EXPECT_FALSE(vocab->eos);
  EXPECT_EQ(vocab->pre, "default");
  ASSERT_EQ(vocab->warnings.size(), 1u);
  EXPECT_NE(vocab->warnings[0].find("'tokenizer.ggml.token_type' is missing"), std::string::npos);
}

TEST(Vocab, TextsThatNoTokenizerMakesAreWarnedOf) {
  using Strings = std::vector<std::string>;
  EXPECT_TRUE(read(good())->warnings.empty());
  const std::pair<Strings, const char*> cases[] = {
      {{"a", "b", "a", "<s>"}, "1 token(s), the first of them 2, have the text of one before"},
      {{"a", "a", "ab", "ab"}, "2 token(s), the first of them 1, have the text of one before"},
      {{"", "b", "ab", "<s>"}, "1 token(s), the first of them 0, have no text"},
      {{"a", "", "", "<s>"}, "2 token(s), the first of them 1, have no text"},
      {{"a", "b", "ab", "\xff"}, "1 token(s), the first of them 3, are not valid UTF-8"}};
  for (const auto& [tokens, warning] : cases) {
    Values values = good();
    values["tokenizer.ggml.tokens"] = gguf_value(tokens);
    const auto vocab = read(values);
    ASSERT_TRUE(vocab) << vocab.status().to_string();
    ASSERT_EQ(vocab->warnings.size(), 1u) << warning;
    EXPECT_NE(vocab->warnings[0].find(warning), std::string::npos) << vocab->warnings[0];
    EXPECT_NE(vocab->warnings[0].find("'tokenizer.ggml.tokens'"), std::string::npos);
  }
}

TEST(Vocab, NoneIsMinusOneInAnyIntegerType) {
  const GgufValue nones[] = {gguf_value(uint8_t{0xff}),        gguf_value(int8_t{-1}),
                             gguf_value(uint16_t{0xffff}),     gguf_value(int16_t{-1}),
                             gguf_value(uint32_t{0xffffffff}), gguf_value(int32_t{-1}),
                             gguf_value(UINT64_MAX),           gguf_value(int64_t{-1})};
  for (const char* key : {"tokenizer.ggml.padding_token_id", "tokenizer.ggml.eos_token_id"}) {
    for (const GgufValue& none : nones) {
      Values values = good();
      values[key] = none;
      const auto vocab = read(values);
      ASSERT_TRUE(vocab) << none.describe() << ": " << vocab.status().to_string();
      EXPECT_FALSE(vocab->padding || vocab->eos) << none.describe();
      EXPECT_TRUE(vocab->warnings.empty()) << none.describe();
    }
  }
}

// Nobody needs these: a warning, and they are left out.
TEST(Vocab, IdsBeyondTheTokensThatNobodyNeeds) {
  const std::pair<const char*, std::optional<int32_t> Vocab::*> ids[] = {
      {"padding", &Vocab::padding},
      {"unknown", &Vocab::unknown},
      {"seperator", &Vocab::separator},
      {"mask", &Vocab::mask}};
  for (const auto& [name, member] : ids) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    for (const GgufValue& value : {gguf_value(uint32_t{4}), gguf_value(int32_t{400}),
                                   gguf_value(uint16_t{65535 - 1}), gguf_value(int64_t{1} << 40)}) {
      Values values = good();
      values[key] = value;
      const auto vocab = read(values);
      ASSERT_TRUE(vocab) << key << ": " << vocab.status().to_string();
      EXPECT_FALSE((*vocab).*member) << key;
      ASSERT_EQ(vocab->warnings.size(), 1u) << key;
      EXPECT_NE(vocab->warnings[0].find(key), std::string::npos) << vocab->warnings[0];
    }
    Values values = good();
    values[key] = gguf_value(uint32_t{3});
    EXPECT_EQ((*read(values)).*member, 3) << key;
    values[key] = gguf_value("3");
    EXPECT_FALSE(read(values)) << key;
  }
}

TEST(Vocab, FitsTheRowsOfTheEmbedding) {
  const auto fitted = [](Vocab vocab, int64_t rows) {
    const Status status = fit_vocab(rows, &vocab);
    return std::pair(status, vocab);
  };
  const Vocab vocab = *read(good());
  for (const int64_t rows : {4, 5, 1000}) {
    const auto [status, same] = fitted(vocab, rows);
    EXPECT_TRUE(status.is_ok() && same.tokens == vocab.tokens && same.warnings.empty()) << rows;
  }
  // A control token, and whatever a key names.
  const auto refused = [&](const Vocab& of, int64_t rows, const char* part) {
    const Status status = fitted(of, rows).first;
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << part;
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("'token_embd.weight'"), std::string::npos) << status.message();
  };
  refused(vocab, 3, "tokenizer.ggml.bos_token_id");
  Vocab other = vocab;
  other.bos.reset();
  refused(other, 3, "token 3 ('<s>'");
  for (const TokenKind kind : {TokenKind::kUserDefined, TokenKind::kByte, TokenKind::kUnknown}) {
    other.kinds[3] = kind;
    refused(other, 3, "token 3");
  }
  // Plain ones go, with the merges that would make them and the ids that nobody needs.
  other.kinds[3] = TokenKind::kNormal;
  other.padding = 3;
  const auto [padded, without_padding] = fitted(other, 3);
  EXPECT_TRUE(padded.is_ok()) << padded.message();
  EXPECT_FALSE(without_padding.padding);
  ASSERT_EQ(without_padding.warnings.size(), 2u);
  EXPECT_NE(without_padding.warnings[0].find("padding_token_id"), std::string::npos);
  other.padding.reset();
  other.merges.push_back("b a");  // of no token: on the way to one
  const auto [three, without_last] = fitted(other, 3);
  EXPECT_TRUE(three.is_ok());
  EXPECT_EQ(without_last.merges, other.merges);
  const auto [two, small] = fitted(other, 2);
  ASSERT_TRUE(two.is_ok()) << two.message();
  EXPECT_EQ(small.tokens, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(small.kinds.size(), 2u);
  EXPECT_EQ(small.scores.size(), 2u);
  EXPECT_EQ(small.merges, std::vector<std::string>{"b a"});
  ASSERT_EQ(small.warnings.size(), 1u);
  EXPECT_NE(small.warnings[0].find("4 entries"), std::string::npos) << small.warnings[0];
}

TEST(Vocab, OldNamesOfFillInTheMiddleIds) {
  Values values = good();
  values["tokenizer.ggml.prefix_token_id"] = gguf_value(uint32_t{1});
  values["tokenizer.ggml.fim_suf_token_id"] = gguf_value(uint32_t{2});
  const auto vocab = read(values);
  ASSERT_TRUE(vocab) << vocab.status().to_string();
  EXPECT_EQ(vocab->fim_pre, 1);
  EXPECT_EQ(vocab->fim_suf, 2);
}

// With `key` set to `value`, or taken away, the refusal names file and key and says `problem`.
void refuse(const std::string& key, const std::optional<GgufValue>& value,
            const std::string& problem) {
  Values values = good();
  values.erase(key);
  if (value) values[key] = *value;
  const auto vocab = read(values);
  ASSERT_FALSE(vocab) << key;
  for (const std::string& part : {key, problem, std::string("vocab.gguf")}) {
    EXPECT_NE(vocab.status().message().find(part), std::string::npos)
        << vocab.status().message() << " lacks " << part;
  }
}

TEST(Vocab, RefusalsNameTheKeyAndTheProblem) {
  using Strings = std::vector<std::string>;
  refuse("tokenizer.ggml.model", std::nullopt, "");
  refuse("tokenizer.ggml.tokens", std::nullopt, "");
  refuse("tokenizer.ggml.tokens", gguf_value(Strings{}), "empty");
  refuse("tokenizer.ggml.tokens", gguf_value("text"), "");
  refuse("tokenizer.ggml.scores", gguf_value(std::vector<float>{1, 2, 3}),
         "has 3 entries for 4 tokens");
  refuse("tokenizer.ggml.scores", gguf_value(std::vector<float>{0, 1, NAN, 0}), "element 2 is nan");
  refuse("tokenizer.ggml.scores", gguf_value(std::vector<float>{0, 1, 2, -INFINITY}),
         "element 3 is -inf");
  refuse("tokenizer.ggml.token_type", gguf_value(std::vector<int32_t>{1, 1, 1}),
         "has 3 entries for 4 tokens");
  refuse("tokenizer.ggml.token_type", gguf_value(std::vector<int32_t>{1, 1, 1, 7}),
         "7 for token 3");
  refuse("tokenizer.ggml.token_type", gguf_value(std::vector<int32_t>{1, 1, 1, -1}), "-1");
  GgufValue bools = gguf_value(std::vector<int32_t>{1, 1, 1, 1});
  bools.element_type = GgufType::kBool;
  bools.data.assign(4, '\1');
  refuse("tokenizer.ggml.token_type", bools, "an array of 4 bool");
  refuse("tokenizer.ggml.merges", gguf_value(Strings{"a b", "ab"}), "entry 1");
  refuse("tokenizer.ggml.merges", gguf_value(Strings{"a "}), "entry 0");
  refuse("tokenizer.ggml.merges", gguf_value(Strings{""}), "entry 0");
  refuse("tokenizer.ggml.bos_token_id", gguf_value(uint32_t{4}), "4");
  refuse("tokenizer.ggml.eos_token_id", gguf_value(uint32_t{1000}), "1000");
  refuse("tokenizer.ggml.fim_mid_token_id", gguf_value(uint32_t{4}), "4");
  refuse("tokenizer.ggml.add_bos_token", gguf_value(uint32_t{1}), "");
  refuse("tokenizer.chat_template", gguf_value(uint32_t{1}), "");
}

TEST(Vocab, TokenizersThatCannotWorkAreRefused) {
  const auto refused = [](Vocab vocab, Code code, const char* part) {
    const auto made = Tokenizer::create(std::move(vocab));
    ASSERT_FALSE(made) << part;
    EXPECT_EQ(made.status().code(), code) << made.status().to_string();
    EXPECT_NE(made.status().message().find(part), std::string::npos) << made.status().to_string();
  };
  Vocab vocab = testing::bpe_vocab();
  vocab.model = "bert";
  refused(vocab, Code::kUnsupported, "'bert'");
  vocab = testing::bpe_vocab("martian");
  refused(vocab, Code::kUnsupported, "'martian'");
  refused(vocab, Code::kUnsupported, "qwen2");  // lists what is known
  vocab = testing::spm_vocab();
  vocab.scores.clear();
  refused(vocab, Code::kInvalidArgument, "tokenizer.ggml.scores");
  vocab = testing::bpe_vocab();
  vocab.add_bos = true;
  refused(vocab, Code::kInvalidArgument, "tokenizer.ggml.bos_token_id");
  vocab = testing::bpe_vocab();
  vocab.add_eos = true;
  vocab.eos.reset();
  refused(vocab, Code::kInvalidArgument, "tokenizer.ggml.eos_token_id");
  refused({.model = "gpt2"}, Code::kInvalidArgument, "empty");
  vocab = testing::bpe_vocab();
  vocab.merges.clear();
  refused(vocab, Code::kInvalidArgument, "tokenizer.ggml.merges");
}

TEST(Vocab, TextThatIsNotUtf8IsRefused) {
  for (const Vocab& vocab : {testing::bpe_vocab(), testing::spm_vocab()}) {
    const auto ids = testing::make_tokenizer(vocab)->encode("a\xff", {});
    EXPECT_EQ(ids.status().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace shoal

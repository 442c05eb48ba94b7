#include "model/tokenizer.h"

#include <gtest/gtest.h>

#include <sstream>

#include "model/detokenizer.h"
#include "model/gguf.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

std::unique_ptr<Tokenizer> load(const std::string& path) {
  const auto file = GgufFile::open(path);
  EXPECT_TRUE(file.is_ok()) << file.status().message();
  auto vocab = read_vocab(*file);
  EXPECT_TRUE(vocab.is_ok()) << vocab.status().message();
  auto tokenizer = Tokenizer::create(std::move(*vocab));
  EXPECT_TRUE(tokenizer.is_ok()) << tokenizer.status().message();
  return std::move(*tokenizer);
}

// Texts separated by a marker line, ids one line per text.
class Vocabularies : public ::testing::TestWithParam<const char*> {};

TEST_P(Vocabularies, EncodeAsTheReferenceDoes) {
  const std::string base = std::string("vocabs/") + GetParam();
  SHOAL_SKIP_WITHOUT_SHARED(base + ".gguf");
  const auto tokenizer = load(*testing::shared_path(base + ".gguf"));
  const std::string input = testing::read_file(*testing::shared_path(base + ".inp"));
  std::istringstream expected(testing::read_file(*testing::shared_path(base + ".out")));
  const std::string marker = "\n__ggml_vocab_test__\n";
  int rows = 0;
  for (size_t at = 0; at < input.size(); ++rows) {
    const size_t end = input.find(marker, at);
    ASSERT_NE(end, std::string::npos);
    const std::string text = input.substr(at, end - at);
    at = end + marker.size();
    std::string line;
    ASSERT_TRUE(std::getline(expected, line));
    std::istringstream numbers(line);
    std::vector<int32_t> wanted;
    for (int32_t id; numbers >> id;) wanted.push_back(id);
    const auto ids = tokenizer->encode(text, {});
    ASSERT_TRUE(ids.is_ok()) << ids.status().message();
    EXPECT_EQ(*ids, wanted) << "row " << rows << ": " << text;
  }
  EXPECT_EQ(rows, 46);
}

INSTANTIATE_TEST_SUITE_P(All, Vocabularies,
                         ::testing::Values("llama-spm", "llama-bpe", "gpt-2", "falcon",
                                           "deepseek-llm"),
                         [](const auto& p) {
                           std::string name = p.param;
                           for (char& c : name) {
                             if (c == '-') c = '_';
                           }
                           return name;
                         });

TEST(Tokenizer, ControlTextIsPlainUnlessAskedFor) {
  const auto tokenizer = load(testing::model_path("shoal-tiny-dense-q8_0.gguf"));
  const std::string text = "a<|im_end|>b";
  const auto plain = tokenizer->encode(text, {});
  const auto parsed = tokenizer->encode(text, {.parse_special = true});
  ASSERT_TRUE(plain.is_ok() && parsed.is_ok());
  EXPECT_EQ(std::count(parsed->begin(), parsed->end(), 995), 1);
  EXPECT_EQ(std::count(plain->begin(), plain->end(), 995), 0);
  EXPECT_EQ(tokenizer->decode(*plain), text);
  const std::vector<size_t> inside{3};
  const auto broken = tokenizer->encode(text, {.parse_special = true, .breaks = inside});
  EXPECT_EQ(*broken, *plain) << "a control text across a seam is plain text";
  EXPECT_TRUE(tokenizer->is_end_of_generation(995));
}

TEST(Tokenizer, TurnEndersAreControlTokensWhateverTheFileSays) {
  Vocab vocab;
  vocab.model = "llama";
  vocab.tokens = {"<unk>", "<s>", "</s>", "a", "<|im_end|>", "<tool>"};
  vocab.scores.assign(vocab.tokens.size(), 0);
  vocab.kinds = {TokenKind::kUnknown, TokenKind::kControl,     TokenKind::kControl,
                 TokenKind::kNormal,  TokenKind::kUserDefined, TokenKind::kUserDefined};
  vocab.unknown = 0;
  vocab.add_space_prefix = false;
  auto made = Tokenizer::create(std::move(vocab));
  ASSERT_TRUE(made.is_ok()) << made.status().message();
  const Tokenizer& tokenizer = **made;
  EXPECT_TRUE(tokenizer.is_control(4));
  EXPECT_FALSE(tokenizer.is_control(5));
  EXPECT_EQ(tokenizer.control_texts(),
            (std::vector<std::string>{"<unk>", "<s>", "</s>", "<|im_end|>"}));
  EXPECT_EQ(tokenizer.token_bytes(4), "");
  const auto plain = tokenizer.encode("<tool><|im_end|><unk>", {});
  ASSERT_TRUE(plain.is_ok());
  EXPECT_EQ(plain->front(), 5);  // user-defined: always
  EXPECT_EQ(std::count(plain->begin(), plain->end(), 4), 0);
}

// A model may have rows for ids that its tokenizer has not.
TEST(Tokenizer, IdsWithoutATokenPrintNothing) {
  const auto tokenizer = load(testing::model_path("shoal-tiny-dense-q8_0.gguf"));
  const int32_t size = tokenizer->vocab_size();
  for (const int32_t id : {-1, INT32_MIN, size, size + 1, INT32_MAX}) {
    EXPECT_EQ(tokenizer->token_bytes(id), "") << id;
    EXPECT_EQ(tokenizer->token_text(id), "") << id;
    EXPECT_TRUE(tokenizer->is_control(id)) << id;
    EXPECT_FALSE(tokenizer->is_end_of_generation(id)) << id;
  }
  const std::vector<int32_t> word = *tokenizer->encode("five", {});
  std::vector<int32_t> mixed = {size, -7};
  for (const int32_t id : word) mixed.insert(mixed.end(), {id, size + 3});
  EXPECT_EQ(tokenizer->decode(mixed), tokenizer->decode(word));
}

}  // namespace
}  // namespace shoal

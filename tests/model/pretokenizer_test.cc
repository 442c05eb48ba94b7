// Where each family cuts: a table of texts whose words are known from the vocabularies'
// expressions.
#include "model/pretokenizer.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace shoal {
namespace {

using Words = std::vector<std::string>;

Words split(const std::string& name, const std::string& text) {
  const auto made = PreTokenizer::create(name);
  EXPECT_TRUE(made) << made.status().to_string();
  const auto words = (*made)->split(text);
  EXPECT_TRUE(words) << words.status().to_string();
  return {words->begin(), words->end()};
}

struct Case {
  const char* name;
  const char* text;
  const char* words;  // separated by '|'
};

constexpr Case kCases[] = {
    {"llama-bpe", "I'LL take 12345 a\u00e9b!\n\n  x", "I|'LL| take| |123|45| a\u00e9b|!\n\n| | x"},
    {"qwen2", "12 34\r\n \n a", "1|2| |3|4|\r\n \n| a"},
    {"qwen35", "e\u0301a \u0301", "e\u0301a| \u0301"},
    {"qwen2", "e\u0301a", "e|\u0301a"},
    {"gpt-4o", "HelloWorld HTTPServer caf\u00c9s it's//\n/",
     "Hello|World| HTTPServer| caf|\u00c9s| it's|//\n/"},
    {"gpt-4o", "\u041c\u043e\u0441\u043a\u0412\u0430 e\u0301X",
     "\u041c\u043e\u0441\u043a|\u0412\u0430| e\u0301|X"},
    {"tekken", "it's aBc 12", "it|'s| a|Bc| |1|2"},
    {"youtu", "\u4e2d\u6587abc\uac00\uff0c1", "\u4e2d\u6587|abc|\uac00|\uff0c|1"},
    {"kimi-k2", "ab\u4e2d\u6587Cd 1234\u3002\u3005", "ab|\u4e2d\u6587|Cd| |123|4|\u3002|\u3005"},
    {"deepseek-v3", "a.bc 1234\u4e2d\u3042x !\n", "a|.bc| |123|4|\u4e2d\u3042|x| !\n"},
    {"spark2_5", "a!\nb", "a|!|\n|b"},
    {"deepseek-coder", "a b\n12!x", "a| b|\n|1|2|!|x"},
    {"deepseek-coder", "a\u3000b", "a|\u3000|b"},
    {"deepseek-llm", "A\u0561 x12  ", "A|\u0561| x|12|  "},
    {"gpt-2", "don't  12a\n b", "don|'t| | 12|a|\n| b"},
    {"starcoder", "ab 12", "ab| |1|2"},
    {"falcon", "a$1234`", "a|$|123|4|`"},
    {"default", "a 1234`", "a| |123|4|`"},
    {"bloom", "ab, c(d", "ab|,| c|(|d"},
    {"viking", "ab, c1", "ab|,| c|1"},
    {"bailingmoe", "x'S 12", "x|'S| |1|2"},
    {"seed-coder", "a!\nb", "a|!|\n|b"},
    {"laguna", "a\n b  \n", "a|\n| b|  |\n"},
    {"minicpm5", "a1234 b", "a|123|4| b"},
    {"exaone-moe", "ab cd  ef 1", "ab cd| | ef| |1"},
    {"ufakzeka", "Ali'ye", "Ali|'ye"},
    {"chameleon", "a  <sentinel:1>IMGIMGABZ\n", "a|  |<|sentinel|:|1|>|IMGIMGABZ|\n"},
    // White_Space has NEL and not the Mongolian vowel separator.
    {"qwen2", "a\u0085\u0085b", "a|\u0085|\u0085b"},
    {"gpt-2", "a\u180eb", "a|\u180e|b"},
};

TEST(PreTokenizer, CutsWhereTheExpressionsDo) {
  std::set<std::string> covered;
  for (const Case& c : kCases) {
    std::string joined;
    for (const std::string& word : split(c.name, c.text)) {
      joined += (joined.empty() ? "" : "|") + word;
    }
    EXPECT_EQ(joined, c.words) << c.name;
    covered.insert(c.name);
  }
  for (const std::string& family : PreTokenizer::family_names()) {
    EXPECT_TRUE(covered.contains(family) || family == "dbrx") << family << " has no case";
  }
}

TEST(PreTokenizer, NamesAreUniqueAndAllCompile) {
  std::set<std::string> seen;
  for (const std::string& name : PreTokenizer::known_names()) {
    EXPECT_TRUE(seen.insert(name).second) << name;
    const auto made = PreTokenizer::create(name);
    ASSERT_TRUE(made) << made.status().to_string();
    const auto nothing = (*made)->split("");
    ASSERT_TRUE(nothing && nothing->empty());
  }
  EXPECT_EQ(seen.size(), 70u);
}

TEST(PreTokenizer, UnknownNamesAreRefusedWithTheKnownOnes) {
  const auto refused = PreTokenizer::create("no-such");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.status().code(), Code::kUnsupported);
  for (const char* part : {"tokenizer.ggml.pre", "'no-such'", "llama-bpe", "qwen2"}) {
    EXPECT_NE(refused.status().message().find(part), std::string::npos);
  }
}

TEST(PreTokenizer, Habits) {
  for (const char* name : {"llama-bpe", "tekken"}) {
    const auto made = PreTokenizer::create(name);
    EXPECT_TRUE((*made)->ignore_merges() && (*made)->adds_bos()) << name;
  }
  for (const char* name : {"qwen2", "glm4", "gpt-4o", "deepseek-v3", "default"}) {
    const auto made = PreTokenizer::create(name);
    EXPECT_FALSE((*made)->ignore_merges() || (*made)->adds_bos()) << name;
  }
}

}  // namespace
}  // namespace shoal

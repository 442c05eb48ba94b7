#include "model/pretokenizer_table.h"

namespace shoal {
namespace {

// Pieces of the expressions. In them \s and \S stand for Unicode's White_Space, which PreTokenizer
// spells out: PCRE2's own \s also has U+180E.

// English contractions; the letters in either case, ASCII only.
#define CONTRACTION "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
// A word, perhaps with one character before it that is neither letter, digit nor line end.
#define WORD R"([^\r\n\p{L}\p{N}]?\p{L}+)"
// The same cut where lower case is followed by upper case.
#define UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define BEFORE_WORD R"([^\r\n\p{L}\p{N}]?)"
// Line ends with the white space before them; white space but the last before a word; the rest.
#define WHITE_SPACE R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
// Symbols, with a space before them and line ends after them.
#define SYMBOLS R"( ?[^\s\p{L}\p{N}]+[\r\n]*)"
#define SYMBOLS_AND_SLASH R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)"

#define GPT2 R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"
#define QWEN2 CONTRACTION "|" WORD "|\\p{N}|" SYMBOLS "|" WHITE_SPACE
#define LLAMA3 CONTRACTION "|" WORD "|\\p{N}{1,3}|" SYMBOLS "|" WHITE_SPACE
#define O200K_WORDS(upper, lower)                                                  \
  BEFORE_WORD upper "*" lower "+(?:" CONTRACTION ")?|" BEFORE_WORD upper "+" lower \
                    "*(?:" CONTRACTION ")?"
// Kana and the ideographs of the basic plane.
#define KANA_AND_HAN R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)"
#define PUNCTUATED_WORD R"([!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
// A range from before Hangul's extensions to the ideographs, as the vocabularies write it.
#define WIDE_CJK R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)"
#define BLOOM R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+)"

constexpr const char* kLlama3[] = {LLAMA3};
constexpr const char* kQwen2[] = {QWEN2};
constexpr const char* kUfakzeka[] = {WORD "|\\p{N}|" SYMBOLS "|" WHITE_SPACE};
constexpr const char* kQwen35[] = {
    CONTRACTION
    R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" WHITE_SPACE};
constexpr const char* kO200k[] = {O200K_WORDS(UPPER, LOWER) "|\\p{N}{1,3}|" SYMBOLS_AND_SLASH
                                                            "|" WHITE_SPACE};
constexpr const char* kTekken[] = {BEFORE_WORD UPPER "*" LOWER "+|" BEFORE_WORD UPPER "+" LOWER
                                                     "*|\\p{N}|" SYMBOLS_AND_SLASH "|" WHITE_SPACE};
constexpr const char* kYoutu[] = {
    R"([\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019})"
    R"(\x{2014}\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|)"
    R"([\x{3105}-\x{312f}]+|)" KANA_AND_HAN,
    O200K_WORDS(UPPER, LOWER) "|\\p{N}|" SYMBOLS_AND_SLASH "|" WHITE_SPACE};
// Letters of any case and marks without the Han script: what remains when the other categories and
// Han are taken from all characters.
constexpr const char* kKimiK2[] = {R"(\p{sc:Han}+|)" O200K_WORDS(
    R"([^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{sc:Han}])",
    R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{sc:Han}])") "|\\p{N}{1,3}|" SYMBOLS
                                                             "|" WHITE_SPACE};
constexpr const char* kDeepseekV3[] = {R"(\p{N}{1,3})", KANA_AND_HAN,
                                       PUNCTUATED_WORD R"(| ?[\p{P}\p{S}]+[\r\n]*|)" WHITE_SPACE};
constexpr const char* kSpark[] = {R"(\p{N}{1,3})", KANA_AND_HAN,
                                  PUNCTUATED_WORD R"(| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)",
                                  R"(\p{N})"};
constexpr const char* kDeepseekCoder[] = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", WIDE_CJK,
                                          R"(\p{N})"};
// The second one lists letters that had two cases when the list was made (no Armenian or Georgian
// small letters, for one): no Unicode property says the same.
constexpr const char* kDeepseekLlm[] = {
    R"([\r\n])",
    R"(\s?[)"
    R"(A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293})"
    R"(\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386})"
    R"(\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f})"
    R"(\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba})"
    R"(\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a})"
    R"(\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d})"
    R"(\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4})"
    R"(\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3})"
    R"(\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107})"
    R"(\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d})"
    R"(\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184})"
    R"(\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d})"
    R"(\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e})"
    R"(\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a})"
    R"(\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb})"
    R"(\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943})"
    R"(]+)",
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)",
    // White space that ends the piece. Looking behind keeps a long run from being tried from each
    // of its characters.
    R"((?<!\s)\s++\z)", WIDE_CJK, R"(\p{N}+)"};
constexpr const char* kGpt2[] = {GPT2};
constexpr const char* kStarcoder[] = {R"(\p{N})", GPT2};
constexpr const char* kFalcon[] = {R"([\p{P}$+<=>^~|`]+)", GPT2, "[0-9][0-9][0-9]"};
constexpr const char* kDefault[] = {R"([\p{P}$+<=>^~|]+)", GPT2, R"(\p{N}+)", "[0-9][0-9][0-9]"};
constexpr const char* kBloom[] = {BLOOM};
constexpr const char* kViking[] = {BLOOM, R"(\p{N})"};
constexpr const char* kBailing[] = {QWEN2};
constexpr const char* kSeedCoder[] = {CONTRACTION "|" WORD
                                                  R"(|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|)" WHITE_SPACE};
constexpr const char* kLaguna[] = {R"([^\n]+|\n+)", QWEN2};
constexpr const char* kMinicpm5[] = {R"(\p{N}{1,3})",
                                     CONTRACTION "|" WORD R"(|\p{N}+|)" SYMBOLS "|" WHITE_SPACE};
// Words joined by single spaces. Possessive, because the parts cannot match in two ways.
constexpr const char* kExaoneMoe[] = {
    CONTRACTION R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*+(?: \p{L}\p{M}*+)*+)++|\p{N}|)"
                R"( ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr const char* kChameleon[] = {"<sentinel:[0-9]+>",       "IMGIMG[A-I]{1,4}Z",
                                      R"([\t\n]|    |  )",       R"(\p{N})",
                                      R"([\p{P}!-/:-@\[-`{-~])", GPT2};

#undef CONTRACTION
#undef WORD
#undef UPPER
#undef LOWER
#undef BEFORE_WORD
#undef WHITE_SPACE
#undef SYMBOLS
#undef SYMBOLS_AND_SLASH
#undef GPT2
#undef QWEN2
#undef LLAMA3
#undef O200K_WORDS
#undef KANA_AND_HAN
#undef PUNCTUATED_WORD
#undef WIDE_CJK
#undef BLOOM

constexpr const char* kLlama3Names[] = {"llama-bpe", "llama3",  "llama-v3", "falcon3",
                                        "falcon-h1", "pixtral", "midm-2.0", "lfm2"};
constexpr const char* kDbrxNames[] = {"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"};
constexpr const char* kQwen2Names[] = {"qwen2",  "stablelm2",  "hunyuan", "deepseek-r1-qwen",
                                       "megrez", "solar-open", "kormo",   "grok-2"};
constexpr const char* kUfakzekaNames[] = {"ufakzeka"};
constexpr const char* kQwen35Names[] = {"qwen35"};
constexpr const char* kO200kNames[] = {"gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"};
constexpr const char* kTekkenNames[] = {"tekken"};
constexpr const char* kYoutuNames[] = {"youtu"};
constexpr const char* kKimiNames[] = {"kimi-k2"};
constexpr const char* kDeepseekV3Names[] = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"};
constexpr const char* kSparkNames[] = {"spark2_5"};
constexpr const char* kDeepseekCoderNames[] = {"deepseek-coder"};
constexpr const char* kDeepseekLlmNames[] = {"deepseek-llm"};
constexpr const char* kGpt2Names[] = {
    "gpt-2",    "mpt",     "olmo",   "jais",     "phi-2",
    "gigachat", "exaone4", "mellum", "trillion", "granite-docling",
    "a.x-4.0"};
constexpr const char* kStarcoderNames[] = {"starcoder", "refact", "command-r",  "smollm",
                                           "codeshell", "exaone", "minerva-7b", "mellum2"};
constexpr const char* kFalconNames[] = {"falcon"};
constexpr const char* kDefaultNames[] = {"default"};
constexpr const char* kBloomNames[] = {"bloom", "poro-chat", "gpt3-finnish"};
constexpr const char* kVikingNames[] = {"viking"};
constexpr const char* kBailingNames[] = {"bailingmoe", "bailingmoe2", "llada-moe"};
constexpr const char* kSeedCoderNames[] = {"seed-coder"};
constexpr const char* kLagunaNames[] = {"laguna"};
constexpr const char* kMinicpmNames[] = {"minicpm5"};
constexpr const char* kExaoneMoeNames[] = {"exaone-moe"};
constexpr const char* kChameleonNames[] = {"chameleon"};

constexpr PreTokenizerFamily kFamilies[] = {
    {kLlama3Names, kLlama3, true, true},
    {kDbrxNames, kLlama3},
    {kQwen2Names, kQwen2},
    {kUfakzekaNames, kUfakzeka},
    {kQwen35Names, kQwen35},
    {kO200kNames, kO200k},
    {kTekkenNames, kTekken, true, true},
    {kYoutuNames, kYoutu, true},
    {kKimiNames, kKimiK2},
    {kDeepseekV3Names, kDeepseekV3},
    {kSparkNames, kSpark},
    {kDeepseekCoderNames, kDeepseekCoder},
    {kDeepseekLlmNames, kDeepseekLlm},
    {kGpt2Names, kGpt2},
    {kStarcoderNames, kStarcoder},
    {kFalconNames, kFalcon},
    {kDefaultNames, kDefault},
    {kBloomNames, kBloom},
    {kVikingNames, kViking},
    {kBailingNames, kBailing},
    {kSeedCoderNames, kSeedCoder},
    {kLagunaNames, kLaguna},
    {kMinicpmNames, kMinicpm5, true},
    {kExaoneMoeNames, kExaoneMoe},
    {kChameleonNames, kChameleon, false, true},
};

}  // namespace

std::span<const PreTokenizerFamily> pretokenizer_families() { return kFamilies; }

}  // namespace shoal

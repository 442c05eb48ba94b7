#include "model/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <span>

namespace shoal {
namespace {

// ---- the expressions (facts of the vocabularies; \s, \p{…} as Unicode 14 has them)

#define SHOAL_CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SHOAL_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

constexpr const char* kLlama3[] = {SHOAL_CONTRACTION
                                   "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" SHOAL_REST};
constexpr const char* kQwen2[] = {SHOAL_CONTRACTION
                                  "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" SHOAL_REST};
constexpr const char* kQwen35[] = {
    SHOAL_CONTRACTION
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
#define SHOAL_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SHOAL_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SHOAL_O200K_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
constexpr const char* kO200k[] = {"[^\\r\\n\\p{L}\\p{N}]?" SHOAL_UPPER "*" SHOAL_LOWER
                                  "+" SHOAL_CONTRACTION "?|[^\\r\\n\\p{L}\\p{N}]?" SHOAL_UPPER
                                  "+" SHOAL_LOWER "*" SHOAL_CONTRACTION
                                  "?|\\p{N}{1,3}" SHOAL_O200K_REST};
constexpr const char* kTekken[] = {"[^\\r\\n\\p{L}\\p{N}]?" SHOAL_UPPER "*" SHOAL_LOWER
                                   "+|[^\\r\\n\\p{L}\\p{N}]?" SHOAL_UPPER "+" SHOAL_LOWER
                                   "*|\\p{N}" SHOAL_O200K_REST};
constexpr const char* kDeepseekV3[] = {
    "\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
constexpr const char* kDeepseekCoder[] = {
    "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
    "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"};
constexpr const char* kDeepseekLlm[] = {
    "[\\r\\n]",
    "\\s?[\\p{Lu}\\p{Ll}\\p{Lt}]+",  // the cased letters
    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
    "\\s+$",
    "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+",
    "\\p{N}+"};
#define SHOAL_GPT2 \
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
constexpr const char* kGpt2[] = {SHOAL_GPT2};
constexpr const char* kStarcoder[] = {"\\p{N}", SHOAL_GPT2};
constexpr const char* kFalcon[] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", SHOAL_GPT2, "[0-9][0-9][0-9]"};
constexpr const char* kDefault[] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", SHOAL_GPT2, "\\p{N}+",
                                    "[0-9][0-9][0-9]"};

struct Family {
  std::span<const char* const> names;
  std::span<const char* const> expressions;
  bool ignore_merges = false;
  bool adds_bos = false;
};

constexpr const char* kLlama3Names[] = {"llama-bpe", "llama3",  "llama-v3", "falcon3",
                                        "falcon-h1", "pixtral", "midm-2.0", "lfm2"};
constexpr const char* kDbrxNames[] = {"dbrx", "smaug-bpe"};
constexpr const char* kGlmNames[] = {"glm4", "chatglm-bpe"};
constexpr const char* kQwen2Names[] = {"qwen2",  "stablelm2", "hunyuan", "deepseek-r1-qwen",
                                       "megrez", "solar-open"};
constexpr const char* kQwen35Names[] = {"qwen35"};
constexpr const char* kO200kNames[] = {"gpt-4o", "llama4", "kanana2", "minimax-m2"};
constexpr const char* kTekkenNames[] = {"tekken"};
constexpr const char* kDeepseekV3Names[] = {"deepseek-v3", "hunyuan-dense", "joyai-llm"};
constexpr const char* kDeepseekCoderNames[] = {"deepseek-coder"};
constexpr const char* kDeepseekLlmNames[] = {"deepseek-llm"};
constexpr const char* kGpt2Names[] = {"gpt-2",       "mpt",      "olmo",           "jais",
                                      "phi-2",       "gigachat", "exaone4",        "mellum",
                                      "modern-bert", "trillion", "granite-docling"};
constexpr const char* kStarcoderNames[] = {"starcoder", "refact", "command-r", "smollm",
                                           "codeshell", "exaone", "minerva-7b"};
constexpr const char* kFalconNames[] = {"falcon"};
constexpr const char* kDefaultNames[] = {"default"};

constexpr Family kFamilies[] = {
    {kLlama3Names, kLlama3, true, true},
    {kDbrxNames, kLlama3},
    {kGlmNames, kLlama3},
    {kQwen2Names, kQwen2},
    {kQwen35Names, kQwen35},
    {kO200kNames, kO200k},
    {kTekkenNames, kTekken, true, true},
    {kDeepseekV3Names, kDeepseekV3},
    {kDeepseekCoderNames, kDeepseekCoder},
    {kDeepseekLlmNames, kDeepseekLlm},
    {kGpt2Names, kGpt2},
    {kStarcoderNames, kStarcoder},
    {kFalconNames, kFalcon},
    {kDefaultNames, kDefault},
};

// ---- matching

// Backtracking of one match; ordinary text needs a few dozen steps, a megabyte of spaces a few
// million.
constexpr uint32_t kMatchLimit = 50'000'000;

std::string pcre_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
using Code = std::unique_ptr<pcre2_code, FreeCode>;

class PcrePreTokenizer final : public PreTokenizer {
 public:
  Status compile(const Family& family) {
    ignore_merges_ = family.ignore_merges;
    adds_bos_ = family.adds_bos;
    for (const char* expression : family.expressions) {
      int error = 0;
      PCRE2_SIZE offset = 0;
      Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
      if (!code) return internal_error("pre-tokenizer expression: " + pcre_message(error));
      // Without JIT (hardened kernels forbid it) matching is six times slower, and right.
      (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
      codes_.push_back(std::move(code));
    }
    return Status::ok();
  }

  Result<std::vector<std::string_view>> split(std::string_view text) const override {
    std::vector<std::string_view> pieces{text};
    if (text.empty()) return std::vector<std::string_view>{};
    const std::unique_ptr<pcre2_match_context, FreeContext> context(
        pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(context.get(), kMatchLimit);
    for (const Code& code : codes_) {
      std::vector<std::string_view> next;
      next.reserve(pieces.size());
      const std::unique_ptr<pcre2_match_data, FreeData> data(
          pcre2_match_data_create_from_pattern(code.get(), nullptr));
      for (const std::string_view piece : pieces)
        SHOAL_TRY(cut(code.get(), context.get(), data.get(), piece, &next));
      pieces = std::move(next);
    }
    return pieces;
  }

 private:
  static Status cut(const pcre2_code* code, pcre2_match_context* context, pcre2_match_data* data,
                    std::string_view piece, std::vector<std::string_view>* out) {
    size_t done = 0;
    while (done < piece.size()) {
      const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(),
                                    done, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, data, context);
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0)
        return resource_exhausted("pre-tokenizing the text failed: " + pcre_message(found));
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
      if (range[0] > done) out->push_back(piece.substr(done, range[0] - done));
      out->push_back(piece.substr(range[0], range[1] - range[0]));
      done = range[1];
    }
    if (done < piece.size()) out->push_back(piece.substr(done));
    return Status::ok();
  }

  std::vector<Code> codes_;
};

}  // namespace

Result<std::unique_ptr<PreTokenizer>> PreTokenizer::create(const std::string& name) {
  std::string known;
  for (const Family& family : kFamilies) {
    for (const char* candidate : family.names) {
      if (name == candidate) {
        auto pre = std::make_unique<PcrePreTokenizer>();
        SHOAL_TRY(pre->compile(family));
        return std::unique_ptr<PreTokenizer>(std::move(pre));
      }
      known += (known.empty() ? "" : ", ") + std::string(candidate);
    }
  }
  return unsupported("key 'tokenizer.ggml.pre' is '" + name +
                     "', a pre-tokenizer Shoal does not know; known: " + known);
}

}  // namespace shoal

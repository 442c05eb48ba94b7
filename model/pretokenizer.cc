#include "model/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "base/quote.h"
#include "model/pretokenizer_table.h"

namespace shoal {
namespace {

// Backtracking steps of one match. The expressions need a few per byte in the worst case.
constexpr uint32_t kMinMatchLimit = 1'000'000;
constexpr uint32_t kStepsPerByte = 16;

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
using Code = std::unique_ptr<pcre2_code, Free>;

std::string pcre_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// \s and \S as Unicode's White_Space.
std::string expand_white_space(std::string_view expression) {
  constexpr std::string_view kWhiteSpace = R"(\t-\r\x{85}\p{Z})";
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\') {
      const char escaped = expression[++i];
      if (escaped == 's' && in_class) {
        out += kWhiteSpace;
      } else if (escaped == 's' || escaped == 'S') {
        out += (escaped == 's' ? "[" : "[^") + std::string(kWhiteSpace) + "]";
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

class PcrePreTokenizer final : public PreTokenizer {
 public:
  Status compile(const PreTokenizerFamily& family) {
    ignore_merges_ = family.ignore_merges;
    adds_bos_ = family.adds_bos;
    for (const char* expression : family.expressions) {
      const std::string expanded = expand_white_space(expression);
      int error = 0;
      PCRE2_SIZE offset = 0;
      Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expanded.data()), expanded.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
      if (!code) {
        return internal_error("pre-tokenizer expression " + expanded + " at " +
                              std::to_string(offset) + ": " + pcre_message(error));
      }
      // Without JIT (hardened kernels forbid it) matching is slower, and right all the same.
      (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
      codes_.push_back(std::move(code));
    }
    return Status::ok();
  }

  Result<std::vector<std::string_view>> split(std::string_view text) const override {
    if (text.empty()) return std::vector<std::string_view>{};
    std::vector<std::string_view> pieces{text};
    const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
    if (!context) return resource_exhausted("no memory to match a text");
    const uint64_t limit = kMinMatchLimit + uint64_t{kStepsPerByte} * text.size();
    pcre2_set_match_limit(context.get(),
                          static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
    for (const Code& code : codes_) {
      const std::unique_ptr<pcre2_match_data, Free> data(
          pcre2_match_data_create_from_pattern(code.get(), nullptr));
      if (!data) return resource_exhausted("no memory to match a text");
      std::vector<std::string_view> next;
      next.reserve(pieces.size());
      for (const std::string_view piece : pieces) {
        SHOAL_TRY(cut({code.get(), context.get(), data.get()}, piece, &next));
      }
      pieces = std::move(next);
    }
    return pieces;
  }

 private:
  struct Matcher {
    const pcre2_code* code;
    pcre2_match_context* context;
    pcre2_match_data* data;

    int match(std::string_view piece, size_t from, uint32_t options) const {
      return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(piece.data()), piece.size(), from,
                         PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | options, data, context);
    }
  };

  static Status cut(const Matcher& matcher, std::string_view piece,
                    std::vector<std::string_view>* out) {
    size_t done = 0;
    while (done < piece.size()) {
      int found = matcher.match(piece, done, 0);
      // JIT code has a small stack; the interpreter takes its memory from the heap.
      if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = matcher.match(piece, done, PCRE2_NO_JIT);
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0) {
        return resource_exhausted("cutting a text of " + std::to_string(piece.size()) +
                                  " bytes into words failed: " + pcre_message(found));
      }
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(matcher.data);
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

std::vector<std::string> PreTokenizer::known_names() {
  std::vector<std::string> names;
  for (const PreTokenizerFamily& family : pretokenizer_families()) {
    names.insert(names.end(), family.names.begin(), family.names.end());
  }
  return names;
}

std::vector<std::string> PreTokenizer::family_names() {
  std::vector<std::string> names;
  for (const PreTokenizerFamily& family : pretokenizer_families()) {
    names.emplace_back(family.names.front());
  }
  return names;
}

Result<std::unique_ptr<const PreTokenizer>> PreTokenizer::create(const std::string& name) {
  std::string known;
  for (const PreTokenizerFamily& family : pretokenizer_families()) {
    for (const char* candidate : family.names) {
      if (name == candidate) {
        auto made = std::make_unique<PcrePreTokenizer>();
        SHOAL_TRY(made->compile(family));
        return std::unique_ptr<const PreTokenizer>(std::move(made));
      }
      known += (known.empty() ? "" : ", ") + std::string(candidate);
    }
  }
  return unsupported("key 'tokenizer.ggml.pre' is " + in_quotes(name) +
                     ", a pre-tokenizer Shoal does not know; known: " + known);
}

}  // namespace shoal

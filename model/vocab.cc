#include "model/vocab.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "base/quote.h"
#include "base/utf8.h"
#include "model/gguf.h"

namespace shoal {
namespace {

Result<std::string> text_or(const GgufFile& file, std::string_view key, std::string fallback) {
  SHOAL_ASSIGN(const auto found, file.find_string(key));
  return found ? std::string(*found) : std::move(fallback);
}

// Texts that no tokenizer makes on purpose: they can be served, but not all of them be written.
void judge_texts(Vocab* vocab) {
  constexpr const char* kKey = "key 'tokenizer.ggml.tokens': ";
  struct Found {
    size_t count = 0, first = 0;
    void add(size_t i) { first = count++ == 0 ? i : first; }
    std::string text() const {
      return std::to_string(count) + " token(s), the first of them " + std::to_string(first) + ", ";
    }
  } empty, invalid, repeated;
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < vocab->tokens.size(); ++i) {
    const std::string& token = vocab->tokens[i];
    if (token.empty()) {
      empty.add(i);
    } else if (!seen.insert(token).second) {
      repeated.add(i);
    }
    if (!is_valid_utf8(token)) invalid.add(i);
  }
  const auto warn = [&](const Found& found, const char* what) {
    if (found.count > 0) vocab->warnings.push_back(kKey + found.text() + what);
  };
  warn(empty, "have no text; no text becomes one of them");
  warn(invalid, "are not valid UTF-8; no text becomes one of them");
  warn(repeated, "have the text of one before; text becomes the last one of equal texts only");
}

Status read_tables(const GgufFile& file, Vocab* vocab) {
  SHOAL_ASSIGN(const auto tokens, file.get_string_array("tokenizer.ggml.tokens"));
  vocab->tokens.assign(tokens.begin(), tokens.end());
  if (tokens.empty()) return file.key_error("tokenizer.ggml.tokens", "is empty");
  const auto same_length = [&](const char* key, size_t n) {
    return n == tokens.size() ? Status::ok()
                              : file.key_error(key, "has " + std::to_string(n) + " entries for " +
                                                        std::to_string(tokens.size()) + " tokens");
  };
  SHOAL_ASSIGN(auto scores, file.find_float_array("tokenizer.ggml.scores"));
  if (scores) {
    SHOAL_TRY(same_length("tokenizer.ggml.scores", scores->size()));
    vocab->scores = std::move(*scores);
  }
  SHOAL_ASSIGN(const auto kinds, file.find_int_array("tokenizer.ggml.token_type"));
  vocab->kinds.assign(tokens.size(), TokenKind::kNormal);
  if (kinds) {
    SHOAL_TRY(same_length("tokenizer.ggml.token_type", kinds->size()));
    for (size_t i = 0; i < kinds->size(); ++i) {
      if ((*kinds)[i] < 0 || (*kinds)[i] > 6) {
        return file.key_error("tokenizer.ggml.token_type", "has " + std::to_string((*kinds)[i]) +
                                                               " for token " + std::to_string(i) +
                                                               "; known are 0 to 6");
      }
      vocab->kinds[i] = static_cast<TokenKind>((*kinds)[i]);
    }
  } else {
    vocab->warnings.push_back(
        "key 'tokenizer.ggml.token_type' is missing: control tokens that a chat template writes "
        "are "
        "read as plain text");
  }
  judge_texts(vocab);
  SHOAL_ASSIGN(const auto merges, file.find_string_array("tokenizer.ggml.merges"));
  if (merges) vocab->merges.assign(merges->begin(), merges->end());
  for (size_t i = 0; i < vocab->merges.size(); ++i) {
    const size_t space = vocab->merges[i].find(' ', 1);
    if (space == std::string::npos || space + 1 == vocab->merges[i].size()) {
      return file.key_error("tokenizer.ggml.merges",
                            "entry " + std::to_string(i) + " is not 'LEFT RIGHT'");
    }
  }
  return Status::ok();
}

struct NamedId {
  const char* name;  // tokenizer.ggml.NAME_token_id
  std::optional<int32_t> Vocab::*member;
  bool needed = true;  // by generation or templates
};
constexpr NamedId kNamedIds[] = {{"bos", &Vocab::bos},
                                 {"eos", &Vocab::eos},
                                 {"eot", &Vocab::eot},
                                 {"eom", &Vocab::eom},
                                 {"unknown", &Vocab::unknown, false},
                                 {"seperator", &Vocab::separator, false},  // sic, in the format
                                 {"padding", &Vocab::padding, false},
                                 {"mask", &Vocab::mask, false},
                                 {"prefix", &Vocab::fim_pre},
                                 {"suffix", &Vocab::fim_suf},
                                 {"middle", &Vocab::fim_mid},
                                 {"fim_pre", &Vocab::fim_pre},
                                 {"fim_suf", &Vocab::fim_suf},
                                 {"fim_mid", &Vocab::fim_mid},
                                 {"fim_pad", &Vocab::fim_pad},
                                 {"fim_rep", &Vocab::fim_rep},
                                 {"fim_sep", &Vocab::fim_sep}};

std::string key_of(const NamedId& id) {
  return std::string("tokenizer.ggml.") + id.name + "_token_id";
}

// "None" is written as −1 in whatever integer type the converter had.
bool is_minus_one(const GgufValue& value) {
  switch (value.type) {
    case GgufType::kUint8:
      return value.int_at(0) == 0xff;
    case GgufType::kUint16:
      return value.int_at(0) == 0xffff;
    case GgufType::kUint32:
      return value.int_at(0) == 0xffffffff;
    case GgufType::kInt8:
    case GgufType::kInt16:
    case GgufType::kInt32:
    case GgufType::kInt64:
    case GgufType::kUint64:  // wraps
      return value.int_at(0) == -1;
    default:
      return false;
  }
}

Status read_ids(const GgufFile& file, Vocab* vocab) {
  for (const NamedId& id : kNamedIds) {
    const std::string key = key_of(id);
    const GgufValue* value = file.find_value(key);
    if (value == nullptr || is_minus_one(*value)) continue;
    SHOAL_ASSIGN(const auto found, file.find_uint(key));
    if (*found >= vocab->tokens.size()) {
      const std::string why = "is " + std::to_string(*found) + ", beyond the " +
                              std::to_string(vocab->tokens.size()) + " tokens";
      if (id.needed) return file.key_error(key, why);
      vocab->warnings.push_back("key '" + key + "' " + why + "; it is left out");
      continue;
    }
    vocab->*id.member = static_cast<int32_t>(*found);
  }
  return Status::ok();
}

Status read_templates(const GgufFile& file, Vocab* vocab) {
  SHOAL_ASSIGN(vocab->chat_template, text_or(file, "tokenizer.chat_template", ""));
  SHOAL_ASSIGN(const auto names, file.find_string_array("tokenizer.chat_templates"));
  if (!names) return Status::ok();
  for (const std::string_view name : *names) {
    const std::string key = "tokenizer.chat_template." + std::string(name);
    SHOAL_ASSIGN(vocab->named_templates[std::string(name)], text_or(file, key, ""));
  }
  return Status::ok();
}

// Tokens from `limit` on go, and the merges that make them. Other merges may make what is no token
// by itself, on the way to one that is.
void cut_tokens(size_t limit, Vocab* vocab) {
  std::unordered_set<std::string> gone(vocab->tokens.begin() + static_cast<ptrdiff_t>(limit),
                                       vocab->tokens.end());
  vocab->tokens.resize(limit);
  vocab->kinds.resize(limit);
  if (!vocab->scores.empty()) vocab->scores.resize(limit);
  for (const std::string& token : vocab->tokens) gone.erase(token);
  std::erase_if(vocab->merges, [&](const std::string& merge) {
    const size_t space = merge.find(' ', 1);
    return gone.contains(merge.substr(0, space) + merge.substr(space + 1));
  });
}

}  // namespace

Status fit_vocab(int64_t rows, Vocab* vocab) {
  const auto limit = static_cast<size_t>(std::max<int64_t>(rows, 0));
  if (vocab->tokens.size() <= limit) return Status::ok();
  const std::string beyond = ", beyond the " + std::to_string(rows) +
                             " rows of tensor 'token_embd.weight': no such token can be computed";
  for (const NamedId& id : kNamedIds) {
    std::optional<int32_t>& named = vocab->*id.member;
    if (!named || static_cast<size_t>(*named) < limit) continue;
    const std::string what = "key '" + key_of(id) + "' is " + std::to_string(*named) + beyond;
    if (id.needed) return invalid_argument(what);
    vocab->warnings.push_back(what + "; it is left out");
    named.reset();
  }
  for (size_t i = limit; i < vocab->tokens.size(); ++i) {
    const TokenKind kind = vocab->kinds[i];
    if (kind == TokenKind::kNormal || kind == TokenKind::kUnused || kind == TokenKind::kUndefined) {
      continue;
    }
    return invalid_argument("token " + std::to_string(i) + " (" + in_quotes(vocab->tokens[i]) +
                            " of key 'tokenizer.ggml.tokens') is a control or added one" + beyond);
  }
  vocab->warnings.push_back("key 'tokenizer.ggml.tokens' has " +
                            std::to_string(vocab->tokens.size()) +
                            " entries, tensor 'token_embd.weight' " + std::to_string(rows) +
                            " rows; tokens without a row are left out");
  cut_tokens(limit, vocab);
  return Status::ok();
}

Result<Vocab> read_vocab(const GgufFile& file) {
  Vocab vocab;
  SHOAL_ASSIGN(const std::string_view model, file.get_string("tokenizer.ggml.model"));
  vocab.model = std::string(model);
  SHOAL_ASSIGN(vocab.pre, text_or(file, "tokenizer.ggml.pre", "default"));
  SHOAL_ASSIGN(vocab.model_name, text_or(file, "general.name", ""));
  SHOAL_TRY(read_tables(file, &vocab));
  SHOAL_TRY(read_ids(file, &vocab));
  SHOAL_TRY(read_templates(file, &vocab));
  SHOAL_ASSIGN(vocab.add_bos, file.find_bool("tokenizer.ggml.add_bos_token"));
  SHOAL_ASSIGN(vocab.add_eos, file.find_bool("tokenizer.ggml.add_eos_token"));
  SHOAL_ASSIGN(vocab.add_space_prefix, file.find_bool("tokenizer.ggml.add_space_prefix"));
  return vocab;
}

}  // namespace shoal

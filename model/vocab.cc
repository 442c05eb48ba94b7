#include "model/vocab.h"

#include "model/gguf.h"

namespace shoal {
namespace {

Result<std::string> text_or(const GgufFile& file, std::string_view key, std::string fallback) {
  SHOAL_ASSIGN(const auto found, file.find_string(key));
  return found ? std::string(*found) : std::move(fallback);
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
  }
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

Status read_ids(const GgufFile& file, Vocab* vocab) {
  const struct {
    const char* name;
    std::optional<int32_t> Vocab::*member;
  } ids[] = {{"bos", &Vocab::bos},         {"eos", &Vocab::eos},
             {"eot", &Vocab::eot},         {"eom", &Vocab::eom},
             {"unknown", &Vocab::unknown}, {"seperator", &Vocab::separator},  // sic, in the format
             {"padding", &Vocab::padding}, {"mask", &Vocab::mask},
             {"prefix", &Vocab::fim_pre},  {"suffix", &Vocab::fim_suf},
             {"middle", &Vocab::fim_mid},  {"fim_pre", &Vocab::fim_pre},
             {"fim_suf", &Vocab::fim_suf}, {"fim_mid", &Vocab::fim_mid},
             {"fim_pad", &Vocab::fim_pad}, {"fim_rep", &Vocab::fim_rep},
             {"fim_sep", &Vocab::fim_sep}};
  for (const auto& id : ids) {
    const std::string key = std::string("tokenizer.ggml.") + id.name + "_token_id";
    SHOAL_ASSIGN(const auto found, file.find_uint(key));
    if (!found || *found == 0xffffffffu) continue;  // some converters write "none" as −1
    if (*found >= vocab->tokens.size()) {
      return file.key_error(key, "is " + std::to_string(*found) + ", beyond the " +
                                     std::to_string(vocab->tokens.size()) + " tokens");
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

}  // namespace

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

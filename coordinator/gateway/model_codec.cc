#include "coordinator/gateway/model_codec.h"

#include <fmt/format.h>

#include <ctime>
#include <optional>

#include "base/file.h"
#include "base/log.h"
#include "base/quote.h"
#include "model/chat_template.h"
#include "model/detokenizer.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace shoal::gateway {
namespace {

class ModelTextStream final : public TextStream {
 public:
  explicit ModelTextStream(const Tokenizer& tokenizer) : detokenizer_(tokenizer) {}
  std::string push(int32_t id) override { return detokenizer_.push(id); }
  std::string flush() override { return detokenizer_.flush(); }

 private:
  Detokenizer detokenizer_;
};

class ModelTextCodec final : public TextCodec {
 public:
  ModelTextCodec(std::unique_ptr<Tokenizer> tokenizer, std::optional<Result<ChatTemplate>> chat)
      : tokenizer_(std::move(tokenizer)), chat_(std::move(chat)) {}

  int32_t vocab_size() const override { return tokenizer_->vocab_size(); }
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      const EncodeOptions& options) const override {
    SHOAL_ASSIGN(std::vector<int32_t> ids,
                 tokenizer_->encode(text, {false, options.parse_special, options.breaks}));
    // Not twice: the text may begin with it.
    if (options.add_bos && tokenizer_->adds_bos() &&
        (ids.empty() || ids.front() != *tokenizer_->bos())) {
      ids.insert(ids.begin(), *tokenizer_->bos());
    }
    if (options.add_eos && tokenizer_->adds_eos()) ids.push_back(*tokenizer_->eos());
    return ids;
  }
  uint64_t least_tokens(std::string_view text) const override {
    return tokenizer_->least_tokens(text);
  }
  std::string token_bytes(int32_t id) const override {
    const std::string& bytes = tokenizer_->token_bytes(id);
    return bytes.empty() && tokenizer_->is_control(id) ? tokenizer_->token_text(id) : bytes;
  }
  std::string text_bytes(int32_t id, int32_t previous) const override {
    std::string bytes = token_bytes(id);
    const bool spaced = tokenizer_->adds_space_prefix() && !tokenizer_->is_special(id) &&
                        (previous < 0 || tokenizer_->is_special(previous));
    if (spaced && bytes.starts_with(' ')) bytes.erase(0, 1);
    return bytes;
  }
  std::unique_ptr<TextStream> new_stream() const override {
    return std::make_unique<ModelTextStream>(*tokenizer_);
  }
  const std::vector<std::string>& control_texts() const override {
    return tokenizer_->control_texts();
  }
  std::string bos_text() const override { return text_of(tokenizer_->bos()); }
  std::string eos_text() const override { return text_of(tokenizer_->eos()); }
  bool has_chat_template() const override { return chat_.has_value(); }
  Result<std::string> render_chat(const Json& context, RenderControl& control) const override {
    if (!chat_->is_ok())
      return chat_->status().annotate("this model's chat template cannot be used");
    return (*chat_)->render(context, std::time(nullptr), control);
  }

 private:
  std::string text_of(std::optional<int32_t> id) const {
    return id ? tokenizer_->token_text(*id) : "";
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  const std::optional<Result<ChatTemplate>> chat_;  // nothing: the model has none
};

constexpr const char* kChatMl =
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
constexpr uint64_t kMaxTemplateBytes = 1 << 20;

Result<std::string> chosen_template(const Vocab& vocab, const std::string& choice) {
  if (choice.empty()) return vocab.chat_template;
  if (const auto named = vocab.named_templates.find(choice); named != vocab.named_templates.end()) {
    return named->second;
  }
  if (choice == "chatml") return std::string(kChatMl);
  auto text = read_text_file(choice, kMaxTemplateBytes);
  if (text || text.status().code() != Code::kNotFound) return text;
  std::string names = "chatml";
  for (const auto& [name, source] : vocab.named_templates) names += ", " + excerpt(name);
  return not_found(fmt::format("{} is neither a file nor a chat template known by name: {}",
                               in_quotes(choice), names));
}

}  // namespace

Result<ModelCodec> make_model_codec(const GgufFile& file, int64_t rows,
                                    const std::string& chat_template) {
  SHOAL_ASSIGN(Vocab vocab, read_vocab(file));
  SHOAL_TRY(fit_vocab(rows, &vocab));
  ModelCodec out;
  out.warnings = std::move(vocab.warnings);
  auto source = chosen_template(vocab, chat_template);
  if (!source) return source.status().annotate("model.chat_template (--chat-template)");
  SHOAL_ASSIGN(auto tokenizer, Tokenizer::create(std::move(vocab)));
  std::optional<Result<ChatTemplate>> chat;
  if (!source->empty()) {
    chat.emplace(ChatTemplate::parse(*std::move(source)));
    if (!chat->is_ok() && !chat_template.empty()) {
      return chat->status().annotate("model.chat_template (--chat-template) " +
                                     in_quotes(chat_template));
    }
    if (!chat->is_ok()) {
      out.warnings.push_back("key 'tokenizer.chat_template': " + chat->status().message() +
                             "; chat requests will be refused");
    }
  }
  out.end_tokens = tokenizer->end_of_generation();
  if (out.end_tokens.empty()) {
    out.warnings.push_back(
        "key 'tokenizer.ggml.eos_token_id' is missing, and no token is known to end an answer: "
        "only "
        "max_tokens and stop strings end one");
  }
  out.codec = std::make_unique<ModelTextCodec>(std::move(tokenizer), std::move(chat));
  return out;
}

}  // namespace shoal::gateway

#include "coordinator/gateway/model_codec.h"

#include <ctime>
#include <optional>

#include "base/log.h"
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

}  // namespace

Result<ModelCodec> make_model_codec(const GgufFile& file, int64_t rows) {
  SHOAL_ASSIGN(Vocab vocab, read_vocab(file));
  SHOAL_TRY(fit_vocab(rows, &vocab));
  ModelCodec out;
  out.warnings = std::move(vocab.warnings);
  std::string source = vocab.chat_template;
  SHOAL_ASSIGN(auto tokenizer, Tokenizer::create(std::move(vocab)));
  std::optional<Result<ChatTemplate>> chat;
  if (!source.empty()) {
    chat.emplace(ChatTemplate::parse(std::move(source)));
    if (!chat->is_ok()) {
      out.warnings.push_back("key 'tokenizer.chat_template': " + chat->status().message() +
                             "; chat requests will be refused");
    }
  }
  out.end_tokens = tokenizer->end_of_generation();
  out.codec = std::make_unique<ModelTextCodec>(std::move(tokenizer), std::move(chat));
  return out;
}

}  // namespace shoal::gateway

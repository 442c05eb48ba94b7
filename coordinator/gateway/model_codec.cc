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
  ModelTextCodec(std::unique_ptr<Tokenizer> tokenizer, std::optional<ChatTemplate> chat)
      : tokenizer_(std::move(tokenizer)), chat_(std::move(chat)) {}

  int32_t vocab_size() const override { return tokenizer_->vocab_size(); }
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options) const override {
    return tokenizer_->encode(text, {options.add_special, options.parse_special, options.breaks});
  }
  std::string token_bytes(int32_t id) const override { return tokenizer_->token_bytes(id); }
  std::unique_ptr<TextStream> new_stream() const override { return std::make_unique<ModelTextStream>(*tokenizer_); }
  const std::vector<std::string>& control_texts() const override { return tokenizer_->control_texts(); }
  std::string bos_text() const override { return text_of(tokenizer_->bos()); }
  std::string eos_text() const override { return text_of(tokenizer_->eos()); }
  bool has_chat_template() const override { return chat_.has_value(); }
  Result<std::string> render_chat(const Json& context) const override {
    if (!chat_) return failed_precondition("the model has no chat template; use /v1/completions");
    return chat_->render(context, std::time(nullptr));
  }

 private:
  std::string text_of(std::optional<int32_t> id) const { return id ? tokenizer_->token_text(*id) : ""; }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_;
};

}  // namespace

Result<ModelCodec> make_model_codec(const GgufFile& file) {
  SHOAL_ASSIGN(Vocab vocab, read_vocab(file));
  std::string source = vocab.chat_template;
  SHOAL_ASSIGN(auto tokenizer, Tokenizer::create(std::move(vocab)));
  std::optional<ChatTemplate> chat;
  if (!source.empty()) {
    auto parsed = ChatTemplate::parse(std::move(source));
    if (parsed) {
      chat = std::move(*parsed);
    } else {
      log_warn("key 'tokenizer.chat_template': " + parsed.status().message() + "; chat requests will be refused");
    }
  }
  ModelCodec out;
  out.end_tokens = tokenizer->end_of_generation();
  out.codec = std::make_unique<ModelTextCodec>(std::move(tokenizer), std::move(chat));
  return out;
}

}  // namespace shoal::gateway

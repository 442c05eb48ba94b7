// The bodies of answers, in OpenAI's exact forms. Field order is fixed; absent things are null
// where OpenAI has null. tests/tools/schema_check.py holds the same shapes from the reader's side.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/choice.h"
#include "coordinator/gateway/parse_options.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway {

struct ResponseHead {  // what every body of one answer repeats
  AnswerKind kind = AnswerKind::kChat;
  std::string id;
  int64_t created = 0;  // Unix seconds
  std::string model;
  std::string system_fingerprint;
  bool logprobs = false;
  bool token_ids = false;
  bool include_usage = false;  // streams: "usage": null in every chunk but the last
};

struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t cached_tokens = 0;
};

struct FinishedChoice {
  std::string text;
  std::vector<TokenRecord> records;
  std::string_view finish_reason;
};

// Writes one answer's bodies. The chunk_* functions return whole SSE events ("data: …\n\n").
class AnswerFormat {
 public:
  // `codec` gives the texts of tokens in logprobs; it must outlive this.
  AnswerFormat(const TextCodec& codec, ResponseHead head);

  const ResponseHead& head() const { return head_; }
  std::string body(const std::vector<FinishedChoice>& choices, const Usage& usage) const;

  std::string chunk_role(uint32_t index) const;  // chat: the first chunk of each choice
  std::string chunk_delta(uint32_t index, const ChoiceDelta& delta) const;
  std::string chunk_finish(uint32_t index, std::string_view finish_reason) const;
  std::string chunk_usage(const Usage& usage) const;
  static std::string chunk_error(const std::string& error_body);
  static std::string chunk_done();

 private:
  bool chat() const { return head_.kind == AnswerKind::kChat; }
  std::string start(std::string_view object) const;  // up to and with "choices":[
  std::string chunk(std::string_view choice) const;
  void append_entry(std::string* out, int32_t id, std::optional<float> logprob) const;
  void append_content(std::string* out, const std::vector<TokenRecord>& records) const;
  void append_completion_logprobs(std::string* out, const std::vector<TokenRecord>& records) const;
  void append_logprobs(std::string* out, const std::vector<TokenRecord>& records) const;
  void append_token_ids(std::string* out, const std::vector<TokenRecord>& records) const;

  const TextCodec& codec_;
  const ResponseHead head_;
};

}  // namespace shoal::gateway

// The bodies of answers, in OpenAI's exact forms. Field order is fixed; absent things are null
// where OpenAI has null. tests/tools/schema_check.py holds the same shapes from the reader's side.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/gateway/choice.h"
#include "coordinator/gateway/json_reader.h"
#include "coordinator/gateway/parse_options.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway {

struct ResponseHead {  // what every body of one answer repeats
  Endpoint endpoint = Endpoint::kChat;
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
  Json chat_logprobs(const std::vector<TokenRecord>& records) const;
  Json completion_logprobs(const std::vector<TokenRecord>& records) const;
  Json logprobs(const std::vector<TokenRecord>& records) const;
  std::string chunk(Json choice) const;
  Json head_fields(std::string_view object) const;

  const TextCodec& codec_;
  const ResponseHead head_;
};

std::string dump_json(const Json& value);  // one line; invalid UTF-8 becomes U+FFFD

}  // namespace shoal::gateway

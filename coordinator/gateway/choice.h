// Choice: from one choice's token events to what its client sees. Pure: no service, no sockets.
//
// Text is released as late as needed and no later: never half a character, never the beginning of a
// stop string. A token's record (for logprobs and token_ids) is released together with the first
// text at or after the place where the token began, so streamed records and text stay in step;
// records of tokens that lie wholly in or behind a stop string are dropped like its text.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/core/token_service.h"
#include "coordinator/gateway/stop_matcher.h"
#include "coordinator/gateway/text_codec.h"

namespace shoal::gateway {

struct TokenRecord {
  int32_t id = 0;
  std::optional<float> logprob;  // the first token of a prompt has none
  std::vector<wire::TokenLogprob> top;
  size_t text_offset = 0;  // characters of the choice's text before this token
};

struct ChoiceDelta {
  std::string text;  // may be empty
  std::vector<TokenRecord> records;

  bool empty() const { return text.empty() && records.empty(); }
};

class Choice {
 public:
  // With `keep_records` false deltas carry text only. `echoed`: so many characters of a prompt
  // stand before the text. There is a record of every token then, the one that ends the answer
  // included: evaluation harnesses count from the end.
  Choice(const TextCodec& codec, std::vector<std::string> stop, bool keep_records,
         std::optional<size_t> echoed = {});

  // Nothing after stopped_by_text() or finish().
  ChoiceDelta on_token(const TokenEvent& event);
  // The rest of the text. `reason` as the core gave it; finish_reason() is valid from here on.
  ChoiceDelta on_finish(FinishReason reason);

  // A stop string was found: the caller cancels the request at the core.
  bool stopped_by_text() const { return matcher_.stopped(); }
  bool finished() const { return finished_; }
  // "stop" or "length"; nothing while running, or when it ended by an error or cancellation.
  std::optional<std::string_view> finish_reason() const { return finish_reason_; }
  // Tokens the model produced for this choice, an end-of-generation token included.
  uint32_t completion_tokens() const { return completion_tokens_; }

 private:
  struct Pending {
    size_t begin;  // byte of the (uncut) text at which the token began
    TokenRecord record;
  };

  ChoiceDelta release(std::string text, bool all);

  std::unique_ptr<TextStream> stream_;
  StopMatcher matcher_;
  const bool keep_records_, keep_end_;
  bool finished_ = false;
  std::optional<std::string_view> finish_reason_;
  uint32_t completion_tokens_ = 0;
  size_t produced_bytes_ = 0;  // of detokenised text, held-back parts included
  size_t produced_characters_ = 0;
  size_t released_bytes_ = 0;
  std::deque<Pending> pending_;
};

}  // namespace shoal::gateway

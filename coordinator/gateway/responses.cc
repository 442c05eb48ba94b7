#include "coordinator/gateway/responses.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "coordinator/gateway/json_writer.h"

namespace shoal::gateway {
namespace {

// A token's text. One that is not valid UTF-8 by itself is written as escaped bytes, so that two
// such tokens stay different: "bytes:\xf0\x9f", as OpenAI does.
std::string token_text(const std::string& bytes) {
  if (is_valid_utf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const unsigned char c : bytes) text += fmt::format("\\x{:02x}", c);
  return text;
}

// Calls `write` for every element, with commas between.
template <class Range, class Write>
void append_list(std::string* out, const Range& range, const Write& write) {
  bool first = true;
  for (const auto& element : range) {
    if (!std::exchange(first, false)) *out += ',';
    write(element);
  }
}

void append_usage(std::string* out, const Usage& usage) {
  *out += fmt::format(R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                      R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                      usage.prompt_tokens, usage.completion_tokens,
                      usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
}

void append_finish_reason(std::string* out, std::string_view reason) {
  *out += R"(,"finish_reason":)";
  append_json_string(out, reason);
}

std::string event(const std::string& data) { return "data: " + data + "\n\n"; }

}  // namespace

AnswerFormat::AnswerFormat(const TextCodec& codec, ResponseHead head)
    : codec_(codec), head_(std::move(head)) {}

std::string AnswerFormat::start(std::string_view object) const {
  std::string out = R"({"id":)";
  append_json_string(&out, head_.id);
  out += R"(,"object":)";
  append_json_string(&out, object);
  out += R"(,"created":)";
  append_json_integer(&out, head_.created);
  out += R"(,"model":)";
  append_json_string(&out, head_.model);
  out += R"(,"system_fingerprint":)";
  append_json_string(&out, head_.system_fingerprint);
  return out + R"(,"choices":[)";
}

// Without the closing brace, so that top_logprobs can follow.
void AnswerFormat::append_entry(std::string* out, int32_t id, std::optional<float> logprob) const {
  const std::string bytes = codec_.token_bytes(id);
  *out += R"({"token":)";
  append_json_string(out, token_text(bytes));
  *out += R"(,"id":)";
  append_json_integer(out, id);
  *out += R"(,"logprob":)";
  append_json_logprob(out, logprob);
  *out += R"(,"bytes":[)";
  append_list(out, bytes, [&](char c) { append_json_integer(out, static_cast<unsigned char>(c)); });
  *out += ']';
}

void AnswerFormat::append_content(std::string* out, const std::vector<TokenRecord>& records) const {
  *out += R"("content":[)";
  append_list(out, records, [&](const TokenRecord& record) {
    append_entry(out, record.id, record.logprob);
    *out += R"(,"top_logprobs":[)";
    append_list(out, record.top, [&](const wire::TokenLogprob& other) {
      append_entry(out, other.id, other.logprob);
      *out += '}';
    });
    *out += "]}";
  });
  *out += ']';
}

void AnswerFormat::append_completion_logprobs(std::string* out,
                                              const std::vector<TokenRecord>& records) const {
  *out += R"({"tokens":[)";
  append_list(out, records, [&](const TokenRecord& record) {
    append_json_string(out, token_text(codec_.token_bytes(record.id)));
  });
  *out += R"(],"token_logprobs":[)";
  append_list(out, records,
              [&](const TokenRecord& record) { append_json_logprob(out, record.logprob); });
  *out += R"(],"top_logprobs":[)";
  append_list(out, records, [&](const TokenRecord& record) {
    if (!record.logprob) {
      *out += "null";
      return;
    }
    // Two ids may share a text; the better one stays (top is sorted), `content` has both.
    std::vector<std::pair<std::string, float>> unique;
    for (const auto& other : record.top) {
      std::string text = token_text(codec_.token_bytes(other.id));
      const auto same = [&](const auto& entry) { return entry.first == text; };
      if (std::none_of(unique.begin(), unique.end(), same)) {
        unique.emplace_back(std::move(text), other.logprob);
      }
    }
    *out += '{';
    append_list(out, unique, [&](const auto& entry) {
      append_json_string(out, entry.first);
      *out += ':';
      append_json_logprob(out, entry.second);
    });
    *out += '}';
  });
  *out += R"(],"text_offset":[)";
  append_list(out, records, [&](const TokenRecord& record) {
    append_json_integer(out, static_cast<int64_t>(record.text_offset));
  });
  *out += "],";
  append_content(out, records);
  *out += '}';
}

void AnswerFormat::append_logprobs(std::string* out,
                                   const std::vector<TokenRecord>& records) const {
  *out += R"(,"logprobs":)";
  if (!head_.logprobs) {
    *out += "null";
  } else if (chat()) {
    *out += '{';
    append_content(out, records);
    *out += R"(,"refusal":null})";
  } else {
    append_completion_logprobs(out, records);
  }
}

void AnswerFormat::append_token_ids(std::string* out,
                                    const std::vector<TokenRecord>& records) const {
  if (!head_.token_ids) return;
  *out += R"(,"token_ids":[)";
  append_list(out, records,
              [&](const TokenRecord& record) { append_json_integer(out, record.id); });
  *out += ']';
}

std::string AnswerFormat::body(const std::vector<FinishedChoice>& choices,
                               const Usage& usage) const {
  std::string out = start(chat() ? "chat.completion" : "text_completion");
  int64_t index = 0;
  append_list(&out, choices, [&](const FinishedChoice& choice) {
    out += R"({"index":)";
    append_json_integer(&out, index++);
    out += chat() ? R"(,"message":{"role":"assistant","content":)" : R"(,"text":)";
    append_json_string(&out, choice.text);
    if (chat()) out += R"(,"refusal":null})";
    append_logprobs(&out, choice.records);
    append_finish_reason(&out, choice.finish_reason);
    append_token_ids(&out, choice.records);
    out += '}';
  });
  out += R"(],"usage":)";
  append_usage(&out, usage);
  return out + "}";
}

std::string AnswerFormat::chunk(std::string_view choice) const {
  std::string out = start(chat() ? "chat.completion.chunk" : "text_completion");
  out += choice;
  out += head_.include_usage ? R"(],"usage":null})" : "]}";
  return event(out);
}

std::string AnswerFormat::chunk_role(uint32_t index) const {
  return chunk(fmt::format(R"({{"index":{},"delta":{{"role":"assistant","content":"",)"
                           R"("refusal":null}},"logprobs":null,"finish_reason":null}})",
                           index));
}

std::string AnswerFormat::chunk_delta(uint32_t index, const ChoiceDelta& delta) const {
  std::string out = fmt::format(R"({{"index":{})", index);
  out += chat() ? R"(,"delta":{"content":)" : R"(,"text":)";
  append_json_string(&out, delta.text);
  if (chat()) out += '}';
  append_logprobs(&out, delta.records);
  out += R"(,"finish_reason":null)";
  append_token_ids(&out, delta.records);
  return chunk(out + "}");
}

std::string AnswerFormat::chunk_finish(uint32_t index, std::string_view finish_reason) const {
  std::string out = fmt::format(R"({{"index":{},{},"logprobs":null)", index,
                                chat() ? R"("delta":{})" : R"("text":"")");
  append_finish_reason(&out, finish_reason);
  return chunk(out + "}");
}

std::string AnswerFormat::chunk_usage(const Usage& usage) const {
  std::string out = start(chat() ? "chat.completion.chunk" : "text_completion");
  out += R"(],"usage":)";
  append_usage(&out, usage);
  return event(out + "}");
}

std::string AnswerFormat::chunk_error(const std::string& error_body) { return event(error_body); }

std::string AnswerFormat::chunk_done() { return event("[DONE]"); }

}  // namespace shoal::gateway

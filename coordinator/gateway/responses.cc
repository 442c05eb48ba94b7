#include "coordinator/gateway/responses.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/utf8.h"

namespace shoal::gateway {
namespace {

// JSON has no infinity; OpenAI uses this value for "practically impossible".
constexpr float kLowestLogprob = -9999.0f;

double finite_logprob(float value) { return std::isfinite(value) ? value : kLowestLogprob; }

// A token's text. One that is not valid UTF-8 by itself is written as escaped bytes, so that two
// such tokens stay different: "bytes:\xf0\x9f", as OpenAI does.
std::string token_text(const std::string& bytes) {
  if (is_valid_utf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const unsigned char c : bytes) text += fmt::format("\\x{:02x}", c);
  return text;
}

Json byte_array(const std::string& bytes) {
  Json array = Json::array();
  for (const unsigned char c : bytes) array.push_back(c);
  return array;
}

Json token_entry(const TextCodec& codec, int32_t id, float logprob) {
  const std::string bytes = codec.token_bytes(id);
  Json entry = Json::object();
  entry["token"] = token_text(bytes);
  entry["id"] = id;
  entry["logprob"] = finite_logprob(logprob);
  entry["bytes"] = byte_array(bytes);
  return entry;
}

Json usage_json(const Usage& usage) {
  Json out = Json::object();
  out["prompt_tokens"] = usage.prompt_tokens;
  out["completion_tokens"] = usage.completion_tokens;
  out["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  out["prompt_tokens_details"] = Json::object({{"cached_tokens", usage.cached_tokens}});
  return out;
}

Json ids_of(const std::vector<TokenRecord>& records) {
  Json ids = Json::array();
  for (const TokenRecord& record : records) ids.push_back(record.id);
  return ids;
}

std::string event(const std::string& data) { return "data: " + data + "\n\n"; }

}  // namespace

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

AnswerFormat::AnswerFormat(const TextCodec& codec, ResponseHead head)
    : codec_(codec), head_(std::move(head)) {}

Json AnswerFormat::head_fields(std::string_view object) const {
  Json out = Json::object();
  out["id"] = head_.id;
  out["object"] = object;
  out["created"] = head_.created;
  out["model"] = head_.model;
  out["system_fingerprint"] = head_.system_fingerprint;
  return out;
}

Json AnswerFormat::chat_logprobs(const std::vector<TokenRecord>& records) const {
  Json content = Json::array();
  for (const TokenRecord& record : records) {
    Json entry = token_entry(codec_, record.id, record.logprob);
    Json top = Json::array();
    for (const auto& other : record.top)
      top.push_back(token_entry(codec_, other.id, other.logprob));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return content;
}

Json AnswerFormat::completion_logprobs(const std::vector<TokenRecord>& records) const {
  Json tokens = Json::array(), logprobs = Json::array(), top = Json::array();
  Json offsets = Json::array();
  for (const TokenRecord& record : records) {
    tokens.push_back(token_text(codec_.token_bytes(record.id)));
    logprobs.push_back(finite_logprob(record.logprob));
    Json alternatives = Json::object();
    for (const auto& other : record.top) {
      // Two ids may share a text; the better one stays (top is sorted), `content` has both.
      const std::string text = token_text(codec_.token_bytes(other.id));
      if (!alternatives.contains(text)) alternatives[text] = finite_logprob(other.logprob);
    }
    top.push_back(std::move(alternatives));
    offsets.push_back(record.text_offset);
  }
  Json out = Json::object();
  out["tokens"] = std::move(tokens);
  out["token_logprobs"] = std::move(logprobs);
  out["top_logprobs"] = std::move(top);
  out["text_offset"] = std::move(offsets);
  out["content"] = chat_logprobs(records);
  return out;
}

Json AnswerFormat::logprobs(const std::vector<TokenRecord>& records) const {
  if (!head_.logprobs) return nullptr;
  if (head_.endpoint == Endpoint::kCompletion) return completion_logprobs(records);
  Json out = Json::object();
  out["content"] = chat_logprobs(records);
  out["refusal"] = nullptr;
  return out;
}

std::string AnswerFormat::body(const std::vector<FinishedChoice>& choices,
                               const Usage& usage) const {
  const bool chat = head_.endpoint == Endpoint::kChat;
  Json list = Json::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    const FinishedChoice& from = choices[i];
    Json choice = Json::object();
    choice["index"] = i;
    if (chat) {
      choice["message"] =
          Json::object({{"role", "assistant"}, {"content", from.text}, {"refusal", nullptr}});
    } else {
      choice["text"] = from.text;
    }
    choice["logprobs"] = logprobs(from.records);
    choice["finish_reason"] = from.finish_reason;
    if (head_.token_ids) choice["token_ids"] = ids_of(from.records);
    list.push_back(std::move(choice));
  }
  Json out = head_fields(chat ? "chat.completion" : "text_completion");
  out["choices"] = std::move(list);
  out["usage"] = usage_json(usage);
  return dump_json(out);
}

std::string AnswerFormat::chunk(Json choice) const {
  const bool chat = head_.endpoint == Endpoint::kChat;
  Json out = head_fields(chat ? "chat.completion.chunk" : "text_completion");
  out["choices"] = Json::array();
  out["choices"].push_back(std::move(choice));
  if (head_.include_usage) out["usage"] = nullptr;
  return event(dump_json(out));
}

std::string AnswerFormat::chunk_role(uint32_t index) const {
  Json choice = Json::object();
  choice["index"] = index;
  choice["delta"] = Json::object({{"role", "assistant"}, {"content", ""}, {"refusal", nullptr}});
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = nullptr;
  return chunk(std::move(choice));
}

std::string AnswerFormat::chunk_delta(uint32_t index, const ChoiceDelta& delta) const {
  Json choice = Json::object();
  choice["index"] = index;
  if (head_.endpoint == Endpoint::kChat) {
    choice["delta"] = Json::object({{"content", delta.text}});
  } else {
    choice["text"] = delta.text;
  }
  choice["logprobs"] = logprobs(delta.records);
  choice["finish_reason"] = nullptr;
  if (head_.token_ids) choice["token_ids"] = ids_of(delta.records);
  return chunk(std::move(choice));
}

std::string AnswerFormat::chunk_finish(uint32_t index, std::string_view finish_reason) const {
  Json choice = Json::object();
  choice["index"] = index;
  if (head_.endpoint == Endpoint::kChat) {
    choice["delta"] = Json::object();
  } else {
    choice["text"] = "";
  }
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = finish_reason;
  return chunk(std::move(choice));
}

std::string AnswerFormat::chunk_usage(const Usage& usage) const {
  const bool chat = head_.endpoint == Endpoint::kChat;
  Json out = head_fields(chat ? "chat.completion.chunk" : "text_completion");
  out["choices"] = Json::array();
  out["usage"] = usage_json(usage);
  return event(dump_json(out));
}

std::string AnswerFormat::chunk_error(const std::string& error_body) { return event(error_body); }

std::string AnswerFormat::chunk_done() { return event("[DONE]"); }

}  // namespace shoal::gateway

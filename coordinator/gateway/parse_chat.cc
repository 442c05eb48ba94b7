// /v1/chat/completions. Messages leave here in the one form templates agree on: role and content as
// strings.
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/quote.h"
#include "coordinator/gateway/api_request.h"
#include "coordinator/gateway/field_reader.h"
#include "coordinator/gateway/parse_options.h"

namespace shoal::gateway {
namespace {

constexpr size_t kAnyLength = SIZE_MAX;  // bounded by the body
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxCalls = 1024;  // of one message

// The content of one message: a string, or text parts joined by newlines (templates of text models
// take strings only; joined without a separator two parts would run into one word).
std::optional<std::string> parse_content(FieldReader& fields, const std::string& path,
                                         std::optional<ApiError>* error) {
  const Json* content = fields.find("content");
  if (content == nullptr) {
    fields.fail("content", fmt::format("'{}.content' is required", path),
                "missing_required_parameter");
    return std::nullopt;
  }
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) {
    fields.must("content",
                fmt::format("a string or an array of parts, not {}", json_kind(*content)));
    return std::nullopt;
  }
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const Json& part = (*content)[i];
    const std::string name = fmt::format("content[{}]", i);
    if (!part.is_object()) {
      fields.must(name, fmt::format("an object, not {}", json_kind(part)));
      return std::nullopt;
    }
    FieldReader reader(part, path + "." + name, error);
    const auto type = reader.string("type", kMaxNameBytes);
    if (!type) {
      reader.fail("type", fmt::format("'{}' is required", reader.param("type")),
                  "missing_required_parameter");
      return std::nullopt;
    }
    if (*type != "text") {
      reader.unsupported("type", fmt::format("{} parts; this model takes text", in_quotes(*type)));
      return std::nullopt;
    }
    const auto piece = reader.string("text", kAnyLength);
    if (!piece) {
      reader.fail("text", fmt::format("'{}' is required", reader.param("text")),
                  "missing_required_parameter");
      return std::nullopt;
    }
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

std::optional<std::string> parse_role(FieldReader& fields) {
  const auto role = fields.string("role", kMaxNameBytes);
  if (!role) {
    fields.fail("role", fmt::format("'{}' is required", fields.param("role")),
                "missing_required_parameter");
    return std::nullopt;
  }
  constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                      "tool"};
  for (const std::string_view known : kRoles) {
    // Templates know "system"; "developer" is OpenAI's newer word for the same place.
    if (*role == known) return *role == "developer" ? "system" : *role;
  }
  fields.must("role", "one of system, developer, user, assistant, tool");
  return std::nullopt;
}

// One call of an assistant's, as the template gets it: {id?, type, function: {name, arguments}}.
std::optional<Json> parse_tool_call(const Json& call, const std::string& path,
                                    std::optional<ApiError>* error) {
  FieldReader fields(call, path, error);
  Json out = Json::object(), function = Json::object();
  if (auto id = fields.string("id", kMaxNameBytes)) out["id"] = std::move(*id);
  const auto type = fields.string("type", kMaxNameBytes);
  if (type && *type != "function") fields.unsupported("type", in_quotes(*type) + " calls");
  out["type"] = "function";
  const Json* given = fields.object("function");
  if (given == nullptr) {
    fields.fail("function", fmt::format("'{}' is required", fields.param("function")),
                "missing_required_parameter");
    return std::nullopt;
  }
  FieldReader inner(*given, fields.param("function"), error);
  auto name = inner.string("name", kMaxNameBytes);
  if (!name || name->empty()) {
    inner.fail("name", fmt::format("'{}' is required", inner.param("name")),
               "missing_required_parameter");
    return std::nullopt;
  }
  function["name"] = std::move(*name);
  const Json* arguments = inner.find("arguments");
  if (arguments != nullptr && !arguments->is_string() && !arguments->is_object()) {
    inner.must("arguments", fmt::format("JSON in a string, not {}", json_kind(*arguments)));
  }
  function["arguments"] = arguments != nullptr ? *arguments : Json("{}");
  out["function"] = std::move(function);
  if (!fields.ok()) return std::nullopt;
  return out;
}

// What an assistant called earlier; nothing if it is absent, empty, or an error was found.
std::optional<Json> parse_tool_calls(FieldReader& fields, const std::string& path,
                                     std::optional<ApiError>* error) {
  const Json* calls = fields.array("tool_calls");
  if (calls == nullptr || calls->empty()) return std::nullopt;
  if (calls->size() > kMaxCalls) {
    fields.must("tool_calls", fmt::format("at most {} calls", kMaxCalls));
    return std::nullopt;
  }
  Json out = Json::array();
  for (size_t i = 0; i < calls->size(); ++i) {
    const std::string name = fmt::format("tool_calls[{}]", i);
    if (!(*calls)[i].is_object()) {
      fields.must(name, fmt::format("an object, not {}", json_kind((*calls)[i])));
      return std::nullopt;
    }
    auto call = parse_tool_call((*calls)[i], path + "." + name, error);
    if (!call) return std::nullopt;
    out.push_back(std::move(*call));
  }
  return out;
}

std::optional<Json> parse_message(const Json& message, const std::string& path,
                                  std::optional<ApiError>* error) {
  FieldReader fields(message, path, error);
  Json out = Json::object();
  const auto role = parse_role(fields);
  if (!role) return std::nullopt;
  out["role"] = *role;
  // What clients send back from earlier answers is null or empty; anything else cannot be honoured.
  for (const char* name : {"tool_calls", "function_call", "audio", "refusal"}) {
    if (*role == "assistant" && std::string_view(name) == "tool_calls") continue;
    const Json* value = fields.find(name);
    if (value == nullptr || (value->is_structured() && value->empty())) continue;
    if (value->is_string() && value->get_ref<const std::string&>().empty()) continue;
    fields.unsupported(name);
  }
  if (!fields.ok()) return std::nullopt;
  std::optional<std::string> content;
  if (*role == "assistant" && fields.find("content") == nullptr) {
    content = "";  // of an answer that was nothing but a call, or nothing
  } else {
    content = parse_content(fields, path, error);
  }
  if (!content) return std::nullopt;
  out["content"] = std::move(*content);
  if (*role == "assistant") {
    if (auto calls = parse_tool_calls(fields, path, error)) out["tool_calls"] = std::move(*calls);
  }
  if (auto name = fields.string("name", kMaxNameBytes)) out["name"] = std::move(*name);
  if (auto id = fields.string("tool_call_id", kMaxNameBytes)) out["tool_call_id"] = std::move(*id);
  if (auto text = fields.string("reasoning_content", kAnyLength)) {
    out["reasoning_content"] = std::move(*text);
  }
  if (!fields.ok()) return std::nullopt;
  return out;
}

void parse_messages(FieldReader& fields, const RequestLimits& limits, ChatRequest* out,
                    std::optional<ApiError>* error) {
  const Json* messages = fields.array("messages");
  if (messages == nullptr || messages->empty()) {
    fields.fail("messages", "'messages' is required and must not be empty",
                "missing_required_parameter");
    return;
  }
  if (messages->size() > limits.max_messages) {
    fields.must("messages", fmt::format("at most {} messages", limits.max_messages));
    return;
  }
  Json parsed = Json::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    const std::string path = fmt::format("messages[{}]", i);
    if (!message.is_object()) {
      fields.must(path, fmt::format("an object, not {}", json_kind(message)));
      return;
    }
    auto one = parse_message(message, path, error);
    if (!one) return;
    parsed.push_back(std::move(*one));
  }
  out->messages = share_json(std::move(parsed));
}

// Extra variables for the template, e.g. {"enable_thinking": false}. The ones the gateway sets
// itself may not be overridden.
void parse_template_arguments(FieldReader& fields, ChatRequest* out) {
  Json arguments = Json::object();
  if (const Json* given = fields.object("chat_template_kwargs")) {
    for (const char* reserved :
         {"messages", "add_generation_prompt", "tools", "bos_token", "eos_token", "documents"}) {
      if (given->contains(reserved)) {
        fields.fail(fmt::format("chat_template_kwargs.{}", reserved),
                    fmt::format("'chat_template_kwargs.{}' is set by the server", reserved));
        return;
      }
    }
    arguments = *given;
  }
  if (const auto effort = fields.string("reasoning_effort", kMaxNameBytes)) {
    constexpr std::array<std::string_view, 6> kEfforts = {"none",   "minimal", "low",
                                                          "medium", "high",    "xhigh"};
    bool known = false;
    for (const std::string_view each : kEfforts) known |= *effort == each;
    if (!known) fields.must("reasoning_effort", "one of none, minimal, low, medium, high, xhigh");
    if (!arguments.contains("reasoning_effort")) arguments["reasoning_effort"] = *effort;
  }
  out->template_arguments = share_json(std::move(arguments));
}

// An assistant's message at the end begins the answer, unless the client says otherwise.
void parse_continuation(FieldReader& fields, ChatRequest* out) {
  out->add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  const auto asked = fields.boolean("continue_final_message");
  if (!fields.ok()) return;
  const Json& last = out->messages->back();
  const bool possible = last["role"] == "assistant" && !last.contains("tool_calls");
  if (asked.value_or(false) && !possible) {
    fields.fail("continue_final_message",
                "'continue_final_message' needs a last message of the assistant's, without calls");
  }
  out->continues = possible && asked.value_or(out->add_generation_prompt);
}

void parse_chat_logprobs(FieldReader& fields, const RequestLimits& limits,
                         wire::SamplingParams* out) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, limits.max_top_logprobs);
  if (top && *top > 0 && !wanted) {
    fields.fail("top_logprobs", "'top_logprobs' needs \"logprobs\": true");
  }
  if (wanted) out->top_logprobs = static_cast<int32_t>(top.value_or(0));
}

}  // namespace

std::variant<ChatRequest, ApiError> parse_chat_request(const Json& body,
                                                       const RequestLimits& limits) {
  if (!body.is_object()) {
    return invalid_field("", "the body must be a JSON object", "invalid_json");
  }
  std::optional<ApiError> error;
  FieldReader fields(body, "", &error);
  ChatRequest request;
  parse_messages(fields, limits, &request, &error);
  parse_options(fields, limits, &request.options);
  parse_chat_logprobs(fields, limits, &request.options.sampling);
  parse_continuation(fields, &request);
  parse_template_arguments(fields, &request);
  refuse_unsupported(fields, AnswerKind::kChat);
  if (error) return *error;
  return request;
}

}  // namespace shoal::gateway

#include "cli/chat/answer.h"

#include <utility>

#include <fmt/core.h>

#include "base/quote.h"

namespace shoal::chat {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxBodyBytes = size_t{64} << 20;
constexpr size_t kErrorBytes = 1000;  // of an error's text

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string words(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// {"loc": ["body", "messages"], "msg": "…"}, as FastAPI lists what it refuses.
std::string listed(const Json& list) {
  std::string out;
  for (const Json& entry : list) {
    const Json* message = member(entry, "msg");
    std::string place;
    if (const Json* where = member(entry, "loc"); where != nullptr && where->is_array()) {
      for (const Json& step : *where) place += (place.empty() ? "" : ".") + words(step);
    }
    out += (out.empty() ? "" : "; ") + (place.empty() ? "" : place + ": ") +
           words(message != nullptr ? *message : entry);
  }
  return out;
}

// An error object's text; empty if `json` is none.
std::string error_of(const Json& json) {
  if (const Json* error = member(json, "error")) {
    if (error->is_string() || !error->is_object()) return words(*error);
    if (const std::string inner = error_of(*error); !inner.empty()) return inner;
    return words(*error);
  }
  for (const char* name : {"message", "detail", "msg"}) {
    if (const Json* text = member(json, name))
      return text->is_array() ? listed(*text) : words(*text);
  }
  return "";
}

int64_t count(const Json& object, const char* name) {
  const Json* value = member(object, name);
  return value != nullptr && value->is_number() ? static_cast<int64_t>(value->get<double>()) : -1;
}

// Text as a string, or as a list of parts {"type": "text", "text": …}.
std::string text_of(const LooseJson& parsed, const Json* content) {
  if (content == nullptr) return "";
  if (content->is_string()) return parsed.bytes(*content);
  std::string out;
  if (content->is_array()) {
    for (const Json& piece : *content) {
      const Json* text = member(piece, "text");
      if (text != nullptr && text->is_string()) out += parsed.bytes(*text);
    }
  }
  return out;
}

}  // namespace

std::string error_text(std::string_view body) {
  const Json json = parse_loosely(body).json;
  std::string text;
  if (json.is_array() && !json.empty()) text = error_of(json.front());
  if (json.is_object()) text = error_of(json);
  if (json.is_string()) text = json.get<std::string>();
  if (text.empty()) text = body;
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  return excerpt(text, kErrorBytes);
}

AnswerReader::AnswerReader(Answer& answer, Options options)
    : answer_(answer),
      options_(std::move(options)),
      events_([this](std::string_view data, bool last) { return event(data, last); }) {}

Status AnswerReader::feed(std::string_view bytes, std::string_view content_type) {
  arrived_ = false;
  const TimePoint now = options_.now();
  const Status status = read(bytes, content_type);
  if (arrived_ && answer_.arrivals++ == 0) answer_.first = now;
  if (arrived_) answer_.last = now;
  return status;
}

Status AnswerReader::read(std::string_view bytes, std::string_view content_type) {
  if (kind_ == Kind::kUnknown) {
    body_ += bytes;
    const size_t start = body_.find_first_not_of(" \t\r\n");
    if (start == std::string::npos) return Status::ok();
    const char c = body_[start];
    const bool stream = content_type.find("event-stream") != std::string_view::npos ||
                        (c != '{' && c != '[' && c != '<' && c != '"');
    kind_ = stream ? Kind::kStream : Kind::kWhole;
    if (!stream) return Status::ok();
    return events_.feed(std::exchange(body_, {}));
  }
  if (kind_ == Kind::kStream) return events_.feed(bytes);
  body_ += bytes;
  if (body_.size() > kMaxBodyBytes) return out_of_range("the answer has more than 64 MiB");
  return Status::ok();
}

void AnswerReader::finish() {
  if (kind_ == Kind::kStream) {
    events_.finish();
  } else if (!body_.empty()) {
    const LooseJson parsed = parse_loosely(body_);
    const bool answer = member(parsed.json, "choices") != nullptr;
    if (answer || member(parsed.json, "error") != nullptr) {
      chunk(parsed);
      answer_.done = answer;
    } else {
      foreign_ = body_;
    }
  }
  add_text(text_.finish());
  add_reasoning(reasoning_.finish());
}

bool AnswerReader::event(std::string_view data, bool last) {
  if (data.find_first_not_of(" \t\n") == std::string_view::npos) return true;
  if (data.starts_with("[DONE]")) {
    answer_.done = true;
    return true;
  }
  const LooseJson parsed = parse_loosely(data);
  if (parsed.json.is_object()) {
    chunk(parsed);
    return true;
  }
  if (last) ++answer_.unreadable;
  return false;
}

void AnswerReader::chunk(const LooseJson& parsed) {
  const Json& json = parsed.json;
  const Json* choices = member(json, "choices");
  if (member(json, "error") != nullptr ||
      (choices == nullptr &&
       (member(json, "message") != nullptr || member(json, "detail") != nullptr))) {
    answer_.error = excerpt(error_of(json), kErrorBytes);
    if (answer_.error.empty())
      answer_.error = "the server reports an error without a word about it";
    return;
  }
  if (const Json* usage = member(json, "usage"); usage != nullptr && usage->is_object())
    read_usage(*usage);
  if (choices == nullptr || !choices->is_array()) return;
  for (const Json& one : *choices) choice(parsed, one);
}

void AnswerReader::choice(const LooseJson& parsed, const Json& choice) {
  if (count(choice, "index") > 0) return;  // others were not asked for
  const Json* delta = member(choice, "delta");
  if (delta == nullptr) delta = member(choice, "message");
  if (delta != nullptr) {
    const Json* thought = member(*delta, "reasoning_content");
    if (thought == nullptr) thought = member(*delta, "reasoning");
    add_reasoning(reasoning_.feed(text_of(parsed, thought)));
    add_text(text_.feed(text_of(parsed, member(*delta, "content"))));
    add_text(text_.feed(text_of(parsed, member(*delta, "refusal"))));
  }
  const Json* reason = member(choice, "finish_reason");
  if (reason != nullptr && reason->is_string()) answer_.finish_reason = excerpt(words(*reason));
}

void AnswerReader::read_usage(const Json& usage) {
  Usage out;
  out.prompt_tokens = count(usage, "prompt_tokens");
  out.completion_tokens = count(usage, "completion_tokens");
  if (const Json* details = member(usage, "prompt_tokens_details"))
    out.cached_tokens = count(*details, "cached_tokens");
  answer_.usage = out;
  answer_.raw_usage = usage;
}

void AnswerReader::add_text(std::string_view text) {
  if (text.empty()) return;
  arrived_ = true;
  answer_.text += text;
  if (options_.on_text) options_.on_text(text);
}

void AnswerReader::add_reasoning(std::string_view text) {
  if (text.empty()) return;
  arrived_ = true;
  answer_.reasoning += text;
  if (options_.on_reasoning) options_.on_reasoning(text);
}

}  // namespace shoal::chat

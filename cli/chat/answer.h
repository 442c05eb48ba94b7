// What a chat completion's stream says, chunk by chunk, from any server that speaks the OpenAI API:
// Shoal, llama.cpp, vLLM, Ollama and others differ in what they leave out.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/status.h"
#include "cli/chat/event_stream.h"
#include "cli/chat/text.h"

namespace shoal::chat {

// As the server counts.
struct Usage {
  int64_t prompt_tokens = -1;  // −1: not said
  int64_t cached_tokens = -1;  // of these
  int64_t completion_tokens = -1;
};

struct Answer {
  std::string text;       // valid UTF-8, without reasoning
  std::string reasoning;  // what the model thought before, if the server tells it apart
  std::string finish_reason;
  std::string error;  // the server's own words in the stream; empty if none
  std::optional<Usage> usage;
  nlohmann::json raw_usage;  // as it came, or null
  bool done = false;         // [DONE] came, or a whole answer in one piece
  int64_t unreadable = 0;    // events that were no JSON

  // Text or reasoning that came: how often (what comes at once counts once), and when first and
  // last.
  int64_t arrivals = 0;
  TimePoint first{}, last{};

  bool whole() const { return done || !finish_reason.empty(); }
};

// Fills an Answer from a body of status 200. Not thread-safe.
class AnswerReader {
 public:
  struct Options {
    std::function<TimePoint()> now;
    // Called with what is new, valid UTF-8, never empty.
    std::function<void(std::string_view)> on_text, on_reasoning;
  };
  AnswerReader(Answer& answer, Options options);

  // `content_type` as in the response's head; may be empty. kOutOfRange: more than a body may hold.
  Status feed(std::string_view bytes, std::string_view content_type);
  void finish();
  // A body that was neither a stream nor an answer; empty otherwise.
  const std::string& foreign_body() const { return foreign_; }

 private:
  enum class Kind { kUnknown, kStream, kWhole };

  Status read(std::string_view bytes, std::string_view content_type);
  bool event(std::string_view data, bool last);
  void chunk(const LooseJson& parsed);
  void choice(const LooseJson& parsed, const nlohmann::json& choice);
  void read_usage(const nlohmann::json& usage);
  void add_text(std::string_view text);
  void add_reasoning(std::string_view text);

  Answer& answer_;
  const Options options_;
  Kind kind_ = Kind::kUnknown;
  std::string body_;  // while the kind is unknown, or of a whole answer
  std::string foreign_;
  bool arrived_ = false;  // text, in what is read now
  EventStream events_;
  Utf8Joiner text_, reasoning_;
};

// What a body that reports an error says, in whichever of the usual shapes, bounded and on one
// line; empty if it says nothing.
std::string error_text(std::string_view body);

}  // namespace shoal::chat

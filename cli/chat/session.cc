#include "cli/chat/session.h"

#include <signal.h>

#include <fmt/core.h>

#include "base/quote.h"
#include "cli/chat/commands.h"
#include "cli/chat/history.h"
#include "cli/chat/line_reader.h"
#include "cli/commands.h"

namespace shoal::chat {
namespace {

using Json = nlohmann::json;
using std::chrono::steady_clock;

constexpr int kExitInterrupted = 130;  // as shells count: 128 + SIGINT
constexpr Duration kListPatience = std::chrono::seconds(10);
// A server (or a proxy) that sends more tokens than this at once does not show when the first came.
constexpr int64_t kTokensPerArrival = 8;
// Sent where nobody named a model: Shoal and llama.cpp serve one and do not look at the name.
constexpr const char* kAnyModel = "shoal";

// Reads messages that may have several lines: pasted, continued by a backslash, or in """ quotes.
class Messages {
 public:
  explicit Messages(LineReader& reader) : reader_(reader) {}

  LineReader::End next(std::string* text) {
    LineReader::End end = reader_.read("> ", text);
    if (end != LineReader::End::kLine) return end;
    const bool one_line = text->find('\n') == std::string::npos;
    if (one_line && text->starts_with(kQuotes)) {
      text->erase(0, kQuotes.size());
      while (!close_quotes(text)) {
        if ((end = more(text, "\n")) == LineReader::End::kInterrupt) return end;
        if (end == LineReader::End::kEnd) break;
      }
    } else {
      while (drop_backslash(text)) {
        if ((end = more(text, "\n")) == LineReader::End::kInterrupt) return end;
        if (end == LineReader::End::kEnd) break;
      }
    }
    while (text->ends_with('\n')) text->pop_back();
    return LineReader::End::kLine;
  }

 private:
  static constexpr std::string_view kQuotes = "\"\"\"";

  LineReader::End more(std::string* text, std::string_view joint) {
    std::string line;
    const LineReader::End end = reader_.read(". ", &line);
    if (end == LineReader::End::kLine) *text += std::string(joint) + line;
    return end;
  }
  static bool close_quotes(std::string* text) {
    if (!text->ends_with(kQuotes)) return false;
    text->resize(text->size() - kQuotes.size());
    return true;
  }
  // An even number of them is backslashes, not a wish for another line.
  static bool drop_backslash(std::string* text) {
    const size_t last = text->find_last_not_of('\\');
    const size_t count = text->size() - (last == std::string::npos ? 0 : last + 1);
    if (count % 2 == 0) return false;
    text->pop_back();
    return true;
  }

  LineReader& reader_;
};

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\n") == std::string::npos;
}

std::string why_ended(const std::string& reason) {
  if (reason == "length")
    return "the answer is cut off: it reached max_tokens or the end of the context";
  if (reason == "content_filter") return "the answer is cut off: the server's content filter";
  if (reason == "tool_calls" || reason == "function_call")
    return "the model wants to call a tool; this chat has none";
  if (reason.empty() || reason == "stop" || reason == "eos") return "";
  return "the answer ended: " + reason;
}

}  // namespace

std::string figures(const Answer& answer, TimePoint start) {
  std::string out;
  const auto add = [&](const std::string& text) { out += (out.empty() ? "" : ", ") + text; };
  if (!answer.usage) return out;
  const Usage& usage = *answer.usage;
  if (usage.prompt_tokens >= 0) {
    std::string cached;
    if (usage.cached_tokens > 0) cached = fmt::format(" ({} cached)", usage.cached_tokens);
    add(fmt::format("{} prompt tokens{}", usage.prompt_tokens, cached));
  }
  const int64_t tokens = usage.completion_tokens;
  if (tokens >= 0) add(fmt::format("{} generated", tokens));
  const double seconds = to_seconds(answer.last - answer.first);
  if (answer.arrivals > 1 && tokens > 1 && tokens <= kTokensPerArrival * answer.arrivals &&
      seconds > 0)
    add(fmt::format("{:.1f} tok/s", static_cast<double>(tokens - 1) / seconds));
  if (answer.arrivals > 0)
    add(fmt::format("first after {:.2f} s", to_seconds(answer.first - start)));
  return out;
}

Result<std::vector<std::string>> list_models(HttpClient& http) {
  std::string body;
  HttpRequest request;
  request.url = http.endpoint().url("/models");
  request.patience = kListPatience;
  request.on_body = [&](std::string_view bytes, std::string_view) {
    body += bytes;
    return body.size() < (size_t{4} << 20);
  };
  const HttpReply reply = http.send(request);
  if (reply.interrupted) return cancelled("stopped");
  if (!reply.failure.empty()) return unavailable(reply.failure);
  if (reply.status != 200)
    return unavailable(fmt::format("HTTP {}: {}", reply.status, error_text(reply.error_body)));
  const Json json = Json::parse(body, nullptr, false);
  std::vector<std::string> names;
  if (json.is_object() && json.contains("data") && json["data"].is_array()) {
    for (const Json& model : json["data"]) {
      if (model.is_object() && model.contains("id") && model["id"].is_string())
        names.push_back(model["id"].get<std::string>());
    }
  }
  if (names.empty()) return unavailable("the server lists no models");
  return names;
}

Session::Session(HttpClient& http, Signals& signals, Screen& screen, Options options)
    : http_(http), signals_(signals), screen_(screen), options_(std::move(options)) {
  conversation_.system = options_.system;
}

void Session::say(std::string_view what, bool dim) {
  screen_.note(interactive_ ? std::string(what) : "shoal chat: " + std::string(what), dim);
}

HttpReply Session::request(Answer& answer) {
  Json body = options_.settings.fields();
  body["model"] = options_.settings.model.empty() ? kAnyModel : options_.settings.model;
  body["messages"] = conversation_.request_messages();
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};

  bool listening = true;
  Status status;
  AnswerReader::Options options;
  options.now = [] { return steady_clock::now(); };
  if (!options_.json) {
    options.on_text = [&](std::string_view text) { listening = listening && screen_.answer(text); };
    options.on_reasoning = [&](std::string_view text) {
      listening = listening && screen_.reasoning(text);
    };
  }
  AnswerReader reader(answer, options);
  HttpRequest request;
  request.url = http_.endpoint().url("/chat/completions");
  request.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  request.patience = options_.patience;
  request.on_body = [&](std::string_view bytes, std::string_view type) {
    status = reader.feed(bytes, type);
    return status.is_ok() && listening && answer.error.empty() && !answer.done;
  };
  start_ = steady_clock::now();
  HttpReply reply = http_.send(request);
  if (!reply.interrupted) reader.finish();
  reply.interrupted = reply.interrupted || signals_.interrupted();
  if (!status.is_ok()) reply.failure = status.message();
  foreign_body_ = reader.foreign_body();
  screen_.end_answer();
  return reply;
}

// Servers with several models want one named. True: the question may be asked again.
bool Session::choose_model(const HttpReply& reply) {
  if (!options_.settings.model.empty()) return false;
  if (reply.status != 404 && reply.status != 400) return false;
  if (reply.error_body.find("model") == std::string::npos) return false;
  const auto names = list_models(http_);
  if (!names) return false;
  options_.settings.model = names->front();
  if (names->size() > 1) {
    say(fmt::format("the server has {} models; asking {} (--model or /model chooses)",
                    names->size(), in_quotes(names->front())),
        true);
  }
  return true;
}

Session::Outcome Session::ask() {
  Answer answer;
  HttpReply reply = request(answer);
  if (choose_model(reply)) {
    answer = Answer();
    reply = request(answer);
  }
  return conclude(reply, answer);
}

// What went wrong; empty if nothing did.
std::string Session::trouble(const HttpReply& reply, const Answer& answer) const {
  if (reply.status != 0 && reply.status != 200) {
    std::string text = error_text(reply.error_body);
    if (!reply.location.empty()) text = "moved to " + excerpt(reply.location);
    if (reply.retry_after > 0)
      text += fmt::format("{}try again in {} s", text.empty() ? "" : "; ", reply.retry_after);
    return fmt::format("HTTP {}{}{}", reply.status, text.empty() ? "" : ": ", text);
  }
  if (!answer.error.empty()) return answer.error;
  if (answer.whole()) return "";  // also when the connection ended without its own end
  if (!reply.failure.empty()) return reply.failure;
  if (!foreign_body_.empty())
    return fmt::format("{} gave no answer of an OpenAI API: {}", http_.endpoint().shown,
                       error_text(foreign_body_));
  return "the stream ended without an end of the answer";
}

Session::Outcome Session::stopped(const Answer& answer) {
  signals_.forget_interrupt();
  if (answer.text.empty()) {
    conversation_.take_back();
  } else {
    conversation_.keep(answer.text);
  }
  if (interactive_) say("[stopped]", true);
  return Outcome::kInterrupted;
}

Session::Outcome Session::conclude(const HttpReply& reply, const Answer& answer) {
  if (const std::string failure = screen_.failure(); !failure.empty()) {
    conversation_.take_back();
    if (!screen_.closed()) say("cannot write the answer: " + failure);
    return Outcome::kUnheard;
  }
  if (reply.interrupted) return stopped(answer);
  if (const std::string what = trouble(reply, answer); !what.empty()) {
    conversation_.take_back();
    const bool cut = !answer.text.empty() || !answer.reasoning.empty();
    say(fmt::format("{}{}{}", cut ? "the answer is cut off: " : "", what,
                    interactive_ ? "  (/retry asks again)" : ""));
    return Outcome::kFailed;
  }
  if (answer.text.empty()) {
    conversation_.take_back();
  } else {
    conversation_.keep(answer.text);
  }
  remark(answer);
  return Outcome::kAnswered;
}

void Session::remark(const Answer& answer) {
  if (options_.json) {
    Json out = {{"content", answer.text},
                {"finish_reason", answer.finish_reason},
                {"usage", answer.raw_usage}};
    if (!answer.reasoning.empty()) out["reasoning"] = answer.reasoning;
    screen_.answer(out.dump(-1, ' ', false, Json::error_handler_t::replace));
    screen_.end_answer();
  } else if (answer.text.empty()) {
    say("the model said nothing", true);
  }
  if (const std::string why = why_ended(answer.finish_reason); !why.empty()) say(why);
  if (answer.unreadable > 0)
    say(fmt::format("{} events of the stream were no JSON and are left out", answer.unreadable));
  if (!options_.stats) return;
  if (const std::string text = figures(answer, start_); !text.empty())
    screen_.note("[" + text + "]", true);
}

int Session::ask_once(std::string question) {
  conversation_.ask(std::move(question));
  switch (ask()) {
    case Outcome::kAnswered:
      if (!screen_.failure().empty()) break;
      return kExitOk;
    case Outcome::kInterrupted:
      return kExitInterrupted;
    case Outcome::kFailed:
      return kExitFailed;
    case Outcome::kUnheard:
      break;
  }
  if (screen_.closed()) {  // as every program that writes to a pipe whose reader has left
    ::signal(SIGPIPE, SIG_DFL);
    ::raise(SIGPIPE);
  }
  return kExitFailed;
}

int Session::converse() {
  interactive_ = true;
  const int drawn = screen_.terminal() ? 1 : 2;
  TerminalModes modes;
  const auto reader = LineReader::open(signals_, drawn, Commands::names());
  if (reader->plain()) {
    modes.edited_by_terminal();
  } else {
    modes.edited_by_program(drawn);
  }
  History history(History::default_path());
  for (const std::string& entry : history.load()) reader->remember(entry);
  say(fmt::format("Chat with {}. /help lists commands, Ctrl-D leaves.", http_.endpoint().shown),
      true);
  Messages messages(*reader);
  Commands commands(*this);
  for (;;) {
    modes.show_typing(true);
    std::string text;
    const LineReader::End end = messages.next(&text);
    if (end == LineReader::End::kEnd) return kExitOk;
    if (end == LineReader::End::kInterrupt) {
      if (text.empty() || text == "^C") say("Ctrl-D or /exit leaves.", true);
      continue;
    }
    if (is_blank(text)) continue;
    reader->remember(text);
    history.add(text);
    modes.show_typing(false);
    const Commands::Next next = commands.run(&text);
    if (next == Commands::Next::kLeave) return kExitOk;
    if (next == Commands::Next::kNothing) continue;
    if (next == Commands::Next::kMessage) conversation_.ask(text);
    if (ask() == Outcome::kUnheard) return kExitFailed;
  }
}

}  // namespace shoal::chat

// A chat with one server: questions, answers, and what is said about them.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "cli/chat/answer.h"
#include "cli/chat/conversation.h"
#include "cli/chat/http_client.h"
#include "cli/chat/settings.h"
#include "cli/chat/terminal.h"

namespace shoal::chat {

class Session {
 public:
  struct Options {
    Settings settings;
    std::string system;
    bool json = false;   // the whole answer as one JSON object instead of text
    bool stats = false;  // a line of figures behind each answer
    Duration patience = std::chrono::seconds(600);
  };
  Session(HttpClient& http, Signals& signals, Screen& screen, Options options);

  // kUnheard: standard output is closed or takes nothing more.
  enum class Outcome { kAnswered, kFailed, kInterrupted, kUnheard };
  // One question, and the process's exit code.
  int ask_once(std::string question);
  // A conversation at the terminal until it is left; REQUIRES standard input to be one.
  int converse();

 private:
  friend class Commands;

  Outcome ask();  // the open question
  HttpReply request(Answer& answer);
  bool choose_model(const HttpReply& reply);
  Outcome conclude(const HttpReply& reply, const Answer& answer);
  Outcome stopped(const Answer& answer);
  void remark(const Answer& answer);
  void say(std::string_view what, bool dim = false);
  std::string trouble(const HttpReply& reply, const Answer& answer) const;

  HttpClient& http_;
  Signals& signals_;
  Screen& screen_;
  Options options_;
  Conversation conversation_;
  bool interactive_ = false;
  TimePoint start_{};
  std::string foreign_body_;
};

// "5 prompt tokens, 20 generated, 31.4 tok/s, first after 0.20 s": what is known of it, as the
// server counts tokens and this program measures time; empty if nothing is. The rate is from the
// first token to the last.
std::string figures(const Answer& answer, TimePoint start);

// Model names the server lists, or why it does not.
Result<std::vector<std::string>> list_models(HttpClient& http);

}  // namespace shoal::chat

// shoal chat: a terminal chat with a server that speaks the OpenAI API.
#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/console.h"
#include "base/utf8.h"
#include "cli/chat/piped_input.h"
#include "cli/chat/session.h"
#include "cli/command_line.h"
#include "cli/commands.h"

namespace shoal {
namespace {

struct ChatOptions {
  std::string url = "http://127.0.0.1:8080";
  std::string api_key;
  std::string ca_file;
  std::vector<std::string> words;  // of a question; none: a conversation
  double temperature = 0.7;
  int64_t max_tokens = 0;
  std::vector<std::string> settings;  // NAME=VALUE
  std::optional<bool> stats;
  double timeout_seconds = 600;
  chat::Session::Options session;
};

int fail(int code, const Status& status) {
  print_error("shoal chat: " + status.message());
  return code;
}

Status apply(const ChatOptions& options, chat::Settings& settings) {
  SHOAL_TRY(settings.set("temperature", fmt::format("{}", options.temperature)));
  if (options.max_tokens > 0)
    SHOAL_TRY(settings.set("max_tokens", std::to_string(options.max_tokens)));
  for (const std::string& pair : options.settings)
    SHOAL_TRY(settings.set_pair(pair).annotate("--set"));
  return Status::ok();
}

// The words of the command line, a blank line, and what standard input holds.
Result<std::string> whole_question(const ChatOptions& options, chat::Signals& signals,
                                   chat::Screen& screen) {
  std::string question;
  for (const std::string& word : options.words) question += (question.empty() ? "" : " ") + word;
  if (::isatty(STDIN_FILENO) != 0) return question;
  SHOAL_ASSIGN(std::string input, chat::read_piped_input(signals, screen));
  if (!is_valid_utf8(input)) {
    screen.note("shoal chat: standard input is not all UTF-8; what is not is sent as U+FFFD");
    input = sanitize_utf8(input);
  }
  if (question.empty() && input.empty())
    return invalid_argument("nothing to ask: standard input is empty");
  if (!question.empty() && !input.empty()) question += "\n\n";
  return question + input;
}

int run(ChatOptions options) {
  std::signal(SIGPIPE, SIG_IGN);
  auto endpoint = chat::parse_endpoint(options.url);
  if (!endpoint) return fail(kExitUsage, endpoint.status());
  if (Status status = apply(options, options.session.settings); !status)
    return fail(kExitUsage, status);
  chat::Signals signals;
  chat::Screen screen(signals);
  options.session.stats = options.stats.value_or(screen.terminal() && screen.notes_terminal());
  options.session.patience = from_seconds(options.timeout_seconds);
  auto http = chat::HttpClient::open(*endpoint, options.api_key, options.ca_file, signals);
  if (!http) return fail(kExitUsage, http.status());
  const bool converses = options.words.empty() && ::isatty(STDIN_FILENO) != 0;
  if (converses && options.session.json)
    return fail(kExitUsage, invalid_argument("--json needs a question"));
  chat::Session session(**http, signals, screen, options.session);
  if (converses) return session.converse();
  auto question = whole_question(options, signals, screen);
  if (!question) {
    if (question.status().code() == Code::kCancelled) return 130;
    return fail(question.status().code() == Code::kUnavailable ? kExitFailed : kExitUsage,
                question.status());
  }
  return session.ask_once(*question);
}

}  // namespace

void add_chat_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<ChatOptions>();
  const auto from_environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  options->api_key = from_environment("SHOAL_API_KEY");
  options->ca_file = from_environment("SSL_CERT_FILE");  // OpenSSL's own programs, then curl
  if (options->ca_file.empty()) options->ca_file = from_environment("CURL_CA_BUNDLE");
  CLI::App* command = app.add_subcommand("chat", "Chat with a running server in the terminal");
  command->add_option(
      "prompt", options->words,
      "Ask this one question and exit; standard input is added if it is no terminal");
  command->add_option("--url", options->url, "The server, with or without /v1")
      ->capture_default_str();
  command->add_option("--api-key", options->api_key, "API key (default: $SHOAL_API_KEY)");
  command->add_option("--ca-file", options->ca_file,
                      "Certificates that https trusts, PEM (default: $SSL_CERT_FILE, "
                      "$CURL_CA_BUNDLE, or the system's)");
  command->add_option("--model", options->session.settings.model,
                      "Model, if the server has several (default: its first)");
  command->add_option("--system", options->session.system, "System message");
  command->add_option("--temperature", options->temperature, "Sampling temperature")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--max-tokens", options->max_tokens, "Longest answer, in tokens (4k: 4096)")
      ->transform(token_count())
      ->check(CLI::Range(int64_t{1}, int64_t{INT32_MAX}));
  command
      ->add_option("--set", options->settings,
                   "NAME=VALUE of the request: top_p, top_k, min_p, seed, stop …")
      ->allow_extra_args(false);
  command
      ->add_option("--timeout", options->timeout_seconds,
                   "Give up when nothing came for so many seconds")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
  command->add_flag_function(
      "--stats,!--no-stats", [options](int64_t count) { options->stats = count > 0; },
      "Figures behind each answer (default: on a terminal)");
  command->add_flag("--json", options->session.json, "Print the answer and usage as JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

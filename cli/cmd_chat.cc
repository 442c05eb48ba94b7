// shoal chat: a terminal chat with a running server, streaming, with the speed shown.
#include <curl/curl.h>
#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "base/console.h"
#include "cli/commands.h"

namespace shoal {
namespace {

using Json = nlohmann::json;

struct ChatOptions {
  std::string url = "http://127.0.0.1:8080";
  std::string api_key;
  std::string system;
  std::string prompt;  // one question instead of a conversation
  double temperature = 0.7;
  int max_tokens = 0;
  bool json = false;
};

// One streamed answer: parses server-sent events as they arrive and prints the text.
struct Answer {
  std::string pending;  // bytes of an unfinished line
  std::string text;
  std::string error;
  std::string raw;  // a body that is not a stream: an error
  Json usage;
  bool done = false;
  bool print = true;
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now(), first{};

  void event(const std::string& data) {
    if (data == "[DONE]") {
      done = true;
      return;
    }
    const Json json = Json::parse(data, nullptr, false);
    if (json.is_discarded()) return;
    if (json.contains("error")) {
      error = json["error"].value("message", "unknown error");
      return;
    }
    if (json.contains("usage") && json["usage"].is_object()) usage = json["usage"];
    for (const Json& choice : json.value("choices", Json::array())) {
      const Json delta = choice.value("delta", Json::object());
      if (!delta.contains("content") || !delta["content"].is_string()) continue;
      const std::string piece = delta["content"];
      if (text.empty() && !piece.empty()) first = std::chrono::steady_clock::now();
      text += piece;
      if (print) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      }
    }
  }

  void feed(const char* bytes, size_t n) {
    if (raw.size() < (1u << 16)) raw.append(bytes, n);
    pending.append(bytes, n);
    for (size_t end; (end = pending.find('\n')) != std::string::npos;) {
      std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.rfind("data: ", 0) == 0) event(line.substr(6));
    }
  }
};

size_t on_bytes(char* bytes, size_t size, size_t n, void* answer) {
  static_cast<Answer*>(answer)->feed(bytes, size * n);
  return size * n;
}

// False: the request failed and answer.error says why.
bool ask(const ChatOptions& options, const Json& messages, Answer& answer) {
  Json body = {{"model", "shoal"},
               {"messages", messages},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}},
               {"temperature", options.temperature}};
  if (options.max_tokens > 0) body["max_tokens"] = options.max_tokens;
  const std::string payload = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  CURL* curl = curl_easy_init();
  if (curl == nullptr) {
    answer.error = "cannot start the HTTP client";
    return false;
  }
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  if (!options.api_key.empty()) {
    headers = curl_slist_append(headers, ("Authorization: Bearer " + options.api_key).c_str());
  }
  curl_easy_setopt(curl, CURLOPT_URL, (options.url + "/v1/chat/completions").c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, payload.c_str());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
  // A stalled answer: under one byte a second for five minutes (a long prompt on a slow machine).
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 300L);
  const CURLcode code = curl_easy_perform(curl);
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  curl_slist_free_all(headers);
  curl_easy_cleanup(curl);
  if (!answer.error.empty()) return false;
  if (code != CURLE_OK) {
    answer.error = fmt::format("{}: {}", options.url, curl_easy_strerror(code));
  } else if (status != 200) {
    const Json json = Json::parse(answer.raw, nullptr, false);
    answer.error =
        fmt::format("HTTP {}: {}", status,
                    json.is_object() && json.contains("error") ? json["error"].value("message", "")
                                                               : answer.raw);
  } else if (!answer.done) {
    answer.error = "the stream ended early";
  }
  return answer.error.empty();
}

void print_speed(const Answer& answer) {
  const auto end = std::chrono::steady_clock::now();
  const double tokens =
      answer.usage.is_object() ? answer.usage.value("completion_tokens", 0.0) : 0.0;
  const double wait = std::chrono::duration<double>(answer.first - answer.start).count();
  const double decode = std::chrono::duration<double>(end - answer.first).count();
  if (answer.text.empty()) return;
  fmt::print(stderr, "[{:.0f} tokens, first after {:.2f} s, {:.1f} tok/s]\n", tokens, wait,
             decode > 0 ? (tokens - 1) / decode : 0.0);
}

int run(ChatOptions options) {
  while (!options.url.empty() && options.url.back() == '/') options.url.pop_back();
  curl_global_init(CURL_GLOBAL_DEFAULT);
  Json messages = Json::array();
  if (!options.system.empty())
    messages.push_back({{"role", "system"}, {"content", options.system}});
  const bool interactive = options.prompt.empty();
  if (interactive && ::isatty(0))
    fmt::print(stderr, "Chat with {}; an empty line or Ctrl-D ends it.\n", options.url);
  for (;;) {
    std::string line = options.prompt;
    if (interactive) {
      if (::isatty(0)) fmt::print(stderr, "> ");
      if (!std::getline(std::cin, line) || line.empty()) return kExitOk;
    }
    messages.push_back({{"role", "user"}, {"content", line}});
    Answer answer;
    answer.print = !options.json;
    if (!ask(options, messages, answer)) {
      print_error(fmt::format("{}shoal chat: {}", answer.text.empty() ? "" : "\n", answer.error));
      return kExitFailed;
    }
    if (options.json) {
      fmt::print("{}\n", Json({{"content", answer.text}, {"usage", answer.usage}}).dump());
    } else {
      fmt::print("\n");
      print_speed(answer);
    }
    if (!interactive) return kExitOk;
    messages.push_back({{"role", "assistant"}, {"content", answer.text}});
  }
}

}  // namespace

void add_chat_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<ChatOptions>();
  if (const char* key = std::getenv("SHOAL_API_KEY")) options->api_key = key;
  CLI::App* command = app.add_subcommand("chat", "Chat with a running server in the terminal");
  command->add_option("prompt", options->prompt, "Ask this one question and exit");
  command->add_option("--url", options->url, "The server")->capture_default_str();
  command->add_option("--api-key", options->api_key, "API key (default: $SHOAL_API_KEY)");
  command->add_option("--system", options->system, "System message");
  command->add_option("--temperature", options->temperature, "Sampling temperature")
      ->check(CLI::Range(0.0, 2.0))
      ->capture_default_str();
  command->add_option("--max-tokens", options->max_tokens, "Longest answer, in tokens")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "Print the answer and usage as JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

#include "cli/chat/commands.h"

#include <cstdlib>
#include <filesystem>

#include <fmt/core.h>

#include "base/file.h"
#include "base/quote.h"
#include "cli/chat/session.h"

namespace shoal::chat {
namespace {

constexpr std::string_view kSpace = " \t\n";

// The first word, which is removed from `rest` with the space behind it.
std::string_view take_word(std::string_view* rest) {
  const size_t end = std::min(rest->find_first_of(kSpace), rest->size());
  const std::string_view word = rest->substr(0, end);
  rest->remove_prefix(std::min(rest->find_first_not_of(kSpace, end), rest->size()));
  return word;
}

std::string expanded(std::string_view path) {
  const char* home = std::getenv("HOME");
  if (path.starts_with("~/") && home != nullptr) return home + std::string(path.substr(1));
  return std::string(path);
}

}  // namespace

struct Commands::Entry {
  std::string_view name, arguments, help;
  Next (Commands::*run)(std::string_view);
  bool shown = true;  // others are what people know from elsewhere
};

const std::vector<Commands::Entry>& Commands::all() {
  static const std::vector<Entry> entries = {
      {"/help", "", "this list", &Commands::help},
      {"/?", "", "", &Commands::help, false},
      {"/clear", "", "forget the conversation; the system message stays", &Commands::clear},
      {"/system", "[TEXT]", "set the system message; without TEXT show it; - removes it",
       &Commands::system},
      {"/model", "[NAME]", "choose a model; without NAME list what the server has",
       &Commands::model},
      {"/set", "[NAME VALUE]",
       "set temperature, top_p, seed, max_tokens …; VALUE default unsets it", &Commands::set},
      {"/show", "", "", &Commands::set, false},
      {"/retry", "", "ask again what failed, or the last question", &Commands::retry},
      {"/regen", "", "", &Commands::retry, false},
      {"/history", "", "show the conversation", &Commands::history},
      {"/save", "FILE", "write the conversation: JSON if FILE ends in .json, else Markdown",
       &Commands::save},
      {"/stats", "[on|off]", "figures behind each answer", &Commands::stats},
      {"/exit", "", "leave, as Ctrl-D, /bye and /quit do", &Commands::leave},
      {"/bye", "", "", &Commands::leave, false},
      {"/quit", "", "", &Commands::leave, false},
  };
  return entries;
}

std::vector<std::string> Commands::names() {
  std::vector<std::string> out;
  for (const Entry& entry : all()) {
    if (entry.shown) out.emplace_back(entry.name);
  }
  return out;
}

void Commands::say(std::string_view text) { session_.say(text); }

Commands::Next Commands::run(std::string* text) {
  if (!text->starts_with('/')) return Next::kMessage;
  if (text->starts_with("//")) {
    const bool one_line = text->find('\n') == std::string::npos;
    if (one_line) text->erase(0, 1);  // pasted code may begin with a comment
    return Next::kMessage;
  }
  std::string_view rest = *text;
  const std::string_view word = take_word(&rest);
  while (!rest.empty() && kSpace.find(rest.back()) != std::string_view::npos) rest.remove_suffix(1);
  for (const Entry& entry : all()) {
    if (entry.name == word) return (this->*entry.run)(rest);
  }
  if (text->find('\n') != std::string::npos) return Next::kMessage;  // pasted
  say(
      fmt::format("there is no command {}; /help lists them. A message that begins with a slash: "
                  "double it.",
                  in_quotes(word)));
  return Next::kNothing;
}

Commands::Next Commands::help(std::string_view) {
  std::string text;
  for (const Entry& entry : all()) {
    if (!entry.shown) continue;
    text += fmt::format("{:<22} {}\n", std::string(entry.name) + " " + std::string(entry.arguments),
                        entry.help);
  }
  text +=
      "Several lines: paste them, end a line with \\, press Alt-Enter, or put them in \"\"\" "
      "quotes.\n"
      "A message that begins with a slash: double it. Ctrl-C stops an answer.";
  say(text);
  return Next::kNothing;
}

Commands::Next Commands::clear(std::string_view) {
  session_.conversation_.clear();
  say("the conversation is forgotten");
  return Next::kNothing;
}

Commands::Next Commands::system(std::string_view text) {
  std::string& system = session_.conversation_.system;
  if (text.empty()) {
    say(system.empty() ? "there is no system message" : system);
    return Next::kNothing;
  }
  system = text == "-" ? "" : text;
  say(system.empty() ? "the system message is removed" : "the system message is set");
  return Next::kNothing;
}

Commands::Next Commands::model(std::string_view name) {
  std::string& model = session_.options_.settings.model;
  if (!name.empty()) {
    model = name;
    say("model: " + model);
    return Next::kNothing;
  }
  const auto names = list_models(session_.http_);
  if (!names) {
    session_.signals_.forget_interrupt();
    say(names.status().message());
    return Next::kNothing;
  }
  std::string text;
  for (const std::string& one : *names) {
    const bool chosen = one == model || (model.empty() && names->size() == 1);
    text += (text.empty() ? "" : "\n") + std::string(chosen ? "* " : "  ") + one;
  }
  say(text);
  return Next::kNothing;
}

Commands::Next Commands::retry(std::string_view) {
  if (session_.conversation_.ask_again()) return Next::kAgain;
  say("nothing was asked yet");
  return Next::kNothing;
}

Commands::Next Commands::history(std::string_view) {
  std::string text = session_.conversation_.markdown();
  while (text.ends_with('\n')) text.pop_back();
  say(text.empty() ? "nothing was said yet" : text);
  return Next::kNothing;
}

Commands::Next Commands::save(std::string_view path) {
  const Conversation& conversation = session_.conversation_;
  if (path.empty()) {
    say("/save needs a file's name");
    return Next::kNothing;
  }
  if (conversation.empty()) {
    say("nothing was said yet");
    return Next::kNothing;
  }
  const std::string file = expanded(path);
  std::error_code ignored;
  if (!saved_.contains(file) && std::filesystem::exists(file, ignored)) {
    say(excerpt(file) + " exists; name another file");
    return Next::kNothing;
  }
  const std::string text = file.ends_with(".json")
                               ? nlohmann::json{{"messages", conversation.messages()}}.dump(
                                     2, ' ', false, nlohmann::json::error_handler_t::replace) +
                                     "\n"
                               : conversation.markdown();
  if (const Status status = write_file_atomically(file, text, 0600); !status) {
    say(status.message());
    return Next::kNothing;
  }
  saved_.insert(file);
  say(fmt::format("{} question{} and answers in {}", conversation.turns(),
                  conversation.turns() == 1 ? "" : "s", excerpt(file)));
  return Next::kNothing;
}

Commands::Next Commands::set(std::string_view rest) {
  std::string_view name = take_word(&rest);
  if (name == "parameter") name = take_word(&rest);
  if (name == "system") return system(rest);
  if (name == "model") return model(rest);
  if (name == "verbose" || name == "quiet") return stats(name == "verbose" ? "on" : "off");
  Settings& settings = session_.options_.settings;
  if (!name.empty()) {
    if (const Status status = settings.set(name, rest); !status) {
      say(status.message());
      return Next::kNothing;
    }
  }
  say("settings: " + settings.text());
  return Next::kNothing;
}

Commands::Next Commands::stats(std::string_view what) {
  bool& stats = session_.options_.stats;
  if (what == "on" || what == "off" || what.empty()) {
    stats = what.empty() ? !stats : what == "on";
    say(stats ? "figures are shown" : "figures are not shown");
  } else {
    say("/stats on, or /stats off");
  }
  return Next::kNothing;
}

}  // namespace shoal::chat

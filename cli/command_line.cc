#include "cli/command_line.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <string_view>

#include "base/quote.h"
#include "config/values.h"

namespace shoal {
namespace {

// Options of llama-server and vLLM, or of another command, that have another name here, or none. An
// advice is given where the options it names exist.
struct Hint {
  std::string_view option, advice;
};
constexpr Hint kHints[] = {
    {"-ngl", "every layer is on a device; choose devices with --device"},
    {"--gpu-layers", "every layer is on a device; choose devices with --device"},
    {"--n-gpu-layers", "every layer is on a device; choose devices with --device"},
    {"-sm", "ranks always share every layer; how many there are is --workers"},
    {"--split-mode", "ranks always share every layer; how many there are is --workers"},
    {"-ts", "parts are `workers[].share` in a configuration file"},
    {"--tensor-split", "parts are `workers[].share` in a configuration file"},
    {"-tp", "use --workers"},
    {"--tensor-parallel-size", "use --workers"},
    {"-np", "use --max-sequences; --context is what each of them may have"},
    {"--parallel", "use --max-sequences; --context is what each of them may have"},
    {"--max-num-seqs", "use --max-sequences"},
    {"--max-model-len", "use --context"},
    {"-b", "use --max-batch-rows"},
    {"--batch-size", "use --max-batch-rows"},
    {"-ub", "use --max-batch-rows"},
    {"--ubatch-size", "use --max-batch-rows"},
    {"--max-num-batched-tokens", "use --max-batch-rows"},
    {"--served-model-name", "use --name"},
    {"--api-key",
     "use --api-keys with a file (`shoal keygen --api-keys` makes one): a command line can be read "
     "by others"},
    {"--api-keys", "a file of keys is the server's; name one key in $SHOAL_API_KEY or --api-key"},
    {"--api-key-file",
     "a file of keys is the server's; name one key in $SHOAL_API_KEY or --api-key"},
    {"-ctk", "use --kv-type"},
    {"-ctv", "use --kv-type"},
    {"--cache-type-k", "use --kv-type"},
    {"--cache-type-v", "use --kv-type"},
    {"--kv-cache-dtype", "use --kv-type"},
    {"--gpu-memory-utilization", "use --kv-blocks"},
    {"-fa", "leave it out: there is nothing to choose"},
    {"--flash-attn", "leave it out: there is nothing to choose"},
    {"--mlock", "leave it out: weights are always read into memory"},
    {"--no-mmap", "leave it out: weights are always read into memory"},
    {"--jinja", "leave it out: the model's own template is always used"},
    {"--verbose", "use --log-level debug"},
    {"-hf", "name a file: nothing is downloaded"},
    {"--hf-repo", "name a file: nothing is downloaded"},
};

constexpr std::string_view kOptionLetters = "-abcdefghijklmnopqrstuvwxyz";

std::string path_of(const CLI::App* command) {
  const CLI::App* parent = command->get_parent();
  return parent == nullptr ? command->get_name() : path_of(parent) + " " + command->get_name();
}

// The innermost command that was recognised.
const CLI::App* innermost(const CLI::App* app) {
  while (!app->get_subcommands().empty()) app = app->get_subcommands().back();
  return app;
}

std::vector<std::string> options_of(const CLI::App* command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::vector<std::string> commands_of(const CLI::App* command) {
  std::vector<std::string> names;
  for (const CLI::App* sub : command->get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(sub->get_name());
  }
  return names;
}

std::string usage(const CLI::App* command) {
  std::string text = "usage: " + path_of(command) + " [OPTIONS]";
  for (const CLI::Option* option : command->get_options()) {
    if (!option->get_positional()) continue;
    const std::string name = option->get_name(true);
    text += option->get_required() ? " " + name : " [" + name + "]";
  }
  const std::vector<std::string> commands = commands_of(command);
  if (!commands.empty()) text += fmt::format(" COMMAND, one of {}", fmt::join(commands, ", "));
  return text + fmt::format("\n       {} --help says more\n", path_of(command));
}

std::string_view nearest(std::string_view word, const std::vector<std::string>& names) {
  return config::nearest(word, std::vector<std::string_view>(names.begin(), names.end()));
}

// Another command that has the option: somebody has taken one for the other.
std::string owner_of(const CLI::App* app, std::string_view option) {
  for (const CLI::App* sub : app->get_subcommands([](const CLI::App*) { return true; })) {
    const std::vector<std::string> names = options_of(sub);
    if (std::ranges::find(names, option) != names.end()) return path_of(sub);
  }
  return "";
}

// Whether a command with these options has every one that `advice` names.
bool can_be_followed(std::string_view advice, const std::vector<std::string>& names) {
  for (size_t at = advice.find("--"); at != std::string_view::npos; at = advice.find("--", at)) {
    const size_t end = std::min(advice.find_first_not_of(kOptionLetters, at), advice.size());
    if (std::ranges::find(names, advice.substr(at, end - at)) == names.end()) return false;
    at = end;
  }
  return true;
}

std::string unknown_option(const CLI::App* root, const CLI::App* command, std::string_view word) {
  word = word.substr(0, word.find('='));
  const std::string known = fmt::format("{} has no option {}", path_of(command), in_quotes(word));
  const std::vector<std::string> names = options_of(command);
  for (const Hint& hint : kHints) {
    if (hint.option == word && can_be_followed(hint.advice, names))
      return fmt::format("{}: {}", known, hint.advice);
  }
  const std::string_view guess = nearest(word, names);
  if (!guess.empty()) return fmt::format("{}; did you mean {}?", known, guess);
  if (const std::string owner = owner_of(root, word); !owner.empty()) {
    return fmt::format("{}; {} has it", known, owner);
  }
  return known;
}

std::string unknown_command(const CLI::App* command, std::string_view word) {
  if (word.ends_with(".gguf")) {
    return fmt::format("to serve a model: shoal serve {}", excerpt(word));
  }
  const std::vector<std::string> names = commands_of(command);
  std::string_view guess = nearest(word, names);
  if (word == "run" || word == "start") guess = "serve";
  const std::string text = fmt::format("{} has no command {}", path_of(command), in_quotes(word));
  return guess.empty() ? text : fmt::format("{}; did you mean '{}'?", text, guess);
}

bool is_option(std::string_view word) {
  return word.size() > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9');
}

// The first of `arguments` that nobody took: an option if there is one, since its value then looks
// like an argument too.
std::string first_left_over(const CLI::App* command, const std::vector<std::string>& arguments) {
  const std::vector<std::string> left = command->remaining();
  const auto among = [&](auto&& wanted) {
    const auto found = std::ranges::find_if(arguments, [&](const std::string& word) {
      return wanted(word) && std::ranges::find(left, word) != left.end();
    });
    return found == arguments.end() ? std::string() : *found;
  };
  const std::string option = among(is_option);
  return option.empty() ? among([](std::string_view) { return true; }) : option;
}

std::string reworded(const CLI::App* command, const CLI::ParseError& error) {
  const std::string what = error.what();
  if (error.get_name() == "RequiredError") {
    for (const CLI::Option* option : command->get_options()) {
      if (!option->get_required() || option->count() > 0) continue;
      return option->get_positional() ? in_quotes(option->get_name(true)) + " is missing" : what;
    }
  }
  const std::string_view name = std::string_view(what).substr(0, what.find(':'));
  if (error.get_name() == "ArgumentMismatch") {
    if (what.find("At Most 1") != std::string::npos) return fmt::format("{} is given twice", name);
    if (what.find("received 0") != std::string::npos || what.find("missing") != std::string::npos) {
      return fmt::format("{} needs a value", name);
    }
  }
  return what;
}

}  // namespace

std::vector<std::string> with_options_for_words(std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  if (arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.push_back("--help");
  } else if (arguments.size() == 1 && (arguments[0] == "version" || arguments[0] == "-V")) {
    arguments[0] = "--version";
  }
  return arguments;
}

CLI::Validator token_count() {
  return {[](std::string& text) {
            const auto plain = config::expand_tokens(text);
            if (!plain) return plain.status().message();
            text = *plain;
            return std::string();
          },
          ""};
}

std::string explain(const CLI::App& app, const std::vector<std::string>& arguments,
                    const CLI::ParseError& error) {
  const CLI::App* command = innermost(&app);
  const std::string left_over = first_left_over(command, arguments);
  std::string what;
  if (is_option(left_over)) {
    what = unknown_option(&app, command, left_over);
  } else if (!left_over.empty() && !commands_of(command).empty()) {
    what = unknown_command(command, left_over);
  } else if (!left_over.empty()) {
    what =
        fmt::format("{} does not know what to do with {}", path_of(command), in_quotes(left_over));
  } else if (error.get_name() == "RequiredError" && !commands_of(command).empty()) {
    what = path_of(command) + ": a command is needed";
  } else {
    what = path_of(command) + ": " + reworded(command, error);
  }
  return bounded_message(usage(command) + what);
}

}  // namespace shoal

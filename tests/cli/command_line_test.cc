#include "cli/command_line.h"

#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace shoal {
namespace {

using Words = std::vector<std::string>;

// What the program says of these words; empty if it understands them.
std::string said(const Words& given) {
  CLI::App app{"", "shoal"};
  app.require_subcommand(1);
  CommandAction action;
  add_serve_command(app, action);
  add_coordinator_command(app, action);
  add_worker_command(app, action);
  add_inspect_command(app, action);
  add_chat_command(app, action);
  add_keygen_command(app, action);
  add_synth_command(app, action);
  add_bench_command(app, action);
  const Words words = with_options_for_words(given);
  try {
    app.parse(Words(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? "help" : explain(app, words, error);
  }
  return "";
}

// The error stands last, whatever usage is shown before.
std::string last_line(const std::string& text) { return text.substr(text.rfind('\n') + 1); }

TEST(CommandLine, SaysWhatIsWrongLast) {
  const struct {
    Words words;
    const char* last;
  } kCases[] = {
      {{}, "shoal: a command is needed"},
      {{"bench"}, "shoal bench: a command is needed"},
      {{"sreve", "m.gguf"}, "shoal has no command 'sreve'; did you mean 'serve'?"},
      {{"wroker"}, "shoal has no command 'wroker'; did you mean 'worker'?"},
      {{"bench", "kernel"}, "shoal bench has no command 'kernel'; did you mean 'kernels'?"},
      {{"run", "m.gguf"}, "shoal has no command 'run'; did you mean 'serve'?"},
      {{"frobnicate"}, "shoal has no command 'frobnicate'"},
      {{"m.gguf"}, "to serve a model: shoal serve m.gguf"},
      {{"serve", "--wokers", "2", "m.gguf"},
       "shoal serve has no option '--wokers'; did you mean --workers?"},
      {{"serve", "m.gguf", "--kv-tpye=f32"},
       "shoal serve has no option '--kv-tpye'; did you mean --kv-type?"},
      {{"worker", "--key-fil", "k"},
       "shoal worker has no option '--key-fil'; did you mean --key-file?"},
      {{"bench", "decode", "s", "--layer", "1"},
       "shoal bench decode has no option '--layer'; did you mean --layers?"},
      {{"coordinator", "--workers", "2"},
       "shoal coordinator has no option '--workers'; shoal serve has it"},
      {{"serve", "m.gguf", "--frobnicate"}, "shoal serve has no option '--frobnicate'"},
      {{"serve", "m.gguf", "-ngl", "99"},
       "shoal serve has no option '-ngl': every layer is on a device; choose devices with "
       "--device"},
      {{"serve", "m.gguf", "--max-model-len", "4096"},
       "shoal serve has no option '--max-model-len': use --context"},
      {{"serve", "a.gguf", "b.gguf"}, "shoal serve does not know what to do with 'b.gguf'"},
      {{"serve", "m.gguf", "--name", "a", "--name", "b"}, "shoal serve: --name is given twice"},
      {{"serve", "m.gguf", "--port"}, "shoal serve: --port needs a value"},
      {{"serve", "m.gguf", "--workers", "0"},
       "shoal serve: --workers: Value 0 not in range 1 to 64"},
      {{"inspect"}, "shoal inspect: 'model' is missing"},
      {{"inspect", "--verfy"}, "shoal inspect has no option '--verfy'; did you mean --verify?"},
      {{"inspect", "--\x1b[2J"}, "shoal inspect has no option '--\\x1b[2J'"},
  };
  for (const auto& c : kCases) {
    const std::string text = said(c.words);
    EXPECT_EQ(last_line(text), c.last);
    EXPECT_EQ(text.rfind("usage: shoal", 0), 0u) << text;
    EXPECT_LE(text.size(), 1100u);
  }
}

TEST(CommandLine, WhatPeopleTryIsUnderstood) {
  for (const Words& words :
       {Words{"serve", "-m", "m.gguf", "-c", "32k", "-t", "2", "-a", "n"},
        Words{"serve", "--model", "m.gguf", "--ctx-size", "1M", "--alias", "n"},
        Words{"coordinator", "-m", "m.gguf", "--host", "::1", "--port", "1"},
        Words{"inspect", "-m", "m.gguf"}, Words{"bench", "latency", "--model", "m.gguf"}}) {
    EXPECT_EQ(said(words), "") << words[1];
  }
  for (const Words& words : {Words{"help"}, Words{"--help"}, Words{"-h"}, Words{"help", "serve"},
                             Words{"help", "bench", "decode"}, Words{"serve", "--help"}}) {
    EXPECT_EQ(said(words), "help") << words[0];
  }
  EXPECT_EQ(with_options_for_words({"version"}), Words{"--version"});
  EXPECT_EQ(with_options_for_words({"serve", "help"}), (Words{"serve", "help"}));
}

}  // namespace
}  // namespace shoal

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
      {{"chat", "--max-model-len", "4096"}, "shoal chat has no option '--max-model-len'"},
      {{"serve", "m.gguf", "--api-key", "k"},
       "shoal serve has no option '--api-key': use --api-keys with a file (`shoal keygen "
       "--api-keys` makes one): a command line can be read by others"},
      {{"chat", "--api-keys", "f"},
       "shoal chat has no option '--api-keys': a file of keys is the server's; name one key in "
       "$SHOAL_API_KEY or --api-key"},
      {{"chat", "--api-key-file=f"},
       "shoal chat has no option '--api-key-file': a file of keys is the server's; name one key in "
       "$SHOAL_API_KEY or --api-key"},
      {{"worker", "--api-key", "k"}, "shoal worker has no option '--api-key'; shoal chat has it"},
      {{"worker", "--api-keys", "f"},
       "shoal worker has no option '--api-keys'; shoal serve has it"},
      {{"bench", "latency", "m.gguf", "--prompt", "4q"},
       "shoal bench latency: --prompt: Value 4q not in range 1 to 1000000"},
      {{"bench", "latency", "m.gguf", "--prompt", "qk"},
       "shoal bench latency: --prompt: 'qk' is not a number of tokens such as 4096, 32k or 1M (k "
       "is 1024)"},
      {{"bench", "latency", "m.gguf", "--generate", "1M"},
       "shoal bench latency: --generate: Value 1048576 not in range 2 to 1000000"},
      {{"chat", "--max-tokens", "0k"},
       "shoal chat: --max-tokens: Value 0 not in range 1 to 2147483647"},
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
        Words{"bench", "latency", "m.gguf", "--prompt", "4k", "--generate", "1K"},
        Words{"bench", "decode", "s", "--context", "1M", "--generate", "2k"},
        Words{"bench", "kernels", "--rows", "1", "4k", "--context", "512", "1k"},
        Words{"chat", "--max-tokens", "4k", "--ca-file", "f"}, Words{"inspect", "-m", "m.gguf"},
        Words{"bench", "latency", "--model", "m.gguf"}}) {
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

// The one binary: wiring only.
#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <sstream>

#include "base/console.h"
#include "base/descriptor.h"
#include "base/quote.h"
#include "base/version.h"
#include "cli/command_line.h"
#include "cli/commands.h"

namespace {

// REQUIRES: inside a catch block.
std::string current_exception_text() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return "out of memory";
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception that nobody expected";
  }
}

// Instead of the library's, which would wait for whoever reads standard error.
[[noreturn]] void on_terminate() {
  std::string what = "an exception that nobody expected";
  if (const auto current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (...) {
      what = current_exception_text();
    }
  }
  shoal::print_error("shoal: " + what);
  std::abort();
}

// Help or the version, which CLI11 throws too, or what is wrong.
int answer(const CLI::App& app, const std::vector<std::string>& arguments,
           const CLI::ParseError& error) {
  const bool help_for_nothing = error.get_exit_code() == 0 && app.remaining_size(true) > 0;
  if (error.get_exit_code() != 0 || help_for_nothing) {
    shoal::print_error(shoal::explain(app, arguments, error));
    return shoal::kExitUsage;
  }
  std::ostringstream text;
  app.exit(error, text, text);
  fmt::print("{}", text.str());
  return shoal::kExitOk;
}

int run(const std::vector<std::string>& arguments) {
  CLI::App app{"Shoal: one large language model on several cards or hosts", "shoal"};
  app.set_version_flag("--version", shoal::kBuild);
  app.require_subcommand(1);
  shoal::CommandAction action;
  shoal::add_serve_command(app, action);
  shoal::add_coordinator_command(app, action);
  shoal::add_worker_command(app, action);
  shoal::add_inspect_command(app, action);
  shoal::add_chat_command(app, action);
  shoal::add_keygen_command(app, action);
  shoal::add_synth_command(app, action);
  shoal::add_bench_command(app, action);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return answer(app, arguments, error);
  }
  return action();
}

// Who asked for an answer on standard output must not take half of one for all of it.
int with_output_written(int code) {
  errno = 0;
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (written || errno == EPIPE) return code;  // EPIPE: the reader has seen enough
  shoal::print_error(fmt::format("shoal: cannot write to standard output: {}",
                                 errno != 0 ? std::strerror(errno) : "it failed before"));
  return code == shoal::kExitOk ? shoal::kExitFailed : code;
}

}  // namespace

int main(int argc, char** argv) {
  shoal::open_standard_descriptors();
  shoal::raise_descriptor_limit();
  std::set_terminate(on_terminate);
  try {
    const int code = run(shoal::with_options_for_words({argv + std::min(argc, 1), argv + argc}));
    return with_output_written(code);
  } catch (...) {
    shoal::print_error("shoal: " + shoal::bounded_message(current_exception_text()));
    return shoal::kExitFailed;
  }
}

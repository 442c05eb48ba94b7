// The one binary: wiring only.
#include <CLI/CLI.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>

#include "base/console.h"
#include "base/descriptor.h"
#include "cli/commands.h"
#include "cli/version.h"

namespace {

// Instead of the library's, which would wait for whoever reads standard error.
[[noreturn]] void on_terminate() {
  std::string what = "an exception that nobody expected";
  if (const auto current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (const std::exception& error) {
      what = error.what();
    } catch (...) {
    }
  }
  shoal::print_error("shoal: " + what);
  std::abort();
}

int explain(const CLI::App& app, const CLI::ParseError& error) {
  std::ostringstream errors;
  const int code = app.exit(error, std::cout, errors);
  std::string text = errors.str();
  if (!text.empty() && text.back() == '\n') text.pop_back();
  if (!text.empty()) shoal::print_error(text);
  return code == 0 ? shoal::kExitOk : shoal::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  shoal::open_standard_descriptors();
  shoal::raise_descriptor_limit();
  std::set_terminate(on_terminate);
  CLI::App app{"Shoal: one large language model on several cards or hosts"};
  app.set_version_flag("--version", shoal::kBuild);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::help);
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
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return explain(app, error);
  }
  return action();
}

// The one binary: wiring only.
#include <CLI/CLI.hpp>

#include "base/descriptor.h"
#include "cli/commands.h"
#include "cli/version.h"

int main(int argc, char** argv) {
  shoal::raise_descriptor_limit();
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
    const int code = app.exit(error);
    return code == 0 ? shoal::kExitOk : shoal::kExitUsage;
  }
  return action();
}

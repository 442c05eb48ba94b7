// shoal keygen: CURVE key pairs for the control plane and API keys for HTTP, in files of mode 0600.
#include <fmt/core.h>
#include <sys/stat.h>
#include <CLI/CLI.hpp>

#include <cstdio>

#include "base/console.h"
#include "base/file.h"
#include "cli/commands.h"
#include "wire/curve_keys.h"

namespace shoal {
namespace {

struct KeygenOptions {
  std::string dir = "keys";
  std::vector<std::string> workers;
  std::string api_keys;  // file
  int api_key_count = 1;
  bool overwrite = false;
};

Status make_keys(const KeygenOptions& options, const std::string& name) {
  SHOAL_ASSIGN(const wire::CurveKeyPair pair, wire::make_curve_keys());
  SHOAL_TRY(wire::write_key_pair(options.dir, name, pair, options.overwrite));
  fmt::print("{0}/{1}.key  {0}/{1}.pub\n", options.dir, name);
  return Status::ok();
}

// Of whatever kind: a pipe of that name is not ours to replace either.
bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

Status generate(const KeygenOptions& options) {
  for (const std::string& name : options.workers) SHOAL_TRY(wire::check_worker_name(name));
  // The coordinator's own pair is made once; adding a worker later must not replace it.
  const std::string own = options.dir + "/" + std::string(wire::kCoordinatorKeyName) + ".key";
  if (options.overwrite || !exists(own))
    SHOAL_TRY(make_keys(options, std::string(wire::kCoordinatorKeyName)));
  for (const std::string& name : options.workers) SHOAL_TRY(make_keys(options, name));
  if (options.api_keys.empty()) return Status::ok();
  if (!options.overwrite && exists(options.api_keys)) {
    return {Code::kAlreadyExists, options.api_keys + " exists; --overwrite replaces it"};
  }
  std::string text = "# API keys, one a line. Keep this file private.\n";
  for (int i = 0; i < options.api_key_count; ++i) text += wire::make_api_key() + "\n";
  SHOAL_TRY(write_file_atomically(options.api_keys, text, 0600));
  fmt::print("{}\n", options.api_keys);
  return Status::ok();
}

int run(const KeygenOptions& options) {
  const Status status = generate(options);
  if (status.is_ok()) return kExitOk;
  print_error(fmt::format("shoal keygen: {}", status.message()));
  return kExitUsage;
}

}  // namespace

void add_keygen_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<KeygenOptions>();
  CLI::App* command =
      app.add_subcommand("keygen", "Make key pairs for coordinator and workers, and API keys");
  command->add_option("--dir", options->dir, "Folder of the key files")->capture_default_str();
  command->add_option("--workers", options->workers, "Names of the workers to make keys for");
  command->add_option("--api-keys", options->api_keys, "Also write API keys to this file");
  command->add_option("--api-key-count", options->api_key_count, "How many")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_flag("--overwrite", options->overwrite, "Replace keys that exist");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

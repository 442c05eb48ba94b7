// shoal synth SHAPE OUT: a random-weight model with real shapes and types, for benchmarks.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/console.h"
#include "bench/synth.h"
#include "cli/commands.h"
#include "coordinator/server/served_model.h"

namespace shoal {
namespace {

struct SynthCommand {
  std::string shape, out;
  SynthOptions options;
  int64_t layers = 0;
};

// Path, size, parameters: of the file as it lies there.
int print_summary(const std::string& path) {
  std::error_code error;
  const uint64_t bytes = std::filesystem::file_size(path, error);
  const auto model = read_served_model(path);
  if (error || !model) {
    print_error(fmt::format("shoal synth: {}", error ? error.message() : model.status().message()));
    return kExitFailed;
  }
  const auto billions = [](uint64_t n) { return static_cast<double>(n) / 1e9; };
  const ModelSpec& spec = model->spec;
  fmt::print("{}: {:.3g} GB, {:.3g} billion parameters", path, billions(bytes),
             billions(spec.parameters()));
  if (spec.active_parameters() != spec.parameters()) {
    fmt::print(", {:.3g} billion active", billions(spec.active_parameters()));
  }
  fmt::print("\n");
  return kExitOk;
}

int run(SynthCommand command) {
  auto shape = synth_shape(command.shape);
  if (!shape) {
    print_error(fmt::format("shoal synth: {}", shape.status().message()));
    return kExitUsage;
  }
  if (command.layers > 0) shape->layers = command.layers;
  const bool terminal = ::isatty(2) != 0;
  auto shown = std::chrono::steady_clock::now();
  command.options.progress = [&](uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal || now - shown < std::chrono::milliseconds(200)) return;
    shown = now;
    fmt::print(stderr, "\r{:.2f} of {:.2f} GiB", static_cast<double>(done) / (1 << 30),
               static_cast<double>(total) / (1 << 30));
  };
  const Status status = write_synth_model(*shape, command.options, command.out);
  if (terminal) fmt::print(stderr, "\r\x1b[K");
  if (!status) {
    print_error(fmt::format("shoal synth: {}", status.message()));
    return status.code() == Code::kInvalidArgument ? kExitUsage : kExitFailed;
  }
  return print_summary(command.out);
}

}  // namespace

void add_synth_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<SynthCommand>();
  CLI::App* command = app.add_subcommand("synth", "Write a random-weight model for benchmarks");
  command
      ->add_option("shape", options->shape,
                   fmt::format("One of {}", fmt::join(synth_shape_names(), ", ")))
      ->required();
  command->add_option("out", options->out, "Path of the GGUF to write")->required();
  command
      ->add_option("--type", options->options.mix,
                   "Mix (Q4_K_M, …) or tensor type (Q8_0, IQ4_XS, …)")
      ->capture_default_str();
  command->add_option("--layers", options->layers, "Write only this many layers")
      ->check(CLI::Range(1, 1024));
  command->add_option("--seed", options->options.seed, "Seed of the weights")
      ->capture_default_str();
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

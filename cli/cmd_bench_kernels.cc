// shoal bench kernels: what share of its memory bandwidth a device's kernels reach.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "base/console.h"
#include "base/log.h"
#include "base/version.h"
#include "bench/kernel_figures.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/device_choice.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

struct KernelCommand {
  std::string device = "auto";
  CpuOptions cpu;
  std::vector<std::string> types = {"F32",  "F16",    "BF16",   "Q8_0", "Q6_K", "Q5_K",
                                    "Q4_K", "Q3_K",   "Q2_K",   "Q5_1", "Q5_0", "Q4_1",
                                    "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4"};
  std::vector<std::string> shapes = {"square=4096x4096"};
  KernelBenchOptions options;
  double mebibytes = 0;
  bool json = false;
};

double drift(const KernelFigures& figures) {
  return std::abs(figures.ceiling_before - figures.ceiling_after) / figures.ceiling();
}

Json to_json(const KernelFigures& figures) {
  Json rows = Json::array();
  for (const KernelFigure& f : figures.rows) {
    const double rate = f.bytes / f.seconds * 1e-9;
    rows.push_back({{"op", f.op},
                    {"type", f.type},
                    {"shape", f.shape},
                    {"rows", f.rows},
                    {"seconds", f.seconds},
                    {"bytes", f.bytes},
                    {"gb_per_second", rate},
                    {"share_of_ceiling", f.cached ? Json() : Json(rate / figures.ceiling())},
                    {"gflop_per_second", f.flop / f.seconds * 1e-9},
                    {"waits", f.waits}});
  }
  return {{"build", kBuild},
          {"device", figures.device},
          {"arithmetic", figures.arithmetic},
          {"cycle_bytes", figures.cycle_bytes},
          {"read_ceiling_gb_per_second", figures.ceiling()},
          {"ceiling_drift", drift(figures)},
          {"kernels", rows}};
}

void print_table(const KernelFigures& figures) {
  fmt::print("{}; reading alone gets {:.1f} GB/s\n\n", figures.device, figures.ceiling());
  fmt::print(
      "| op | type | shape | rows | µs | MB | GB/s | of reading alone | GFLOP/s |\n"
      "|---|---|---|---|---|---|---|---|---|\n");
  for (const KernelFigure& f : figures.rows) {
    const double rate = f.bytes / f.seconds * 1e-9;
    fmt::print("| {} | {} | {} | {} | {:.1f} | {:.2f} | {:.1f} | {} | {} |\n", f.op, f.type,
               f.shape, f.rows, 1e6 * f.seconds, f.bytes / 1e6, rate,
               f.cached ? "–" : fmt::format("{:.0f} %", 100 * rate / figures.ceiling()),
               f.flop > 0 ? fmt::format("{:.1f}", f.flop / f.seconds * 1e-9) : "–");
  }
  fmt::print(
      "\nReading alone: {:.1f} GB/s before, {:.1f} GB/s after ({:.1f} % apart), from {} MiB.\n",
      figures.ceiling_before, figures.ceiling_after, 100 * drift(figures),
      figures.cycle_bytes >> 20);
}

int run(KernelCommand command) {
  init_logging(LogLevel::kWarn, "bench");
  const auto fail = [](const Status& status) {
    print_error(fmt::format("shoal bench kernels: {}", status.message()));
    return status.code() == Code::kInvalidArgument ? kExitUsage : kExitFailed;
  };
  KernelBenchOptions& options = command.options;
  for (const std::string& name : command.types) {
    const auto type = tensor_type_from_name(name);
    if (!type) return fail(type.status());
    options.types.push_back(*type);
  }
  auto shapes = parse_kernel_shapes(command.shapes);
  if (!shapes) return fail(shapes.status());
  options.shapes = *std::move(shapes);
  options.cycle_bytes = static_cast<uint64_t>(command.mebibytes * 1048576);
  const auto choice = parse_device(command.device);
  if (!choice) return fail(choice.status());
  const auto device = open_device(*choice, command.cpu);
  if (!device) return fail(device.status());
  const bool shows = ::isatty(2) != 0;
  const auto figures = measure_kernels(**device, options, [&](const KernelFigure& figure) {
    if (shows) {
      fmt::print(stderr, "\r\x1b[K{} {} {}, {} rows", figure.op, figure.type, figure.shape,
                 figure.rows);
    }
  });
  if (shows) fmt::print(stderr, "\r\x1b[K");
  if (!figures) return fail(figures.status());
  if (command.json) {
    fmt::print("{}\n", to_json(*figures).dump(2));
  } else {
    print_table(*figures);
  }
  return kExitOk;
}

}  // namespace

void add_bench_kernels_command(CLI::App& bench, CommandAction& action) {
  auto options = std::make_shared<KernelCommand>();
  CLI::App* command =
      bench.add_subcommand("kernels", "Kernels of one device, as a share of its memory bandwidth");
  command->add_option("--device", options->device, "cpu, cuda:N or auto:N")->capture_default_str();
  command->add_option("--types", options->types, "Types of weights")->capture_default_str();
  command
      ->add_option("--shapes", options->shapes,
                   "Matrices, NAME=OUTPUTSxFEATURES (gate…: two and their gate); 70b: a layer's")
      ->capture_default_str();
  command->add_option("--rows", options->options.rows, "Rows of activations, one a token")
      ->transform(token_count())
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      ->add_option("--context", options->options.contexts, "Tokens attention looks at (4k: 4096)")
      ->transform(token_count())
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--ops", options->options.ops, "Only these")
      ->check(CLI::IsMember(kernel_bench_ops()));
  command->add_option("--repeats", options->options.repeats, "Measurements; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--mib", options->mebibytes,
                   "Weights to go round among; default: four times the last cache")
      ->check(CLI::Range(0.0, 1048576.0));
  command->add_option("--threads", options->cpu.threads, "Of the CPU; default: one per core")
      ->check(CLI::Range(0, 1024));
  command->add_option("--isa", options->cpu.isa, "generic, avx2, avxvnni or avx512vnni");
  command->add_flag(
      "--float", [options](int64_t) { options->cpu.int8_activations = false; },
      "Float activations for every type");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

// shoal bench decode: tokens per second of a model that only one device's memory holds.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

#include "base/console.h"
#include "base/log.h"
#include "base/version.h"
#include "bench/decode_figures.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/device_choice.h"

namespace shoal {
namespace {

struct DecodeCommand {
  std::string shape, device = "auto", kv = "f16";
  int64_t layers = 0;
  DecodeBenchOptions options;
  CpuOptions cpu;
  bool json = false;
};

nlohmann::ordered_json to_json(const DecodeCommand& command, const DecodeFigures& figures) {
  const double rate = static_cast<double>(figures.bytes_per_token) / figures.step() * 1e-9;
  const double kv_rate = static_cast<double>(figures.kv_bytes) / figures.step() * 1e-9;
  return {{"build", kBuild},
          {"device", figures.device},
          {"arithmetic", figures.arithmetic},
          {"shape", command.shape},
          {"layers", command.options.shape.layers},
          {"type", command.options.mix},
          {"context", command.options.context},
          {"weight_bytes", figures.weight_bytes},
          {"bytes_per_token", figures.bytes_per_token},
          {"kv_bytes", figures.kv_bytes},
          {"load_seconds", figures.load_seconds},
          {"prefill_tokens_per_second",
           static_cast<double>(command.options.context) / figures.prefill_seconds},
          {"decode_tokens_per_second", 1 / figures.step()},
          {"weight_gb_per_second", rate},
          {"read_ceiling_gb_per_second", figures.ceiling()},
          {"ceiling_drift",
           std::abs(figures.ceiling_before - figures.ceiling_after) / figures.ceiling()},
          {"share_of_ceiling", (rate + kv_rate) / figures.ceiling()}};
}

void print(const DecodeCommand& command, const DecodeFigures& figures) {
  const auto report = to_json(command, figures);
  const auto number = [&](const char* key) { return report[key].get<double>(); };
  fmt::print("{}, {} layers, {} on {}\n", command.shape, command.options.shape.layers,
             command.options.mix, figures.device);
  fmt::print("weights {:.2f} GB, {:.3f} GB read per token; loaded in {:.1f} s\n",
             number("weight_bytes") / 1e9, number("bytes_per_token") / 1e9, figures.load_seconds);
  fmt::print("prefill {:.1f} tok/s ({} tokens); decode {:.2f} tok/s\n",
             number("prefill_tokens_per_second"), command.options.context,
             number("decode_tokens_per_second"));
  fmt::print(
      "{:.1f} GB/s of weights and {:.1f} GB/s of KV are {:.0f} % of the {:.1f} GB/s that "
      "reading alone gets ({:.1f} % apart before and after)\n",
      number("weight_gb_per_second"), number("kv_bytes") * number("decode_tokens_per_second") / 1e9,
      100 * number("share_of_ceiling"), figures.ceiling(), 100 * number("ceiling_drift"));
}

int run(DecodeCommand command) {
  init_logging(LogLevel::kWarn, "bench");
  const auto fail = [](const Status& status) {
    print_error(fmt::format("shoal bench decode: {}", status.message()));
    return status.code() == Code::kInvalidArgument ? kExitUsage : kExitFailed;
  };
  auto shape = synth_shape(command.shape);
  if (!shape) return fail(shape.status());
  DecodeBenchOptions& options = command.options;
  options.shape = *shape;
  if (command.layers > 0) options.shape.layers = command.layers;
  options.kv = command.kv == "f32" ? KvType::kF32 : KvType::kF16;
  const auto choice = parse_device(command.device);
  if (!choice) return fail(choice.status());
  const auto device = open_device(*choice, command.cpu);
  if (!device) return fail(device.status());
  const auto figures = measure_decode(**device, options);
  if (!figures) return fail(figures.status());
  if (command.json) {
    fmt::print("{}\n", to_json(command, *figures).dump(2));
  } else {
    print(command, *figures);
  }
  return kExitOk;
}

}  // namespace

void add_bench_decode_command(CLI::App& bench, CommandAction& action) {
  auto options = std::make_shared<DecodeCommand>();
  CLI::App* command = bench.add_subcommand(
      "decode", "One stream on one device, of a model made in its memory: no file, no server");
  command
      ->add_option("shape", options->shape,
                   fmt::format("One of {}", fmt::join(synth_shape_names(), ", ")))
      ->required();
  command->add_option("--device", options->device, "cpu, cuda:N or auto:N")->capture_default_str();
  command->add_option("--type", options->options.mix, "Mix (Q4_K_M, …) or tensor type")
      ->capture_default_str();
  command->add_option("--layers", options->layers, "Only so many layers")
      ->check(CLI::Range(1, 1024));
  command->add_option("--context", options->options.context, "Tokens of the prompt (4k: 4096)")
      ->transform(token_count())
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--generate", options->options.generate, "Tokens to generate")
      ->transform(token_count())
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--kv-type", options->kv, "KV cache precision")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->capture_default_str();
  command->add_option("--threads", options->cpu.threads, "Of the CPU; default: one per core")
      ->check(CLI::Range(0, 1024));
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

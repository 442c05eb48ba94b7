// shoal bench latency MODEL: how fast one stream, or several at once, are through everything but
// HTTP, what share of this machine's memory bandwidth that is, and how evenly experts keep ranks
// busy.
#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/console.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/version.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/latency.h"
#include "coordinator/server/server.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  std::string model;
  std::vector<std::string> layouts{"1x2", "2x1"};  // workers × threads
  LatencyOptions latency;
  std::string kv = "f16", experts = "auto";
  bool json = false;
};

config::Experts experts_of(const std::string& name) {
  if (name == "sliced") return config::Experts::kSliced;
  return name == "placed" ? config::Experts::kPlaced : config::Experts::kAuto;
}

// A step of one stream reads the weights once, so that its rate has a ceiling.
Json describe(const LatencyOptions& options, const LatencyFigures& figures, uint64_t bytes) {
  const double ceiling = std::max(figures.ceiling_before, figures.ceiling_after);
  const double drift = std::abs(figures.ceiling_before - figures.ceiling_after) / ceiling;
  Json row{{"workers", options.workers},
           {"threads", options.threads},
           {"prefill_tokens_per_second", figures.prefill_tokens_per_second},
           {"decode_tokens_per_second", figures.decode_tokens_per_second},
           {"read_ceiling_gb_per_second", ceiling},
           {"ceiling_drift", drift}};
  if (options.streams == 1) {
    const double rate = figures.decode_tokens_per_second * static_cast<double>(bytes) / 1e9;
    row["weight_gb_per_second"] = rate;
    row["share_of_ceiling"] = rate / ceiling;
  }
  if (!figures.expert_seconds.empty()) {
    row["expert_seconds_per_step"] = figures.expert_seconds;
    row["expert_max_over_mean"] = figures.expert_imbalance();
  }
  return row;
}

void print_head(const BenchOptions& options, const ServedModel& model, uint64_t bytes) {
  const LatencyOptions& latency = options.latency;
  fmt::print("{}: {:.3f} GB read per token, {}, prompt {}, {} tokens generated, median of {}\n",
             model.name, static_cast<double>(bytes) / 1e9,
             latency.streams == 1 ? "one stream" : fmt::format("{} streams", latency.streams),
             latency.prompt, latency.generate, latency.repeats);
  fmt::print("{:>16} {:>14} {:>14} {:>12} {:>14} {:>8} {:>8}\n", "workers×threads", "prefill tok/s",
             "decode tok/s", "read GB/s", "ceiling GB/s", "share", "drift");
}

void print_row(const std::string& layout, const Json& row) {
  const auto number = [&](const char* key) { return row[key].get<double>(); };
  const bool one = row.contains("share_of_ceiling");
  fmt::print("{:>16} {:>14.1f} {:>14.2f} {:>12} {:>14.2f} {:>8} {:>7.1f}%\n", layout,
             number("prefill_tokens_per_second"), number("decode_tokens_per_second"),
             one ? fmt::format("{:.2f}", number("weight_gb_per_second")) : "–",
             number("read_ceiling_gb_per_second"),
             one ? fmt::format("{:.0f}%", 100 * number("share_of_ceiling")) : "–",
             100 * number("ceiling_drift"));
  if (row.contains("expert_seconds_per_step")) {
    std::string ranks;
    for (const Json& seconds : row["expert_seconds_per_step"]) {
      ranks += fmt::format(" {:.3f}", 1e3 * seconds.get<double>());
    }
    fmt::print("{:>16} ms per step by rank:{}; max ÷ mean {:.3f}\n", "experts", ranks,
               number("expert_max_over_mean"));
  }
  std::fflush(stdout);
}

int run(BenchOptions options) {
  init_logging(LogLevel::kWarn, "bench");
  const auto fail = [](const Status& status) {
    print_error(fmt::format("shoal bench latency: {}", status.message()));
    return status.code() == Code::kInvalidArgument || status.code() == Code::kNotFound
               ? kExitUsage
               : kExitFailed;
  };
  const auto model = read_served_model(options.model);
  if (!model) return fail(model.status());
  const uint64_t bytes = bytes_read_per_token(*model->file, model->spec);
  LatencyOptions& latency = options.latency;
  latency.kv_f32 = options.kv == "f32";
  latency.experts = experts_of(options.experts);
  Json rows = Json::array();
  if (!options.json) print_head(options, *model, bytes);
  for (const std::string& layout : options.layouts) {
    if (std::sscanf(layout.c_str(), "%dx%d", &latency.workers, &latency.threads) != 2 ||
        latency.workers < 1 || latency.workers > 64 || latency.threads < 1 ||
        latency.threads > 1024) {
      return fail(
          invalid_argument("--layout " + in_quotes(layout) + " is not WORKERSxTHREADS, e.g. 2x1"));
    }
    const auto figures = measure_latency(*model, latency);
    if (!figures) return fail(figures.status());
    rows.push_back(describe(latency, *figures, bytes));
    if (!options.json) print_row(layout, rows.back());
  }
  if (options.json) {
    fmt::print("{}\n", Json{{"build", kBuild},
                            {"model", model->name},
                            {"bytes_per_token", bytes},
                            {"streams", latency.streams},
                            {"experts", options.experts},
                            {"prompt", latency.prompt},
                            {"generate", latency.generate},
                            {"repeats", latency.repeats},
                            {"layouts", rows}}
                           .dump(2));
  }
  return kExitOk;
}

}  // namespace

void add_bench_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<BenchOptions>();
  LatencyOptions& latency = options->latency;
  CLI::App* bench = app.add_subcommand("bench", "Measure");
  bench->require_subcommand(1);
  add_bench_kernels_command(*bench, action);
  add_bench_decode_command(*bench, action);
  CLI::App* command =
      bench->add_subcommand("latency", "Speed of streams, as a share of memory bandwidth");
  command->add_option("model,-m,--model", options->model, "Path of a GGUF (see `shoal synth`)")
      ->required();
  command->add_option("--layout", options->layouts, "Layouts to measure, WORKERSxTHREADS")
      ->capture_default_str();
  command->add_option("--streams", latency.streams, "Requests at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--prompt", latency.prompt, "Prompt tokens of each (4k: 4096)")
      ->transform(token_count())
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--generate", latency.generate, "Tokens to generate, each (4k: 4096)")
      ->transform(token_count())
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  command->add_option("--repeats", latency.repeats, "Runs per layout; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--kv-type", options->kv, "KV cache precision")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->capture_default_str();
  command->add_option("--experts", options->experts, "Layout of experts across workers")
      ->check(CLI::IsMember({"auto", "sliced", "placed"}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

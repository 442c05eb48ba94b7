// shoal serve MODEL: coordinator and local workers on this machine. shoal coordinator: the same
// without local workers, for a cluster.
#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>

#include "base/console.h"
#include "base/log.h"
#include "base/quote.h"
#include "cli/commands.h"
#include "cli/device_choice.h"
#include "config/parser.h"
#include "coordinator/server/child_process.h"
#include "coordinator/server/server.h"

namespace shoal {
namespace {

struct ServeOptions {
  std::string config_file;
  std::vector<config::Override> settings;  // from flags
  int workers = 0, expert_workers = 0, threads = 0;
  bool check = false;
  std::vector<std::string> models;  // as an argument, with --model
  std::string log_level = "info";
  std::vector<std::string> devices;  // --device
};

// Flags that set one configuration key each; errors name the first of a flag's names. Others than
// that are what llama-server calls the same.
struct Setting {
  std::string_view names;
  const char* key;
  const char* help;
};
constexpr Setting kSettings[] = {
    {"--chat-template", "model.chat_template",
     "Chat template instead of the model's own: a file, a name the model has, or chatml"},
    {"--name,-a,--alias", "model.name", "Name clients see in /v1/models"},
    {"--host", "coordinator.listen.host",
     "Address or name to listen on (default 127.0.0.1; every interface: 0.0.0.0, with IPv6 ::)"},
    {"--port", "coordinator.listen.port", "Port to listen on (default 8080; 0: any)"},
    {"--kv-type", "kv.type", "Precision of the KV cache: f16 or f32"},
    {"--context,-c,--ctx-size", "kv.context",
     "Longest prompt plus output, in tokens; 32k is 32 × 1024 (0: automatic)"},
    {"--kv-blocks", "kv.blocks", "Size of the KV cache in blocks (0: automatic)"},
    {"--max-queue", "coordinator.limits.queue_requests", "Requests that may wait; more get 429"},
    {"--max-sequences", "scheduler.max_sequences", "Sequences computed at once"},
    {"--max-batch-rows", "scheduler.max_batch_rows", "Tokens in one step"},
    {"--prefill-chunk", "scheduler.prefill_chunk", "Prompt tokens of one sequence in one step"},
    {"--engine", "parallel.engine", "Collective engine: auto, shm or gloo"},
    {"--experts", "parallel.experts", "Layout of mixtures of experts: auto, sliced or placed"},
    {"--placement", "parallel.placement", "File that pins experts to ranks"},
    {"--api-keys,--api-key-file", "coordinator.api_keys", "File with one API key a line"},
    {"--cors-origins", "coordinator.cors_origins",
     "Web pages that may call: origins with commas between, *, auto, or nothing"},
    {"--access-log", "coordinator.access_log", "off, requests or all: a line of the log for each"},
    {"--recovery", "timeouts.recovery",
     "How long requests wait for another group when theirs is lost, e.g. 2min; 0s: they end"},
    {"--drain", "timeouts.drain", "How long running requests may go on after SIGTERM, e.g. 30s"},
};

void add_common(CLI::App* command, const std::shared_ptr<ServeOptions>& options) {
  command->add_option_function<std::string>(
      "--model,-m", [options](const std::string& value) { options->models.push_back(value); },
      "The same as MODEL");
  command->add_option("--config", options->config_file, "YAML configuration (config/samples/)");
  for (const Setting& setting : kSettings) {
    command->add_option_function<std::string>(
        std::string(setting.names),
        [options, setting](const std::string& value) {
          const std::string flag(setting.names.substr(0, setting.names.find(',')));
          options->settings.push_back({setting.key, value, flag});
        },
        setting.help);
  }
  command
      ->add_option_function<std::string>(
          "--activations",
          [options](const std::string& value) {
            options->settings.push_back(
                {"parallel.int8_activations", value == "int8" ? "true" : "false", "--activations"});
          },
          "int8 (fast) or float (exact to rounding) activations for quantised weights")
      ->check(CLI::IsMember({"int8", "float"}));
  command->add_flag_function(
      "--no-prefix-cache",
      [options](int64_t) {
        options->settings.push_back({"kv.prefix_cache", "false", "--no-prefix-cache"});
      },
      "Compute every prompt from its first token");
  command->add_flag_function(
      "--allow-unauthenticated",
      [options](int64_t) {
        options->settings.push_back(
            {"coordinator.allow_unauthenticated", "true", "--allow-unauthenticated"});
      },
      "Serve on a public address without API keys");
  command->add_flag_function(
      "--verify",
      [options](int64_t) {
        options->settings.push_back({"model.verify", "true", "--verify"});
      },
      "Hash every byte of the model here and on every worker, and refuse files that differ");
  command->add_option("--log-level", options->log_level, "debug, info, warn, error, off")
      ->envname("SHOAL_LOG_LEVEL");
  command->add_flag("--check", options->check, "Check the configuration and exit");
}

// File < environment < flags.
Result<config::Config> load(const ServeOptions& options) {
  std::vector<config::Override> settings = options.settings;
  if (!options.models.empty()) settings.push_back({"model.path", options.models[0], "MODEL"});
  return config::load(options.config_file, config::process_environment(), settings);
}

int fail(const char* program, const Status& status) {
  print_error(fmt::format("{}: {}", program, status.message()));
  return kExitUsage;
}

// --device for worker `index`: one entry per worker, or one for all; cuda and auto count up.
std::string device_of(const ServeOptions& options, int index) {
  std::string device = "auto";
  if (!options.devices.empty()) {
    const size_t last = options.devices.size() - 1;
    device = options.devices[std::min(static_cast<size_t>(index), last)];
  }
  const bool counts_up = device == "auto" || device == "cuda";
  return counts_up ? device + ":" + std::to_string(index) : device;
}

// The file's workers, or as many as the flags ask for.
std::vector<config::Worker> local_workers(const ServeOptions& options,
                                          const std::vector<config::Worker>& configured) {
  std::vector<config::Worker> workers = configured;
  if (options.workers > 0 || workers.empty()) {
    workers.clear();
    for (int i = 0; i < std::max(1, options.workers); ++i) {
      workers.push_back({.name = "w" + std::to_string(i), .device = device_of(options, i)});
    }
  } else if (!options.devices.empty()) {
    for (size_t i = 0; i < workers.size(); ++i) {
      workers[i].device = device_of(options, static_cast<int>(i));
    }
  }
  const auto is_taken = [&](const std::string& name) {
    return std::ranges::find(workers, name, &config::Worker::name) != workers.end();
  };
  for (int added = 0, number = 0; added < options.expert_workers; ++number) {
    const std::string name = "e" + std::to_string(number);
    if (is_taken(name)) continue;
    workers.push_back({.name = name, .role = config::WorkerRole::kExperts});
    ++added;
  }
  return workers;
}

// A card that cannot be had is said before anything starts, by a process of its own: this one never
// opens CUDA.
Status check_devices(const std::vector<config::Worker>& workers) {
  for (const config::Worker& worker : workers) {
    SHOAL_TRY(parse_device(worker.device).status().annotate("worker " + worker.name));
    if (!worker.device.starts_with("cuda")) continue;
    SHOAL_ASSIGN(const std::string self, own_program());
    const std::string command = "'" + self + "' worker --probe-device " + worker.device + " 2>&1";
    FILE* pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) return unavailable("cannot start a process to look at " + worker.device);
    std::string text;
    char buffer[512];
    while (text.size() < 8192 && std::fgets(buffer, sizeof(buffer), pipe) != nullptr)
      text += buffer;
    if (::pclose(pipe) == 0) continue;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return failed_precondition("worker " + worker.name + " on " + worker.device + ": " + text);
  }
  return Status::ok();
}

int start(const ServeOptions& options, const char* program, bool local) {
  const auto level = parse_log_level(options.log_level);
  if (!level) return fail(program, level.status());
  init_logging(*level, "coordinator");
  if (options.models.size() > 1) {
    return fail(program, invalid_argument("two models are named: " + in_quotes(options.models[0]) +
                                          " and " + in_quotes(options.models[1])));
  }
  auto config = load(options);
  if (!config) return fail(program, config.status());
  ServerOptions server;
  server.config = *config;
  if (local) {
    // Workers that the file names for other hosts connect by themselves (`shoal coordinator`).
    for (const config::Worker& worker : config->workers) {
      if (!worker.host.empty()) {
        return fail(program,
                    invalid_argument("worker " + in_quotes(worker.name) + " belongs to host " +
                                     in_quotes(worker.host) +
                                     ": run `shoal coordinator` here and `shoal worker` there"));
      }
    }
    server.config.workers = local_workers(options, config->workers);
    server.local_workers = static_cast<int>(server.config.workers.size());
    server.threads_per_worker = options.threads;
    if (Status status = check_devices(server.config.workers); !status) return fail(program, status);
  }
  if (options.check) {
    fmt::print("the configuration is valid\n");
    return kExitOk;
  }
  return run_server(server, program);
}

}  // namespace

void add_serve_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command = app.add_subcommand("serve", "Serve a model with workers on this machine");
  command->add_option_function<std::string>(
      "model", [options](const std::string& value) { options->models.push_back(value); },
      "Path of the GGUF file (first part of a split one)");
  command->add_option("--workers", options->workers, "CPU workers, one rank each")
      ->check(CLI::Range(1, 64));
  command
      ->add_option("--expert-workers", options->expert_workers,
                   "Workers besides that hold experts of a mixture only")
      ->check(CLI::Range(0, 63));
  command
      ->add_option(
          "--device", options->devices,
          "What workers compute on: auto (the default: worker i on cuda:i if there is such a "
          "card, else on the CPU), cpu, cuda, or one per worker: cuda:0,cuda:1")
      ->delimiter(',');
  command
      ->add_option("--threads,-t", options->threads,
                   "Compute threads of each worker (default: cores ÷ workers)")
      ->check(CLI::Range(1, 1024));
  add_common(command, options);
  command->callback(
      [options, &action] { action = [options] { return start(*options, "shoal serve", true); }; });
}

void add_coordinator_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command =
      app.add_subcommand("coordinator", "Serve a model with workers that connect from other hosts");
  add_common(command, options);
  command->callback([options, &action] {
    action = [options] { return start(*options, "shoal coordinator", false); };
  });
}

}  // namespace shoal

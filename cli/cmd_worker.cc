// shoal worker: one rank's process.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>

#include "base/console.h"
#include "base/host.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/device_choice.h"
#include "kernels/cuda_library.h"
#include "parallel/collective/data_address.h"
#include "parallel/collective/shm_sweep.h"
#include "wire/zmq_link.h"
#include "worker/agent.h"
#include "worker/host_info.h"

namespace shoal {
namespace {

struct WorkerOptions {
  std::string coordinator;  // tcp://HOST:PORT
  std::string server_key, server_key_file, key_file, name;
  std::string device = "cpu";
  std::string interface, data_address, isa;
  std::string log_level = "info";
  std::string probe;  // only say whether this device can be had
  int threads = 0;
  std::vector<int> cores;
  bool own_threads = false, own_device = false;  // said on the command line
  bool allow_open_key_files = false;
};

// For the signal handler, which can reach nothing else.
Agent* running_agent = nullptr;
volatile std::sig_atomic_t asked_to_stop = 0;

void on_signal(int) {
  asked_to_stop = 1;
  if (running_agent != nullptr) running_agent->stop();
}

// --coordinator: [tcp://]HOST:PORT.
Result<HostPort> coordinator_address(std::string_view text) {
  constexpr std::string_view kTcp = "tcp://";
  if (text.starts_with(kTcp)) text.remove_prefix(kTcp.size());
  auto address = parse_host_port(text);
  if (address && address->port == 0) address = invalid_argument("port 0 is no port to connect to");
  return address ? address : address.status().annotate("--coordinator");
}

Result<std::string> data_address(const WorkerOptions& options, const HostPort& coordinator) {
  if (options.data_address.empty() && options.interface.empty()) {
    const auto address = outgoing_address(coordinator);
    return address ? address : address.status().annotate("--coordinator");
  }
  // Public ones are refused when a plan wants to use them.
  const auto address = resolve_data_address(options.interface, options.data_address, true);
  return address ? address
                 : address.status().annotate(options.interface.empty() ? "--data-address"
                                                                       : "--interface");
}

Result<std::unique_ptr<Device>> make_device(const WorkerOptions& options) {
  SHOAL_ASSIGN(const DeviceChoice choice, parse_device(options.device));
  CpuOptions cpu;
  cpu.threads = options.threads;
  cpu.cores = options.cores;
  cpu.isa = options.isa;
  return open_device(choice, cpu);
}

// What the coordinator's configuration says, where this command line says nothing.
WorkerOptions with_settings(WorkerOptions options, const wire::Settings& settings) {
  const auto wins = [](std::string_view flag, const std::string& own, const std::string& theirs) {
    if (own == theirs) return;
    log_warn(
        fmt::format("{} {} of this command line wins over the coordinator's configuration, "
                    "which says {}",
                    flag, own, excerpt(theirs)));
  };
  const std::vector<int> cores(settings.cores.begin(), settings.cores.end());
  const auto threads = static_cast<int>(settings.threads);
  const bool said_threads = threads > 0, said_cores = !cores.empty();
  const bool said_device = !settings.device.empty();
  if (said_threads && options.own_threads) {
    wins("--threads", std::to_string(options.threads), std::to_string(threads));
  } else if (said_threads) {
    options.threads = threads;
  }
  if (said_cores && !options.cores.empty()) {
    wins("--cores", fmt::format("{}", fmt::join(options.cores, ",")),
         fmt::format("{}", fmt::join(cores, ",")));
  } else if (said_cores) {
    options.cores = cores;
  }
  if (said_device && options.own_device) {
    wins("--device", options.device, settings.device);
  } else if (said_device) {
    options.device = settings.device;
  }
  return options;
}

// One agent after the other over one link: another one whenever the coordinator's configuration
// says something else about this worker.
Status run_agents(const WorkerOptions& own, AgentOptions agent_options, wire::WorkerLink& link) {
  wire::Settings settings;
  for (;;) {
    const WorkerOptions options = with_settings(own, settings);
    auto device = make_device(options);
    if (!device) {
      return settings == wire::Settings{}
                 ? device.status()
                 : device.status().annotate("as the coordinator's configuration says");
    }
    log_info((*device)->describe());
    agent_options.device_kind = (*device)->host_visible() ? "cpu" : "cuda";
    agent_options.threads = static_cast<uint32_t>(options.threads);
    agent_options.core.settings_id = wire::settings_id(settings);
    Agent agent(agent_options, link, **device);
    running_agent = &agent;
    const Status status = asked_to_stop != 0 ? Status::ok() : agent.run();
    running_agent = nullptr;
    if (!agent.new_settings() || asked_to_stop != 0) return status;
    settings = *agent.new_settings();
    log_info("the coordinator's configuration says how this worker computes; starting over by it");
  }
}

Status serve(const WorkerOptions& options) {
  SHOAL_ASSIGN(const HostPort coordinator, coordinator_address(options.coordinator));
  wire::ZmqWorkerOptions link_options;
  link_options.endpoint = "tcp://" + format_host_port(coordinator);
  link_options.server_key = options.server_key;
  if (!options.server_key_file.empty()) {
    SHOAL_ASSIGN(link_options.server_key, wire::read_public_key(options.server_key_file));
  }
  if (link_options.server_key.empty()) {
    return invalid_argument(
        "--server-key or --server-key-file is needed: the coordinator's public key");
  }
  SHOAL_ASSIGN(link_options.keys,
               wire::read_key_pair(options.key_file, options.allow_open_key_files));
  link_options.incarnation = random_seed() | 1;

  AgentOptions agent_options;
  agent_options.name = options.name;
  agent_options.build = kBuild;
  agent_options.incarnation = link_options.incarnation;
  SHOAL_ASSIGN(agent_options.data_address, data_address(options, coordinator));
  SHOAL_ASSIGN(const auto link, wire::ZmqWorkerLink::connect(link_options));
  agent_options.on_hung = [] {
    flush_log(std::chrono::milliseconds(200));
    std::_Exit(kExitFailed);
  };
  std::signal(SIGTERM, on_signal);
  std::signal(SIGINT, on_signal);
  return run_agents(options, agent_options, *link);
}

int probe(const std::string& device) {
  auto choice = parse_device(device);
  Status status = choice.status();
  if (choice && choice->kind == DeviceChoice::kCuda) {
    status = make_cuda_device(choice->index).status();
  }
  if (status.is_ok()) return kExitOk;
  print_error(status.message());
  return kExitUsage;
}

int run(const WorkerOptions& options) {
  if (!options.probe.empty()) return probe(options.probe);
  if (options.coordinator.empty() || options.key_file.empty()) {
    print_error("shoal worker: --coordinator and --key-file are needed");
    return kExitUsage;
  }
  const auto level = parse_log_level(options.log_level);
  if (!level) {
    print_error(fmt::format("shoal worker: {}", level.status().message()));
    return kExitUsage;
  }
  init_logging(*level, options.name);
  // A reader of the log who leaves, a terminal that stops who writes in the background: no reasons
  // to stand still.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTTOU, SIG_IGN);
  if (const size_t removed = sweep_segments(); removed > 0) {
    log_info(
        fmt::format("removed {} shared memory segments that dead processes had left", removed));
  }
  const Status status = serve(options);
  if (status.is_ok()) return kExitOk;
  log_error(status.message());
  return status.code() == Code::kUnavailable ? kExitFailed : kExitUsage;
}

}  // namespace

void add_worker_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<WorkerOptions>();
  options->name = host_name();
  CLI::App* command = app.add_subcommand("worker", "Run one worker that a coordinator drives");
  command
      ->add_option("--coordinator", options->coordinator,
                   "HOST:PORT of its control plane, IPv6 in brackets")
      ->envname("SHOAL_WORKER_COORDINATOR");
  command->add_option("--server-key", options->server_key, "The coordinator's public key");
  command->add_option("--server-key-file", options->server_key_file,
                      "File with it (coordinator.pub)");
  command->add_option("--key-file", options->key_file, "This worker's own key (NAME.key)");
  command->add_option("--name", options->name, "Name in the cluster (default: the host's)");
  CLI::Option* device =
      command
          ->add_option("--device", options->device,
                       "cpu, cuda:N, or auto:N (cuda:N if there is such a card, else cpu)")
          ->capture_default_str();
  command->add_option("--probe-device", options->probe,
                      "Only say whether this device can be had, and exit");
  CLI::Option* threads = command
                             ->add_option("--threads,-t", options->threads,
                                          "Compute threads (0: one per core it may use)")
                             ->check(CLI::Range(0, 1024));
  command->add_option("--cores", options->cores, "Cores to pin them to, e.g. 0,1")->delimiter(',');
  CLI::Option* interface =
      command->add_option("--interface", options->interface, "Network interface of the data plane");
  command->add_option("--data-address", options->data_address, "Or its IP address")
      ->excludes(interface);
  command->add_option("--isa", options->isa,
                      "Force a kernel set: generic, avx2, avxvnni, avx512vnni");
  command->add_option("--log-level", options->log_level, "debug, info, warn, error, off")
      ->envname("SHOAL_LOG_LEVEL");
  command->add_flag("--allow-open-key-files", options->allow_open_key_files,
                    "Accept a key file that others can read");
  command->callback([options, device, threads, &action] {
    options->own_device = device->count() > 0;
    options->own_threads = threads->count() > 0;
    action = [options] { return run(*options); };
  });
}

}  // namespace shoal

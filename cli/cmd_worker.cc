// shoal worker: one rank's process.
#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>

#include "base/console.h"
#include "base/host.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "cli/commands.h"
#include "cli/device_choice.h"
#include "cli/version.h"
#include "kernels/cuda_library.h"
#include "parallel/data_address.h"
#include "parallel/shm_sweep.h"
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
  bool allow_open_key_files = false;
};

Agent* running_agent = nullptr;  // for the signal handler, which can reach nothing else

void on_signal(int) {
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

  SHOAL_ASSIGN(const auto device, make_device(options));
  log_info(device->describe());
  AgentOptions agent_options;
  agent_options.name = options.name;
  agent_options.build = kBuild;
  agent_options.incarnation = link_options.incarnation;
  agent_options.device_kind = device->host_visible() ? "cpu" : "cuda";
  agent_options.threads = static_cast<uint32_t>(options.threads);
  SHOAL_ASSIGN(agent_options.data_address, data_address(options, coordinator));
  SHOAL_ASSIGN(const auto link, wire::ZmqWorkerLink::connect(link_options));
  agent_options.on_hung = [] {
    flush_log(std::chrono::milliseconds(200));
    std::_Exit(kExitFailed);
  };
  Agent agent(agent_options, *link, *device);
  running_agent = &agent;
  std::signal(SIGTERM, on_signal);
  std::signal(SIGINT, on_signal);
  const Status status = agent.run();
  running_agent = nullptr;
  return status;
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
    log_info(fmt::format("removed {} shared memory segments that dead processes had left",
                         removed));
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
  command
      ->add_option("--device", options->device,
                   "cpu, cuda:N, or auto:N (cuda:N if there is such a card, else cpu)")
      ->capture_default_str();
  command->add_option("--probe-device", options->probe,
                      "Only say whether this device can be had, and exit");
  command->add_option("--threads", options->threads, "Compute threads (0: one per core it may use)")
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
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal

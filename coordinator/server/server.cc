#include "coordinator/server/server.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/file.h"
#include "base/host.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "base/version.h"
#include "coordinator/core_loop.h"
#include "coordinator/gateway/from_config.h"
#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/http_server.h"
#include "coordinator/gateway/model_codec.h"
#include "coordinator/metrics.h"
#include "coordinator/server/child_process.h"
#include "coordinator/server/core_options.h"
#include "coordinator/server/model_watch.h"
#include "coordinator/server/served_model.h"
#include "coordinator/server/supervisor.h"
#include "wire/zmq_link.h"

namespace shoal {
namespace {

// What HTTP leaves to others of the limit of open files: about 30 are in use without any client
// (sockets, event counters, the model's parts); a worker has one on the control plane, two while it
// is replaced or refused, and while it is started a pipe, its key and what /proc shows of it.
constexpr size_t kOwnDescriptors = 64, kWorkerDescriptors = 8;

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

// A worker that refused to run so often has nothing else to say.
constexpr int kHopelessRefusals = 5;

// What workers are to log: as much as this process.
std::string lowest_log_level() {
  for (const char* name : {"debug", "info", "warn", "error"}) {
    if (log_enabled(*parse_log_level(name))) return name;
  }
  return "off";
}

// Metrics, and whoever else wants the times of steps.
class TappedMetrics final : public Metrics {
 public:
  using Tap = std::function<void(uint32_t rank, const wire::StepStats& stats)>;
  TappedMetrics(const Metrics::Options& options, Tap tap)
      : Metrics(options), tap_(std::move(tap)) {}
  void step_returned(uint32_t rank, const wire::StepStats& stats, double round_trip) override {
    Metrics::step_returned(rank, stats, round_trip);
    if (tap_) tap_(rank, stats);
  }

 private:
  const Tap tap_;
};

HttpFigures http_figures(const gateway::HttpServerState& state) {
  HttpFigures out;
  out.connections = state.connections;
  out.max_connections = state.max_connections;
  out.large_body_bytes = state.large_body_bytes;
  out.small_waiting = state.small_pool.waiting;
  out.small_running = state.small_pool.running;
  out.large_waiting = state.large_pool.waiting;
  out.large_running = state.large_pool.running;
  return out;
}

// Of workers that others start. "cpu" is what a worker takes where nobody says.
std::map<std::string, wire::Settings> remote_settings(const config::Config& config) {
  std::map<std::string, wire::Settings> out;
  for (const config::Worker& worker : config.workers) {
    const std::string device = worker.device == "cpu" ? "" : worker.device;
    out[worker.name] = {worker.threads, worker.cores, device};
  }
  return out;
}

class ServerImpl final : public Server {
 public:
  explicit ServerImpl(const ServerOptions& options) : options_(options) {}
  ~ServerImpl() override { stop(nullptr); }

  Status start();
  TokenService& service() override { return *service_; }
  std::string url() const override { return url_; }
  std::string control_endpoint() const override { return link_->endpoint(); }
  std::vector<int64_t> worker_pids() const override {
    std::vector<int64_t> pids;
    if (supervisor_) {
      for (const pid_t pid : supervisor_->pids()) pids.push_back(pid);
    }
    return pids;
  }
  uint64_t core_beat() const override { return service_->beat(); }
  std::string permanent_failure() const override;
  size_t stop(const std::atomic<bool>* hurry) override;

 private:
  Status bind_control();
  Status start_http();
  Status start_workers();
  // What clients call the model.
  std::string served_name() const {
    const std::string& configured = options_.config.model.name;
    return configured.empty() ? model_.name : configured;
  }
  void note_refusal(const ChildExit& exit);
  std::vector<std::string> worker_names() const;

  const ServerOptions options_;
  SteadyClock clock_;
  ServedModel model_;
  gateway::ApiKeys api_keys_;
  // By local worker: the key it inherits, in a file without a name. Nothing on a disk, so nothing
  // is left behind however this process ends.
  std::map<std::string, std::shared_ptr<const Descriptor>> worker_keys_;
  wire::CurveKeyPair coordinator_keys_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<wire::ZmqCoordinatorLink> link_;
  std::unique_ptr<CoreLoop> service_;
  std::optional<gateway::AccessLog> access_log_;
  std::unique_ptr<gateway::Gateway> gateway_;
  std::unique_ptr<gateway::HttpServer> http_;
  std::unique_ptr<ModelWatch> model_watch_;
  std::unique_ptr<Supervisor> supervisor_;
  std::atomic<Supervisor*> supervising_{nullptr};  // the same, for other threads
  std::string url_;
  bool stopped_ = false;
  mutable std::mutex mutex_;  // guards refusal_
  std::string refusal_;       // a local worker that says again and again that it cannot run
};

std::vector<std::string> ServerImpl::worker_names() const {
  std::vector<std::string> names;
  for (const config::Worker& worker : options_.config.workers) names.push_back(worker.name);
  if (!names.empty()) return names;
  for (int i = 0; i < options_.local_workers; ++i) names.push_back("w" + std::to_string(i));
  return names;
}

Status ServerImpl::bind_control() {
  const config::Config& config = options_.config;
  wire::ZmqCoordinatorOptions link;
  if (options_.local_workers > 0) {
    SHOAL_ASSIGN(coordinator_keys_, wire::make_curve_keys());
    for (const std::string& name : worker_names()) {
      SHOAL_ASSIGN(const wire::CurveKeyPair pair, wire::make_curve_keys());
      SHOAL_ASSIGN(Descriptor file, make_sealed_file("key", wire::key_file_text(name, pair)));
      worker_keys_[name] = std::make_shared<const Descriptor>(std::move(file));
      link.allowed[pair.public_key] = name;
    }
    link.host = "127.0.0.1";
  } else {
    if (config.coordinator.keys.empty()) {
      return invalid_argument(
          "coordinator.keys is not set: run `shoal keygen --dir keys --workers NAME…` and name the "
          "folder");
    }
    SHOAL_ASSIGN(coordinator_keys_,
                 wire::read_key_pair(config.coordinator.keys + "/coordinator.key",
                                     config.security.allow_open_key_files));
    SHOAL_ASSIGN(link.allowed, wire::read_allowed_keys(config.coordinator.keys));
    for (const config::Worker& worker : config.workers) {
      if (!worker.public_key.empty()) link.allowed[worker.public_key] = worker.name;
    }
    link.host = config.coordinator.control.host;
    link.port = config.coordinator.control.port;
  }
  link.keys = coordinator_keys_;
  auto bound = wire::ZmqCoordinatorLink::bind(link);
  if (!bound) {
    return options_.local_workers > 0 ? bound.status()
                                      : bound.status().annotate("coordinator.control");
  }
  link_ = std::move(bound).value();
  return Status::ok();
}

Status ServerImpl::start_http() {
  const config::Config& config = options_.config;
  gateway::GatewayDependencies deps;
  deps.service = service_.get();
  deps.codec = model_.codec->codec.get();
  deps.keys = api_keys_;
  if (config.metrics.enabled) {
    deps.metrics = [this] {
      metrics_->set_http(http_figures(http_->state()));
      return metrics_->serialize(service_->state());
    };
  }
  deps.wall_seconds = [] { return static_cast<int64_t>(std::time(nullptr)); };
  deps.random = [] { return random_seed(); };
  const bool keys = !api_keys_.empty();
  access_log_.emplace(gateway::make_access_log(config, keys));
  deps.on_record = [this](const gateway::HttpRecord& record) {
    metrics_->http_request(record.ticket.route_name, record.status, record.seconds);
    access_log_->write(record);
  };
  deps.fault_observer = [this](std::string_view route, std::string_view kind) {
    metrics_->handler_fault(route, kind);
  };
  deps.refusal_observer = [this](std::string_view reason) { metrics_->http_refused(reason); };
  gateway::HttpServerOptions http = gateway::server_options(config);
  http.reserved_descriptors = kOwnDescriptors + kWorkerDescriptors * worker_names().size();
  http.on_fault = [this] { metrics_->handler_fault("other", "exception"); };
  SHOAL_ASSIGN(http_, gateway::HttpServer::listen(http));
  deps.http = [this] { return http_->state(); };
  auto options =
      gateway::gateway_options(config, keys, served_name(), "shoal-" + model_.digest.substr(0, 10));
  gateway_ = std::make_unique<gateway::Gateway>(std::move(deps), options);
  http_->serve(*gateway_);
  url_ = fmt::format("http://{}:{}", url_host(local_host(http.host)), http_->port());
  return Status::ok();
}

Status ServerImpl::start_workers() {
  const int threads = options_.threads_per_worker > 0
                          ? options_.threads_per_worker
                          : std::max(1, usable_cores() / std::max(1, options_.local_workers));
  SHOAL_ASSIGN(const std::string self, own_program());
  std::vector<ChildSpec> children;
  const auto configured = [&](const std::string& name) -> const config::Worker* {
    for (const config::Worker& worker : options_.config.workers) {
      if (worker.name == name) return &worker;
    }
    return nullptr;
  };
  for (const std::string& name : worker_names()) {
    children.push_back({name,
                        {self, "worker", "--coordinator", link_->endpoint(), "--server-key",
                         coordinator_keys_.public_key, "--key-file",
                         fmt::format("/proc/self/fd/{}", kInheritedDescriptor), "--name", name,
                         "--log-level", lowest_log_level(), "--threads", std::to_string(threads)},
                        worker_keys_.at(name)});
    const config::Worker* own = configured(name);
    if (own == nullptr) continue;
    std::vector<std::string>& argv = children.back().argv;
    argv.insert(argv.end() - 2, {"--device", own->device});
    if (own->threads > 0) argv.back() = std::to_string(own->threads);
    if (!own->cores.empty()) {
      argv.insert(argv.end(), {"--cores", fmt::format("{}", fmt::join(own->cores, ","))});
    }
  }
  Supervisor::Options options;
  options.on_line = [](std::string_view line) { log_line(line); };
  options.on_exit = [this](const ChildExit& exit) {
    log_warn(fmt::format("worker {} (pid {}) {}; starting it again in {:.1f} s", exit.name,
                         exit.pid, exit.how, exit.next_try_seconds));
    note_refusal(exit);
    service_->worker_died(exit.name, exit.pid, "its process " + exit.how);
  };
  std::vector<std::string> paths;
  for (const GgufPart& part : model_.file->parts()) {
    SHOAL_ASSIGN(std::string path, absolute_path(part.path));
    paths.push_back(std::move(path));
  }
  model_watch_ = std::make_unique<ModelWatch>(std::move(paths));
  options.hope = [this] { return model_watch_->changes(); };
  SHOAL_ASSIGN(supervisor_, Supervisor::start(std::move(children), options));
  supervising_.store(supervisor_.get());
  return Status::ok();
}

void ServerImpl::note_refusal(const ChildExit& exit) {
  std::lock_guard lock(mutex_);
  if (exit.refusals < kHopelessRefusals) return;
  refusal_ = fmt::format("worker {} {} at once, {} times in a row; its log says why", exit.name,
                         exit.how, exit.refusals);
}

std::string ServerImpl::permanent_failure() const {
  if (options_.local_workers == 0) return "";  // somebody may mend a host
  if (std::string text = service_->state().permanent_failure; !text.empty()) return text;
  std::lock_guard lock(mutex_);
  return refusal_;
}

Status ServerImpl::start() {
  const config::Config& config = options_.config;
  if (options_.http) {
    SHOAL_ASSIGN(api_keys_, gateway::load_keys(config));
  }
  SHOAL_ASSIGN(model_, read_served_model(config.model.path, config.model.verify,
                                         config.model.chat_template));
  for (const std::string& warning : model_.warnings) log_warn(bounded_message(warning));
  SHOAL_TRY(bind_control());

  CoreLoopOptions loop;
  SHOAL_ASSIGN(loop.core, make_core_options(config, model_, worker_names()));
  if (options_.local_workers == 0) loop.core.membership.settings = remote_settings(config);
  loop.core.end_tokens = model_.codec->end_tokens;
  if (const std::string warning = context_warning(model_.spec, loop.core.context_tokens);
      !warning.empty()) {
    log_warn(warning);
  }
  loop.on_worker_lost = [this](const WorkerLostAction& lost) {
    // A hung local worker must go before another takes its place.
    if (auto* supervisor = supervising_.load()) supervisor->kill(static_cast<pid_t>(lost.pid));
  };
  loop.supervision = [this] {
    const auto* supervisor = supervising_.load();
    return supervisor != nullptr ? supervisor->waiting() : std::string();
  };
  std::vector<uint32_t> mixture_layers;
  for (size_t i = 0; i < model_.spec.layer.size(); ++i) {
    if (model_.spec.layer[i].ffn.moe.experts > 0) {
      mixture_layers.push_back(static_cast<uint32_t>(i));
    }
  }
  metrics_ =
      std::make_unique<TappedMetrics>(Metrics::Options{.version = kBuild,
                                                       .world = loop.core.membership.world,
                                                       .vllm_names = config.metrics.vllm_names,
                                                       .model = served_name(),
                                                       .mixture_layers = mixture_layers},
                                      options_.on_step);
  service_ = std::make_unique<CoreLoop>(std::move(loop), *link_, *metrics_, clock_);
  service_->start();
  if (options_.http) SHOAL_TRY(start_http());
  return options_.local_workers > 0 ? start_workers() : Status::ok();
}

size_t ServerImpl::stop(const std::atomic<bool>* hurry) {
  if (stopped_) return 0;
  stopped_ = true;
  size_t cut = 0;
  if (service_) service_->drain();
  if (http_) {
    cut =
        http_->drain({options_.config.timeouts.drain, hurry, [this] {
                        service_->stop("the server is shutting down before the answer is complete");
                      }});
  }
  http_.reset();
  if (service_) service_->stop("the server stops");
  if (supervisor_) supervisor_->stop(5.0);
  return cut;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options) {
  auto server = std::make_unique<ServerImpl>(options);
  SHOAL_TRY(server->start());
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace shoal

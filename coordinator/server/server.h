// A whole coordinator, wired: model header and tokenizer, control plane, core, HTTP, and — for
// `shoal serve` — local workers under supervision. Used by serve, coordinator and bench.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/config.h"
#include "coordinator/core/token_service.h"
#include "wire/messages.h"

namespace shoal {

struct ServerOptions {
  config::Config config;
  // Local CPU workers to start and supervise; 0: workers connect from outside.
  int local_workers = 0;
  int threads_per_worker = 0;  // 0: the cores this process may use ÷ workers, at least 1
  bool http = true;
  // Called on the core's thread with each rank's times of each step; may be empty.
  std::function<void(uint32_t rank, const wire::StepStats& stats)> on_step;
};

class Server {
 public:
  // Reads the model's header and tokenizer, checks that the plan can work, binds everything, starts
  // workers. kInvalidArgument, kUnsupported, kNotFound: input is wrong; anything else: the machine.
  static Result<std::unique_ptr<Server>> start(const ServerOptions& options);
  virtual ~Server() = default;

  virtual TokenService& service() = 0;
  virtual std::string url() const = 0;                   // of the HTTP side
  virtual std::string control_endpoint() const = 0;      // where workers connect
  virtual std::vector<int64_t> worker_pids() const = 0;  // of local workers
  // Changes with every turn of the core's loop; takes no lock.
  virtual uint64_t core_beat() const = 0;
  // With local workers: why the server will never be ready, trying again does not help; empty as
  // long as there is hope, and once it has been ready.
  virtual std::string permanent_failure() const = 0;
  // Not ready → refuse new requests → let others finish until the configured drain time, or until
  // `hurry` (may be null) is set → end those with an error → end workers. How many were cut off.
  virtual size_t stop(const std::atomic<bool>* hurry = nullptr) = 0;
};

// Runs until SIGINT or SIGTERM, showing progress on standard error and one line with the URL on
// standard output once ready. While the server starts a signal ends the process within a second,
// later it is stopped in order; a second signal cuts off with an error what still runs, a third
// ends at once. The process's exit code.
int run_server(const ServerOptions& options, const std::string& program);

}  // namespace shoal

// What must hold between keys: config::check().
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/host.h"
#include "base/quote.h"
#include "config/parser.h"
#include "config/schema.h"
#include "config/values.h"

namespace shoal::config {
namespace {

// "cluster.yaml:3:5: key: what", or without the place when the value is a default.
Status error(const Settings& settings, const std::string& key, std::string_view what) {
  const auto origin = settings.origins.find(key);
  if (origin == settings.origins.end()) return invalid_argument(fmt::format("{}: {}", key, what));
  return invalid_argument(fmt::format("{}: {}: {}", origin->second, key, what));
}

Status check_coordinator(const Settings& settings) {
  const Config& config = settings.config;
  const Coordinator& coordinator = config.coordinator;
  if (!is_loopback(coordinator.listen.host) && coordinator.api_keys.empty() &&
      !coordinator.allow_unauthenticated) {
    return error(settings, "coordinator.listen",
                 fmt::format("{} is not loopback: set coordinator.api_keys (--api-keys) to a file "
                             "of keys (`shoal keygen`), or coordinator.allow_unauthenticated "
                             "(--allow-unauthenticated) to let everybody in",
                             coordinator.listen.host));
  }
  if (!is_loopback(coordinator.control.host) && coordinator.keys.empty()) {
    return error(settings, "coordinator.control",
                 fmt::format("{} is not loopback: set coordinator.keys to the folder that holds "
                             "coordinator.key and the workers' public keys (`shoal keygen`)",
                             coordinator.control.host));
  }
  if (coordinator.listen.port != 0 && coordinator.listen == coordinator.control) {
    return error(settings, "coordinator.control", "the same address as coordinator.listen");
  }
  if (config.metrics.require_key && coordinator.api_keys.empty()) {
    return error(settings, "metrics.require_key", "needs coordinator.api_keys");
  }
  return Status::ok();
}

Status check_workers(const Settings& settings) {
  const Config& config = settings.config;
  std::map<std::string, size_t> names, keys, devices;
  for (size_t i = 0; i < config.workers.size(); ++i) {
    const Worker& worker = config.workers[i];
    const auto field = [i](std::string_view name) {
      return fmt::format("workers[{}].{}", i, name);
    };
    if (const auto [other, fresh] = names.emplace(worker.name, i); !fresh) {
      return error(settings, field("name"),
                   fmt::format("{} is workers[{}]'s name already", in_quotes(worker.name),
                               other->second));
    }
    if (!worker.public_key.empty()) {
      if (const auto [other, fresh] = keys.emplace(worker.public_key, i); !fresh) {
        return error(settings, field("public_key"),
                     fmt::format("the same key as workers[{}]'s; every worker needs its own",
                                 other->second));
      }
    }
    if (worker.device != "cpu") {
      if (const auto [other, fresh] = devices.emplace(worker.host + " " + worker.device, i);
          !fresh) {
        return error(settings, field("device"),
                     fmt::format("workers[{}] has {} already", other->second, worker.device));
      }
    }
    if (!worker.host.empty() && !is_loopback(worker.host) &&
        is_loopback(config.coordinator.control.host)) {
      return error(settings, field("host"),
                   fmt::format("cannot reach coordinator.control, which listens on {} only",
                               config.coordinator.control.host));
    }
  }
  return Status::ok();
}

Status check_parallel(const Settings& settings) {
  const Config& config = settings.config;
  const Parallel& parallel = config.parallel;
  const size_t workers = config.workers.size();
  const auto full = static_cast<size_t>(
      std::ranges::count(config.workers, WorkerRole::kFull, &Worker::role));
  if (workers != 0 && full == 0) {
    return error(settings, "workers[0].role",
                 "no worker has role full; attention and dense layers need one");
  }
  if (workers != 0 && parallel.tensor > full) {
    return error(settings, "parallel.tensor",
                 fmt::format("{} ranks, but only {} workers{}", parallel.tensor, full,
                             full < workers ? " of role full" : ""));
  }
  if (!parallel.placement.empty() && parallel.experts == Experts::kSliced) {
    return error(settings, "parallel.placement", "needs parallel.experts placed or auto");
  }
  const size_t ranks = parallel.tensor != 0 ? parallel.tensor : full;
  if (!parallel.shares.empty() && ranks != 0 && parallel.shares.size() != ranks) {
    return error(settings, "parallel.shares",
                 fmt::format("{} entries for {} ranks", parallel.shares.size(), ranks));
  }
  std::set<std::string> hosts;
  for (size_t i = 0; i < workers; ++i) {
    const Worker& worker = config.workers[i];
    hosts.insert(is_loopback(worker.host) ? "" : worker.host);
    if (!parallel.shares.empty() && worker.share != 1.0 && worker.role == WorkerRole::kFull) {
      return error(settings, fmt::format("workers[{}].share", i),
                   "parallel.shares is set too; use one of them");
    }
  }
  if (parallel.engine == Engine::kShm && hosts.size() > 1) {
    return error(settings, "parallel.engine",
                 fmt::format("shm works on one host; the workers are on {}", hosts.size()));
  }
  return Status::ok();
}

Status check_sizes(const Settings& settings) {
  const Config& config = settings.config;
  const Kv& kv = config.kv;
  const Scheduler& scheduler = config.scheduler;
  if (kv.blocks != 0 && uint64_t{kv.blocks} * kv.block_tokens < kv.context) {
    return error(settings, "kv.blocks",
                 fmt::format("{} blocks of {} tokens cannot hold kv.context = {}", kv.blocks,
                             kv.block_tokens, kv.context));
  }
  if (scheduler.prefill_chunk > scheduler.max_batch_rows) {
    return error(settings, "scheduler.prefill_chunk",
                 fmt::format("{} is above scheduler.max_batch_rows = {}", scheduler.prefill_chunk,
                             scheduler.max_batch_rows));
  }
  if (config.timeouts.worker_lost < 2 * config.timeouts.heartbeat) {
    return error(settings, "timeouts.worker_lost",
                 fmt::format("{} is below two heartbeats of {}",
                             format_duration(config.timeouts.worker_lost),
                             format_duration(config.timeouts.heartbeat)));
  }
  return Status::ok();
}

}  // namespace

Status check(const Settings& settings) {
  if (settings.config.model.path.empty()) {
    return error(settings, "model.path",
                 "is required: on the command line (shoal serve MODEL), in the file or as "
                 "SHOAL_MODEL_PATH");
  }
  SHOAL_TRY(check_coordinator(settings));
  SHOAL_TRY(check_workers(settings));
  SHOAL_TRY(check_parallel(settings));
  return check_sizes(settings);
}

}  // namespace shoal::config

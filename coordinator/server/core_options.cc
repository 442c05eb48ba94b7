#include "coordinator/server/core_options.h"

#include <unistd.h>

#include <algorithm>

#include <fmt/core.h>

#include "base/rng.h"
#include "coordinator/server/group.h"

namespace shoal {
namespace {

// What no plan could mend.
Status check_blocks(const config::Config& config, int64_t context) {
  const int64_t block = config.kv.block_tokens;
  const int64_t needed = (context + block - 1) / block;
  if (config.kv.blocks == 0 || config.kv.blocks >= needed) return Status::ok();
  return invalid_argument(
      fmt::format("kv.blocks: {} blocks of {} tokens are too few for one sequence of {} "
                  "(kv.context{}): give at "
                  "least {} blocks or a context of at most {}",
                  config.kv.blocks, block, context, config.kv.context == 0 ? ", automatic" : "",
                  needed, config.kv.blocks * block));
}

}  // namespace

Result<CoreOptions> make_core_options(const config::Config& config, const ServedModel& model,
                                      const std::vector<std::string>& names) {
  const int64_t context = config.kv.context > 0 ? config.kv.context : automatic_context(model.spec);
  SHOAL_ASSIGN(GroupWishes wishes, make_group_wishes(config, model.spec, names, context));
  SHOAL_TRY(check_blocks(config, context));
  CoreOptions core;
  core.context_tokens = static_cast<uint32_t>(std::max<int64_t>(context, 2));
  core.vocab = static_cast<int32_t>(model.spec.tokens);
  core.queue = {config.coordinator.limits.queue_requests, config.coordinator.limits.queue_tokens};
  core.recovery = config.timeouts.recovery;
  core.scheduler.max_rows = config.scheduler.max_batch_rows;
  core.scheduler.max_sequences = config.scheduler.max_sequences;
  core.scheduler.max_slots =
      std::min<uint32_t>(2 * config.scheduler.max_sequences, wire::kMaxSlots);
  core.scheduler.prefill_chunk = config.scheduler.prefill_chunk;
  core.scheduler.depth = config.scheduler.steps_in_flight;
  core.scheduler.block_tokens = config.kv.block_tokens;
  core.scheduler.prefix_cache = config.kv.prefix_cache;
  core.scheduler.cache_secret = random_seed();
  core.scheduler.kv_rules.clear();
  for (const KvGroup& group : model.spec.kv_groups) {
    core.scheduler.kv_rules.push_back(
        {static_cast<uint32_t>(group.window), static_cast<uint32_t>(group.chunk)});
  }

  MembershipOptions& membership = core.membership;
  membership.world = static_cast<uint32_t>(wishes.plan.split.world);
  membership.names = wishes.names;
  membership.expert_names = wishes.expert_names;
  if (config.parallel.engine == config::Engine::kShm)
    membership.engine = wire::CollectiveEngine::kShm;
  if (config.parallel.engine == config::Engine::kGloo)
    membership.engine = wire::CollectiveEngine::kGloo;
  if (membership.world == 1) membership.engine.reset();
  // A process id comes again, in a container at every start, and so does an epoch.
  membership.segment_prefix = fmt::format("/shoal.{}.{:x}", ::getpid(), random_seed());
  membership.heartbeat = config.timeouts.heartbeat;
  membership.lost_after = config.timeouts.worker_lost;
  membership.load_timeout = config.timeouts.load;
  membership.terms.model_path = model.path;
  membership.terms.model_digest = model.digest;
  membership.terms.model_full_digest = model.full_digest;
  membership.terms.kv =
      config.kv.type == config::KvType::kF32 ? wire::KvPrecision::kF32 : wire::KvPrecision::kF16;
  membership.terms.int8_activations = config.parallel.int8_activations;
  membership.terms.step_timeout_seconds = to_seconds(config.timeouts.step);
  membership.terms.form_timeout_seconds = to_seconds(config.timeouts.form);
  membership.planning =
      Planning{std::make_shared<PlannedModel>(PlannedModel{model.spec, tensor_types(model.file)}),
               std::move(wishes.plan)};
  return core;
}

}  // namespace shoal

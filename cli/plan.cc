#include "cli/plan.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include <fmt/core.h>

#include "base/check.h"
#include "base/rng.h"
#include "cli/group.h"
#include "parallel/memory_plan.h"
#include "worker/weight_check.h"

namespace shoal {
namespace {

// Automatic context: what most requests need. A model trained for 131072 tokens would otherwise
// take its whole KV cache for one sequence; ask with --context.
constexpr int64_t kDefaultContext = 8192;

}  // namespace

uint64_t bytes_read_per_token(const GgufFile& file, const ModelSpec& spec) {
  const auto bytes = bytes_per_token(spec, tensor_types(file));
  SHOAL_CHECK(bytes.is_ok(), "a model without its tensors");  // read_model_spec() has found them
  return *bytes;
}

Result<ServedModel> read_served_model(const std::string& path) {
  ServedModel model;
  SHOAL_ASSIGN(GgufFile file, GgufFile::open(path));
  model.path = std::filesystem::absolute(path).lexically_normal().string();
  model.digest = file.digest();
  SHOAL_ASSIGN(model.spec, read_model_spec(file));
  SHOAL_TRY(check_vectors(file, model.spec));
  model.name =
      model.spec.name == "unnamed" ? std::filesystem::path(path).stem().string() : model.spec.name;
  model.file = std::make_shared<GgufFile>(std::move(file));
  return model;
}

Result<CoreOptions> make_core_options(const config::Config& config, const ServedModel& model,
                                      const std::vector<std::string>& names) {
  SHOAL_ASSIGN(const GroupLayout layout, make_group_layout(config, model.spec, names));
  const int64_t trained = model.spec.context_length;
  const int64_t context =
      config.kv.context > 0 ? config.kv.context : std::min(trained, kDefaultContext);
  CoreOptions core;
  core.context_tokens = static_cast<uint32_t>(std::max<int64_t>(context, 2));
  core.vocab = static_cast<int32_t>(model.spec.vocab);
  core.queue = {config.coordinator.limits.queue_requests, config.coordinator.limits.queue_tokens};
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
  membership.world = static_cast<uint32_t>(layout.plan.world);
  membership.names = layout.names;
  membership.expert_names = layout.expert_names;
  membership.shares = layout.plan.shares;
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
  membership.plan.model_path = model.path;
  membership.plan.model_digest = model.digest;
  membership.plan.kv =
      config.kv.type == config::KvType::kF32 ? wire::KvPrecision::kF32 : wire::KvPrecision::kF16;
  membership.plan.int8_activations = config.parallel.int8_activations;
  membership.plan.step_timeout_seconds = to_seconds(config.timeouts.step);
  membership.plan.form_timeout_seconds = to_seconds(config.timeouts.form);
  membership.complete_plan = [config, model, layout, context](
                                 const std::vector<wire::Hello>& workers, wire::Assign* assign) {
    return complete_group_plan(config, model, layout, context, workers, assign);
  };
  return core;
}

}  // namespace shoal

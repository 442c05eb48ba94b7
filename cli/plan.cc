#include "cli/plan.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include <fmt/core.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "cli/group.h"
#include "cli/model_name.h"
#include "model/gguf_verify.h"
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

Result<std::string> hash_whole_model(const GgufFile& file) {
  constexpr Duration kReport = std::chrono::seconds(5);
  const std::string path = excerpt(file.parts()[0].path);
  const auto gigabytes = [](uint64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  const TimePoint start = std::chrono::steady_clock::now();
  std::atomic<uint64_t> done{0};
  std::atomic<bool> over{false};
  log_info(fmt::format("verifying {}: reading {:.1f} GB", path, gigabytes(file.file_bytes())));
  std::thread watcher([&] {
    TimePoint reported = start;
    while (!over.load()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const TimePoint now = std::chrono::steady_clock::now();
      if (now - reported < kReport) continue;
      reported = now;
      log_info(fmt::format("verifying {}: {:.0f} %, {:.2f} GB/s", path,
                           100.0 * gigabytes(done.load()) / gigabytes(file.file_bytes()),
                           gigabytes(done.load()) / to_seconds(now - start)));
    }
  });
  auto digest = full_digest(file, {.bytes_done = &done});
  over.store(true);
  watcher.join();
  if (!digest) return digest;
  const double seconds = to_seconds(std::chrono::steady_clock::now() - start);
  log_info(fmt::format("verified {}: {}, {:.2f} GB/s", path, *digest,
                       gigabytes(file.file_bytes()) / std::max(seconds, 1e-9)));
  return digest;
}

Result<JudgedModel> judge_model(const GgufFile& file, const std::string& chat_template) {
  JudgedModel judged;
  SHOAL_ASSIGN(judged.spec, read_model_spec(file));
  SHOAL_TRY(check_vectors(file, judged.spec));
  SHOAL_ASSIGN(judged.codec, gateway::make_model_codec(file, judged.spec.vocab, chat_template));
  judged.warnings = judged.spec.warnings;
  judged.warnings.insert(judged.warnings.end(), judged.codec.warnings.begin(),
                         judged.codec.warnings.end());
  if (judged.spec.tokens < judged.spec.vocab) {
    judged.warnings.push_back(fmt::format(
        "tensor 'token_embd.weight' has {} rows for {} tokens (key 'tokenizer.ggml.tokens'); those "
        "without a token are never drawn",
        judged.spec.vocab, judged.spec.tokens));
  }
  return judged;
}

Result<ServedModel> read_served_model(const std::string& path, bool verify,
                                      const std::string& chat_template) {
  ServedModel model;
  SHOAL_ASSIGN(GgufFile file, GgufFile::open(path));
  SHOAL_ASSIGN(model.path, absolute_path(path));
  model.digest = file.digest();
  SHOAL_ASSIGN(JudgedModel judged, judge_model(file, chat_template));
  model.spec = std::move(judged.spec);
  model.codec = std::make_shared<gateway::ModelCodec>(std::move(judged.codec));
  model.warnings = std::move(judged.warnings);
  if (verify) {
    SHOAL_ASSIGN(model.full_digest, hash_whole_model(file));
  }
  const std::string stem = std::filesystem::path(path).stem().string();
  const std::string& named = model.spec.name == "unnamed" ? stem : model.spec.name;
  model.name = usable_model_name(named, stem);
  if (model.name != named) {
    model.warnings.push_back(
        fmt::format("the name {} (key 'general.name') could not be asked for; "
                    "the model is served as {}",
                    in_quotes(named), in_quotes(model.name)));
  }
  model.file = std::make_shared<GgufFile>(std::move(file));
  return model;
}

int64_t automatic_context(const ModelSpec& spec) {
  return std::min(spec.context_length, kDefaultContext);
}

std::string context_warning(const ModelSpec& spec, int64_t context) {
  int64_t reach = spec.context_length;
  int64_t original = 0;
  for (const LayerSpec& layer : spec.layer) {
    const RopeSpec& rope = layer.attention.rope;
    if (rope.original_context <= 0 || rope.frequency_scale >= 1 || rope.frequency_scale <= 0) {
      continue;
    }
    original = rope.original_context;
    reach = std::max<int64_t>(reach,
                              std::llround(static_cast<double>(original) / rope.frequency_scale));
  }
  if (context <= reach) return "";
  const std::string scaled =
      original > 0 ? fmt::format(" (its rope scaling stretches {} to {})", original, reach) : "";
  return fmt::format(
      "a context of {} tokens is above the {} the model was trained for{}: beyond them its answers "
      "are likely to be nonsense",
      context, spec.context_length, scaled);
}

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

Result<CoreOptions> make_core_options(const config::Config& config, const ServedModel& model,
                                      const std::vector<std::string>& names) {
  SHOAL_ASSIGN(const GroupLayout layout, make_group_layout(config, model.spec, names));
  const int64_t context = config.kv.context > 0 ? config.kv.context : automatic_context(model.spec);
  SHOAL_TRY(check_blocks(config, context));
  CoreOptions core;
  core.context_tokens = static_cast<uint32_t>(std::max<int64_t>(context, 2));
  core.vocab = static_cast<int32_t>(model.spec.tokens);
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
  membership.plan.model_full_digest = model.full_digest;
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

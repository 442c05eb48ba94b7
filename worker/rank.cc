#include "worker/rank.h"

#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "base/quote.h"
#include "model/gguf.h"
#include "model/gguf_verify.h"
#include "worker/host_info.h"

namespace shoal {
namespace {

std::string load_key(const wire::Assign& plan) {
  // Int8 activations decide how weights lie on a card.
  return fmt::format("{} {} {} {}/{} {} experts {} {} {} {}", plan.model_digest,
                     plan.model_full_digest, plan.model_path, plan.rank, plan.world,
                     fmt::join(plan.shares, ","), fmt::join(plan.experts.shares, ","),
                     fmt::join(plan.experts.ranks, ","), plan.max_sequence_tokens,
                     plan.int8_activations);
}

// All bytes are those the coordinator read.
Status verify_file(const GgufFile& file, const wire::Assign& plan, const LoadOptions& options) {
  if (options.bytes_total) options.bytes_total->store(file.file_bytes());
  const TimePoint start = std::chrono::steady_clock::now();
  SHOAL_ASSIGN(const std::string found, full_digest(file, {.threads = options.threads,
                                                           .bytes_done = options.bytes_done,
                                                           .stop = options.stop}));
  if (options.bytes_done) options.bytes_done->store(0);  // the load begins
  if (options.bytes_total) options.bytes_total->store(0);
  if (found != plan.model_full_digest) {
    return invalid_argument(fmt::format(
        "{} on {} differs from the coordinator's file in what samples do not show (digest "
        "of all bytes {} here, {} there); copy the same file to every host",
        excerpt(plan.model_path), host_name(), found, excerpt(plan.model_full_digest)));
  }
  const double seconds = to_seconds(std::chrono::steady_clock::now() - start);
  log_info(fmt::format("verified {}: {}, {:.2f} GB/s", excerpt(plan.model_path), found,
                       static_cast<double>(file.file_bytes()) / 1e9 / std::max(seconds, 1e-9)));
  return Status::ok();
}

KvShape kv_shape(const wire::Assign& plan) {
  return {plan.kv == wire::KvPrecision::kF32 ? KvType::kF32 : KvType::kF16,
          {plan.kv_blocks.begin(), plan.kv_blocks.end()},
          static_cast<int64_t>(plan.block_tokens)};
}

}  // namespace

Status Rank::load(const wire::Assign& plan, const LoadOptions& options) {
  const std::string key = load_key(plan);
  if (model_ && load_key_ == key) {
    log_info(fmt::format("keeping the weights of rank {}/{}", plan.rank, plan.world));
    return Status::ok();
  }
  // Free before allocating: two shards do not fit where one was planned.
  runner_.reset();
  kv_.reset();
  model_.reset();
  note_held();
  {
    std::lock_guard lock(mutex_);
    digest_.clear();
  }
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(plan.model_path));
  if (file.digest() != plan.model_digest) {
    return invalid_argument(
        fmt::format("{} differs from the coordinator's file (digest {} here, {} there); copy the "
                    "same file to every host",
                    excerpt(plan.model_path), file.digest(), excerpt(plan.model_digest)));
  }
  if (!plan.model_full_digest.empty()) SHOAL_TRY(verify_file(file, plan, options));
  SHOAL_ASSIGN(const ModelSpec spec, read_model_spec(file));
  const TensorParallelPlan tensor_plan{
      static_cast<int>(plan.world), plan.shares, {plan.experts.shares, plan.experts.ranks}};
  SHOAL_ASSIGN(const RankShard shard,
               make_rank_shard(spec, tensor_plan, static_cast<int>(plan.rank)));
  if (spec.kv_groups.size() != plan.kv_blocks.size()) {
    return invalid_argument(fmt::format("the plan has KV blocks for {} groups; the model has {}",
                                        plan.kv_blocks.size(), spec.kv_groups.size()));
  }
  LoadOptions load = options;
  load.context = plan.max_sequence_tokens;
  SHOAL_ASSIGN(model_, load_model_shard(file, spec, shard, device_, load));
  note_held();
  load_key_ = key;
  std::lock_guard lock(mutex_);
  digest_ = plan.model_digest;
  return Status::ok();
}

Status Rank::connect(const wire::Assign& plan, const FormOptions& options) {
  const TimePoint deadline =
      std::chrono::steady_clock::now() + from_seconds(plan.form_timeout_seconds);
  std::unique_ptr<Collective> group;
  if (plan.world == 1) {
    group = make_single_collective(plan.epoch);
  } else if (plan.engine == wire::CollectiveEngine::kShm) {
    ShmOptions shm;
    shm.name = plan.segment;
    shm.rank = static_cast<int>(plan.rank);
    shm.world = static_cast<int>(plan.world);
    shm.epoch = plan.epoch;
    shm.deadline = deadline;
    shm.stop = options.load.stop;
    SHOAL_ASSIGN(group, make_shm_collective(shm));
  } else {
    if (options.data_address.empty()) {
      return invalid_argument(
          "the plan connects workers over the network but this one has no data address; start it "
          "with "
          "--data-address or --interface");
    }
    GlooOptions gloo;
    gloo.address = options.data_address;
    gloo.rank = static_cast<int>(plan.rank);
    gloo.world = static_cast<int>(plan.world);
    gloo.epoch = plan.epoch;
    gloo.store = options.store;
    gloo.deadline = deadline;
    gloo.stop = options.load.stop;
    SHOAL_ASSIGN(group, make_gloo_collective(gloo));
  }
  std::lock_guard lock(mutex_);
  if (aborted_epoch_ >= plan.epoch) return cancelled("the plan was withdrawn while it formed");
  group_ = std::move(group);
  group_epoch_ = plan.epoch;
  return Status::ok();
}

Result<wire::Ready> Rank::form(const wire::Assign& plan, const FormOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  load_failed_ = false;
  leave();
  // What went wrong in an earlier epoch is over, unless the device is.
  (void)device_.synchronize(start + std::chrono::seconds(5));
  if (device_.lost()) return unavailable(device_.describe() + " is lost to this process");
  device_.use_int8_activations(plan.int8_activations);
  const Status loaded = load(plan, options.load);
  load_failed_ = !loaded.is_ok();
  SHOAL_TRY(loaded);
  if (kv_ && !(kv_->shape() == kv_shape(plan))) kv_.reset();
  if (!kv_) {
    SHOAL_ASSIGN(kv_, KvStore::create(model_->spec, model_->shard, kv_shape(plan), device_));
  }
  SHOAL_TRY(connect(plan, options));
  SHOAL_ASSIGN(runner_, StepRunner::create(plan, *model_, *kv_, device_, *group_));
  note_held();
  SHOAL_TRY(runner_->warm_up(
      {plan.epoch, std::chrono::steady_clock::now() + from_seconds(plan.form_timeout_seconds)}));
  // Everybody has weights, cache and scratch before anybody says ready.
  const OpContext op{plan.epoch,
                     std::chrono::steady_clock::now() + from_seconds(plan.form_timeout_seconds)};
  SHOAL_TRY(group_->barrier(op));
  wire::Ready ready;
  ready.epoch = plan.epoch;
  ready.weight_bytes = model_->weight_bytes;
  ready.kv_bytes = kv_->bytes();
  ready.scratch_bytes = runner_->scratch_bytes();
  ready.load_seconds = to_seconds(std::chrono::steady_clock::now() - start);
  return ready;
}

Result<wire::StepResult> Rank::run(const wire::Step& step) {
  if (!runner_) return failed_precondition("a step without a formed group");
  return runner_->run(step);
}

std::optional<wire::ExpertLoad> Rank::expert_load() const {
  if (!runner_ || model_->shard.rank != 0 || runner_->expert_tokens().empty()) return std::nullopt;
  wire::ExpertLoad load;
  load.epoch = group_epoch_;
  for (const LayerSpec& layer : model_->spec.layer) {
    if (layer.ffn.moe.experts > 0) load.experts = static_cast<uint32_t>(layer.ffn.moe.experts);
  }
  load.tokens = runner_->expert_tokens();
  return load;
}

void Rank::note_held() {
  held_bytes_.store((model_ ? model_->weight_bytes : 0) + (kv_ ? kv_->bytes() : 0) +
                    (runner_ ? runner_->scratch_bytes() : 0));
}

void Rank::leave() {
  runner_.reset();
  note_held();
  std::lock_guard lock(mutex_);
  group_.reset();
}

void Rank::abort(uint64_t epoch, const std::string& reason) {
  std::shared_ptr<Collective> group;
  {
    std::lock_guard lock(mutex_);
    aborted_epoch_ = std::max(aborted_epoch_, epoch);
    if (group_ && group_epoch_ <= epoch) group = group_;
  }
  if (group) group->abort(reason);
}

std::string Rank::held_digest() const {
  std::lock_guard lock(mutex_);
  return digest_;
}

}  // namespace shoal

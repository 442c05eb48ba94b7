#include "bench/decode_figures.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "bench/kernel_ops.h"
#include "parallel/collective/single_collective.h"
#include "worker/kv_store.h"
#include "worker/model_shard.h"
#include "worker/staged_exchange.h"
#include "worker/transformer.h"

namespace shoal {
namespace {

constexpr int64_t kChunk = 512, kBlockTokens = 64;
constexpr int kWarmUp = 4;  // steps: scratch memory grows, graphs are recorded

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TimePoint deadline() { return std::chrono::steady_clock::now() + std::chrono::minutes(5); }

// One sequence on one rank.
class Stream {
 public:
  Stream(Device& device, const ModelShard& model, int64_t tokens)
      : device_(device),
        model_(model),
        blocks_((tokens + kBlockTokens - 1) / kBlockTokens),
        group_(make_single_collective("shm", kEpoch)) {}

  Status create(KvType type) {
    const ModelSpec& spec = model_.spec;
    const KvShape shape{type, std::vector<int64_t>(spec.kv_groups.size(), blocks_), kBlockTokens};
    SHOAL_ASSIGN(kv_, KvStore::create(spec, model_.shard, shape, device_));
    SHOAL_ASSIGN(transformer_, Transformer::create(model_, device_, {.max_rows = kChunk}));
    for (auto& [buffer, width] :
         {std::pair{&ids_, 4}, {&positions_, 4}, {&sequences_, 4}, {&slots_, 8}, {&sampled_, 4}}) {
      SHOAL_ASSIGN(*buffer, device_.allocate(static_cast<uint64_t>(kChunk * width), "a step"));
    }
    std::vector<int32_t> table(static_cast<size_t>(blocks_));
    for (size_t b = 0; b < table.size(); ++b) table[b] = static_cast<int32_t>(b);
    SHOAL_ASSIGN(tables_, device_.allocate(table.size() * sizeof(int32_t), "a block table"));
    device_.copy_to_device(tables_->data(), table.data(), table.size() * sizeof(int32_t));
    return Status::ok();
  }

  // Runs consecutive tokens and greedily chooses the next.
  Result<int32_t> step(const std::vector<int32_t>& tokens) {
    const auto rows = static_cast<int64_t>(tokens.size());
    SHOAL_CHECK(rows <= kChunk && position_ + rows <= blocks_ * kBlockTokens, "too many tokens");
    std::vector<int32_t> positions;
    std::vector<int64_t> slots;
    for (int64_t r = 0; r < rows; ++r) {
      positions.push_back(static_cast<int32_t>(position_ + r));
      slots.push_back(position_ + r);
    }
    position_ += rows;
    const auto last = static_cast<int32_t>(rows - 1);
    device_.copy_to_device(ids_->data(), tokens.data(), tokens.size() * sizeof(int32_t));
    device_.copy_to_device(positions_->data(), positions.data(),
                           positions.size() * sizeof(int32_t));
    device_.copy_to_device(slots_->data(), slots.data(), slots.size() * sizeof(int64_t));
    device_.copy_to_device(sampled_->data(), &last, sizeof(last));
    const StepView view{.rows = rows,
                        .positions = positions_->i32(),
                        .kv_slots = static_cast<int64_t*>(slots_->data()),
                        .sequences = sequences_->i32(),
                        .block_tables = tables_->i32(),
                        .table_stride = blocks_};
    ForwardInput input;
    input.steps.assign(model_.spec.kv_groups.size(), view);
    input.ids = ids_->i32();
    input.sample_rows = sampled_->i32();
    input.sample_count = 1;
    exchange_.begin_step({kEpoch, ++steps_, deadline()});
    transformer_->forward(input, *kv_, exchange_);
    SHOAL_TRY(exchange_.end_step());
    float* logits = transformer_->logits(0, 1);
    SampleRow greedy;
    greedy.temperature = 0;
    LocalSample sample;
    const int64_t vocab = model_.shard.vocab.size();
    device_.sample_local(logits, transformer_->logits_stride(), vocab, 0, {&greedy, 1},
                         {&sample, 1});
    SHOAL_TRY(device_.synchronize(deadline()));
    // Random weights may make any logits, but not none.
    if (sample.best.id < 0) return internal_error("the model's logits are not numbers");
    return sample.best.id;
  }

  // Bytes of weights the last step read.
  uint64_t bytes_read() {
    const uint64_t before = transformer_->bytes_read();
    transformer_->account();
    return transformer_->bytes_read() - before;
  }

 private:
  static constexpr uint64_t kEpoch = 1;

  Device& device_;
  const ModelShard& model_;
  int64_t blocks_;
  int64_t position_ = 0;
  uint64_t steps_ = 0;
  std::unique_ptr<Collective> group_;
  StagedExchange exchange_{device_, *group_};
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<Buffer> ids_, positions_, sequences_, slots_, sampled_, tables_;
};

Result<double> ceiling(Device& device) {
  constexpr uint64_t kLeast = uint64_t{64} << 20, kCaches = 4;
  KernelTimer timer(device, 5, std::max(kLeast, kCaches * device.cache_bytes()) / 4096 * 4096);
  return read_ceiling(timer);
}

Status run(Stream& stream, const DecodeBenchOptions& options, const ModelSpec& spec,
           DecodeFigures* figures) {
  Rng rng(6);
  int32_t next = 0;
  const double start = now();
  for (int64_t at = 0; at < options.context; at += kChunk) {
    std::vector<int32_t> tokens(static_cast<size_t>(std::min(kChunk, options.context - at)));
    for (int32_t& id : tokens) {
      id = static_cast<int32_t>(rng.below(static_cast<uint64_t>(spec.vocab)));
    }
    SHOAL_ASSIGN(next, stream.step(tokens));
  }
  figures->prefill_seconds = now() - start;
  for (int64_t i = 0; i < kWarmUp + options.generate; ++i) {
    const double begin = now();
    SHOAL_ASSIGN(next, stream.step({next}));
    if (i >= kWarmUp) figures->step_seconds.push_back(now() - begin);
    if (i == 0) figures->bytes_per_token = stream.bytes_read();
  }
  return Status::ok();
}

}  // namespace

double DecodeFigures::step() const {
  std::vector<double> seconds = step_seconds;
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<long>(seconds.size() / 2),
                   seconds.end());
  return seconds[seconds.size() / 2];
}

Result<DecodeFigures> measure_decode(Device& device, const DecodeBenchOptions& options) {
  DecodeFigures figures;
  figures.device = device.describe();
  figures.arithmetic = device.arithmetic();
  SHOAL_ASSIGN(figures.ceiling_before, ceiling(device));
  const double start = now();
  SHOAL_ASSIGN(const auto source, make_synth_source(options.shape, {.mix = options.mix}));
  SHOAL_ASSIGN(const GgufFile file, GgufFile::parse(source));
  SHOAL_ASSIGN(const ModelSpec spec, read_model_spec(file));
  SHOAL_ASSIGN(const RankShard shard, make_rank_shard(spec, {1, {1.0}, {}}, 0));
  const int64_t tokens = options.context + options.generate + kWarmUp;
  SHOAL_ASSIGN(const auto model, load_model_shard(file, spec, shard, device, {.context = tokens}));
  SHOAL_TRY(device.synchronize(deadline()));
  figures.load_seconds = now() - start;
  figures.weight_bytes = model->weight_bytes;
  Stream stream(device, *model, tokens);
  SHOAL_TRY(stream.create(options.kv));
  SHOAL_TRY(run(stream, options, spec, &figures));
  const auto element = static_cast<uint64_t>(options.kv == KvType::kF32 ? 4 : 2);
  for (int64_t l = 0; l < spec.layers; ++l) {
    const AttentionLayer& layer = spec.layer[static_cast<size_t>(l)].attention;
    if (layer.heads == 0) continue;
    const KvGroup& group = spec.kv_groups[static_cast<size_t>(layer.kv_group)];
    const int64_t seen = options.context - group.first_visible(options.context - 1);
    const int64_t width = layer.is_latent() ? layer.head_dim : 2 * layer.head_dim;
    figures.kv_bytes += element * static_cast<uint64_t>(seen * layer.kv_heads * width);
  }
  SHOAL_ASSIGN(figures.ceiling_after, ceiling(device));
  return figures;
}

}  // namespace shoal

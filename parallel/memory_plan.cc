#include "parallel/memory_plan.h"

#include <algorithm>
#include <limits>

#include <fmt/core.h>

#include "base/check.h"

namespace shoal {
namespace {

// Shared-memory slots of a rank (1 MiB twice, mails) or what sockets keep instead.
constexpr uint64_t kCollectiveBytes = 3 << 20;
// A prepared activation: float32, int8 codes, and a scale and a sum per 32.
constexpr uint64_t kActivationBytes = 6;

uint64_t held_bytes(const TensorSlice& slice, TensorType type) {
  if (slice.decl->cols == 1) return static_cast<uint64_t>(slice.rows.size()) * sizeof(float);
  return slice_bytes(slice, type);
}

Status check_options(const MemoryOptions& o) {
  if (o.kv_element_bytes < 1 || o.kv_element_bytes > 8 || o.block_tokens < 1 || o.max_rows < 1 ||
      o.logit_rows < 0 || o.block_tokens > (1 << 20) || o.max_rows > (1 << 20) ||
      o.logit_rows > (1 << 20)) {
    return invalid_argument(fmt::format(
        "a memory plan with {} bytes per KV element, {} tokens per block, {} rows, {} logit rows",
        o.kv_element_bytes, o.block_tokens, o.max_rows, o.logit_rows));
  }
  return Status::ok();
}

uint64_t kv_block_bytes(const ModelSpec& spec, const RankShard& shard, const MemoryOptions& o) {
  int64_t elements = 0;  // per token
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    elements += 2 * shard.layers[i].kv_heads.size() * spec.layer[i].attention.head_dim;
  }
  return static_cast<uint64_t>(elements * o.block_tokens * o.kv_element_bytes);
}

// The buffers of worker/transformer.cc: two residual-wide, q, k, v, three prepared activations.
uint64_t scratch_bytes(const ModelSpec& spec, const RankShard& shard, const MemoryOptions& o) {
  int64_t q = 0, kv = 0, ffn = 0;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const int64_t head_dim = spec.layer[i].attention.head_dim;
    q = std::max(q, shard.layers[i].heads.size() * head_dim);
    kv = std::max(kv, shard.layers[i].kv_heads.size() * head_dim);
    ffn = std::max(ffn, shard.layers[i].ffn.size());
  }
  const auto rows = static_cast<uint64_t>(o.max_rows);
  const auto floats = static_cast<uint64_t>(2 * spec.width + q + 2 * kv);
  const auto prepared = static_cast<uint64_t>(spec.width + q + ffn);
  const auto logits = static_cast<uint64_t>(o.logit_rows * shard.vocab.size());
  return rows * (floats * sizeof(float) + prepared * kActivationBytes) + logits * sizeof(float) +
         (shard.world > 1 ? kCollectiveBytes : 0);
}

}  // namespace

TensorTypeOf tensor_types(const GgufFile& file) {
  return [&file](const std::string& name) -> Result<TensorType> {
    const TensorInfo* tensor = file.find_tensor(name);
    if (tensor == nullptr) return not_found("the file has no tensor '" + name + "'");
    return tensor->type;
  };
}

Result<MemoryPlan> make_memory_plan(const ModelSpec& spec, const TensorTypeOf& type_of,
                                    const TensorParallelPlan& plan, const MemoryOptions& options) {
  SHOAL_TRY(check_options(options));
  SHOAL_TRY(check_plan(plan));
  MemoryPlan out;
  out.options = options;
  std::vector<RankShard> shards;
  for (int rank = 0; rank < plan.world; ++rank) {
    SHOAL_ASSIGN(RankShard shard, make_rank_shard(spec, plan, rank));
    RankMemory memory;
    memory.rank = rank;
    memory.kv_block_bytes = kv_block_bytes(spec, shard, options);
    memory.scratch_bytes = scratch_bytes(spec, shard, options);
    out.ranks.push_back(memory);
    shards.push_back(std::move(shard));
  }
  for (const TensorDecl& decl : spec.tensors) {
    // A tied output reads the embedding's copy.
    if (decl.role == Role::kOutput && spec.tied_output) continue;
    SHOAL_ASSIGN(const TensorType type, type_of(decl.name));
    const TensorSlice whole{&decl, {0, decl.rows}, {0, decl.cols}};
    uint64_t held = 0;
    for (size_t rank = 0; rank < shards.size(); ++rank) {
      const uint64_t bytes = held_bytes(slice_tensor(decl, spec, shards[rank]), type);
      out.ranks[rank].weight_bytes += bytes;
      held += bytes;
    }
    out.replicated_bytes += held - std::min(held, held_bytes(whole, type));
  }
  return out;
}

BlockRoom block_room(const RankMemory& rank, uint64_t memory) {
  const uint64_t fixed = rank.bytes_with(0);
  if (fixed > memory) return {};
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  if (rank.kv_block_bytes == 0) return {true, static_cast<int64_t>(kMost)};
  return {true, static_cast<int64_t>(std::min((memory - fixed) / rank.kv_block_bytes, kMost))};
}

Result<int64_t> fit_blocks(const MemoryPlan& plan, const std::vector<uint64_t>& memory,
                           int64_t required, int64_t wanted) {
  SHOAL_CHECK(memory.size() == plan.ranks.size(), "a memory figure per rank");
  SHOAL_CHECK(1 <= required && required <= wanted, "1 ≤ required ≤ wanted KV blocks");
  int64_t blocks = wanted;
  const RankMemory* tightest = nullptr;
  for (const RankMemory& rank : plan.ranks) {
    const uint64_t available = memory[static_cast<size_t>(rank.rank)];
    const BlockRoom room = block_room(rank, available);
    if (!room.weights_fit) {
      return resource_exhausted(fmt::format(
          "rank {} does not fit: weights {} and scratch {} make {}, but it may use {}; use more "
          "workers, another quantisation, or give this one a smaller share",
          rank.rank, format_bytes(rank.weight_bytes), format_bytes(rank.scratch_bytes),
          format_bytes(rank.bytes_with(0)), format_bytes(available)));
    }
    if (room.blocks < blocks) {
      blocks = room.blocks;
      tightest = &rank;
    }
  }
  if (blocks >= required) return blocks;
  const int64_t tokens = plan.options.block_tokens;
  return resource_exhausted(fmt::format(
      "rank {} does not fit: weights {}, scratch {} and {} KV blocks of {} ({} tokens) make {}, "
      "but "
      "it may use {}; the largest context that fits is {} tokens",
      tightest->rank, format_bytes(tightest->weight_bytes), format_bytes(tightest->scratch_bytes),
      required, format_bytes(tightest->kv_block_bytes), required * tokens,
      format_bytes(tightest->bytes_with(required)),
      format_bytes(memory[static_cast<size_t>(tightest->rank)]), blocks * tokens));
}

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit >= 2 ? 2 : 1, kUnits[unit]);
}

std::string format_memory_plan(const MemoryPlan& plan, int64_t blocks) {
  std::string text = fmt::format("{:>4}  {:>12}  {:>12}  {:>12}  {:>12}\n", "rank", "weights", "KV",
                                 "scratch", "total");
  uint64_t weights = 0, kv = 0, scratch = 0;
  const auto line = [&](const std::string& name, uint64_t w, uint64_t k, uint64_t s) {
    text += fmt::format("{:>4}  {:>12}  {:>12}  {:>12}  {:>12}\n", name, format_bytes(w),
                        format_bytes(k), format_bytes(s), format_bytes(w + k + s));
  };
  for (const RankMemory& rank : plan.ranks) {
    const uint64_t cache = static_cast<uint64_t>(blocks) * rank.kv_block_bytes;
    line(std::to_string(rank.rank), rank.weight_bytes, cache, rank.scratch_bytes);
    weights += rank.weight_bytes;
    kv += cache;
    scratch += rank.scratch_bytes;
  }
  line("all", weights, kv, scratch);
  text += fmt::format("{} KV blocks of {} tokens: {} tokens; weights held more than once: {}\n",
                      blocks, plan.options.block_tokens, blocks * plan.options.block_tokens,
                      format_bytes(plan.replicated_bytes));
  return text;
}

}  // namespace shoal

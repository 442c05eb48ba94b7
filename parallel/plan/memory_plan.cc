#include "parallel/plan/memory_plan.h"

#include <algorithm>
#include <limits>

#include <fmt/core.h>

#include "base/check.h"

namespace shoal {
namespace {

// Shared-memory slots of a rank (1 MiB twice, mails) or what sockets keep instead.
constexpr uint64_t kCollectiveBytes = 3 << 20;
// Activations as the CPU keeps them, the largest of the devices: float32, two int8 terms and four
// floats per 32 of every feature; zeros in front of and behind every row.
constexpr int64_t kActivationPad = 256;
int64_t activation_bytes(int64_t features) {
  const int64_t stride = (features + 31) / 32 * 32 + 2 * kActivationPad;
  return stride * 6 + stride / 2;
}

uint64_t held_bytes(const TensorSlice& slice, TensorType type) {
  if (slice.decl->form == TensorForm::kKeysOfKvB) type = TensorType::kF32;  // transposed at load
  const uint64_t copies = slice.decl->experts > 0 ? slice.experts.size() : 1;
  const auto rows = static_cast<uint64_t>(slice.rows.size());
  if (slice.decl->cols == 1) return copies * rows * sizeof(float);
  return slice_bytes(slice, type);
}

// Everything of a declared tensor.
TensorSlice whole(const TensorDecl& decl) {
  TensorSlice slice{&decl, {0, decl.rows}, {0, decl.cols}};
  for (int64_t e = 0; e < decl.experts; ++e) slice.experts.push_back(static_cast<int32_t>(e));
  return slice;
}

Status check_options(const MemoryOptions& o) {
  if (o.kv_element_bytes < 1 || o.kv_element_bytes > 8 || o.block_tokens < 1 || o.max_rows < 1 ||
      o.logit_rows < 0 || o.block_tokens > (1 << 20) || o.max_rows > (1 << 20) ||
      o.logit_rows > (1 << 20) || o.context_tokens < 0 || o.max_sequences < 1 ||
      o.max_sequences > (1 << 20) || o.prefill_chunk < 1 || o.prefill_chunk > (1 << 20)) {
    return invalid_argument(fmt::format(
        "a memory plan with {} bytes per KV element, {} tokens per block, {} rows, {} logit rows, "
        "context {}, {} sequences, prompt chunks of {}",
        o.kv_element_bytes, o.block_tokens, o.max_rows, o.logit_rows, o.context_tokens,
        o.max_sequences, o.prefill_chunk));
  }
  return Status::ok();
}

// A spec made by hand may have no groups: then all layers are of one that sees everything.
size_t group_count(const ModelSpec& spec) { return std::max<size_t>(1, spec.kv_groups.size()); }

std::vector<uint64_t> kv_block_bytes(const ModelSpec& spec, const RankShard& shard,
                                     const MemoryOptions& o) {
  std::vector<uint64_t> bytes(group_count(spec));
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const AttentionLayer& attention = spec.layer[i].attention;
    const int64_t vectors = attention.is_latent() ? 1 : 2;
    const int64_t elements = vectors * shard.layers[i].kv_heads.size() * attention.head_dim;
    bytes.at(static_cast<size_t>(attention.kv_group)) +=
        static_cast<uint64_t>(elements * o.block_tokens * o.kv_element_bytes);
  }
  return bytes;
}

std::vector<int64_t> most_blocks(const ModelSpec& spec, const MemoryOptions& o) {
  std::vector<int64_t> most(group_count(spec), std::numeric_limits<int64_t>::max());
  for (size_t i = 0; i < spec.kv_groups.size(); ++i) {
    const KvGroup& group = spec.kv_groups[i];
    if (group.window == 0 && group.chunk == 0) continue;
    int64_t visible = std::numeric_limits<int64_t>::max();
    for (const int64_t bound : {group.window, group.chunk, o.context_tokens}) {
      if (bound > 0) visible = std::min(visible, bound);
    }
    const int64_t blocks = (visible + o.prefill_chunk - 1) / o.block_tokens + 1;
    most[i] = o.max_sequences * (blocks + 2) * 2;
  }
  return most;
}

// Features of the buffers of worker/scratch.h, per row: the widest of every kind over the layers.
struct RowScratch {
  int64_t floats = 0;       // Buffers
  int64_t activations = 0;  // bytes of Activations
};

RowScratch attention_scratch(const ModelSpec& spec, const RankShard& shard) {
  int64_t q = 0, kv = 0, attended = 0, q_rank = 0, q_full = 0, latent = 0, values = 0;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const AttentionLayer& layer = spec.layer[i].attention;
    const int64_t heads = shard.layers[i].heads.size();
    q = std::max(q, heads * layer.head_dim);
    kv = std::max(kv, shard.layers[i].kv_heads.size() * layer.head_dim);
    attended = std::max(attended, heads * layer.output_dim());
    if (!layer.is_latent() || heads == 0) continue;
    q_rank = std::max(q_rank, layer.latent.q_rank);
    q_full = std::max(q_full, heads * layer.query_dim());
    latent = std::max(latent, heads * layer.latent.kv_rank);
    values = std::max(values, heads * layer.latent.value);
  }
  RowScratch out{q + 2 * kv, activation_bytes(attended)};
  if (latent == 0) return out;
  out.floats += q_rank + q_full + values;
  out.activations += activation_bytes(q_rank) + activation_bytes(q_full) + activation_bytes(latent);
  return out;
}

RowScratch ffn_scratch(const ModelSpec& spec, const RankShard& shard) {
  int64_t gated = 0, hidden = 0, experts = 0, top_k = 0;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const MoeLayer& moe = spec.layer[i].ffn.moe;
    const LayerShard& part = shard.layers[i];
    gated = std::max({gated, part.ffn.size(), part.shared.size()});
    experts = std::max(experts, moe.experts);
    top_k = std::max(top_k, moe.top_k);
    if (!part.experts.empty()) hidden = std::max(hidden, part.expert_features.size());
  }
  if (experts == 0) return {0, activation_bytes(gated)};
  // Router logits, ids and weights, and the shared expert's gate.
  return {experts + 2 * top_k + 1, activation_bytes(gated) + top_k * activation_bytes(hidden)};
}

// Ids, positions, block tables of a step.
uint64_t step_bytes(const ModelSpec& spec, const MemoryOptions& o) {
  const auto groups = static_cast<int64_t>(group_count(spec));
  const int64_t table = (o.context_tokens + o.block_tokens - 1) / o.block_tokens;
  const int64_t tables = std::min(o.max_rows, 2 * o.max_sequences);
  return static_cast<uint64_t>(o.max_rows * (16 + 8 * groups) + groups * tables * table * 4);
}

uint64_t scratch_bytes(const ModelSpec& spec, const RankShard& shard, const MemoryOptions& o) {
  const RowScratch attention = attention_scratch(spec, shard), ffn = ffn_scratch(spec, shard);
  const int64_t floats = o.max_rows * (2 * spec.width + attention.floats + ffn.floats) +
                         o.logit_rows * shard.vocab.size();
  const int64_t width = activation_bytes(spec.width);
  const int64_t activations =
      o.max_rows * (width + attention.activations + ffn.activations) + o.logit_rows * width;
  return static_cast<uint64_t>(floats) * sizeof(float) + static_cast<uint64_t>(activations) +
         step_bytes(spec, o) + (shard.world > 1 ? kCollectiveBytes : 0);
}

uint64_t saturating_add(uint64_t a, uint64_t b) {
  return a > std::numeric_limits<uint64_t>::max() - b ? std::numeric_limits<uint64_t>::max()
                                                      : a + b;
}

uint64_t saturating_multiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<uint64_t>::max() : product;
}

}  // namespace

uint64_t RankMemory::kv_bytes(const std::vector<int64_t>& blocks) const {
  SHOAL_CHECK(blocks.size() == kv_block_bytes.size(), "a number of blocks per KV group");
  uint64_t bytes = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    bytes = saturating_add(
        bytes, saturating_multiply(static_cast<uint64_t>(blocks[i]), kv_block_bytes[i]));
  }
  return bytes;
}

uint64_t RankMemory::bytes_with(const std::vector<int64_t>& blocks) const {
  return saturating_add(weight_bytes + scratch_bytes, kv_bytes(blocks));
}

std::vector<int64_t> MemoryPlan::group_blocks(int64_t full) const {
  std::vector<int64_t> blocks;
  for (const int64_t most : most_blocks) blocks.push_back(std::min(full, most));
  return blocks;
}

TensorTypeOf tensor_types(const GgufFile& file) {
  return [&file](const std::string& name) -> Result<TensorType> {
    const TensorInfo* tensor = file.find_tensor(name);
    if (tensor == nullptr) return not_found("the file has no tensor '" + name + "'");
    return tensor->type;
  };
}

TensorTypeOf tensor_types(std::shared_ptr<const GgufFile> file) {
  return [file, types = tensor_types(*file)](const std::string& name) { return types(name); };
}

Result<MemoryPlan> make_memory_plan(const ModelSpec& spec, const TensorTypeOf& type_of,
                                    const TensorParallelPlan& plan, const MemoryOptions& options) {
  SHOAL_TRY(check_options(options));
  SHOAL_TRY(check_plan(plan));
  MemoryPlan out;
  out.options = options;
  out.most_blocks = most_blocks(spec, options);
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
    if (decl.role == Role::kOutput && spec.tied_output && !decl.bias) continue;
    SHOAL_ASSIGN(const TensorType type, type_of(decl.name));
    uint64_t held = 0;
    for (size_t rank = 0; rank < shards.size(); ++rank) {
      const uint64_t bytes = held_bytes(slice_tensor(decl, spec, shards[rank]), type);
      out.ranks[rank].weight_bytes += bytes;
      if (decl.experts > 0) out.ranks[rank].expert_bytes += bytes;
      held += bytes;
    }
    out.replicated_bytes += held - std::min(held, held_bytes(whole(decl), type));
  }
  return out;
}

Result<std::vector<uint64_t>> expert_bytes(const ModelSpec& spec, const TensorTypeOf& type_of) {
  std::vector<uint64_t> of_layer(spec.layer.size());
  for (const TensorDecl& decl : spec.tensors) {
    if (decl.experts == 0) continue;
    SHOAL_ASSIGN(const TensorType type, type_of(decl.name));
    TensorSlice one{&decl, {0, decl.rows}, {0, decl.cols}, {0}};
    of_layer.at(static_cast<size_t>(decl.layer)) += held_bytes(one, type);
  }
  std::vector<uint64_t> out;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    if (spec.layer[i].ffn.moe.experts > 0) out.push_back(of_layer[i]);
  }
  return out;
}

Result<uint64_t> bytes_per_token(const ModelSpec& spec, const TensorTypeOf& type_of) {
  uint64_t bytes = 0;
  for (const TensorDecl& decl : spec.tensors) {
    if (decl.role == Role::kTokenEmbedding && !spec.tied_output) continue;
    const bool shared = decl.role == Role::kOutput && spec.tied_output && !decl.bias;
    if (shared) continue;  // counted as the embedding
    SHOAL_ASSIGN(const TensorType type, type_of(decl.name));
    TensorSlice read = whole(decl);
    if (decl.experts > 0) {
      const MoeLayer& moe = spec.layer.at(static_cast<size_t>(decl.layer)).ffn.moe;
      read.experts.resize(static_cast<size_t>(std::min(moe.top_k, decl.experts)));
    }
    bytes += held_bytes(read, type);
  }
  return bytes;
}

BlockRoom block_room(const MemoryPlan& plan, const RankMemory& rank, uint64_t memory) {
  if (rank.bytes_with(plan.group_blocks(0)) > memory) return {};
  if (rank.kv_bytes(plan.group_blocks(1)) == 0) return {true, std::numeric_limits<int64_t>::max()};
  // Bytes only grow with the number of blocks: `low` fits, `high` does not or is the bound.
  int64_t low = 0, high = kMaxPlannedBlocks + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (rank.bytes_with(plan.group_blocks(middle)) <= memory ? low : high) = middle;
  }
  return {true, low};
}

namespace {

// "100 KV blocks of 1.0 KiB", "100 + 34 KV blocks of 1.0 KiB + 4.0 KiB"
std::string describe_blocks(const RankMemory& rank, const std::vector<int64_t>& blocks) {
  std::string counts, sizes;
  for (size_t i = 0; i < blocks.size(); ++i) {
    counts += fmt::format("{}{}", i == 0 ? "" : " + ", blocks[i]);
    sizes += fmt::format("{}{}", i == 0 ? "" : " + ", format_bytes(rank.kv_block_bytes[i]));
  }
  return fmt::format("{} KV blocks of {}", counts, sizes);
}

// "rank 1 (worker 'b' on h) does not fit"
std::string misfit(const RankMemory& rank, const std::vector<std::string>& holders) {
  if (holders.empty()) return fmt::format("rank {} does not fit", rank.rank);
  return fmt::format("rank {} ({}) does not fit", rank.rank,
                     holders.at(static_cast<size_t>(rank.rank)));
}

Status weights_do_not_fit(const RankMemory& rank, uint64_t available, const std::string& who) {
  const std::string experts = rank.expert_bytes == 0 ? ""
                                                     : fmt::format(" ({} of them experts)",
                                                                   format_bytes(rank.expert_bytes));
  const uint64_t needed = rank.weight_bytes + rank.scratch_bytes;
  return resource_exhausted(fmt::format(
      "{}: weights {}{} and scratch {} make {}, but it may use {}, {} too little; use more "
      "workers, another quantisation, {}or give this one a smaller share",
      who, format_bytes(rank.weight_bytes), experts, format_bytes(rank.scratch_bytes),
      format_bytes(needed), format_bytes(available), format_bytes(needed - available),
      rank.expert_bytes == 0 ? "" : "workers that hold experts only, "));
}

}  // namespace

Result<int64_t> fit_blocks(const MemoryPlan& plan, const std::vector<uint64_t>& memory,
                           int64_t required, int64_t wanted,
                           const std::vector<std::string>& holders) {
  SHOAL_CHECK(memory.size() == plan.ranks.size(), "a memory figure per rank");
  SHOAL_CHECK(1 <= required && required <= wanted && wanted <= kMaxPlannedBlocks,
              "1 ≤ required ≤ wanted KV blocks");
  int64_t blocks = wanted;
  const RankMemory* tightest = nullptr;
  for (const RankMemory& rank : plan.ranks) {
    const uint64_t available = memory[static_cast<size_t>(rank.rank)];
    const BlockRoom room = block_room(plan, rank, available);
    if (!room.weights_fit) return weights_do_not_fit(rank, available, misfit(rank, holders));
    if (room.blocks < blocks) {
      blocks = room.blocks;
      tightest = &rank;
    }
  }
  if (blocks >= required) return blocks;
  const int64_t tokens = plan.options.block_tokens;
  const std::vector<int64_t> needed = plan.group_blocks(required);
  const uint64_t bytes = tightest->bytes_with(needed);
  const uint64_t available = memory[static_cast<size_t>(tightest->rank)];
  return resource_exhausted(fmt::format(
      "{}: weights {}, scratch {} and {} ({} tokens) make {}, but it may use {}, {} too little; "
      "the largest context that fits is {} tokens",
      misfit(*tightest, holders), format_bytes(tightest->weight_bytes),
      format_bytes(tightest->scratch_bytes), describe_blocks(*tightest, needed), required * tokens,
      format_bytes(bytes), format_bytes(available), format_bytes(bytes - available),
      blocks * tokens));
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
  const std::vector<int64_t> groups = plan.group_blocks(blocks);
  uint64_t weights = 0, kv = 0, scratch = 0;
  const auto line = [&](const std::string& name, uint64_t w, uint64_t k, uint64_t s) {
    text += fmt::format("{:>4}  {:>12}  {:>12}  {:>12}  {:>12}\n", name, format_bytes(w),
                        format_bytes(k), format_bytes(s), format_bytes(w + k + s));
  };
  for (const RankMemory& rank : plan.ranks) {
    const uint64_t cache = rank.kv_bytes(groups);
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

// What a tensor-parallel plan costs each rank in memory, before anything is loaded. Pure arithmetic
// over the file's header: the coordinator refuses a plan that does not fit, with these figures, and
// `shoal inspect --workers N` prints them.
//
// bytes of a rank = weights + Σ over KV groups of blocks × block bytes + scratch. Weights are
// counted as in the file: whole blocks that its slices touch (a super-block that is cut is held
// twice), vectors as float32, matrices that are transposed while they load as float32. A latent
// layer caches one vector per token, the others a key and a value per KV head. Devices that store
// weights or KV larger than that report the difference through their own figures
// (Ready::weight_bytes, kv_bytes). Sums are exact in 64 bits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/gguf.h"
#include "model/model_spec.h"
#include "parallel/plan/shard.h"

namespace shoal {

struct MemoryOptions {
  int64_t kv_element_bytes = 2;  // fp16: 2, f32: 4
  int64_t block_tokens = 16;     // tokens per KV block
  int64_t max_rows = 512;        // of a step
  int64_t logit_rows = 16;       // rows whose logits exist at a time
  // What bounds the KV groups that forget (windows, chunks): longest sequence, 0: any length;
  // sequences at once; prompt tokens of one sequence in one step.
  int64_t context_tokens = 0;
  int64_t max_sequences = 64;
  int64_t prefill_chunk = 256;
};

struct RankMemory {
  int rank = 0;
  uint64_t weight_bytes = 0;
  uint64_t expert_bytes = 0;  // of weight_bytes: routed experts
  // [KV groups] of one block, all layers of the group; 0 if the rank has no heads in them.
  std::vector<uint64_t> kv_block_bytes;
  uint64_t scratch_bytes = 0;  // activations, logits, collective buffers; estimated

  // blocks: [KV groups]. Saturates at 2^64 − 1.
  uint64_t kv_bytes(const std::vector<int64_t>& blocks) const;
  uint64_t bytes_with(const std::vector<int64_t>& blocks) const;
};

struct MemoryPlan {
  MemoryOptions options;
  std::vector<RankMemory> ranks;  // [world]
  // [KV groups] blocks beyond which a group has no use for more; INT64_MAX where a sequence sees
  // all of its past. Windows and chunks of W tokens: max_sequences × (⌈(min(W, context) +
  // prefill_chunk) ÷ block_tokens⌉ + 2) × 2; twice, so that tails of ended conversations can stay.
  std::vector<int64_t> most_blocks;
  // Weight bytes that more than one rank holds, beyond the first copy: replicated tensors and
  // experts, cut super-blocks and replicated KV heads.
  uint64_t replicated_bytes = 0;

  // [KV groups] blocks where a group that sees everything has `full`.
  std::vector<int64_t> group_blocks(int64_t full) const;
};

// The type of a tensor by its name in the file, or an error. From a GgufFile: tensor_types(file).
using TensorTypeOf = std::function<Result<TensorType>(const std::string& name)>;
TensorTypeOf tensor_types(const GgufFile& file);  // `file` outlives the function
TensorTypeOf tensor_types(std::shared_ptr<const GgufFile> file);

// Refuses bad plans (check_plan), options below 1, and tensors the file does not have.
Result<MemoryPlan> make_memory_plan(const ModelSpec& spec, const TensorTypeOf& type_of,
                                    const TensorParallelPlan& plan, const MemoryOptions& options);

// KV blocks (of a group that sees everything; the others follow by group_blocks) that fit in
// `memory` bytes beside weights and scratch; nothing if even those do not. A rank without heads has
// room for any number: INT64_MAX.
struct BlockRoom {
  bool weights_fit = false;
  int64_t blocks = 0;
};
BlockRoom block_room(const MemoryPlan& plan, const RankMemory& rank, uint64_t memory);

// How many KV blocks a group that sees everything gets: the least of the ranks' room, at most
// `wanted`; group_blocks() gives those of every group. An error (kResourceExhausted) if some rank
// has less than `required` (one sequence of the context length, say): it names the rank, what
// weights, scratch and blocks need, what there is, what is missing, and what would fit. memory:
// bytes each rank may use, [world]; holders: what to call who holds each rank, [world], or empty.
// REQUIRES: 1 ≤ required ≤ wanted ≤ kMaxPlannedBlocks.
inline constexpr int64_t kMaxPlannedBlocks = int64_t{1} << 30;
Result<int64_t> fit_blocks(const MemoryPlan& plan, const std::vector<uint64_t>& memory,
                           int64_t required, int64_t wanted,
                           const std::vector<std::string>& holders = {});

// [mixture layers in order] bytes of one whole expert of the layer.
Result<std::vector<uint64_t>> expert_bytes(const ModelSpec& spec, const TensorTypeOf& type_of);

// Bytes of weights that one decoded token reads on all ranks together, if none is held twice: every
// matrix once, top_k of the experts, nothing of an embedding that is not the output too (one row).
Result<uint64_t> bytes_per_token(const ModelSpec& spec, const TensorTypeOf& type_of);

// A table for people: a line per rank, then totals. `blocks` of a group that sees everything.
std::string format_memory_plan(const MemoryPlan& plan, int64_t blocks);
// "4.35 GiB", "640.0 KiB"
std::string format_bytes(uint64_t bytes);

}  // namespace shoal

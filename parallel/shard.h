// Shard arithmetic: which part of every tensor a rank holds. Pure.
//
// Units of 32 features (the granularity every block type can be cut or masked at); heads and
// vocabulary are cut by whole heads and by 32 token ids. Shares may be uneven. Parts are contiguous,
// in rank order, and cover everything exactly once — except KV heads, which are replicated on every
// rank that holds one of their query heads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/model_spec.h"
#include "model/tensor_type.h"

namespace shoal {

inline constexpr int64_t kShardGranularity = 32;

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

// Cuts [0, total) into shares.size() contiguous ranges proportional to `shares`, cut points on
// multiples of `unit` (the last range takes the remainder), by largest remainder: deterministic.
// Ranges may be empty when there are fewer units than ranks.
std::vector<Range> split_range(int64_t total, int64_t unit, const std::vector<double>& shares);

struct TensorParallelPlan {
  int world = 1;
  std::vector<double> shares;  // [world], > 0, relative weight of each rank
};

struct LayerShard {
  Range heads;     // query heads, global indices
  Range kv_heads;  // KV heads that cover them; may overlap with other ranks'
  Range ffn;       // FFN features
};

struct RankShard {
  int rank = 0;
  int world = 1;
  Range vocab;
  std::vector<LayerShard> layers;
};

// Checks the plan (world ≥ 1, shares finite and > 0, world ≤ 64) and computes one rank's part.
Result<RankShard> make_rank_shard(const ModelSpec& spec, const TensorParallelPlan& plan, int rank);

// The part of one declared tensor a rank holds, in the coordinates of the file's tensor.
struct TensorSlice {
  const TensorDecl* decl = nullptr;
  Range rows;  // of the file's tensor (decl->first_row already added)
  Range cols;  // logical columns; cut inside a block → the whole block is read and masked
};
TensorSlice slice_tensor(const TensorDecl& decl, const ModelSpec& spec, const RankShard& shard);

// Bytes a rank holds of a tensor of this type.
uint64_t slice_bytes(const TensorSlice& slice, TensorType type);

}  // namespace shoal

// Shard arithmetic: which part of every tensor a rank holds. Pure, deterministic, thread-safe.
//
// Every rank computes every rank's part from (spec, plan) alone, so nothing is exchanged and
// nothing can disagree. Parts are contiguous, in rank order, and cover everything exactly once —
// except KV heads, which are replicated on every rank that holds one of their query heads. A rank
// may hold nothing of a layer (more ranks than units): it adds zero to that layer's sum.
//
// Where cuts may lie
//  * Vocabulary: multiples of 32 token ids.
//  * FFN features: multiples of 32, the granularity at which every block type can be cut or masked.
//    Multiples of 256 instead where features ≥ 1024 × world and that makes the largest part,
//    relative to its share, at most 2 % larger: then no super-block of a K-quant is held and masked
//    twice.
//  * Heads: whole heads, and only where the cut in attn_output's columns is a multiple of 32 (any
//    head if 32 divides head_dim; every second one for head_dim 80). If a layer has at least as
//    many KV heads as ranks: whole GQA groups, so that no KV head is stored twice. Otherwise query
//    heads are spread and KV heads replicated; a rank's heads stay inside one group unless that
//    would give some rank more than the even spread does (40 heads, 8 KV heads, 16 ranks: 3, 2, 3,
//    2, …).
//  * Rows and columns that end a tensor may end anywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/model_spec.h"
#include "model/tensor_type.h"

namespace shoal {

inline constexpr int64_t kShardGranularity = 32;
inline constexpr int kMaxWorld = 64;

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool empty() const { return begin == end; }
  friend bool operator==(const Range&, const Range&) = default;
};

// Cuts [0, total) into shares.size() contiguous ranges proportional to `shares`, cut points on
// multiples of `unit` (the last non-empty range takes the remainder), by largest remainder, ties to
// the lower rank. Ranges may be empty when there are fewer units than ranks.
// REQUIRES: total ≥ 0, unit ≥ 1, at least one share, shares finite and > 0.
std::vector<Range> split_range(int64_t total, int64_t unit, const std::vector<double>& shares);

// How the experts of mixture layers are divided. Sliced: every rank holds a part of the features of
// every expert. Placed: ranks hold whole experts.
struct ExpertPlan {
  // Sliced: [world], ≥ 0, relative number of features; empty: as TensorParallelPlan::shares.
  std::vector<double> shares;
  // Placed if not empty: [mixture layers in order][experts], bit r set: rank r holds the expert. Of
  // several holders, position % holders (by rank) computes.
  std::vector<uint64_t> ranks;
  bool placed() const { return !ranks.empty(); }
  friend bool operator==(const ExpertPlan&, const ExpertPlan&) = default;
};

struct TensorParallelPlan {
  int world = 1;
  // [world], relative weight of each rank in attention, dense layers and vocabulary; empty: equal.
  // 0: none of them (a rank that only holds experts); not all.
  std::vector<double> shares;
  ExpertPlan experts{};
};

// Equal shares.
TensorParallelPlan even_plan(int world);

struct HeldExpert {
  int32_t id = 0;        // in the layer
  int32_t replicas = 1;  // ranks that hold it
  int32_t replica = 0;   // this rank's place among them
};

struct LayerShard {
  Range heads;     // query heads, global indices
  Range kv_heads;  // KV heads that cover them; may overlap with other ranks'
  Range ffn;       // FFN features
  Range shared;    // features of the shared expert
  // Of a mixture layer: which experts, ascending, and which features of each.
  std::vector<HeldExpert> experts;
  Range expert_features;
};

struct RankShard {
  int rank = 0;
  int world = 1;
  Range vocab;
  std::vector<LayerShard> layers;
};

// Refuses world outside 1..kMaxWorld, a number of shares other than world, shares that are not
// finite and > 0 or differ by more than 10⁶ times.
Status check_plan(const TensorParallelPlan& plan);

// Checks the plan and computes one rank's part. Refuses a rank outside the plan and a spec whose
// layers are inconsistent (heads not a multiple of kv_heads, …).
Result<RankShard> make_rank_shard(const ModelSpec& spec, const TensorParallelPlan& plan, int rank);

// The part of one declared tensor a rank holds, in the coordinates of the file's tensor.
struct TensorSlice {
  const TensorDecl* decl = nullptr;
  Range rows;  // of the file's tensor (decl->first_row already added); of each expert's part
  Range cols;  // logical columns; cut inside a block → the whole block is read and masked
  std::vector<int32_t> experts{};  // whose parts are held, ascending; empty for other tensors
};
// Vectors are declared as rows = n, cols = 1 and are cut like the rows of their matrix.
TensorSlice slice_tensor(const TensorDecl& decl, const ModelSpec& spec, const RankShard& shard);

// Bytes a rank holds of a tensor of this type: per row, every block that its columns touch, whole.
// Of a vector, every block that its elements touch. 0 if the slice is empty.
uint64_t slice_bytes(const TensorSlice& slice, TensorType type);

}  // namespace shoal

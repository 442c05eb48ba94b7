// The arithmetic of paged attention over one tile of rows, some of the query heads of one KV head
// and one split of positions;
// CpuDevice::attention spreads these over threads. Contract and formulas: attention.cc.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cpu/kernel_set.h"
#include "kernels/device.h"

namespace shoal {

// Rows [begin, end) of one sequence that pass over the cache together.
struct RowTile {
  int64_t begin = 0, end = 0;
  int64_t first_split = 0, split_end = 0;  // of any of its rows
  int64_t tokens = 0;                      // visible to its rows, summed
};

// (m, Σ, o[value_dim]) of one query head over one split or several.
struct Partial {
  float* data;
  float& max() const { return data[0]; }
  float& sum() const { return data[1]; }
  float* out() const { return data + 2; }
};

class Attention {
 public:
  static constexpr int64_t kSplit = 512;  // positions
  // Query heads that pass over the cache together: arithmetic hides the
  // loads at 16, and more would leave threads idle where one KV head serves all (MLA).
  static constexpr int64_t kMaxHeads = 16;

  Attention(const KernelSet& set, const float* q, int64_t q_stride, const AttentionSpec& spec,
            const StepView& step, const KvLayer& kv);

  const std::vector<RowTile>& tiles() const { return tiles_; }
  // Lanes: the query heads of each KV head (local index), in parts of at most kMaxHeads.
  int64_t lanes() const { return kv_.kv_heads * parts_; }
  // The rank's query heads [begin, end) of a lane; may be none.
  std::pair<int64_t, int64_t> heads_of(int64_t lane) const;

  // A set of partials: one for every row of a tile and query head of a lane.
  size_t set_floats() const {
    size_t rows = 1;
    for (const RowTile& tile : tiles_)
      rows = std::max(rows, static_cast<size_t>(tile.end - tile.begin));
    return rows * static_cast<size_t>(lane_heads_ * partial_floats());
  }
  Partial partial(float* set, int64_t row, int64_t head) const {
    return {set + (row * lane_heads_ + head) * partial_floats()};
  }

  // Fills the set for the rows that see any of the split.
  void run_split(const RowTile& tile, int64_t lane, int64_t split, float* set,
                 std::vector<float>& scratch) const;
  // Adds the set of a split to the total of the splits before it.
  void merge(const RowTile& tile, int64_t lane, int64_t split, float* total, float* set) const;
  // out[0 … value_dim) of one head of the rank.
  void finish(int64_t head, Partial total, float* out) const;

 private:
  int64_t first(int64_t row) const;  // first visible position
  int64_t first_split(int64_t row) const { return first(row) / kSplit; }
  int64_t split_end(int64_t row) const { return step_.positions[row] / kSplit + 1; }
  int64_t partial_floats() const { return kv_.value_dim() + 2; }
  // visit(row, from, to, physical block) for the positions of the split that lie in one block and
  // are visible to the row, block by block.
  template <class Visit>
  void for_runs(const RowTile& tile, int64_t split, const Visit& visit) const;

  const KernelSet& set_;
  const float* q_;
  int64_t q_stride_;
  const AttentionSpec& spec_;
  const StepView& step_;
  const KvLayer& kv_;
  int64_t parts_, lane_heads_;  // lanes per KV head, query heads per lane
  std::vector<RowTile> tiles_;
};

}  // namespace shoal

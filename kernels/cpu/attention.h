// The arithmetic of paged attention over one tile of rows, one KV head and one split of positions;
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

// (m, Σ, o[dim]) of one query head over one split or several.
struct Partial {
  float* data;
  float& max() const { return data[0]; }
  float& sum() const { return data[1]; }
  float* out() const { return data + 2; }
};

class Attention {
 public:
  static constexpr int64_t kSplit = 512;  // positions

  Attention(const KernelSet& set, const float* q, int64_t q_stride, const AttentionSpec& spec,
            const StepView& step, const KvLayer& kv);

  const std::vector<RowTile>& tiles() const { return tiles_; }
  // The rank's query heads [begin, end) that read KV head `kv_head` (local index).
  std::pair<int64_t, int64_t> heads_of(int64_t kv_head) const;

  // A set of partials: one for every row of a tile and query head of a KV head.
  size_t set_floats() const {
    size_t rows = 1;
    for (const RowTile& tile : tiles_)
      rows = std::max(rows, static_cast<size_t>(tile.end - tile.begin));
    return rows * static_cast<size_t>(spec_.group * partial_floats());
  }
  Partial partial(float* set, int64_t row, int64_t head) const {
    return {set + (row * spec_.group + head) * partial_floats()};
  }

  // Fills the set for the rows that see any of the split.
  void run_split(const RowTile& tile, int64_t kv_head, int64_t split, float* set,
                 std::vector<float>& scratch) const;
  // Adds the set of a split to the total of the splits before it.
  void merge(const RowTile& tile, int64_t kv_head, int64_t split, float* total, float* set) const;
  // out[0 … dim) of one head of the rank.
  void finish(int64_t head, Partial total, float* out) const;

 private:
  int64_t first(int64_t row) const;  // first visible position
  int64_t first_split(int64_t row) const { return first(row) / kSplit; }
  int64_t split_end(int64_t row) const { return step_.positions[row] / kSplit + 1; }
  int64_t partial_floats() const { return kv_.head_dim + 2; }
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
  std::vector<RowTile> tiles_;
};

}  // namespace shoal

// What the kernels of attention share: parameters, how a launch is cut into items, and how the
// splits of a row become one. For each row and query head
//
//   s_j = log2(e) · cap(scale · q·k_j),  o = Σ 2^(s_j − max s) v_j / Σ 2^(s_j − max s)
//
// in splits of kAttentionSplit positions, each with its own (max, Σ, o), folded in position order
// (Milakov & Gimelshein 2018, "Online normalizer calculation"). Splits start at multiples of
// kAttentionSplit whatever the batch, and a row's splits are folded one after the other whether one
// block walks all of them or several share them and the last to arrive folds: a row's bits do not
// depend on its company.
//
// A block walks a split in a time that its chain of loads sets, so that short ones answer sooner;
// but each costs a slot and a step of the fold, and more of them than a card has blocks for come in
// turns.
#pragma once

#include <cmath>

#include "kernels/cuda/kv_kernels.h"

namespace shoal::gpu {

inline constexpr int32_t kAttentionSplit = 512;  // positions
inline constexpr int32_t kAttentionRows = 256;   // of one launch: their plan is in shared memory
inline constexpr float kLog2E = 1.44269504f;

struct AttentionParams {
  simt::Global<const float> q;            // [rows, q_stride]
  simt::Global<float> out;                // [rows, out_stride]
  simt::Global<const int32_t> positions;  // [rows]
  simt::Global<const int32_t> sequences;  // [rows]
  simt::Global<const int32_t> tables;     // [sequences, table_stride]
  simt::Global<const uint8_t> cache;
  simt::Global<const float> sinks;  // [q_heads]
  simt::Global<float> partials;     // [slots + what a kernel keeps per block][slot's floats]
  simt::Global<uint32_t> arrivals;  // [tiles, sets], zero between launches
  KvPlaces places;
  int64_t q_stride, out_stride, table_stride, slots;
  int64_t window, chunk;
  int32_t rows, q_heads, head_dim, value_dim;
  int32_t group, sets_per_kv_head, set_heads;  // query heads of a KV head are cut into sets
  int32_t first_head;                          // first_kv_head · group − first_q_head
  int32_t tile_rows;                           // of one sequence that an item takes together
  int32_t slot_rows;                           // whose results one slot holds
  float scale, softcap;
  bool has_sinks;
};

// A score in units of log2: log2(e) · scale · q·k, or with a cap log2(e) · cap · tanh(scale · q·k /
// cap). Queries are multiplied by query_scale beforehand; tanh x = 1 − 2 / (e^2x + 1).
SHOAL_BODY float query_scale(const AttentionParams& p) {
  return p.softcap > 0 ? 2.0f * kLog2E * p.scale / p.softcap : kLog2E * p.scale;
}
SHOAL_BODY float capped(const AttentionParams& p, float dot) {
  const float cap = p.softcap * kLog2E;
  return cap - simt::divide_approx(2.0f * cap, simt::exp2_approx(dot) + 1.0f);
}

SHOAL_BODY int32_t divide_up(int32_t a, int32_t b) { return (a + b - 1) / b; }

SHOAL_BODY int32_t first_visible(const AttentionParams& p, int32_t position) {
  return static_cast<int32_t>(body::first_visible(position, p.window, p.chunk));
}

// This rank's query heads of a set; none where the group lies on other ranks.
struct HeadRange {
  int32_t begin, end;

  SHOAL_BODY static HeadRange of(const AttentionParams& p, int32_t set) {
    const int32_t from = p.first_head + set / p.sets_per_kv_head * p.group;
    const int32_t part = set % p.sets_per_kv_head * p.set_heads;
    const int32_t to = part + p.set_heads < p.group ? part + p.set_heads : p.group;
    return {clamp(p, from + part), clamp(p, from + to)};
  }

 private:
  SHOAL_BODY static int32_t clamp(const AttentionParams& p, int32_t h) {
    return h < 0 ? 0 : h > p.q_heads ? p.q_heads : h;
  }
};

// Rows next to each other of one sequence, at most tile_rows.
struct AttentionTile {
  int32_t index = 0;
  int32_t row = 0, rows = 0;
  int32_t first = 0, last = 0;  // the positions that any of them sees
  int32_t slots = 0;            // for the results of one split
  int32_t slots_before = 0;     // of all splits of the tiles before

  SHOAL_BODY int32_t first_split() const { return first / kAttentionSplit; }
  SHOAL_BODY int32_t splits() const { return last / kAttentionSplit + 1 - first_split(); }
};

// The tiles of a launch in shared memory; every block makes the same.
template <class Ctx>
class AttentionPlan {
 public:
  static constexpr uint32_t kBytes = 6 * (kAttentionRows + 4) * 4;

  SHOAL_SIMT AttentionPlan(Ctx& ctx, const AttentionParams& p) : ctx_(ctx), p_(p) {}

  // By the whole block.
  SHOAL_SIMT void make() {
    const auto positions = ctx_.global(p_.positions);
    for (int32_t r = static_cast<int32_t>(ctx_.thread().x); r < p_.rows;
         r += static_cast<int32_t>(ctx_.block_dim().x)) {
      const int32_t position = positions[r];
      at(kPositions)[r] = position;
    }
    ctx_.sync_threads();
    if (ctx_.warp() == 0) {
      const int32_t tiles = cut();
      ctx_.sync_warp();
      count(tiles);
    }
    ctx_.sync_threads();
    tiles_ = at(kSplits)[kAttentionRows + 1];
  }
  SHOAL_SIMT int32_t tiles() const { return tiles_; }
  SHOAL_SIMT int32_t splits() const { return at(kSplits)[tiles_]; }
  SHOAL_SIMT int32_t slots() const { return at(kSlots)[tiles_]; }
  SHOAL_SIMT int32_t position(int32_t row) const { return at(kPositions)[row]; }

  SHOAL_SIMT int32_t first_row(int32_t tile) const { return at(kRows)[tile]; }
  SHOAL_SIMT AttentionTile tile(int32_t index) const {
    AttentionTile tile;
    tile.index = index;
    tile.row = at(kRows)[index];
    tile.rows = static_cast<int32_t>(at(kRows)[index + 1]) - tile.row;
    tile.first = at(kFirst)[index];
    tile.last = at(kLast)[index];
    tile.slots = divide_up(tile.rows, p_.slot_rows);
    tile.slots_before = at(kSlots)[index];
    return tile;
  }
  // The tile of the n-th split of all, and which of its splits that is.
  SHOAL_SIMT AttentionTile find(int32_t n, int32_t* nth) const {
    int32_t low = 0, high = tiles_ - 1;
    while (low < high) {
      const int32_t middle = (low + high + 1) / 2, before = at(kSplits)[middle];
      if (before <= n) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    *nth = n - static_cast<int32_t>(at(kSplits)[low]);
    return tile(low);
  }

 private:
  // Arrays of kAttentionRows + 4: positions by row; the others by tile, kRows, kSplits and kSlots
  // with one more entry for the end.
  enum Array { kPositions, kRows, kFirst, kLast, kSplits, kSlots };
  SHOAL_SIMT auto at(Array array) const {
    constexpr uint32_t kEntries = kAttentionRows + 4;
    return simt::shared_array<int32_t>(ctx_, uint64_t{kEntries} * array * 4, kEntries);
  }
  // The highest bit set.
  SHOAL_SIMT static int32_t highest(uint32_t bits) { return 31 - __builtin_clz(bits); }

  // Where tiles begin; returns how many there are.
  SHOAL_SIMT int32_t cut() {
    const auto sequences = ctx_.global(p_.sequences);
    const auto lane = static_cast<int32_t>(ctx_.lane());
    const uint32_t below = (1u << lane) - 1, upto = below | 1u << lane;
    int32_t tiles = 0, run = 0;  // run: where the current sequence's rows begin
    for (int32_t base = 0; base < p_.rows; base += 32) {
      const int32_t r = base + lane;
      bool changes = false;
      if (r < p_.rows) {
        const int32_t own = sequences[r];
        changes = r == 0 || own != static_cast<int32_t>(sequences[r - 1]);
      }
      const uint32_t changed = ctx_.ballot(changes);
      const int32_t own_run = (changed & upto) != 0 ? base + highest(changed & upto) : run;
      const bool begins = r < p_.rows && (r - own_run) % p_.tile_rows == 0;
      const uint32_t begun = ctx_.ballot(begins);
      if (begins) at(kRows)[tiles + __builtin_popcount(begun & below)] = r;
      tiles += __builtin_popcount(begun);
      if (changed != 0) run = base + highest(changed);
    }
    if (lane == 0) at(kRows)[tiles] = p_.rows;
    return tiles;
  }

  // What each sees, and the splits and slots before it.
  SHOAL_SIMT void count(int32_t tiles) {
    const auto lane = static_cast<int32_t>(ctx_.lane());
    int32_t splits_before = 0, slots_before = 0;
    for (int32_t base = 0; base < tiles; base += 32) {
      const int32_t t = base + lane;
      int32_t splits = 0, slots = 0;
      if (t < tiles) {
        AttentionTile tile;
        const int32_t begin = at(kRows)[t], end = at(kRows)[t + 1];
        tile.first = INT32_MAX;
        for (int32_t r = begin; r < end; ++r) {
          const int32_t last = position(r), first = first_visible(p_, last);
          tile.first = first < tile.first ? first : tile.first;
          tile.last = last > tile.last ? last : tile.last;
        }
        at(kFirst)[t] = tile.first;
        at(kLast)[t] = tile.last;
        splits = tile.splits();
        slots = splits * divide_up(end - begin, p_.slot_rows);
      }
      const int32_t splits_upto = sum_upto(splits), slots_upto = sum_upto(slots);
      if (t < tiles) {
        at(kSplits)[t] = splits_before + splits_upto - splits;
        at(kSlots)[t] = slots_before + slots_upto - slots;
      }
      splits_before += ctx_.shuffle(splits_upto, 31);
      slots_before += ctx_.shuffle(slots_upto, 31);
    }
    if (lane == 0) {
      at(kSplits)[tiles] = splits_before;
      at(kSlots)[tiles] = slots_before;
      at(kSplits)[kAttentionRows + 1] = tiles;
    }
  }
  SHOAL_SIMT int32_t sum_upto(int32_t x) {
    for (uint32_t by = 1; by < 32; by *= 2) {
      const int32_t left = ctx_.shuffle_up(x, by);
      if (ctx_.lane() >= by) x += left;
    }
    return x;
  }

  Ctx& ctx_;
  const AttentionParams& p_;
  int32_t tiles_ = 0;
};

// The running (max, Σ) of a row and head over its splits.
struct AttentionTotal {
  float max = -INFINITY, sum = 0;

  // Takes in a further split, which may be empty (max −∞, sum 0); old and added values are to be
  // multiplied by the two factors.
  SHOAL_BODY void fold(float split_max, float split_sum, float* old_by, float* added_by) {
    const float peak = split_max > max ? split_max : max;
    const float base = peak == -INFINITY ? 0.0f : peak;
    *old_by = simt::exp2_approx(max - base);
    *added_by = simt::exp2_approx(split_max - base);
    max = peak;
    sum = sum * *old_by + split_sum * *added_by;
  }
  // What the output is multiplied by: 0 for a row that sees nothing. A sink is one more logit
  // without a value.
  SHOAL_BODY float factor(bool has_sink, float sink) const {
    if (!has_sink) return sum > 0 ? 1.0f / sum : 0.0f;
    sink *= kLog2E;
    const float peak = sink > max ? sink : max;
    const float by = simt::exp2_approx(max - peak);
    return by / (sum * by + simt::exp2_approx(sink - peak));
  }
};

// Whether this block is the last to bring a split of its tile; the others' slots can then be read.
// By the whole block; `flag` is a cell of shared memory.
template <class Ctx, class Flag>
SHOAL_SIMT bool last_of_tile(Ctx& ctx, const AttentionParams& p, const AttentionTile& tile,
                             int32_t set, int32_t sets, const Flag& flag) {
  ctx.sync_threads();  // the block's part is written, and the flag's memory free
  if (ctx.thread().x == 0) {
    const auto arrivals = ctx.global(p.arrivals) + (int64_t{tile.index} * sets + set);
    const bool last = simt::arrive_last(ctx, arrivals, static_cast<uint32_t>(tile.splits()));
    if (last) arrivals[0] = 0u;
    flag[0] = last ? 1u : 0u;
  }
  ctx.sync_threads();
  return flag[0] != 0u;
}

// Where a token's key begins in the cache.
template <class Ctx>
SHOAL_SIMT int64_t key_place(Ctx& ctx, const AttentionParams& p, int32_t sequence, int32_t kv_head,
                             int32_t token) {
  const auto tokens = static_cast<uint32_t>(p.places.block_tokens);
  const uint32_t block = static_cast<uint32_t>(token) / tokens;
  const int32_t physical = ctx.global(p.tables)[sequence * p.table_stride + block];
  return p.places.key(physical, kv_head, static_cast<uint32_t>(token) - block * tokens);
}

}  // namespace shoal::gpu

// What surrounds the products of experts (kernels/cuda/product.h): which (row, choice) pairs fall
// to which expert, and the sum over a row's choices.
//
// A slot is a pair's place in the order by expert, then by pair: products of one expert lie
// together and its weights are read once per tile of slots.
#pragma once

#include <cstdint>

#include "kernels/cuda/product.h"

namespace shoal::gpu {

// Counts pairs per expert, then deals slots and tiles. One block: every expert's pairs are counted
// and placed in their order by one warp, so the outcome does not depend on who comes first.
struct PlanExperts {
  static constexpr const char* kName = "plan_experts";
  static constexpr uint32_t kMaxThreads = 1024, kMinBlocks = 1;

  struct Params {
    // Of ExpertTask. `replicas` null: every expert is on one rank only; `replica` null: 0.
    Global<const int32_t> local, replicas, replica;  // [experts]
    Global<const int32_t> positions;                 // [rows]
    Global<const int32_t> ids;                       // [pairs]
    Global<const float> weights;                     // [pairs]
    int64_t pairs = 0, top_k = 1;
    int32_t experts = 0, count = 0;
    int32_t tile_rows = kProductRows;  // slots of a tile
    // The plan. expert_of, counts and first_slots are for the kernel alone.
    Global<int32_t> expert_of;            // [pairs]
    Global<int32_t> counts, first_slots;  // [count]
    Global<int32_t> slots;                // [pairs]: −1: computed elsewhere
    Global<int32_t> slot_rows;            // [pairs]
    Global<float> slot_weights;           // [pairs]
    Global<ExpertTile> tiles;             // [most_tiles(…)]
    Global<int32_t> totals;               // [2]: tiles, slots
  };

  // Tiles there can be: every expert that occurs has one that is not full.
  static int64_t most_tiles(const Params& p) {
    return (p.pairs < p.count ? p.pairs : p.count) + p.pairs / p.tile_rows;
  }

  template <class Ctx>
  SHOAL_SIMT static void find_experts(Ctx& ctx, const Params& p) {
    const auto ids = ctx.global(p.ids), local = ctx.global(p.local);
    const auto replicas = ctx.global(p.replicas), replica = ctx.global(p.replica);
    const auto positions = ctx.global(p.positions);
    const auto expert_of = ctx.global(p.expert_of), slots = ctx.global(p.slots);
    for (int64_t i = ctx.thread().x; i < p.pairs; i += ctx.block_dim().x) {
      const int32_t id = ids[i];
      int32_t expert = id >= 0 && id < p.experts ? int32_t{local[id]} : -1;
      if (expert >= 0 && p.replicas.address != nullptr && int32_t{replicas[id]} > 1) {
        const int32_t own = p.replica.address == nullptr ? 0 : int32_t{replica[id]};
        if (int32_t{positions[i / p.top_k]} % int32_t{replicas[id]} != own) expert = -1;
      }
      expert_of[i] = expert;
      if (expert < 0) slots[i] = -1;
    }
  }

  // Bits of the lanes below the calling one whose pair, too, is this expert's.
  template <class Ctx, class Experts>
  SHOAL_SIMT static uint32_t lanes_of(Ctx& ctx, const Params& p, const Experts& expert_of,
                                      int64_t first, int32_t expert) {
    const int64_t i = first + ctx.lane();
    return ctx.ballot(i < p.pairs && int32_t{expert_of[i < p.pairs ? i : 0]} == expert);
  }

  template <class Ctx>
  SHOAL_SIMT static void count_pairs(Ctx& ctx, const Params& p) {
    const auto expert_of = ctx.global(p.expert_of), counts = ctx.global(p.counts);
    const uint32_t warps = ctx.block_dim().x / simt::kWarpSize;
    for (int64_t e = ctx.warp(); e < p.count; e += warps) {
      int32_t count = 0;
      for (int64_t i = 0; i < p.pairs; i += simt::kWarpSize) {
        count += __builtin_popcount(lanes_of(ctx, p, expert_of, i, static_cast<int32_t>(e)));
      }
      if (ctx.lane() == 0) counts[e] = count;
    }
  }

  // The sum of the lanes' values below the calling one.
  template <class Ctx>
  SHOAL_SIMT static int32_t sum_below(Ctx& ctx, int32_t value) {
    int32_t sum = value;
    for (uint32_t by = 1; by < simt::kWarpSize; by *= 2) {
      const int32_t other = ctx.shuffle_up(sum, by);
      if (ctx.lane() >= by) sum += other;
    }
    return sum - value;
  }

  // First slots and tiles, by one warp.
  template <class Ctx>
  SHOAL_SIMT static void deal_tiles(Ctx& ctx, const Params& p) {
    const auto counts = ctx.global(p.counts), first_slots = ctx.global(p.first_slots);
    const auto tiles = ctx.global(p.tiles);
    int32_t slots = 0, placed = 0;
    for (int32_t base = 0; base < p.count; base += simt::kWarpSize) {
      const int32_t e = base + static_cast<int32_t>(ctx.lane());
      const int32_t count = e < p.count ? int32_t{counts[e < p.count ? e : 0]} : 0;
      const int32_t own_tiles = (count + p.tile_rows - 1) / p.tile_rows;
      const int32_t slot = slots + sum_below(ctx, count);
      const int32_t tile = placed + sum_below(ctx, own_tiles);
      if (e < p.count) first_slots[e] = slot;
      for (int32_t i = 0; i < own_tiles; ++i) {
        const int32_t left = count - i * p.tile_rows;
        tiles[tile + i] =
            ExpertTile{e, slot + i * p.tile_rows, left < p.tile_rows ? left : p.tile_rows, 0};
      }
      slots += ctx.reduce_add(count);
      placed += ctx.reduce_add(own_tiles);
    }
    if (ctx.lane() != 0) return;
    const auto totals = ctx.global(p.totals);
    totals[0] = placed;
    totals[1] = slots;
  }

  template <class Ctx>
  SHOAL_SIMT static void deal_slots(Ctx& ctx, const Params& p) {
    const auto expert_of = ctx.global(p.expert_of), counts = ctx.global(p.counts);
    const auto first_slots = ctx.global(p.first_slots), slots = ctx.global(p.slots);
    const auto slot_rows = ctx.global(p.slot_rows);
    const auto slot_weights = ctx.global(p.slot_weights);
    const auto weights = ctx.global(p.weights);
    const uint32_t warps = ctx.block_dim().x / simt::kWarpSize;
    for (int64_t e = ctx.warp(); e < p.count; e += warps) {
      if (int32_t{counts[e]} == 0) continue;
      int32_t next = first_slots[e];
      for (int64_t first = 0; first < p.pairs; first += simt::kWarpSize) {
        const uint32_t lanes = lanes_of(ctx, p, expert_of, first, static_cast<int32_t>(e));
        const uint32_t own = 1u << ctx.lane();
        if ((lanes & own) != 0) {
          const int64_t i = first + ctx.lane();
          const int32_t slot = next + __builtin_popcount(lanes & (own - 1));
          slots[i] = slot;
          slot_rows[slot] = static_cast<int32_t>(i / p.top_k);
          slot_weights[slot] = float{weights[i]};
        }
        next += __builtin_popcount(lanes);
      }
    }
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    find_experts(ctx, p);
    ctx.sync_threads();
    count_pairs(ctx, p);
    ctx.sync_threads();
    if (ctx.warp() == 0) deal_tiles(ctx, p);
    ctx.sync_threads();
    deal_slots(ctx, p);
  }
};

// out[r, c] (+)= Σ_k weight[r, k] · products[slots[r, k], c], k ascending, over the slots there
// are.
struct CombineExperts {
  static constexpr const char* kName = "combine_experts";
  static constexpr uint32_t kThreads = 256, kMaxThreads = kThreads, kMinBlocks = 1;

  struct Params {
    Global<const int32_t> slots;   // [rows, top_k] or null: nothing was computed
    Global<const float> weights;   // [rows, top_k] or null: 1
    Global<const float> products;  // [slots, columns]
    Global<float> out;             // [rows, out_stride]
    int64_t columns = 0, out_stride = 0;
    int64_t top_k = 0;
    uint32_t accumulate = 0;
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t r = ctx.block().x;
    const int64_t c = int64_t{ctx.block().y} * kThreads + ctx.thread().x;
    if (c >= p.columns) return;
    const auto slots = ctx.global(p.slots) + r * p.top_k;
    const auto weights = ctx.global(p.weights) + r * p.top_k;
    const auto products = ctx.global(p.products) + c;
    float sum = 0;
    for (int64_t k = 0; p.slots.address != nullptr && k < p.top_k; ++k) {
      const int32_t slot = slots[k];
      if (slot < 0) continue;
      const float weight = p.weights.address == nullptr ? 1.0f : float{weights[k]};
      sum = simt::fused_multiply_add(weight, float{products[slot * p.columns]}, sum);
    }
    const auto out = ctx.global(p.out) + (r * p.out_stride + c);
    if (p.accumulate != 0) sum = float{*out} + sum;
    *out = sum;
  }
};

}  // namespace shoal::gpu

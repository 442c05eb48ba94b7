// Paged causal attention for any head size and KV type, without tensor cores (the rule:
// attention_plan.h).
#pragma once

#include "kernels/cuda/attention_plan.h"

namespace shoal::gpu {

template <KvType kType>
struct KvElements;
template <>
struct KvElements<KvType::kF32> {
  static constexpr int kPerWord = 4;  // of 16 bytes
  SHOAL_SIMT static void unpack(const simt::U32x4& w, float (&x)[4]) {
    x[0] = body::float_from_bits(w.x);
    x[1] = body::float_from_bits(w.y);
    x[2] = body::float_from_bits(w.z);
    x[3] = body::float_from_bits(w.w);
  }
};
template <>
struct KvElements<KvType::kF16> {
  static constexpr int kPerWord = 8;
  SHOAL_SIMT static void unpack(const simt::U32x4& w, float (&x)[8]) {
    const uint32_t words[4] = {w.x, w.y, w.z, w.w};
    for (int i = 0; i < 4; ++i) {
      x[2 * i] = simt::to_float(simt::Half{static_cast<uint16_t>(words[i])});
      x[2 * i + 1] = simt::to_float(simt::Half{static_cast<uint16_t>(words[i] >> 16)});
    }
  }
};

// An item per (row, set of up to kHeads query heads of one KV head, split), or per (row, set) where
// there are more splits than slots for their results; a slot holds [kHeads][max, Σ, values].
template <KvType kType>
struct PlainAttention {
  static constexpr const char* kName = kType == KvType::kF32 ? "attention_f32" : "attention_f16";
  static constexpr int kHeads = 4;
  static constexpr uint32_t kWarps = 4, kThreads = 32 * kWarps;
  static constexpr uint32_t kMaxThreads = kThreads, kMinBlocks = 4;
  static constexpr int kE = KvElements<kType>::kPerWord;
  static constexpr uint32_t kLanesPerToken = 8, kTokensPerPass = kThreads / kLanesPerToken;
  using Params = AttentionParams;
  static constexpr int32_t kBlockSlots = 0;  // of its own that a block needs
  static_assert(kHeads == kWarps, "a warp per head computes the softmax");

  // How many heads a set has, rows an item and a slot.
  static void shape(AttentionParams& p) {
    p.sets_per_kv_head = divide_up(p.group, kHeads);
    p.set_heads = kHeads;
    p.tile_rows = p.slot_rows = 1;
  }
  static uint64_t slot_floats(const AttentionParams& p) {
    return kHeads * (2 + static_cast<uint64_t>(p.value_dim));
  }
  static uint32_t shared_bytes(const AttentionParams& p) {
    return Arena::of(p.head_dim, p.value_dim).end;
  }

  // Byte offsets in shared memory.
  struct Arena {
    uint32_t stats, q, scores, sums, part, total, end;
    SHOAL_BODY static Arena of(int64_t head_dim, int64_t value_dim) {
      const auto words = [](int64_t n) { return static_cast<uint32_t>((n + kE - 1) / kE); };
      Arena a;
      a.stats = AttentionPlan<int>::kBytes;
      a.q = a.stats + 2 * kHeads * 4;
      a.scores = a.q + kHeads * words(head_dim) * kE * 4;
      a.sums = a.scores + kHeads * kAttentionSplit * 4;
      a.part = a.sums + kHeads * kThreads * kE * 4;
      a.total = a.part + kHeads * words(value_dim) * kE * 4;
      a.end = a.total + kHeads * words(value_dim) * kE * 4;
      return a;
    }
  };

  // Everything a block knows about its item.
  template <class Ctx>
  struct Work {
    Ctx& ctx;
    const Params& p;
    const Arena arena;
    int32_t row = 0, position = 0, first = 0;  // first: first visible position
    int32_t kv_head = 0;
    HeadRange heads{};

    SHOAL_SIMT int32_t begin(int32_t split) const {
      const int32_t at = split * kAttentionSplit;
      return first > at ? first : at;
    }
    SHOAL_SIMT int32_t end(int32_t split) const {
      const int32_t at = (split + 1) * kAttentionSplit;
      return position + 1 < at ? position + 1 : at;
    }
    SHOAL_SIMT int32_t count() const { return heads.end - heads.begin; }

    SHOAL_SIMT auto shared(uint32_t at, uint32_t end_byte) const {
      return simt::shared_array<float>(ctx, at, (end_byte - at) / 4);
    }
    SHOAL_SIMT auto stats() const { return shared(arena.stats, arena.q); }  // max, Σ per head
    SHOAL_SIMT auto q() const { return shared(arena.q, arena.scores); }
    SHOAL_SIMT auto scores() const { return shared(arena.scores, arena.sums); }
    SHOAL_SIMT auto sums() const { return shared(arena.sums, arena.part); }
    SHOAL_SIMT auto part() const { return shared(arena.part, arena.total); }
    SHOAL_SIMT auto total() const { return shared(arena.total, arena.end); }
    SHOAL_SIMT int64_t q_words() const { return (p.head_dim + kE - 1) / kE; }
    SHOAL_SIMT int64_t value_words() const { return (p.value_dim + kE - 1) / kE; }
    // The 16-byte words of a token's key.
    SHOAL_SIMT auto key(int32_t token) const {
      const int32_t sequence = ctx.global(p.sequences)[row];
      return simt::vector_view<simt::U32x4>(ctx.global(p.cache) +
                                            key_place(ctx, p, sequence, kv_head, token));
    }
  };

  // Queries with the scale multiplied in, zeros behind them.
  template <class Ctx>
  SHOAL_SIMT static void stage_queries(const Work<Ctx>& work) {
    const Params& p = work.p;
    const float by = query_scale(p);
    const auto to = work.q();
    const auto from = work.ctx.global(p.q);
    const int64_t width = work.q_words() * kE;
    for (int32_t h = 0; h < work.count(); ++h) {
      const int64_t at = (work.row * p.q_stride) + int64_t{work.heads.begin + h} * p.head_dim;
      for (int64_t i = work.ctx.thread().x; i < width; i += kThreads) {
        float x = 0;
        if (i < p.head_dim) x = from[at + i];
        to[h * width + i] = x * by;
      }
    }
  }

  // scores[h][t − begin] = s_t of the split.
  template <class Ctx>
  SHOAL_SIMT static void score(const Work<Ctx>& work, int32_t begin, int32_t end) {
    Ctx& ctx = work.ctx;
    const Params& p = work.p;
    const auto q = simt::vector_view<simt::F32x4>(work.q());
    const auto scores = work.scores();
    const uint32_t lane = ctx.lane() % kLanesPerToken;
    const int64_t words = work.q_words();
    const auto skip = static_cast<int32_t>(ctx.thread().x / kLanesPerToken);
    const auto warp_skip = static_cast<int32_t>(ctx.warp() * 32 / kLanesPerToken);
    for (int32_t base = begin; base + warp_skip < end; base += kTokensPerPass) {
      const int32_t token = base + skip;
      float dot[kHeads] = {};
      if (token < end) {
        const auto key = work.key(token);
        for (int64_t w = lane; w < words; w += kLanesPerToken) {
          float x[kE];
          KvElements<kType>::unpack(key[w], x);
          for (int h = 0; h < kHeads; ++h) {
            if (h >= work.count()) continue;
            for (int e = 0; e < kE; e += 4) {
              const simt::F32x4 y = q[((h * words + w) * kE + e) / 4];
              dot[h] = simt::fused_multiply_add(x[e], y.x, dot[h]);
              dot[h] = simt::fused_multiply_add(x[e + 1], y.y, dot[h]);
              dot[h] = simt::fused_multiply_add(x[e + 2], y.z, dot[h]);
              dot[h] = simt::fused_multiply_add(x[e + 3], y.w, dot[h]);
            }
          }
        }
      }
      for (int h = 0; h < kHeads; ++h) {
        if (h >= work.count()) continue;
        for (uint32_t bits = kLanesPerToken / 2; bits > 0; bits /= 2) {
          dot[h] += ctx.shuffle_xor(dot[h], bits);
        }
        if (p.softcap > 0) dot[h] = capped(p, dot[h]);
        if (lane == 0 && token < end) scores[h * kAttentionSplit + token - begin] = dot[h];
      }
    }
  }

  // scores → 2^(s − max); stats: max and Σ. Warp h does head h.
  template <class Ctx>
  SHOAL_SIMT static void soften(const Work<Ctx>& work, int32_t tokens) {
    Ctx& ctx = work.ctx;
    const auto h = static_cast<int32_t>(ctx.warp());
    if (h >= work.count()) return;
    const auto scores = work.scores() + h * kAttentionSplit;
    const auto lane = static_cast<int32_t>(ctx.lane());
    float peak = -INFINITY;
    for (int32_t t = lane; t < tokens; t += 32) {
      const float s = scores[t];
      peak = s > peak ? s : peak;
    }
    for (uint32_t bits = 16; bits > 0; bits /= 2) {
      const float other = ctx.shuffle_xor(peak, bits);
      peak = other > peak ? other : peak;
    }
    float sum = 0;
    for (int32_t t = lane; t < tokens; t += 32) {
      const float s = scores[t];
      const float e = simt::exp2_approx(s - peak);
      scores[t] = e;
      sum += e;
    }
    for (uint32_t bits = 16; bits > 0; bits /= 2) sum += ctx.shuffle_xor(sum, bits);
    if (lane == 0) {
      work.stats()[2 * h] = peak;
      work.stats()[2 * h + 1] = sum;
    }
  }

  // part[h][i] = Σ_t scores[h][t] v_t[i]: a thread per word of a value and several tokens at a
  // time; words beyond kThreads in further passes.
  template <class Ctx>
  SHOAL_SIMT static void weigh(const Work<Ctx>& work, int32_t begin, int32_t end) {
    Ctx& ctx = work.ctx;
    const auto scores = work.scores();
    const auto sums = simt::vector_view<simt::F32x4>(work.sums());
    const auto part = work.part();
    const auto total_words = static_cast<uint32_t>(work.value_words());
    const int64_t width = int64_t{total_words} * kE;
    const int64_t value = work.p.places.value_bytes / 16;
    for (uint32_t first = 0; first < total_words; first += kThreads) {
      const uint32_t words = total_words - first < kThreads ? total_words - first : kThreads;
      const uint32_t groups = kThreads / words;
      const uint32_t group = ctx.thread().x / words, word = ctx.thread().x - group * words;
      if (group < groups) {
        float sum[kHeads][kE] = {};
        for (int32_t t = begin + static_cast<int32_t>(group); t < end;
             t += static_cast<int32_t>(groups)) {
          float x[kE];
          KvElements<kType>::unpack((work.key(t) + value)[first + word], x);
          for (int h = 0; h < kHeads; ++h) {
            if (h >= work.count()) continue;
            const float by = scores[h * kAttentionSplit + t - begin];
            for (int e = 0; e < kE; ++e) sum[h][e] = simt::fused_multiply_add(by, x[e], sum[h][e]);
          }
        }
        for (int h = 0; h < kHeads; ++h) {
          if (h >= work.count()) continue;
          for (int e = 0; e < kE; e += 4) {
            sums[((h * groups + group) * words + word) * (kE / 4) + static_cast<uint32_t>(e / 4)] =
                simt::F32x4{sum[h][e], sum[h][e + 1], sum[h][e + 2], sum[h][e + 3]};
          }
        }
      }
      ctx.sync_threads();
      const auto flat = work.sums();
      const uint32_t features = words * kE;
      for (int32_t h = 0; h < work.count(); ++h) {
        for (uint32_t i = ctx.thread().x; i < features; i += kThreads) {
          float sum = 0;
          for (uint32_t g = 0; g < groups; ++g) {
            sum += flat[(static_cast<uint32_t>(h) * groups + g) * features + i];
          }
          part[h * width + first * kE + i] = sum;
        }
      }
      ctx.sync_threads();
    }
  }

  // One split: stats and part.
  template <class Ctx>
  SHOAL_SIMT static void run_split(const Work<Ctx>& work, int32_t split) {
    const int32_t begin = work.begin(split), end = work.end(split);
    score(work, begin, end);
    work.ctx.sync_threads();
    soften(work, end - begin);
    work.ctx.sync_threads();
    weigh(work, begin, end);
  }

  // Takes stats [h · stats_stride] and values [h · values_stride] of a split into the total. A
  // thread has the same features in every call.
  template <class Ctx, class Stats, class Values>
  SHOAL_SIMT static void fold(const Work<Ctx>& work, bool first, const Stats& stats,
                              int64_t stats_stride, const Values& values, int64_t values_stride,
                              AttentionTotal (&totals)[kHeads]) {
    const auto total = work.total();
    for (int h = 0; h < kHeads; ++h) {
      if (h >= work.count()) continue;
      float old_by, added_by;
      totals[h].fold(stats[h * stats_stride], stats[h * stats_stride + 1], &old_by, &added_by);
      for (int64_t i = work.ctx.thread().x; i < work.p.value_dim; i += kThreads) {
        const int64_t at = h * work.value_words() * kE + i;
        const float added = values[h * values_stride + i];
        float old = 0;
        if (!first) old = total[at];
        total[at] = first ? added : old * old_by + added * added_by;
      }
    }
  }

  template <class Ctx>
  SHOAL_SIMT static void write(const Work<Ctx>& work, const AttentionTotal (&totals)[kHeads]) {
    const Params& p = work.p;
    const auto out = work.ctx.global(p.out);
    const auto total = work.total();
    for (int h = 0; h < kHeads; ++h) {
      if (h >= work.count()) continue;
      const int64_t head = work.heads.begin + h;
      float sink = 0;
      if (p.has_sinks) sink = work.ctx.global(p.sinks)[head];
      const float by = totals[h].factor(p.has_sinks, sink);
      for (int64_t i = work.ctx.thread().x; i < p.value_dim; i += kThreads) {
        const float x = total[h * work.value_words() * kE + i];
        out[work.row * p.out_stride + head * p.value_dim + i] = x * by;
      }
    }
  }

  template <class Ctx>
  SHOAL_SIMT static void run_row(const Work<Ctx>& work, const AttentionTile& tile) {
    AttentionTotal totals[kHeads];
    for (int32_t nth = 0; nth < tile.splits(); ++nth) {
      run_split(work, tile.first_split() + nth);
      fold(work, nth == 0, work.stats(), 2, work.part(), work.value_words() * kE, totals);
    }
    write(work, totals);
  }

  // One split of a row that has several: leaves its result in its slot; the last of them folds all.
  template <class Ctx>
  SHOAL_SIMT static void run_shared(const Work<Ctx>& work, const AttentionTile& tile, int32_t nth,
                                    int32_t set, int32_t sets) {
    Ctx& ctx = work.ctx;
    const Params& p = work.p;
    run_split(work, tile.first_split() + nth);
    const int64_t stride = 2 + p.value_dim, slot = kHeads * stride;
    const auto first = ctx.global(p.partials) + (int64_t{tile.slots_before} * sets + set) * slot;
    const auto own = first + nth * sets * slot;
    for (int32_t h = 0; h < work.count(); ++h) {
      if (ctx.thread().x < 2) {
        const float stat = work.stats()[2 * h + ctx.thread().x];
        own[h * stride + ctx.thread().x] = stat;
      }
      for (int64_t i = ctx.thread().x; i < p.value_dim; i += kThreads) {
        const float x = work.part()[h * work.value_words() * kE + i];
        own[h * stride + 2 + i] = x;
      }
    }
    const auto flag = simt::shared_array<uint32_t>(ctx, work.arena.stats, 1);
    if (!last_of_tile(ctx, p, tile, set, sets, flag)) return;
    AttentionTotal totals[kHeads];
    for (int32_t s = 0; s < tile.splits(); ++s) {
      const auto from = first + s * sets * slot;
      fold(work, s == 0, from, stride, from + 2, stride, totals);
    }
    write(work, totals);
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    AttentionPlan<Ctx> plan(ctx, p);
    plan.make();
    const auto sets = static_cast<int32_t>(p.places.kv_heads) * p.sets_per_kv_head;
    const bool shared = int64_t{plan.slots()} * sets <= p.slots;
    const int64_t items = int64_t{shared ? plan.splits() : plan.tiles()} * sets;
    for (int64_t item = ctx.block().x; item < items; item += ctx.grid_dim().x) {
      const auto unit = static_cast<int32_t>(item / sets), set = static_cast<int32_t>(item % sets);
      const HeadRange heads = HeadRange::of(p, set);
      if (heads.begin == heads.end) continue;
      int32_t nth = 0;  // of the tile's splits
      const AttentionTile tile = shared ? plan.find(unit, &nth) : plan.tile(unit);
      const Work<Ctx> work{.ctx = ctx,
                           .p = p,
                           .arena = Arena::of(p.head_dim, p.value_dim),
                           .row = tile.row,
                           .position = plan.position(tile.row),
                           .first = tile.first,
                           .kv_head = set / p.sets_per_kv_head,
                           .heads = heads};
      stage_queries(work);
      ctx.sync_threads();
      if (shared && tile.splits() > 1) {
        run_shared(work, tile, nth, set, sets);
      } else {
        run_row(work, tile);
      }
    }
  }
};

}  // namespace shoal::gpu

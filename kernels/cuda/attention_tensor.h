// Paged causal attention on tensor cores: f16 KV, head sizes that are multiples of 16 (the rule:
// attention_plan.h).
//
// A strip is 16 rows of m16n8k16: neighbouring rows of a sequence × the query heads of one KV head.
// A block takes up to kWarps strips together and walks the keys in units of kUnit positions from a
// ring in shared memory. For each unit
//
//   S = Q Kᵀ   Q in two halves, q = high + low with 22 bits, so that scores are as exact as float
//   m' = max(m, max S), P = 2^(S − m') rounded to f16
//   O = O · 2^(m − m') + P V,   Σ = Σ · 2^(m − m') + P 1
//
// With several strips each warp has one. With one strip (a decode step) the warps share it: each
// takes a quarter of the unit's keys for S and a quarter of the features for O. Every number comes
// from the same operations in the same order either way: units start at multiples of kUnit, a mma
// computes each of its rows and columns by itself, and a unit in which a row sees nothing leaves
// its m, O and Σ as they are.
#pragma once

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_strip.h"

namespace shoal::gpu {

template <int kDim>
struct TensorAttention {
  static_assert(kDim % 16 == 0 && kDim <= 128);
  static constexpr const char* kName = kDim == 64   ? "attention_tensor_64"
                                       : kDim == 80 ? "attention_tensor_80"
                                       : kDim == 96 ? "attention_tensor_96"
                                                    : "attention_tensor_128";
  static constexpr uint32_t kWarps = kStripWarps, kThreads = 32 * kWarps;
  static constexpr uint32_t kMaxThreads = kThreads, kMinBlocks = 2;
  static constexpr int32_t kBlockSlots = kWarps;  // where a block adds up splits it walks alone
  static constexpr int kStrip = kStripRows, kUnit = kStripUnit;
  static constexpr uint32_t kRing = 3;      // tiles: keys, values, the next unit's keys
  static constexpr int kSteps = kDim / 16;  // of Q Kᵀ; also pairs of 8 features of O
  static constexpr int32_t kSlotFloats = kStrip * (2 + kDim);  // [max, Σ] of 16 rows, then O
  using Params = AttentionParams;

  // Bytes in shared memory. Rows are 16 bytes longer than their halves: an odd number of 16-byte
  // words, so that the 8 rows of an ldmatrix lie in different banks.
  static constexpr uint32_t kRow = kDim * 2 + 16, kTile = kUnit * kRow;
  static constexpr uint32_t kWeightRow = kUnit * 2 + 16;
  static constexpr uint32_t kPlaces = AttentionPlan<int>::kBytes;  // int64 [2][kUnit]
  static constexpr uint32_t kMaxima = kPlaces + 2 * kUnit * 8;     // float [kWarps][16]
  static constexpr uint32_t kFlag = kMaxima + kWarps * kStrip * 4;
  static constexpr uint32_t kWeights = kFlag + 16;                   // P of one strip
  static constexpr uint32_t kLow = kWeights + kStrip * kWeightRow;   // low halves of Q, by strip
  static constexpr uint32_t kTiles = kLow + kWarps * kStrip * kRow;  // [kRing][kTile]
  static constexpr uint32_t kEnd = kTiles + kRing * kTile;

  static void shape(AttentionParams& p) {
    p.sets_per_kv_head = divide_up(p.group, kStrip);
    p.set_heads = divide_up(p.group, p.sets_per_kv_head);
    p.slot_rows = kStrip / p.set_heads;
    p.tile_rows = p.slot_rows * static_cast<int32_t>(kWarps);
  }
  static uint64_t slot_floats(const AttentionParams&) { return kSlotFloats; }
  static uint32_t shared_bytes(const AttentionParams&) { return kEnd; }

  // What a block knows about its item. The tile is read again from shared memory where it is
  // needed: registers are short.
  template <class Ctx>
  struct Work {
    Ctx& ctx;
    const Params& p;
    const AttentionPlan<Ctx>& plan;
    int32_t index;  // of the tile
    int32_t set, sequence;

    SHOAL_SIMT AttentionTile tile() const { return plan.tile(index); }
    SHOAL_SIMT HeadRange heads() const { return HeadRange::of(p, set); }
    // Row i of a strip is local row i / set_heads, head i % set_heads.
    SHOAL_SIMT int32_t row(int32_t strip, int32_t i) const {
      return plan.first_row(index) + strip * p.slot_rows + i / p.set_heads;
    }
    SHOAL_SIMT int32_t head(int32_t i) const { return heads().begin + i % p.set_heads; }
    SHOAL_SIMT bool used(int32_t strip, int32_t i) const {
      return i < p.slot_rows * p.set_heads && row(strip, i) < plan.first_row(index + 1) &&
             head(i) < heads().end;
    }
    SHOAL_SIMT auto bytes(uint32_t first, uint32_t count) const {
      return simt::shared_array<uint8_t>(ctx, first, count);
    }
  };

  template <bool kOne>
  using Strip = AttentionStrip<kSteps, kOne>;

  template <bool kOne, class Ctx>
  SHOAL_SIMT static auto low_of(const Work<Ctx>& work, const Strip<kOne>& strip) {
    return work.bytes(kLow + static_cast<uint32_t>(strip.index) * kStrip * kRow, kStrip * kRow);
  }

  // A row of a strip into shared memory by eight lanes. high: nearest half; low: nearest half of
  // what is left.
  template <bool kOne, class Ctx, class Bytes>
  SHOAL_SIMT static void stage_row(const Work<Ctx>& work, const Strip<kOne>& strip, int32_t i,
                                   const Bytes& high, const Bytes& low) {
    const Params& p = work.p;
    const float by = query_scale(p);
    const bool used = strip.active && work.used(strip.index, i);
    const int32_t row = used ? work.row(strip.index, i) : work.plan.first_row(work.index);
    const int64_t head = used ? work.head(i) : work.heads().begin;
    const auto q = work.ctx.global(p.q) + (row * p.q_stride + head * kDim);
    SHOAL_UNROLL
    for (uint32_t j = 0; j < kSteps; ++j) {
      const uint32_t at = 2 * (work.ctx.lane() % 8 + 8 * j);
      const float x = used ? float{q[at]} * by : 0.0f, y = used ? float{q[at + 1]} * by : 0.0f;
      const uint32_t both = simt::pack_halves(x, y);
      const uint32_t to = static_cast<uint32_t>(i) * kRow + 2 * at;
      *simt::vector_view<uint32_t>(high + to) = both;
      *simt::vector_view<uint32_t>(low + to) =
          simt::pack_halves(x - simt::to_float(simt::Half{static_cast<uint16_t>(both)}),
                            y - simt::to_float(simt::Half{static_cast<uint16_t>(both >> 16)}));
    }
  }

  // High halves pass through the ring's first tile on their way into fragments. A loop over rows,
  // not a load per element: this is met once, and what is met once waits for its instructions.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void load_queries(const Work<Ctx>& work, Strip<kOne>& strip) {
    Ctx& ctx = work.ctx;
    const auto lane = static_cast<int32_t>(ctx.lane());
    constexpr int32_t kRows = kOne ? kThreads / 8 : 32 / 8;  // at a time
    const auto low = low_of(work, strip);
    const auto high =
        work.bytes(kTiles + static_cast<uint32_t>(strip.index) * kStrip * kRow, kStrip * kRow);
    ctx.sync_threads();  // nobody reads the tile for the item before any more
    const auto first = static_cast<int32_t>(kOne ? ctx.thread().x / 8 : ctx.lane() / 8);
    for (int32_t i = first; i < kStrip; i += kRows) stage_row(work, strip, i, high, low);
    ctx.sync_threads();
    SHOAL_UNROLL
    for (uint32_t k = 0; k < kSteps; ++k) {
      ctx.ldmatrix(strip.high[k], high + (static_cast<uint32_t>(lane % 16) * kRow +
                                          static_cast<uint32_t>(lane / 16) * 16 + 32 * k));
    }
    for (int e = 0; e < 2; ++e) {
      const int32_t i = lane / 4 + 8 * e;
      const bool used = strip.active && work.used(strip.index, i);
      const int32_t row = used ? work.row(strip.index, i) : work.plan.first_row(work.index);
      const int32_t position = work.plan.position(row);
      strip.first[e] = used ? first_visible(work.p, position) : 0;
      strip.last[e] = used ? position : -1;
    }
  }

  // ---- the ring of keys and values

  // Where this thread's key of a unit begins; −1 for a position that no row of the tile sees.
  template <class Ctx>
  SHOAL_SIMT static int64_t find_place(const Work<Ctx>& work, int32_t unit, int32_t end_unit) {
    const auto i = static_cast<int32_t>(work.ctx.thread().x);
    const int32_t token = unit * kUnit + i;
    const AttentionTile tile = work.tile();
    if (i >= kUnit || unit >= end_unit || token < tile.first || token > tile.last) return -1;
    return key_place(work.ctx, work.p, work.sequence, work.set / work.p.sets_per_kv_head, token);
  }
  template <class Ctx>
  SHOAL_SIMT static auto places(const Work<Ctx>& work, int32_t unit) {
    return simt::shared_array<int64_t>(work.ctx, kPlaces, 2 * kUnit) + unit % 2 * kUnit;
  }
  template <class Ctx>
  SHOAL_SIMT static void keep_place(const Work<Ctx>& work, int32_t unit, int64_t place) {
    const uint32_t i = work.ctx.thread().x;
    if (i < kUnit) places(work, unit)[i] = place;
  }

  // The n-th tile of all: even ones keys, odd ones values.
  SHOAL_SIMT static uint32_t tile_at(int32_t n) {
    return kTiles + static_cast<uint32_t>(n) % kRing * kTile;
  }

  // A group of copies: keys (part 0) or values (1) of a unit; empty behind the last unit.
  template <class Ctx>
  SHOAL_SIMT static void load(const Work<Ctx>& work, int32_t unit, int32_t end_unit, int part) {
    Ctx& ctx = work.ctx;
    constexpr uint32_t kWords = kDim / 8;
    const auto cache = ctx.global(work.p.cache);
    const auto from = places(work, unit);
    const auto to = work.bytes(tile_at(2 * unit + part), kTile);
    const int64_t skip = part == 0 ? 0 : work.p.places.value_bytes;
    static_assert(kUnit * kWords % kThreads == 0);
    if (unit < end_unit) {
      SHOAL_UNROLL
      for (uint32_t j = 0; j < kUnit * kWords / kThreads; ++j) {
        const uint32_t i = j * kThreads + ctx.thread().x, token = i / kWords, word = i % kWords;
        const int64_t place = from[token];
        ctx.copy_async_16(to + (token * kRow + 16 * word),
                          cache + (place < 0 ? 0 : place + skip + 16 * word), place < 0 ? 0 : 16);
      }
    }
    ctx.copy_async_commit();
  }

  // ---- one unit

  // S of kPairs times 16 keys from pair `first` on: [pair][keys 0…7, 8…15][fragment].
  template <bool kOne, int kPairs, class Ctx>
  SHOAL_SIMT static void score(const Work<Ctx>& work, const Strip<kOne>& strip, uint32_t keys,
                               uint32_t first, float (&s)[kPairs][2][4]) {
    const uint32_t lane = work.ctx.lane();
    const auto at = work.bytes(keys, kTile) +
                    ((16 * first + lane / 16 * 8 + lane % 8) * kRow + lane / 8 % 2 * 16);
    const auto low_at = low_of(work, strip) + (lane % 16 * kRow + lane / 16 * 16);
    for (int i = 0; i < kPairs; ++i) {
      for (int j = 0; j < 8; ++j) s[i][j / 4][j % 4] = 0;
    }
    for (uint32_t k = 0; k < kSteps; ++k) {
      uint32_t low[4];
      work.ctx.ldmatrix(low, low_at + 32 * k);
      for (uint32_t i = 0; i < kPairs; ++i) {
        uint32_t b[4];
        work.ctx.ldmatrix(b, at + (16 * i * kRow + 32 * k));
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
        work.ctx.mma(simt::F16{}, s[i][0], strip.high[k], left);
        work.ctx.mma(simt::F16{}, s[i][1], strip.high[k], right);
        work.ctx.mma(simt::F16{}, s[i][0], low, left);
        work.ctx.mma(simt::F16{}, s[i][1], low, right);
      }
    }
  }

  // Cap and mask; the maxima of the thread's two rows go to peak.
  template <bool kOne>
  SHOAL_SIMT static void mask(const Params& p, const Strip<kOne>& strip, int32_t token,
                              float (&s)[2][4], float (&peak)[2]) {
    for (int n = 0; n < 2; ++n) {
      for (int j = 0; j < 4; ++j) {
        const int e = j / 2;
        const int32_t t = token + 8 * n + j % 2;
        if (p.softcap > 0) s[n][j] = capped(p, s[n][j]);
        if (t < strip.first[e] || t > strip.last[e]) s[n][j] = -INFINITY;
        peak[e] = s[n][j] > peak[e] ? s[n][j] : peak[e];
      }
    }
  }

  // The new maxima; O and Σ so far are scaled to them. base: what to subtract from scores.
  template <bool kOne>
  SHOAL_SIMT static void rescale(Strip<kOne>& strip, const float (&peak)[2], float (&base)[2]) {
    for (int e = 0; e < 2; ++e) {
      const float max = peak[e] > strip.max[e] ? peak[e] : strip.max[e];
      base[e] = max == -INFINITY ? 0.0f : max;
      const float by = simt::exp2_approx(strip.max[e] - base[e]);
      strip.max[e] = max;
      strip.sum[2 * e] *= by;
      for (int i = 0; i < Strip<kOne>::kPairs; ++i) {
        for (int n = 0; n < 2; ++n) {
          strip.out[i][n][2 * e] *= by;
          strip.out[i][n][2 * e + 1] *= by;
        }
      }
    }
  }

  // P of 16 keys as an A fragment.
  SHOAL_SIMT static void soften(const float (&s)[2][4], const float (&base)[2],
                                uint32_t (&weights)[4]) {
    for (int n = 0; n < 2; ++n) {
      for (int e = 0; e < 2; ++e) {
        weights[2 * n + e] = simt::pack_halves(simt::exp2_approx(s[n][2 * e] - base[e]),
                                               simt::exp2_approx(s[n][2 * e + 1] - base[e]));
      }
    }
  }

  // O += P V and Σ += P 1 over 16 keys.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void weigh(const Work<Ctx>& work, Strip<kOne>& strip, uint32_t values,
                               uint32_t pair, const uint32_t (&weights)[4]) {
    const uint32_t lane = work.ctx.lane(), warp = kOne ? work.ctx.warp() : 0;
    const auto at = work.bytes(values, kTile) + ((16 * pair + lane % 16) * kRow + lane / 16 * 16);
    constexpr uint32_t kOnes[2] = {0x3c003c00u, 0x3c003c00u};
    work.ctx.mma(simt::F16{}, strip.sum, weights, kOnes);
    for (int i = 0; i < Strip<kOne>::kPairs; ++i) {
      const uint32_t pair_of_features = warp + static_cast<uint32_t>(i) * (kOne ? kWarps : 1);
      if (pair_of_features >= kSteps) continue;
      uint32_t b[4];
      work.ctx.ldmatrix_transposed(b, at + 32 * pair_of_features);
      const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      work.ctx.mma(simt::F16{}, strip.out[i][0], weights, left);
      work.ctx.mma(simt::F16{}, strip.out[i][1], weights, right);
    }
  }

  // The largest of the four lanes that share a row.
  template <class Ctx>
  SHOAL_SIMT static void spread(Ctx& ctx, float (&peak)[2]) {
    for (int e = 0; e < 2; ++e) {
      for (uint32_t bits = 1; bits < 4; bits *= 2) {
        const float other = ctx.shuffle_xor(peak[e], bits);
        peak[e] = other > peak[e] ? other : peak[e];
      }
    }
  }

  // Between the two products: the values have come for every thread, nobody reads the unit's keys
  // any more, and the values of the next unit go where they were.
  template <class Ctx>
  SHOAL_SIMT static void turn(const Work<Ctx>& work, int32_t unit, int32_t end_unit,
                              int64_t next_place) {
    keep_place(work, unit, next_place);  // of unit + 2
    work.ctx.copy_async_wait(1);
    work.ctx.sync_threads();
    load(work, unit + 1, end_unit, 1);
  }

  // Several strips: nothing passes between warps.
  template <class Ctx>
  SHOAL_SIMT static void run_unit(const Work<Ctx>& work, Strip<false>& strip, int32_t unit,
                                  int32_t end_unit, int64_t next_place) {
    Ctx& ctx = work.ctx;
    constexpr int kPairs = Strip<false>::kKeyPairs;
    const auto column = static_cast<int32_t>(ctx.lane() % 4 * 2);
    float s[kPairs][2][4], peak[2] = {-INFINITY, -INFINITY}, base[2];
    uint32_t weights[kPairs][4] = {};
    if (strip.active) {
      score(work, strip, tile_at(2 * unit), 0, s);
      for (int i = 0; i < kPairs; ++i) {
        mask(work.p, strip, unit * kUnit + 16 * i + column, s[i], peak);
      }
      spread(ctx, peak);
      rescale(strip, peak, base);
      for (int i = 0; i < kPairs; ++i) soften(s[i], base, weights[i]);
    }
    turn(work, unit, end_unit, next_place);
    if (!strip.active) return;
    for (uint32_t i = 0; i < kPairs; ++i) {
      weigh(work, strip, tile_at(2 * unit + 1), i, weights[i]);
    }
  }

  // One strip: warps exchange maxima, then P.
  template <class Ctx>
  SHOAL_SIMT static void run_unit(const Work<Ctx>& work, Strip<true>& strip, int32_t unit,
                                  int32_t end_unit, int64_t next_place) {
    Ctx& ctx = work.ctx;
    const uint32_t lane = ctx.lane(), warp = ctx.warp(), row = lane / 4;
    float s[1][2][4], peak[2] = {-INFINITY, -INFINITY}, base[2];
    score(work, strip, tile_at(2 * unit), warp, s);
    mask(work.p, strip, unit * kUnit + static_cast<int32_t>(16 * warp + lane % 4 * 2), s[0], peak);
    spread(ctx, peak);
    const auto maxima = simt::shared_array<float>(ctx, kMaxima, kWarps * kStrip);
    if (lane % 4 == 0) {
      maxima[warp * kStrip + row] = peak[0];
      maxima[warp * kStrip + row + 8] = peak[1];
    }
    ctx.sync_threads();
    for (uint32_t w = 0; w < kWarps; ++w) {
      for (uint32_t e = 0; e < 2; ++e) {
        const float other = maxima[w * kStrip + row + 8 * e];
        peak[e] = other > peak[e] ? other : peak[e];
      }
    }
    rescale(strip, peak, base);
    uint32_t own[4];
    soften(s[0], base, own);
    const auto all = work.bytes(kWeights, kStrip * kWeightRow);
    for (uint32_t i = 0; i < 4; ++i) {  // fragment i: rows + 8 · (i % 2), keys + 8 · (i / 2)
      *simt::vector_view<uint32_t>(all + ((row + 8 * (i % 2)) * kWeightRow +
                                          2 * (16 * warp + 8 * (i / 2) + lane % 4 * 2))) = own[i];
    }
    turn(work, unit, end_unit, next_place);
    for (uint32_t i = 0; i < kUnit / 16; ++i) {
      uint32_t weights[4];
      ctx.ldmatrix(weights, all + (lane % 16 * kWeightRow + 32 * i + lane / 16 * 16));
      weigh(work, strip, tile_at(2 * unit + 1), i, weights);
    }
  }

  // max, Σ and O of the units of one split.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void run_split(const Work<Ctx>& work, Strip<kOne>& strip, int32_t split) {
    Ctx& ctx = work.ctx;
    constexpr int32_t kUnits = kAttentionSplit / kUnit;
    const int32_t first = work.tile().first / kUnit, last = work.tile().last / kUnit + 1;
    const int32_t begin = first > split * kUnits ? first : split * kUnits;
    const int32_t end_unit = last < (split + 1) * kUnits ? last : (split + 1) * kUnits;
    strip.clear();
    keep_place(work, begin, find_place(work, begin, end_unit));
    keep_place(work, begin + 1, find_place(work, begin + 1, end_unit));
    ctx.sync_threads();
    load(work, begin, end_unit, 0);
    load(work, begin, end_unit, 1);
    for (int32_t unit = begin; unit < end_unit; ++unit) {
      // The keys have come, and nobody reads the values of the unit before any more.
      ctx.copy_async_wait(1);
      ctx.sync_threads();
      load(work, unit + 1, end_unit, 0);
      run_unit(work, strip, unit, end_unit, find_place(work, unit + 2, end_unit));
    }
    // What is under way is empty. Another split or item writes places and queries only, which
    // nobody reads any more, in front of its first barrier.
  }

  // ---- results

  // f(row of the strip, feature, two values) for what the thread has of O.
  template <bool kOne, class Ctx, class F>
  SHOAL_SIMT static void for_values(const Work<Ctx>& work, Strip<kOne>& strip, F&& f) {
    const uint32_t lane = work.ctx.lane(), warp = kOne ? work.ctx.warp() : 0;
    for (int i = 0; i < Strip<kOne>::kPairs; ++i) {
      const uint32_t pair = warp + static_cast<uint32_t>(i) * (kOne ? kWarps : 1);
      if (pair >= kSteps) continue;
      for (int n = 0; n < 2; ++n) {
        for (int e = 0; e < 2; ++e) {
          f(e, static_cast<int32_t>(lane / 4) + 8 * e,
            static_cast<int32_t>(16 * pair + lane % 4 * 2) + 8 * n, strip.out[i][n][2 * e],
            strip.out[i][n][2 * e + 1]);
        }
      }
    }
  }

  // A slot's [max, Σ] and O.
  template <bool kOne, class Ctx, class Slot>
  SHOAL_SIMT static void leave(const Work<Ctx>& work, Strip<kOne>& strip, const Slot& slot) {
    const uint32_t lane = work.ctx.lane();
    if (lane % 4 == 0 && (!kOne || work.ctx.warp() == 0)) {
      for (uint32_t e = 0; e < 2; ++e) {
        slot[2 * (lane / 4 + 8 * e)] = strip.max[e];
        slot[2 * (lane / 4 + 8 * e) + 1] = strip.sum[2 * e];
      }
    }
    for_values(work, strip, [&](int, int32_t row, int32_t feature, float x, float y) {
      *simt::vector_view<simt::F32x2>(slot + (2 * kStrip + row * kDim + feature)) =
          simt::F32x2{x, y};
    });
  }

  template <class Ctx>
  SHOAL_SIMT static float factor(const Work<Ctx>& work, const AttentionTotal& total, int32_t head) {
    float sink = 0;
    if (work.p.has_sinks) sink = work.ctx.global(work.p.sinks)[head];
    return total.factor(work.p.has_sinks, sink);
  }

  // O / Σ to the output.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void write(const Work<Ctx>& work, Strip<kOne>& strip,
                               const AttentionTotal (&totals)[2]) {
    const Params& p = work.p;
    const auto lane = static_cast<int32_t>(work.ctx.lane());
    bool used[2];
    float by[2] = {};
    for (int e = 0; e < 2; ++e) {
      used[e] = work.used(strip.index, lane / 4 + 8 * e);
      if (used[e]) by[e] = factor(work, totals[e], work.head(lane / 4 + 8 * e));
    }
    const auto out = work.ctx.global(p.out);
    for_values(work, strip, [&](int e, int32_t i, int32_t feature, float x, float y) {
      if (!used[e]) return;
      const auto at =
          out + (work.row(strip.index, i) * p.out_stride + int64_t{work.head(i)} * kDim + feature);
      at[0] = x * by[e];
      at[1] = y * by[e];
    });
  }

  // Takes a split of a tile that the block walks alone into the total, which waits in memory; after
  // the last one the strip has it.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void add_up(const Work<Ctx>& work, Strip<kOne>& strip, bool first, bool last,
                                AttentionTotal (&totals)[2]) {
    const auto slot =
        work.ctx.global(work.p.partials) +
        (work.p.slots + int64_t{work.ctx.block().x} * kBlockSlots + strip.index) * kSlotFloats;
    float old_by[2], added_by[2];
    for (int e = 0; e < 2; ++e) {
      totals[e].fold(strip.max[e], strip.sum[2 * e], &old_by[e], &added_by[e]);
    }
    if (first && last) return;
    for_values(work, strip, [&](int e, int32_t row, int32_t feature, float& x, float& y) {
      const auto at = simt::vector_view<simt::F32x2>(slot + (2 * kStrip + row * kDim + feature));
      if (!first) {
        const simt::F32x2 old = *at;
        x = old.x * old_by[e] + x * added_by[e];
        y = old.y * old_by[e] + y * added_by[e];
      }
      if (!last) *at = simt::F32x2{x, y};
    });
  }

  // A lane has every 32nd feature of a row: folds the splits' slots in order.
  template <class Ctx, class Slots>
  SHOAL_SIMT static void fold_row(const Work<Ctx>& work, const Slots& slots, int64_t split_stride,
                                  int32_t strip, int32_t i) {
    constexpr int kParts = (kDim + 31) / 32;
    const Params& p = work.p;
    const auto lane = static_cast<int32_t>(work.ctx.lane());
    constexpr int32_t kAtOnce = 4;  // loads under way: slots one by one would wait for each
    AttentionTotal total;
    float x[kParts] = {};
    const int32_t splits = work.tile().splits();
    for (int32_t s = 0; s < splits; s += kAtOnce) {
      float max[kAtOnce], sum[kAtOnce], added[kAtOnce][kParts] = {};
      SHOAL_UNROLL
      for (int32_t j = 0; j < kAtOnce; ++j) {
        const auto slot = slots + (s + j < splits ? s + j : s) * split_stride;
        max[j] = slot[2 * i], sum[j] = slot[2 * i + 1];
        SHOAL_UNROLL
        for (int part = 0; part < kParts; ++part) {
          const int32_t feature = lane + 32 * part;
          if (feature < kDim) added[j][part] = slot[2 * kStrip + i * kDim + feature];
        }
      }
      SHOAL_UNROLL
      for (int32_t j = 0; j < kAtOnce; ++j) {
        if (s + j >= splits) break;
        float old_by, added_by;
        total.fold(max[j], sum[j], &old_by, &added_by);
        for (int part = 0; part < kParts; ++part) {
          x[part] = s + j == 0 ? added[j][part] : x[part] * old_by + added[j][part] * added_by;
        }
      }
    }
    const float by = factor(work, total, work.head(i));
    const auto out =
        work.ctx.global(p.out) + (work.row(strip, i) * p.out_stride + int64_t{work.head(i)} * kDim);
    for (int part = 0; part < kParts; ++part) {
      const int32_t feature = lane + 32 * part;
      if (feature < kDim) out[feature] = x[part] * by;
    }
  }

  // Leaves a split of a tile in its slots, [tile][split][strip][set]; the last block to do so folds
  // them all.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void share(const Work<Ctx>& work, Strip<kOne>& strip, int32_t nth,
                               int32_t sets) {
    Ctx& ctx = work.ctx;
    const int64_t strip_stride = int64_t{sets} * kSlotFloats;
    const AttentionTile tile = work.tile();
    const int64_t split_stride = tile.slots * strip_stride;
    const auto first = ctx.global(work.p.partials) +
                       (tile.slots_before * strip_stride + int64_t{work.set} * kSlotFloats);
    if (strip.active) leave(work, strip, first + (nth * split_stride + strip.index * strip_stride));
    const auto flag = simt::shared_array<uint32_t>(ctx, kFlag, 1);
    if (!last_of_tile(ctx, work.p, tile, work.set, sets, flag)) return;
    for (auto i = static_cast<int32_t>(ctx.warp()); i < tile.slots * kStrip; i += int32_t{kWarps}) {
      const int32_t in = i / kStrip;
      if (!work.used(in, i % kStrip)) continue;
      fold_row(work, first + in * strip_stride, split_stride, in, i % kStrip);
    }
  }

  // The nth split of a tile, or all of them.
  template <bool kOne, class Ctx>
  SHOAL_SIMT static void run_item(const Work<Ctx>& work, bool shared, int32_t nth, int32_t sets) {
    Strip<kOne> strip;
    strip.index = kOne ? 0 : static_cast<int32_t>(work.ctx.warp());
    strip.active = strip.index < work.tile().slots;
    load_queries(work, strip);
    const int32_t first = work.tile().first_split(), splits = work.tile().splits();
    const bool shares = shared && splits > 1;
    const int32_t begin = shares ? nth : 0, end = shares ? nth + 1 : splits;
    AttentionTotal totals[2];
    for (int32_t i = begin; i < end; ++i) {
      run_split(work, strip, first + i);
      if (!shares && strip.active) add_up(work, strip, i == 0, i + 1 == splits, totals);
    }
    if (shares) {
      share(work, strip, nth, sets);
    } else if (strip.active) {
      write(work, strip, totals);
    }
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
      const int32_t sequence = ctx.global(p.sequences)[tile.row];
      const Work<Ctx> work{ctx, p, plan, tile.index, set, sequence};
      if (tile.slots == 1) {
        run_item<true>(work, shared, nth, sets);
      } else {
        run_item<false>(work, shared, nth, sets);
      }
    }
  }
};

}  // namespace shoal::gpu

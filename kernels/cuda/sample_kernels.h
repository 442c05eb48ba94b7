// Kernels of sample.inl: what one rank finds in its slice of the vocabulary. The rule is in
// kernels/body/sampling.h; the host merges chunks and sorts candidates (sample_host.h).
//
// `raw` is a logit, `shaped` that with penalties and bias, divided by the temperature, +∞ cut to
// the largest float. A row with a raw NaN or +∞ is broken: one of its chunks says so with a maximum
// that is NaN, and whatever else was found in it means nothing. Biased logits are replaced in
// memory; the division is done wherever a shaped value is needed, which gives the same bits every
// time.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/body/sampling.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/simt.h"

namespace shoal::gpu {

using simt::Global;

inline constexpr float kLargestFloat = 3.402823466e38f;

enum SampleWants : uint32_t { kWantRawSum = 1, kWantShapedSum = 2, kWantNoise = 4 };

// A row of the step. Records are as large as they are aligned, at most 16 bytes: read whole.
struct alignas(16) SampleSpec {
  uint64_t key = 0;      // of the noise
  float divisor = 1.0f;  // temperature, or 1
  uint32_t wants = 0;    // SampleWants
};
struct alignas(16) SamplePenalties {
  float repetition = 1.0f, frequency = 0, presence = 0;
};

// One per row and id.
struct alignas(16) SampleBias {
  int32_t row = 0;
  int32_t index = 0;            // in the slice
  uint32_t count_and_seen = 0;  // 2 · output_count + seen
  float bias = 0;
};

// What a chunk of a row holds.
struct alignas(16) ChunkFindings {
  double sum;    // Σ exp(x − max), where wanted
  float max;     // −∞ if nothing is above it; of raw values NaN if one is NaN or +∞
  int32_t best;  // index in the slice, −1: none
};
struct alignas(8) ChunkBest {
  float value;  // shaped, with noise where wanted
  float raw;    // the logit in memory
};

struct alignas(16) SelectJob {
  int32_t row = 0;
  uint32_t wanted = 0;  // 1 … vocab
  uint64_t first = 0;   // of its results
};

struct alignas(16) FoundLogit {
  uint64_t key;
  float value;
  float raw;  // the logit in memory
};

SHOAL_SIMT float bounded_logit(float x) { return x > kLargestFloat ? kLargestFloat : x; }

// NaN if either is.
SHOAL_SIMT float larger_or_nan(float a, float b) { return a > b || a != a ? a : b; }

// Larger for larger values, and among equals for lower indices; 0 for what never counts: NaN, −∞.
SHOAL_SIMT uint64_t rank_key(float value, int64_t index) {
  if (!(value >= -kLargestFloat)) return 0;
  const uint32_t bits = body::bits_from_float(value + 0.0f);  // −0 equals 0
  const uint32_t ordered = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(index));
}
SHOAL_SIMT int32_t index_of_key(uint64_t key) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key));
}

// A row's logits as the kernels see them.
template <class Logits>
struct SampleValues {
  Logits logits;
  float divisor;
  bool shaped;

  SHOAL_SIMT float at(int64_t i) const { return of(logits[i]); }
  SHOAL_SIMT float of(float logit) const {
    const float raw = bounded_logit(logit);
    return shaped ? bounded_logit(raw / divisor) : raw;
  }
};
template <class Logits>
SHOAL_SIMT SampleValues<Logits> sample_values(const Logits& logits, const SampleSpec& spec,
                                              bool shaped) {
  return {logits, spec.divisor, shaped};
}

// Maximum, Σ exp and, of shaped values, the best of every chunk: block (chunk, row).
struct SampleChunks {
  static constexpr const char* kName = "sample_chunks";
  static constexpr uint32_t kThreads = 256, kMaxThreads = kThreads, kMinBlocks = 1;
  static constexpr int64_t kPerThread = 16;
  static constexpr int64_t kElements = kThreads * kPerThread;
  static constexpr uint32_t kSharedBytes = kReduceCells * (8 + 8 + 4);
  struct Params {
    Global<const float> logits;  // [rows, stride]
    int64_t stride;
    int64_t vocab;
    int64_t first_id;
    Global<const SampleSpec> specs;  // [rows]
    Global<ChunkFindings> findings;  // [rows, chunks]
    Global<ChunkBest> bests;         // [rows, chunks]; of shaped values
    bool shaped;
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const auto sums = simt::shared_array<double>(ctx, 0, kReduceCells);
    const auto keys = simt::shared_array<uint64_t>(ctx, kReduceCells * 8, kReduceCells);
    const auto maxima = simt::shared_array<float>(ctx, kReduceCells * 16, kReduceCells);
    const float lowest = -__builtin_inff();
    const int64_t row = ctx.block().y, first = int64_t{ctx.block().x} * kElements;
    const SampleSpec spec = ctx.global(p.specs)[row];
    const auto logits = ctx.global(p.logits) + row * p.stride;
    const auto values = sample_values(logits, spec, p.shaped);

    float x[kPerThread], max = lowest;
    bool broken = false;
    for (int64_t j = 0; j < kPerThread; ++j) {
      const int64_t i = first + j * kThreads + ctx.thread().x;
      const float logit = i < p.vocab ? float{logits[i]} : lowest;
      x[j] = values.of(logit);
      max = x[j] > max ? x[j] : max;
      if (!p.shaped && !(logit <= kLargestFloat)) broken = true;
    }
    if (broken) max = __builtin_nanf("");
    max = block_reduce(ctx, maxima, max, larger_or_nan);

    double sum = 0;
    const bool wants_sum = (spec.wants & (p.shaped ? kWantShapedSum : kWantRawSum)) != 0;
    if (wants_sum && max > lowest) {
      for (int64_t j = 0; j < kPerThread; ++j) {
        const float e = std::exp(x[j] - max);
        if (e == e) sum += static_cast<double>(e);  // a NaN logit weighs nothing
      }
      sum = block_sum(ctx, sums, sum);
    }
    uint64_t best = 0;
    if (p.shaped) {
      best = (spec.wants & kWantNoise) != 0 ? noisy_best(ctx, p, spec, first, values)
                                            : plain_best(ctx, first, x);
      best = block_reduce(ctx, keys, best, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
    }
    if (ctx.thread().x != 0) return;
    const int64_t at = row * ctx.grid_dim().x + ctx.block().x;
    const int32_t index = best != 0 ? index_of_key(best) : -1;
    ctx.global(p.findings)[at] = ChunkFindings{sum, max, index};
    if (index < 0) return;
    ctx.global(p.bests)[at] = ChunkBest{value_of_key(best), bounded_logit(logits[index])};
  }

  SHOAL_SIMT static float value_of_key(uint64_t key) {
    const auto ordered = static_cast<uint32_t>(key >> 32);
    return body::float_from_bits(ordered >> 31 != 0 ? ordered & 0x7fffffffu : ~ordered);
  }

  template <class Ctx>
  SHOAL_SIMT static uint64_t plain_best(Ctx& ctx, int64_t first, const float (&x)[kPerThread]) {
    uint64_t best = 0;
    for (int64_t j = 0; j < kPerThread; ++j) {
      const uint64_t key = rank_key(x[j], first + j * kThreads + ctx.thread().x);
      best = key > best ? key : best;
    }
    return best;
  }

  // Of shaped + Gumbel noise; only what may beat this thread's best so far costs logarithms. Reads
  // the values again: unrolled over registers this would be sixteen copies of two logarithms.
  template <class Ctx, class Values>
  SHOAL_SIMT static uint64_t noisy_best(Ctx& ctx, const Params& p, const SampleSpec& spec,
                                        int64_t first, const Values& values) {
    uint64_t best = 0;
    double best_value = -__builtin_inf();
    const int64_t end = first + kElements < p.vocab ? first + kElements : p.vocab;
    for (int64_t i = first + ctx.thread().x; i < end; i += kThreads) {
      const float value = values.at(i);
      if (!(value >= -kLargestFloat)) continue;
      const double u = body::noise_uniform(spec.key, static_cast<int32_t>(p.first_id + i));
      const auto shaped = static_cast<double>(value);
      if (shaped + body::gumbel_bound(u) <= best_value) continue;
      const auto noisy = static_cast<float>(shaped + body::gumbel(u));
      const uint64_t key = rank_key(noisy, i);
      if (key <= best) continue;
      best = key;
      best_value = static_cast<double>(noisy);
    }
    return best;
  }
};

// Replaces biased logits and keeps what they were.
struct ApplyBiases {
  static constexpr const char* kName = "apply_biases";
  static constexpr uint32_t kThreads = 128, kMaxThreads = kThreads, kMinBlocks = 1;
  struct Params {
    Global<float> logits;
    int64_t stride;
    Global<const SamplePenalties> penalties;  // [rows]
    Global<const SampleBias> biases;          // [count]
    int64_t count;
    Global<float> originals;  // [count]: raw
  };

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const int64_t b = int64_t{ctx.block().x} * kThreads + ctx.thread().x;
    if (b >= p.count) return;
    const SampleBias bias = ctx.global(p.biases)[b];
    const SamplePenalties row = ctx.global(p.penalties)[bias.row];
    const auto logits = ctx.global(p.logits) + bias.row * p.stride;
    const float raw = bounded_logit(logits[bias.index]);
    ctx.global(p.originals)[b] = raw;
    const auto count = static_cast<int32_t>(bias.count_and_seen >> 1);
    logits[bias.index] = body::penalise(raw, row.repetition, row.frequency, row.presence, count,
                                        (bias.count_and_seen & 1) != 0, bias.bias);
  }
};

// The `wanted` largest of a row, or all that count if those are fewer, in no order: block (job).
// Radix selection: the key of the last one wanted is found digit by digit, 11 bits at first since
// logits share most of their upper ones; the digits that are left once a bin fits need no look.
struct SelectTop {
  static constexpr const char* kName = "select_top";
  static constexpr uint32_t kMaxThreads = 1024, kMinBlocks = 1;
  static constexpr uint32_t kDigits = 6, kWideDigit = 11, kNarrowDigit = 10;  // 2 × (11 + 11 + 10)
  static constexpr uint32_t kBins = 1u << kWideDigit;
  static constexpr uint32_t kSharedBytes = (kBins + 4) * sizeof(uint32_t);
  struct Params {
    Global<const float> logits;
    int64_t stride;
    int64_t vocab;
    Global<const SampleSpec> specs;
    Global<const SelectJob> jobs;
    Global<FoundLogit> found;
    Global<uint32_t> counts;  // per job
    bool shaped;
  };

  static uint32_t threads(int64_t vocab) {
    constexpr int64_t kPerThread = 4;
    const int64_t wanted = (vocab + kPerThread - 1) / kPerThread;
    return wanted >= kMaxThreads ? kMaxThreads : static_cast<uint32_t>((wanted + 31) / 32 * 32);
  }

  template <class Ctx, class Arch>
  SHOAL_SIMT static void body(Ctx& ctx, const Params& p) {
    const SelectJob job = ctx.global(p.jobs)[ctx.block().x];
    const SampleSpec spec = ctx.global(p.specs)[job.row];
    const auto logits = ctx.global(p.logits) + job.row * p.stride;
    const auto values = sample_values(logits, spec, p.shaped);
    const auto bins = simt::shared_array<uint32_t>(ctx, 0, kBins);
    const auto control = simt::shared_array<uint32_t>(ctx, kBins * sizeof(uint32_t), 4);
    const uint64_t least = job.wanted < static_cast<uint64_t>(p.vocab)
                               ? threshold(ctx, p, values, job.wanted, bins, control)
                               : 1;
    if (ctx.thread().x == 0) control[3] = 0u;
    ctx.sync_threads();
    const auto found = ctx.global(p.found) + static_cast<int64_t>(job.first);
    for (int64_t i = ctx.thread().x; i < p.vocab; i += ctx.block_dim().x) {
      const float value = values.at(i);
      const uint64_t key = rank_key(value, i);
      if (key < least) continue;
      const uint32_t at = ctx.atomic_add(control + 3, 1u);
      found[at] = FoundLogit{key, value, bounded_logit(logits[i])};
    }
    ctx.sync_threads();
    if (ctx.thread().x == 0) ctx.global(p.counts)[ctx.block().x] = uint32_t{control[3]};
  }

  // The key of the wanted-th largest; 1, below which nothing counts, if there are not so many.
  template <class Ctx, class Values, class Cells>
  SHOAL_SIMT static uint64_t threshold(Ctx& ctx, const Params& p, const Values& values,
                                       uint32_t wanted, const Cells& bins, const Cells& control) {
    uint64_t prefix = 0;
    uint32_t known = 0, left = wanted;  // bits of the prefix; wanted of what starts with it
    for (uint32_t digit = 0; digit < kDigits; ++digit) {
      const uint32_t width = digit % 3 == 2 ? kNarrowDigit : kWideDigit;
      const uint32_t shift = 64 - known - width, mask = (1u << width) - 1;
      for (uint32_t b = ctx.thread().x; b < kBins; b += ctx.block_dim().x) bins[b] = 0u;
      ctx.sync_threads();
      for (int64_t i = ctx.thread().x; i < p.vocab; i += ctx.block_dim().x) {
        const uint64_t key = rank_key(values.at(i), i);
        if (key == 0 || (known > 0 && key >> (64 - known) != prefix)) continue;
        ctx.atomic_add(bins + (static_cast<uint32_t>(key >> shift) & mask), 1u);
      }
      ctx.sync_threads();
      if (ctx.thread().x < simt::kWarpSize) find_bin(ctx, bins, mask + 1, left, control);
      ctx.sync_threads();
      const uint32_t inside = control[2];
      if (inside == 0) return 1;
      const uint32_t bin = control[0], above = control[1];
      prefix = prefix << width | bin;
      known += width;
      left -= above;
      if (inside == left) break;  // at the last digit always: keys differ
    }
    return prefix << (64 - known);
  }

  // By one warp: control = {the bin that holds the left-th from the top, how many are above it, how
  // many in it}; 0 in it if there are fewer than `left` in all.
  template <class Ctx, class Cells>
  SHOAL_SIMT static void find_bin(Ctx& ctx, const Cells& bins, uint32_t count, uint32_t left,
                                  const Cells& control) {
    const uint32_t share = count / simt::kWarpSize, top = count - ctx.lane() * share;
    uint32_t own = 0;
    for (uint32_t b = 1; b <= share; ++b) own += bins[top - b];
    uint32_t through = own;  // of lanes 0 … this one
    for (uint32_t by = 1; by < simt::kWarpSize; by *= 2) {
      const uint32_t other = ctx.shuffle_up(through, by);
      if (ctx.lane() >= by) through += other;
    }
    uint32_t above = through - own;
    if (ctx.lane() == simt::kWarpSize - 1 && through < left) control[2] = 0u;
    if (above >= left || through < left) return;
    for (uint32_t b = top - 1;; --b) {
      const uint32_t inside = bins[b];
      if (above + inside >= left) {
        control[0] = b;
        control[1] = above;
        control[2] = inside;
        return;
      }
      above += inside;
    }
  }
};

}  // namespace shoal::gpu

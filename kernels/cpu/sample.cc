// One rank's part of sampling: statistics and candidates of its vocabulary slice.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/body/sampling.h"
#include "kernels/cpu/cpu_device.h"

namespace shoal {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct Entry {
  float value;
  int32_t index;
};

bool better(const Entry& a, const Entry& b) {
  return a.value != b.value ? a.value > b.value : a.index < b.index;
}

constexpr int64_t kChunk = 256;  // values looked at together for anything worth a closer look

// The `count` largest of values[0, n), descending, ties by index; NaN and −inf never count.
std::vector<Entry> top_of(const KernelSet& set, const float* values, int64_t n, int64_t count) {
  std::vector<Entry> heap;  // the worst of the best is in front
  if (count <= 0) return heap;
  heap.reserve(static_cast<size_t>(std::min(count, n)));
  for (int64_t start = 0; start < n; start += kChunk) {
    const int64_t end = std::min(n, start + kChunk);
    const bool full = static_cast<int64_t>(heap.size()) == count;
    // What only equals the worst has a higher index and loses.
    if (full && !(set.max(values + start, end - start) > heap.front().value)) continue;
    for (int64_t i = start; i < end; ++i) {
      const Entry entry{values[i], static_cast<int32_t>(i)};
      if (!(entry.value > kLowest)) continue;
      if (static_cast<int64_t>(heap.size()) < count) {
        heap.push_back(entry);
        std::push_heap(heap.begin(), heap.end(), better);
      } else if (better(entry, heap.front())) {
        std::pop_heap(heap.begin(), heap.end(), better);
        heap.back() = entry;
        std::push_heap(heap.begin(), heap.end(), better);
      }
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

// The first of the largest values; index −1 if none is above −inf.
Entry best_plain(const KernelSet& set, const float* shaped, int64_t n, float max) {
  for (int64_t start = 0; start < n && max > kLowest; start += kChunk) {
    const int64_t end = std::min(n, start + kChunk);
    if (set.max(shaped + start, end - start) < max) continue;
    for (int64_t i = start; i < end; ++i) {
      if (shaped[i] == max) return {max, static_cast<int32_t>(i)};
    }
  }
  return {kLowest, -1};
}

// argmax of shaped + Gumbel noise, equals by the lowest index. Only the few that may reach the best
// so far cost logarithms.
Entry best_noisy(const KernelSet& set, const float* shaped, int64_t n, int64_t first_id,
                 const SampleRow& row) {
  const uint64_t key = body::noise_key(row.seed, row.choice, row.position);
  Entry best{kLowest, -1};
  for (int64_t i = 0;; ++i) {
    i = set.next_noisy(shaped, i, n, first_id, key, best.value);
    if (i >= n) return best;
    const double u = body::noise_uniform(key, static_cast<int32_t>(first_id + i));
    const auto noisy = static_cast<float>(static_cast<double>(shaped[i]) + body::gumbel(u));
    if (noisy > best.value) best = {noisy, static_cast<int32_t>(i)};
  }
}

class RowSampler {
 public:
  RowSampler(const KernelSet& set, float* logits, int64_t n, int64_t first_id, const SampleRow& row)
      : set_(set), logits_(logits), n_(n), first_id_(first_id), row_(row) {}

  void run(LocalSample* out) {
    const float max = set_.max_logit(logits_, n_);
    if (std::isnan(max)) {
      out->broken = true;
      return;
    }
    out->raw_max = max;
    out->raw_sum = row_.top_logprobs >= 0 ? sum(out->raw_max) : 0;
    for (const Entry& e : top_of(set_, logits_, n_, row_.top_logprobs)) {
      out->raw_top.push_back(candidate(e, logits_[e.index]));
    }
    shape();
    const bool truncated = row_.shaped_candidates > 0;
    out->shaped_max = bounded_max();
    out->shaped_sum = truncated ? sum(out->shaped_max) : 0;
    for (const Entry& e : top_of(set_, logits_, n_, row_.shaped_candidates)) {
      out->shaped_top.push_back(candidate(e, raw_of(e.index)));
    }
    const Entry best = row_.temperature == 0 || truncated
                           ? best_plain(set_, logits_, n_, out->shaped_max)
                           : best_noisy(set_, logits_, n_, first_id_, row_);
    if (best.index >= 0) out->best = candidate(best, raw_of(best.index));
  }

 private:
  // Values that penalties or the division made infinite become the largest number, or no difference
  // to them would be one.
  float bounded_max() {
    float max = set_.max(logits_, n_);
    if (max > std::numeric_limits<float>::max()) {
      max = std::numeric_limits<float>::max();
      for (int64_t i = 0; i < n_; ++i) logits_[i] = logits_[i] > max ? max : logits_[i];
    }
    return max;
  }
  double sum(float max) const { return max > kLowest ? set_.exp_sum(logits_, max, n_) : 0; }
  Candidate candidate(const Entry& e, float raw) const {
    return {static_cast<int32_t>(first_id_ + e.index), e.value, raw};
  }

  // Penalties, bias, temperature; remembers the logits it changes beyond division.
  void shape() {
    for (const TokenBias& bias : row_.biases) {
      const int64_t i = bias.id - first_id_;
      if (i < 0 || i >= n_) continue;
      changed_.push_back({logits_[i], static_cast<int32_t>(i)});
      logits_[i] = body::penalise(logits_[i], row_.repetition, row_.frequency, row_.presence,
                                  bias.output_count, bias.seen, bias.bias);
    }
    std::sort(changed_.begin(), changed_.end(),
              [](const Entry& a, const Entry& b) { return a.index < b.index; });
    if (row_.temperature == 0 || row_.temperature == 1.0f) return;
    raw_.assign(logits_, logits_ + n_);
    set_.divide(row_.temperature, n_, logits_);
  }

  float raw_of(int32_t index) const {
    const auto it = std::lower_bound(changed_.begin(), changed_.end(), index,
                                     [](const Entry& e, int32_t i) { return e.index < i; });
    if (it != changed_.end() && it->index == index) return it->value;
    return raw_.empty() ? logits_[index] : raw_[static_cast<size_t>(index)];
  }

  const KernelSet& set_;
  float* logits_;
  int64_t n_;
  int64_t first_id_;
  const SampleRow& row_;
  std::vector<Entry> changed_;  // original logits of biased ids, by index
  std::vector<float> raw_;      // logits before the division, if there was one
};

}  // namespace

void CpuDevice::sample_local(float* logits, int64_t logits_stride, int64_t vocab, int64_t first_id,
                             std::span<const SampleRow> rows, std::span<LocalSample> out) {
  SHOAL_CHECK(rows.size() == out.size(), "one LocalSample per row");
  pool_.parallel_for(static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      LocalSample& sample = out[static_cast<size_t>(r)];
      sample = {};
      RowSampler(set_, logits + r * logits_stride, vocab, first_id, rows[static_cast<size_t>(r)])
          .run(&sample);
    }
  });
}

}  // namespace shoal

// One call of sample_local on the host: what goes to the card, where it lies there, and how the
// findings of chunks become one LocalSample per row. All memory of a call is one piece: input, sent
// before the kernels, then output, fetched after them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cuda/sample_kernels.h"
#include "kernels/device.h"

namespace shoal::gpu {

// Fetched output: records in it are aligned as on the card.
struct alignas(16) SampleOutputUnit {
  uint8_t bytes[16];
};
using SampleOutput = std::vector<SampleOutputUnit>;

class SampleCall {
 public:
  SampleCall(std::span<const SampleRow> rows, int64_t vocab, int64_t first_id)
      : vocab_(vocab),
        first_id_(first_id),
        rows_(static_cast<int64_t>(rows.size())),
        chunks_((vocab + SampleChunks::kElements - 1) / SampleChunks::kElements) {
    for (const SampleRow& row : rows) add(row);
    lay_out();
  }

  int64_t rows() const { return rows_; }
  int64_t chunks() const { return chunks_; }
  int64_t bias_count() const { return static_cast<int64_t>(biases_.size()); }
  // Of raw logits, or of shaped ones.
  int64_t job_count(bool shaped) const {
    const auto raw = static_cast<int64_t>(raw_jobs_);
    return shaped ? static_cast<int64_t>(jobs_.size()) - raw : raw;
  }

  uint64_t bytes() const { return bytes_; }
  std::vector<uint8_t> input() const {
    std::vector<uint8_t> image(findings_at_);
    const auto put = [&](uint64_t at, const auto& values) {
      if (!values.empty()) std::memcpy(image.data() + at, values.data(), size_of(values));
    };
    put(specs_at_, specs_);
    put(penalties_at_, penalties_);
    put(biases_at_, biases_);
    put(jobs_at_, jobs_);
    return image;
  }
  uint64_t output_at() const { return findings_at_; }
  SampleOutput output() const {
    return SampleOutput((bytes_ - findings_at_) / sizeof(SampleOutputUnit));
  }

  // Places in the card's memory that starts at `base`.
  Global<const SampleSpec> specs(uint8_t* base) const {
    return {place<SampleSpec>(base, specs_at_)};
  }
  Global<const SamplePenalties> penalties(uint8_t* base) const {
    return {place<SamplePenalties>(base, penalties_at_)};
  }
  Global<const SampleBias> biases(uint8_t* base) const {
    return {place<SampleBias>(base, biases_at_)};
  }
  Global<const SelectJob> jobs(uint8_t* base, bool shaped) const {
    return {place<SelectJob>(base, jobs_at_) + (shaped ? raw_jobs_ : 0)};
  }
  Global<uint32_t> counts(uint8_t* base, bool shaped) const {
    return {place<uint32_t>(base, counts_at_) + (shaped ? raw_jobs_ : 0)};
  }
  Global<ChunkFindings> findings(uint8_t* base, bool shaped) const {
    return {place<ChunkFindings>(base, findings_at_) + (shaped ? rows_ * chunks_ : 0)};
  }
  Global<ChunkBest> bests(uint8_t* base) const { return {place<ChunkBest>(base, bests_at_)}; }
  Global<float> originals(uint8_t* base) const { return {place<float>(base, originals_at_)}; }
  Global<FoundLogit> found(uint8_t* base) const { return {place<FoundLogit>(base, found_at_)}; }

  // `output`: what lies from output_at() on.
  void read(SampleOutput& output, std::span<const SampleRow> rows,
            std::span<LocalSample> out) const {
    size_t raw_job = 0, shaped_job = raw_jobs_;
    for (size_t r = 0; r < rows.size(); ++r) {
      LocalSample& sample = out[r];
      sample = {};
      Candidate unused;
      const size_t raw = raw_wanted(rows[r]) > 0 ? raw_job++ : kNoJob;
      const size_t shaped = shaped_wanted(rows[r]) > 0 ? shaped_job++ : kNoJob;
      sample.broken = is_broken(output, r);
      if (sample.broken) continue;
      merge(output, r, false, &sample.raw_max, &sample.raw_sum, &unused);
      merge(output, r, true, &sample.shaped_max, &sample.shaped_sum, &sample.best);
      if (raw != kNoJob) sample.raw_top = list(output, r, raw, false);
      if (shaped != kNoJob) sample.shaped_top = list(output, r, shaped, true);
    }
  }

 private:
  struct Range {
    size_t first, last;
  };
  static constexpr size_t kNoJob = SIZE_MAX;

  template <class T>
  static uint64_t size_of(const std::vector<T>& values) {
    return values.size() * sizeof(T);
  }
  template <class T>
  static T* place(uint8_t* base, uint64_t at) {
    return reinterpret_cast<T*>(base + at);
  }
  template <class T>
  T* fetched(SampleOutput& output, uint64_t at) const {
    return reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(output.data()) + (at - findings_at_));
  }
  int64_t raw_wanted(const SampleRow& row) const {
    return std::min<int64_t>(row.top_logprobs, vocab_);
  }
  int64_t shaped_wanted(const SampleRow& row) const {
    return std::min<int64_t>(row.shaped_candidates, vocab_);
  }

  void add(const SampleRow& row) {
    const bool truncated = row.shaped_candidates > 0;
    SampleSpec spec;
    spec.key = body::noise_key(row.seed, row.choice, row.position);
    spec.divisor = row.temperature == 0 ? 1.0f : row.temperature;
    spec.wants = (row.top_logprobs >= 0 ? kWantRawSum : 0u) | (truncated ? kWantShapedSum : 0u) |
                 (row.temperature != 0 && !truncated ? kWantNoise : 0u);
    const auto index = static_cast<int32_t>(specs_.size());
    specs_.push_back(spec);
    penalties_.push_back({row.repetition, row.frequency, row.presence});
    const size_t first = biases_.size();
    for (const TokenBias& bias : row.biases) {
      const int64_t i = bias.id - first_id_;
      if (i < 0 || i >= vocab_) continue;
      const auto count = static_cast<uint32_t>(bias.output_count);
      biases_.push_back(
          {index, static_cast<int32_t>(i), 2 * count + (bias.seen ? 1u : 0u), bias.bias});
    }
    std::sort(biases_.begin() + static_cast<std::ptrdiff_t>(first), biases_.end(),
              [](const SampleBias& a, const SampleBias& b) { return a.index < b.index; });
    row_biases_.push_back({first, biases_.size()});
    add_job(index, raw_wanted(row), &jobs_);
    add_job(index, shaped_wanted(row), &shaped_jobs_);
  }
  void add_job(int32_t row, int64_t wanted, std::vector<SelectJob>* jobs) {
    if (wanted <= 0) return;
    jobs->push_back({row, static_cast<uint32_t>(wanted), found_count_});
    found_count_ += static_cast<uint64_t>(wanted);
  }

  void lay_out() {
    raw_jobs_ = jobs_.size();
    jobs_.insert(jobs_.end(), shaped_jobs_.begin(), shaped_jobs_.end());
    const auto take = [&](uint64_t count, uint64_t each) {
      constexpr uint64_t kAlignment = 16;  // of the largest record
      const uint64_t at = bytes_;
      bytes_ = (at + count * each + kAlignment - 1) / kAlignment * kAlignment;
      return at;
    };
    specs_at_ = take(specs_.size(), sizeof(SampleSpec));
    penalties_at_ = take(penalties_.size(), sizeof(SamplePenalties));
    biases_at_ = take(biases_.size(), sizeof(SampleBias));
    jobs_at_ = take(jobs_.size(), sizeof(SelectJob));
    findings_at_ = take(static_cast<uint64_t>(2 * rows_ * chunks_), sizeof(ChunkFindings));
    bests_at_ = take(static_cast<uint64_t>(rows_ * chunks_), sizeof(ChunkBest));
    originals_at_ = take(biases_.size(), sizeof(float));
    counts_at_ = take(jobs_.size(), sizeof(uint32_t));
    found_at_ = take(found_count_, sizeof(FoundLogit));
  }

  bool is_broken(SampleOutput& output, size_t r) const {
    const ChunkFindings* chunk =
        fetched<ChunkFindings>(output, findings_at_) + static_cast<int64_t>(r) * chunks_;
    return std::any_of(chunk, chunk + chunks_,
                       [](const ChunkFindings& found) { return std::isnan(found.max); });
  }

  // Chunks in order: sums are the same whatever ran first, equals go to the lowest id.
  void merge(SampleOutput& output, size_t r, bool shaped, float* max, double* sum,
             Candidate* best) const {
    const ChunkFindings* chunk = fetched<ChunkFindings>(output, findings_at_) +
                                 ((shaped ? rows_ : 0) + static_cast<int64_t>(r)) * chunks_;
    const ChunkBest* bests =
        fetched<ChunkBest>(output, bests_at_) + static_cast<int64_t>(r) * chunks_;
    *max = -std::numeric_limits<float>::infinity();
    for (int64_t c = 0; c < chunks_; ++c) *max = std::max(*max, chunk[c].max);
    *sum = 0;
    for (int64_t c = 0; c < chunks_; ++c) {
      if (chunk[c].sum > 0) {
        const double below = static_cast<double>(chunk[c].max) - static_cast<double>(*max);
        *sum += chunk[c].sum * std::exp(below);
      }
      const int32_t index = shaped ? chunk[c].best : -1;
      if (index < 0 || (best->id >= 0 && !(bests[c].value > best->value))) continue;
      *best = {static_cast<int32_t>(first_id_ + index), bests[c].value,
               raw_of(output, r, index, bests[c].raw)};
    }
  }

  std::vector<Candidate> list(SampleOutput& output, size_t r, size_t job, bool shaped) const {
    FoundLogit* found = fetched<FoundLogit>(output, found_at_) + jobs_[job].first;
    // A card that failed may have written anything; the error comes out of synchronize().
    const uint32_t count = std::min(fetched<uint32_t>(output, counts_at_)[job], jobs_[job].wanted);
    std::sort(found, found + count,
              [](const FoundLogit& a, const FoundLogit& b) { return a.key > b.key; });
    std::vector<Candidate> out;
    out.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
      const auto index = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(found[i].key));
      const float raw = shaped ? raw_of(output, r, index, found[i].raw) : found[i].raw;
      out.push_back({static_cast<int32_t>(first_id_ + index), found[i].value, raw});
    }
    return out;
  }

  // The unmodified logit where memory holds `now`.
  float raw_of(SampleOutput& output, size_t r, int32_t index, float now) const {
    const auto first = biases_.begin() + static_cast<std::ptrdiff_t>(row_biases_[r].first);
    const auto last = biases_.begin() + static_cast<std::ptrdiff_t>(row_biases_[r].last);
    const auto it = std::lower_bound(first, last, index,
                                     [](const SampleBias& b, int32_t i) { return b.index < i; });
    if (it == last || it->index != index) return now;
    return fetched<float>(output, originals_at_)[it - biases_.begin()];
  }

  int64_t vocab_, first_id_, rows_, chunks_;
  std::vector<SampleSpec> specs_;
  std::vector<SamplePenalties> penalties_;
  std::vector<SampleBias> biases_;  // by row, then index
  std::vector<Range> row_biases_;
  std::vector<SelectJob> jobs_, shaped_jobs_;  // jobs_: raw, then shaped
  size_t raw_jobs_ = 0;
  uint64_t found_count_ = 0;
  uint64_t bytes_ = 0;
  uint64_t specs_at_ = 0, penalties_at_ = 0, biases_at_ = 0, jobs_at_ = 0;
  uint64_t findings_at_ = 0, bests_at_ = 0, originals_at_ = 0, counts_at_ = 0, found_at_ = 0;
};

}  // namespace shoal::gpu

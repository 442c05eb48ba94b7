#include "worker/sampler.h"

#include <algorithm>

#include <fmt/core.h>

#include "kernels/sampling.h"

namespace shoal {
namespace {

SampleRow row_of(const SampleTarget& target) {
  const wire::SamplingParams& p = target.sequence->sampling();
  SampleRow row;
  row.temperature = p.temperature;
  row.presence = p.presence;
  row.frequency = p.frequency;
  row.repetition = p.repetition;
  row.seed = target.sequence->seed();
  row.choice = target.sequence->choice();
  row.position = target.position;
  row.top_logprobs = p.top_logprobs;
  row.shaped_candidates = first_candidates({p.top_k, p.top_p, p.min_p}, p.temperature);
  row.biases = target.sequence->biases();
  return row;
}

Truncation truncation_of(const SampleTarget& target) {
  const wire::SamplingParams& p = target.sequence->sampling();
  return {p.top_k, p.top_p, p.min_p};
}

}  // namespace

// Looks at rows [first, first + count) of the last forward pass.
void Sampler::look(Transformer& transformer, const std::vector<SampleRow>& rows, size_t first, size_t count,
                   std::vector<LocalSample>* found) {
  float* logits = transformer.logits(static_cast<int64_t>(first), static_cast<int64_t>(count));
  device_.sample_local(logits, transformer.logits_stride(), slice_.size(), slice_.begin,
                       std::span(rows).subspan(first, count), std::span(*found).subspan(first, count));
}

// Every rank's findings of every row: out[row][rank].
Result<std::vector<std::vector<LocalSample>>> Sampler::gather(const std::vector<LocalSample>& mine,
                                                              const OpContext& op) {
  const auto world = static_cast<size_t>(group_.world());
  std::vector<std::vector<LocalSample>> all(mine.size());
  if (world == 1) {
    for (size_t i = 0; i < mine.size(); ++i) all[i] = {mine[i]};
    return all;
  }
  std::vector<uint8_t> packed;
  for (const LocalSample& sample : mine) pack(sample, &packed);
  // Lists differ in length between ranks: sizes first, then padded blobs.
  const auto size = static_cast<uint64_t>(packed.size());
  std::vector<uint64_t> sizes(world);
  SHOAL_TRY(group_.all_gather(&size, sizeof(size), sizes.data(), op));
  const uint64_t longest = *std::max_element(sizes.begin(), sizes.end());
  if (longest > mine.size() * (static_cast<uint64_t>(vocab_) * 2 * sizeof(Candidate) + 1024)) {
    return internal_error(fmt::format("a rank announced {} bytes of sampling results", longest));
  }
  packed.resize(longest);
  std::vector<uint8_t> gathered(longest * world);
  SHOAL_TRY(group_.all_gather(packed.data(), longest, gathered.data(), op));
  for (size_t rank = 0; rank < world; ++rank) {
    std::span<const uint8_t> bytes(gathered.data() + rank * longest, sizes[rank]);
    for (std::vector<LocalSample>& row : all) {
      row.emplace_back();
      if (!unpack(&bytes, &row.back())) {
        return internal_error(fmt::format("sampling results of rank {} are cut short", rank));
      }
    }
  }
  return all;
}

Result<std::vector<wire::RowResult>> Sampler::sample(Transformer& transformer,
                                                     const std::vector<SampleTarget>& targets,
                                                     const OpContext& op) {
  std::vector<SampleRow> rows;
  for (const SampleTarget& target : targets) rows.push_back(row_of(target));
  std::vector<LocalSample> mine(targets.size());
  for (size_t first = 0; first < targets.size(); first += Transformer::kLogitRows) {
    look(transformer, rows, first, std::min<size_t>(Transformer::kLogitRows, targets.size() - first), &mine);
  }
  if (targets.empty()) return std::vector<wire::RowResult>{};
  SHOAL_ASSIGN(auto all, gather(mine, op));

  std::vector<wire::RowResult> results;
  for (size_t i = 0; i < targets.size(); ++i) {
    Choice choice = choose_token(all[i], rows[i], truncation_of(targets[i]));
    if (choice.needs_all) {
      // Rare: the kept set is longer than the lists. Every rank sees that and comes here.
      SampleRow again = rows[i];
      again.shaped_candidates = kAllCandidates;
      std::vector<LocalSample> one(1);
      float* logits = transformer.logits(static_cast<int64_t>(i), 1);
      device_.sample_local(logits, transformer.logits_stride(), slice_.size(), slice_.begin, {&again, 1}, one);
      SHOAL_ASSIGN(auto whole, gather(one, op));
      choice = choose_token(whole[0], again, truncation_of(targets[i]));
    }
    wire::RowResult result;
    result.slot = targets[i].slot;
    result.generation = targets[i].sequence->generation();
    result.token = choice.token;
    result.logprob = choice.logprob;
    for (const Candidate& c : choice.top) result.top.push_back({c.id, c.value});
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace shoal

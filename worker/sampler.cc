#include "worker/sampler.h"

#include <algorithm>

#include <fmt/core.h>

#include "kernels/sampling.h"

namespace shoal {
namespace {

// `deciding`: of its known token, if there is one; outlives the row.
SampleRow row_of(const SampleTarget& target, const TokenBias& deciding) {
  const wire::SamplingParams& p = target.sequence->sampling();
  SampleRow row;
  row.position = target.position;
  row.top_logprobs = p.top_logprobs;
  if (target.known >= 0) {
    row.temperature = 0;
    row.biases = {&deciding, 1};
    return row;
  }
  row.temperature = p.temperature;
  row.presence = p.presence;
  row.frequency = p.frequency;
  row.repetition = p.repetition;
  row.seed = target.sequence->seed();
  row.choice = target.sequence->choice();
  row.shaped_candidates = first_candidates({p.top_k, p.top_p, p.min_p}, p.temperature);
  row.biases = target.sequence->biases();
  return row;
}

Truncation truncation_of(const SampleTarget& target) {
  if (target.known >= 0) return {};
  const wire::SamplingParams& p = target.sequence->sampling();
  return {p.top_k, p.top_p, p.min_p};
}

}  // namespace

// Looks at rows [first, first + count) of the last forward pass.
void Sampler::look(Transformer& transformer, const std::vector<SampleRow>& rows, size_t first,
                   size_t count, std::vector<LocalSample>* found) {
  float* logits = transformer.logits(static_cast<int64_t>(first), static_cast<int64_t>(count));
  device_.sample_local(logits, transformer.logits_stride(), slice_.size(), slice_.begin,
                       std::span(rows).subspan(first, count),
                       std::span(*found).subspan(first, count));
}

// Every rank's findings of every row: out[row][rank]. One exchange: its size follows from the rows.
Result<std::vector<std::vector<LocalSample>>> Sampler::gather(const std::vector<LocalSample>& mine,
                                                              std::span<const SampleRow> rows,
                                                              const OpContext& op) {
  const auto world = static_cast<size_t>(group_.world());
  std::vector<std::vector<LocalSample>> all(mine.size());
  if (world == 1) {
    for (size_t i = 0; i < mine.size(); ++i) all[i] = {mine[i]};
    return all;
  }
  std::vector<uint8_t> packed;
  for (size_t i = 0; i < mine.size(); ++i) pack(mine[i], rows[i], vocab_, &packed);
  std::vector<uint8_t> gathered(packed.size() * world);
  SHOAL_TRY(group_.all_gather(packed.data(), packed.size(), gathered.data(), op));
  std::span<const uint8_t> bytes(gathered);
  for (size_t rank = 0; rank < world; ++rank) {
    for (size_t i = 0; i < mine.size(); ++i) {
      all[i].emplace_back();
      if (!unpack(&bytes, rows[i], vocab_, &all[i].back())) {
        return internal_error(fmt::format("damaged sampling results of rank {}", rank));
      }
    }
  }
  return all;
}

Result<std::vector<wire::RowResult>> Sampler::sample(Transformer& transformer,
                                                     const std::vector<SampleTarget>& targets,
                                                     const OpContext& op) {
  std::vector<TokenBias> deciding;
  for (const SampleTarget& target : targets) deciding.push_back(deciding_bias(target.known));
  std::vector<SampleRow> rows;
  for (size_t i = 0; i < targets.size(); ++i) rows.push_back(row_of(targets[i], deciding[i]));
  std::vector<LocalSample> mine(targets.size());
  if (exchange_.failed()) return exchange_.end_step();
  for (size_t first = 0; first < targets.size(); first += Transformer::kLogitRows) {
    look(transformer, rows, first,
         std::min<size_t>(Transformer::kLogitRows, targets.size() - first), &mine);
  }
  // A failed launch, or a peer that is gone, must not become a token.
  if (!targets.empty()) SHOAL_TRY(device_.synchronize(op.deadline));
  SHOAL_TRY(exchange_.end_step());
  if (targets.empty()) return std::vector<wire::RowResult>{};
  SHOAL_ASSIGN(auto all, gather(mine, rows, op));

  std::vector<wire::RowResult> results;
  for (size_t i = 0; i < targets.size(); ++i) {
    Choice choice = choose_token(all[i], rows[i], truncation_of(targets[i]));
    if (choice.needs_all) {
      // Rare: the kept set is longer than the lists. Every rank sees that and comes here.
      SampleRow again = rows[i];
      again.shaped_candidates = kAllCandidates;
      std::vector<LocalSample> one(1);
      float* logits = transformer.logits(static_cast<int64_t>(i), 1);
      device_.sample_local(logits, transformer.logits_stride(), slice_.size(), slice_.begin,
                           {&again, 1}, one);
      SHOAL_TRY(device_.synchronize(op.deadline));
      SHOAL_ASSIGN(auto whole, gather(one, {&again, 1}, op));
      choice = choose_token(whole[0], again, truncation_of(targets[i]));
    }
    wire::RowResult result;
    if (targets[i].known >= 0 && choice.token != targets[i].known) {
      // Its logit is −∞, which no bias lifts.
      choice.token = targets[i].known;
      choice.logprob = kNoLogprob;
    }
    result.slot = targets[i].slot;
    result.generation = targets[i].sequence->generation();
    result.broken = choice.broken;
    result.token = std::max(choice.token, 0);  // of a broken row: any, its sequence goes no further
    result.logprob = choice.logprob;
    for (const Candidate& c : choice.top) result.top.push_back({c.id, c.value});
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace shoal

#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/body/sampling.h"

namespace shoal {
namespace {

constexpr int32_t kFirstCandidates = 128;
constexpr uint32_t kMaxListed = 1 << 24;  // more than any vocabulary

bool better(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}

// ln Σ exp over all ranks, from (max, Σ exp(x − max)) of each, in rank order.
double log_sum(std::span<const LocalSample> ranks, float LocalSample::*max,
               double LocalSample::*sum) {
  double peak = -std::numeric_limits<double>::infinity();
  for (const LocalSample& rank : ranks) peak = std::max(peak, static_cast<double>(rank.*max));
  double total = 0;
  for (const LocalSample& rank : ranks) {
    if (rank.*sum > 0) total += rank.*sum * std::exp(static_cast<double>(rank.*max) - peak);
  }
  return peak + std::log(total);
}

std::vector<Candidate> merged(std::span<const LocalSample> ranks,
                              std::vector<Candidate> LocalSample::*list) {
  std::vector<Candidate> all;
  for (const LocalSample& rank : ranks)
    all.insert(all.end(), (rank.*list).begin(), (rank.*list).end());
  std::sort(all.begin(), all.end(), better);
  return all;
}

// How many of the sorted candidates are certain to be the global best: below the last entry of a
// list that was cut short, its rank may hold more.
size_t certain(std::span<const LocalSample> ranks, const SampleRow& row,
               const std::vector<Candidate>& all) {
  size_t limit = all.size();
  for (const LocalSample& rank : ranks) {
    const bool cut_short = static_cast<int64_t>(rank.shaped_top.size()) >= row.shaped_candidates;
    if (!cut_short || rank.shaped_top.empty()) continue;
    const auto last = std::find_if(all.begin(), all.end(), [&](const Candidate& c) {
      return c.id == rank.shaped_top.back().id;
    });
    limit = std::min(limit, static_cast<size_t>(last - all.begin()) + 1);
  }
  return limit;
}

// Length of the kept prefix of `all`, or −1 if the lists are too short to tell.
int64_t kept_prefix(std::span<const LocalSample> ranks, const SampleRow& row, const Truncation& t,
                    const std::vector<Candidate>& all) {
  const auto known = static_cast<int64_t>(certain(ranks, row, all));
  const bool complete =
      known == static_cast<int64_t>(all.size()) &&
      std::all_of(ranks.begin(), ranks.end(), [&](const LocalSample& rank) {
        return static_cast<int64_t>(rank.shaped_top.size()) < row.shaped_candidates;
      });
  int64_t keep = complete ? known : std::numeric_limits<int64_t>::max();
  if (t.top_k > 0) keep = std::min<int64_t>(keep, t.top_k);
  const double peak = static_cast<double>(all[0].value);
  const auto weight = [&](int64_t i) {
    return std::exp(static_cast<double>(all[static_cast<size_t>(i)].value) - peak);
  };
  if (t.top_p < 1.0f) {
    double total = 0;  // mass of what top_k left
    if (t.top_k > 0 || complete) {
      if (keep > known) return -1;
      for (int64_t i = 0; i < keep; ++i) total += weight(i);
    } else {
      total = std::exp(log_sum(ranks, &LocalSample::shaped_max, &LocalSample::shaped_sum) - peak);
    }
    double mass = 0;
    int64_t i = 0;
    for (; i < std::min(keep, known) && mass < static_cast<double>(t.top_p) * total; ++i)
      mass += weight(i);
    if (mass < static_cast<double>(t.top_p) * total && i < keep) return -1;
    keep = std::max<int64_t>(i, 1);
  }
  if (t.min_p > 0.0f) {
    int64_t i = 0;
    while (i < std::min(keep, known) && weight(i) >= static_cast<double>(t.min_p)) ++i;
    if (i == known && known < keep) return -1;
    keep = std::max<int64_t>(i, 1);
  }
  return keep > known ? -1 : keep;
}

// Finite whatever the logits are: answers carry it as a JSON number.
float logprob(float raw, double log_total) {
  const double value = static_cast<double>(raw) - log_total;
  return std::isfinite(value) ? std::max(static_cast<float>(value), kNoLogprob) : kNoLogprob;
}

}  // namespace

int32_t first_candidates(const Truncation& truncation, float temperature) {
  if (temperature == 0 || !truncation.any()) return 0;
  // Of top_k candidates a rank can hold all.
  return std::max(truncation.top_k > 0 ? truncation.top_k + 1 : 0, kFirstCandidates);
}

Choice choose_token(std::span<const LocalSample> ranks, const SampleRow& row,
                    const Truncation& truncation) {
  Choice choice;
  Candidate chosen;
  chosen.value = -std::numeric_limits<float>::infinity();
  if (row.shaped_candidates == 0) {
    for (const LocalSample& rank : ranks) {
      if (rank.best.id >= 0 && (chosen.id < 0 || better(rank.best, chosen))) chosen = rank.best;
    }
  } else {
    const std::vector<Candidate> all = merged(ranks, &LocalSample::shaped_top);
    const int64_t kept = all.empty() ? 0 : kept_prefix(ranks, row, truncation, all);
    if (kept < 0) {
      choice.needs_all = true;
      return choice;
    }
    const uint64_t key = body::noise_key(row.seed, row.choice, row.position);
    for (int64_t i = 0; i < kept; ++i) {
      Candidate c = all[static_cast<size_t>(i)];
      c.value = static_cast<float>(static_cast<double>(c.value) +
                                   body::gumbel(body::noise_uniform(key, c.id)));
      if (chosen.id < 0 || better(c, chosen)) chosen = c;
    }
  }
  choice.token = std::max(chosen.id, 0);  // all logits NaN: a defined answer, token 0
  if (row.top_logprobs < 0) return choice;
  const double total = log_sum(ranks, &LocalSample::raw_max, &LocalSample::raw_sum);
  choice.logprob = logprob(chosen.raw, total);
  choice.top = merged(ranks, &LocalSample::raw_top);
  if (choice.top.size() > static_cast<size_t>(row.top_logprobs))
    choice.top.resize(static_cast<size_t>(row.top_logprobs));
  for (Candidate& c : choice.top) c.value = logprob(c.raw, total);
  return choice;
}

void pack(const LocalSample& sample, std::vector<uint8_t>* out) {
  const auto put = [&](const void* data, size_t bytes) {
    const auto* from = static_cast<const uint8_t*>(data);
    out->insert(out->end(), from, from + bytes);
  };
  put(&sample.best, sizeof(sample.best));
  put(&sample.raw_max, sizeof(float));
  put(&sample.shaped_max, sizeof(float));
  put(&sample.raw_sum, sizeof(double));
  put(&sample.shaped_sum, sizeof(double));
  for (const auto* list : {&sample.raw_top, &sample.shaped_top}) {
    const auto count = static_cast<uint32_t>(list->size());
    put(&count, sizeof(count));
    put(list->data(), list->size() * sizeof(Candidate));
  }
}

bool unpack(std::span<const uint8_t>* bytes, LocalSample* sample) {
  bool good = true;
  const auto get = [&](void* data, size_t n) {
    if (!good || bytes->size() < n) {
      good = false;
      return;
    }
    if (n > 0) std::memcpy(data, bytes->data(), n);
    *bytes = bytes->subspan(n);
  };
  get(&sample->best, sizeof(sample->best));
  get(&sample->raw_max, sizeof(float));
  get(&sample->shaped_max, sizeof(float));
  get(&sample->raw_sum, sizeof(double));
  get(&sample->shaped_sum, sizeof(double));
  for (auto* list : {&sample->raw_top, &sample->shaped_top}) {
    uint32_t count = 0;
    get(&count, sizeof(count));
    if (!good || count > kMaxListed || bytes->size() / sizeof(Candidate) < count) return false;
    list->resize(count);
    get(list->data(), count * sizeof(Candidate));
  }
  return good;
}

}  // namespace shoal

#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/body/sampling.h"

namespace shoal {
namespace {

constexpr int32_t kFirstCandidates = 128;

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
  return std::max(std::min(truncation.top_k, kAllCandidates - 1) + 1, kFirstCandidates);
}

TokenBias deciding_bias(int32_t token) {
  return {.id = token, .bias = std::numeric_limits<float>::max()};
}

Choice choose_token(std::span<const LocalSample> ranks, const SampleRow& row,
                    const Truncation& truncation) {
  Choice choice;
  choice.broken =
      std::any_of(ranks.begin(), ranks.end(), [](const LocalSample& rank) { return rank.broken; });
  if (choice.broken) return choice;
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
  choice.token = chosen.id;
  choice.broken = chosen.id < 0;  // all −∞
  if (choice.broken) return choice;
  if (row.top_logprobs < 0) return choice;
  const double total = log_sum(ranks, &LocalSample::raw_max, &LocalSample::raw_sum);
  choice.logprob = logprob(chosen.raw, total);
  choice.top = merged(ranks, &LocalSample::raw_top);
  if (choice.top.size() > static_cast<size_t>(row.top_logprobs))
    choice.top.resize(static_cast<size_t>(row.top_logprobs));
  for (Candidate& c : choice.top) c.value = logprob(c.raw, total);
  return choice;
}

namespace {

// What of a LocalSample has a fixed size, then the two lists' lengths.
struct Packed {
  Candidate best;
  float raw_max, shaped_max;
  uint32_t raw_count, shaped_count;
  uint32_t broken;
  double raw_sum, shaped_sum;
};
static_assert(sizeof(Packed) == 48 && sizeof(Candidate) == 12);

// Room for each list.
struct Room {
  uint64_t raw, shaped;
};
Room room(const SampleRow& row, int64_t vocab) {
  const auto clamp = [&](int32_t wanted) {
    return static_cast<uint64_t>(std::clamp<int64_t>(wanted, 0, vocab));
  };
  return {clamp(row.top_logprobs), clamp(row.shaped_candidates)};
}

}  // namespace

uint64_t packed_bytes(const SampleRow& row, int64_t vocab) {
  const Room r = room(row, vocab);
  return sizeof(Packed) + (r.raw + r.shaped) * sizeof(Candidate);
}

void pack(const LocalSample& sample, const SampleRow& row, int64_t vocab,
          std::vector<uint8_t>* out) {
  const Room r = room(row, vocab);
  SHOAL_CHECK(sample.raw_top.size() <= r.raw && sample.shaped_top.size() <= r.shaped,
              "a sample with longer lists than its row asks for");
  Packed head{};
  head.best = sample.best;
  head.raw_max = sample.raw_max, head.shaped_max = sample.shaped_max;
  head.raw_sum = sample.raw_sum, head.shaped_sum = sample.shaped_sum;
  head.raw_count = static_cast<uint32_t>(sample.raw_top.size());
  head.shaped_count = static_cast<uint32_t>(sample.shaped_top.size());
  head.broken = sample.broken ? 1 : 0;
  const size_t start = out->size();
  out->resize(start + packed_bytes(row, vocab));
  uint8_t* to = out->data() + start;
  std::memcpy(to, &head, sizeof(head));
  to += sizeof(head);
  const auto put = [](const std::vector<Candidate>& list, uint8_t* at) {
    if (!list.empty()) std::memcpy(at, list.data(), list.size() * sizeof(Candidate));
  };
  put(sample.raw_top, to);
  put(sample.shaped_top, to + r.raw * sizeof(Candidate));
}

bool unpack(std::span<const uint8_t>* bytes, const SampleRow& row, int64_t vocab,
            LocalSample* sample) {
  const Room r = room(row, vocab);
  if (bytes->size() < packed_bytes(row, vocab)) return false;
  Packed head;
  std::memcpy(&head, bytes->data(), sizeof(head));
  if (head.raw_count > r.raw || head.shaped_count > r.shaped || head.broken > 1) return false;
  sample->broken = head.broken != 0;
  sample->best = head.best;
  sample->raw_max = head.raw_max, sample->shaped_max = head.shaped_max;
  sample->raw_sum = head.raw_sum, sample->shaped_sum = head.shaped_sum;
  const auto get = [](const uint8_t* at, uint32_t count, std::vector<Candidate>* list) {
    list->resize(count);
    if (count > 0) std::memcpy(list->data(), at, count * sizeof(Candidate));
  };
  const uint8_t* from = bytes->data() + sizeof(head);
  get(from, head.raw_count, &sample->raw_top);
  get(from + r.raw * sizeof(Candidate), head.shaped_count, &sample->shaped_top);
  *bytes = bytes->subspan(packed_bytes(row, vocab));
  return true;
}

}  // namespace shoal

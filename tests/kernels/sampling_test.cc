// Sampling: the draw follows the distribution, ranks agree with a single rank, truncation follows
// its definition, and broken logits do no harm.
#include "kernels/sampling.h"

#include <algorithm>
#include <map>
#include <set>

#include "kernels/body/sampling.h"
#include "tests/kernels/cpu_support.h"

namespace shoal {
namespace {

using namespace testing;

// Samples one row whose vocabulary is cut at `cuts` into ranks, redoing it in full when asked to.
struct Outcome {
  Choice choice;
  bool redone = false;
};
Outcome sample(Device& device, const std::vector<float>& logits, SampleRow row,
               const Truncation& truncation, const std::vector<int64_t>& cuts = {},
               int32_t first = -1) {
  const auto n = static_cast<int64_t>(logits.size());
  Outcome outcome;
  row.shaped_candidates = first >= 0 ? first : first_candidates(truncation, row.temperature);
  for (int round = 0; round < 2; ++round) {
    std::vector<LocalSample> ranks;
    int64_t begin = 0;
    std::vector<int64_t> ends = cuts;
    ends.push_back(n);
    for (const int64_t end : ends) {
      std::vector<float> slice(logits.begin() + begin, logits.begin() + end);
      LocalSample local;
      device.sample_local(slice.data(), end - begin, end - begin, begin, {&row, 1}, {&local, 1});
      // Through the wire format.
      std::vector<uint8_t> bytes;
      pack(local, row, n, &bytes);
      EXPECT_EQ(bytes.size(), packed_bytes(row, n));
      std::span<const uint8_t> view(bytes);
      LocalSample received;
      EXPECT_TRUE(unpack(&view, row, n, &received));
      EXPECT_TRUE(view.empty());
      ranks.push_back(received);
      begin = end;
    }
    outcome.choice = choose_token(ranks, row, truncation);
    if (!outcome.choice.needs_all) return outcome;
    EXPECT_EQ(round, 0) << "asked again with everything at hand";
    outcome.redone = true;
    row.shaped_candidates = kAllCandidates;
  }
  return outcome;
}

// Kept ids and their probabilities, from the definitions.
std::map<int32_t, double> kept_distribution(const std::vector<double>& shaped,
                                            const Truncation& t) {
  std::vector<int32_t> order(shaped.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto at = [&](int32_t id) { return shaped[static_cast<size_t>(id)]; };
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return at(a) != at(b) ? at(a) > at(b) : a < b; });
  if (t.top_k > 0 && static_cast<size_t>(t.top_k) < order.size())
    order.resize(static_cast<size_t>(t.top_k));
  const double peak = at(order[0]);
  double total = 0;
  for (const int32_t id : order) total += std::exp(at(id) - peak);
  if (t.top_p < 1.0f) {
    double mass = 0;
    size_t keep = 0;
    while (keep < order.size() && mass < static_cast<double>(t.top_p) * total)
      mass += std::exp(at(order[keep++]) - peak);
    order.resize(std::max<size_t>(keep, 1));
  }
  std::map<int32_t, double> kept;
  total = 0;
  for (const int32_t id : order) {
    const double weight = std::exp(at(id) - peak);
    if (weight < static_cast<double>(t.min_p)) break;
    total += kept[id] = weight;
  }
  for (auto& [id, p] : kept) p /= total;
  return kept;
}

std::vector<double> shaped_reference(const std::vector<float>& logits, const SampleRow& row) {
  std::vector<double> shaped(logits.begin(), logits.end());
  for (const TokenBias& b : row.biases) {
    double& x = shaped[static_cast<size_t>(b.id)];
    if (b.seen)
      x = x > 0 ? x / static_cast<double>(row.repetition) : x * static_cast<double>(row.repetition);
    x -= static_cast<double>(row.frequency) * b.output_count;
    if (b.output_count > 0) x -= static_cast<double>(row.presence);
    x += static_cast<double>(b.bias);
  }
  if (row.temperature > 0) {
    for (double& x : shaped) x /= static_cast<double>(row.temperature);
  }
  return shaped;
}

// Pearson's statistic of draws at positions 0 … n−1 against the reference; ids of small expectation
// are pooled. Under the hypothesis it is χ² with `freedom` degrees.
void expect_follows(Device& device, const std::vector<float>& logits, SampleRow row,
                    const Truncation& truncation, int draws, const std::vector<int64_t>& cuts) {
  const auto want = kept_distribution(shaped_reference(logits, row), truncation);
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) {
    row.position = static_cast<uint32_t>(i);
    ++counts[sample(device, logits, row, truncation, cuts).choice.token];
  }
  double statistic = 0, pooled_expected = 0;
  int freedom = -1, pooled = 0;
  for (const auto& [id, count] : counts)
    ASSERT_TRUE(want.count(id)) << "drew a token that was cut: " << id;
  const auto add = [&](double expected, int seen) {
    statistic += (seen - expected) * (seen - expected) / expected;
    ++freedom;
  };
  for (const auto& [id, p] : want) {
    const double expected = p * draws;
    if (expected >= 8) {
      add(expected, counts[id]);
    } else {
      pooled_expected += expected;
      pooled += counts[id];
    }
  }
  if (pooled_expected > 1) add(pooled_expected, pooled);
  // mean + 5 standard deviations: seeded, so this either always or never fails.
  EXPECT_LE(statistic, freedom + 5 * std::sqrt(2.0 * std::max(freedom, 1)) + 3)
      << freedom << " degrees";
}

std::vector<float> some_logits(uint64_t seed, int64_t n, double spread) {
  Rng rng(seed);
  return random_values(rng, n, spread);
}

TEST(Sampling, FollowsTheDistribution) {
  const auto device = make_device("", true, 1);
  const auto logits = some_logits(41, 60, 1.5);
  const std::vector<TokenBias> biases = {
      {3, 2, true, 0}, {7, 0, true, 1.5f}, {20, 1, true, 0}, {59, 0, false, -3}};
  for (const float temperature : {0.7f, 1.0f, 1.6f}) {
    for (const Truncation& t :
         {Truncation{}, {5, 1.0f, 0}, {0, 0.8f, 0}, {0, 1.0f, 0.1f}, {20, 0.9f, 0.05f}}) {
      SampleRow row;
      row.temperature = temperature, row.seed = 99;
      row.presence = 0.4f, row.frequency = 0.3f, row.repetition = 1.3f;
      row.biases = biases;
      expect_follows(*device, logits, row, t, 4000, {});
      expect_follows(*device, logits, row, t, 1500, {17, 40});
    }
  }
}

// Different seeds, choices and positions draw independently: each of the three varied alone.
TEST(Sampling, EveryCounterMatters) {
  const auto device = make_device("", true, 1);
  const std::vector<float> logits(16, 0.0f);
  for (const int which : {0, 1, 2}) {
    std::vector<int> counts(16, 0);
    for (uint32_t i = 0; i < 3200; ++i) {
      SampleRow row;
      row.seed = which == 0 ? i : 5;
      row.choice = which == 1 ? i : 5;
      row.position = which == 2 ? i : 5;
      ++counts[static_cast<size_t>(sample(*device, logits, row, {}).choice.token)];
    }
    double statistic = 0;
    for (const int c : counts) statistic += (c - 200.0) * (c - 200.0) / 200.0;
    EXPECT_LE(statistic, 15 + 5 * std::sqrt(30.0)) << which;
  }
}

TEST(Sampling, RanksAgreeWithOne) {
  Rng rng(test_seed(43));
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true, 1);
    int redone = 0;
    for (int round = 0; round < 300; ++round) {
      const int64_t n = 200 + static_cast<int64_t>(rng.below(2000));
      auto logits = random_values(rng, n, round % 3 == 0 ? 0.3 : 4.0);
      if (round % 5 == 0) {  // many ties
        for (float& x : logits) x = std::round(x);
      }
      std::vector<TokenBias> biases;
      for (int i = 0; i < 20; ++i) {
        biases.push_back({static_cast<int32_t>(i * (n / 20)), static_cast<int32_t>(rng.below(3)),
                          true, static_cast<float>(rng.normal())});
      }
      SampleRow row;
      row.temperature = round % 7 == 0 ? 0.0f : 0.5f + static_cast<float>(rng.uniform());
      row.seed = rng(), row.position = static_cast<uint32_t>(round);
      row.presence = 0.5f, row.frequency = 0.2f, row.repetition = 1.1f;
      row.biases = biases;
      row.top_logprobs = round % 4;
      Truncation t;
      if (round % 2 == 0) t.top_k = 1 + static_cast<int32_t>(rng.below(300));
      if (round % 3 != 1) t.top_p = 0.3f + 0.69f * static_cast<float>(rng.uniform());
      if (round % 5 == 2) t.min_p = 0.02f;
      const auto one = sample(*device, logits, row, t);
      for (const std::vector<int64_t>& cuts :
           {std::vector<int64_t>{n / 3}, {0, 64, n - 1}, {n / 2, n / 2}}) {
        const auto many = sample(*device, logits, row, t, cuts);
        EXPECT_EQ(many.choice.token, one.choice.token) << isa << " round " << round;
        EXPECT_NEAR(many.choice.logprob, one.choice.logprob, 1e-5);
        ASSERT_EQ(many.choice.top.size(), one.choice.top.size());
        for (size_t i = 0; i < one.choice.top.size(); ++i) {
          EXPECT_EQ(many.choice.top[i].id, one.choice.top[i].id);
          EXPECT_NEAR(many.choice.top[i].value, one.choice.top[i].value, 1e-5);
        }
      }
      // Short lists lead to the same token, at the price of asking again.
      if (row.temperature > 0 && t.any()) {
        const auto short_list = sample(*device, logits, row, t, {n / 2}, 4);
        EXPECT_EQ(short_list.choice.token, one.choice.token) << "round " << round;
        redone += short_list.redone;
      }
    }
    EXPECT_GT(redone, 10) << "the test never ran out of candidates";
  }
}

TEST(Sampling, TruncationKeepsWhatItSays) {
  Rng rng(44);
  const auto device = make_device("", true, 1);
  for (int round = 0; round < 60; ++round) {
    const auto logits = random_values(rng, 40, 2.0);
    SampleRow row;
    row.temperature = 0.3f + static_cast<float>(rng.uniform());
    Truncation t;
    t.top_k = static_cast<int32_t>(rng.below(12));
    t.top_p = rng.below(2) == 0 ? 1.0f : 0.05f + 0.9f * static_cast<float>(rng.uniform());
    t.min_p = rng.below(2) == 0 ? 0.0f : 0.3f * static_cast<float>(rng.uniform());
    const auto want = kept_distribution(shaped_reference(logits, row), t);
    std::set<int32_t> seen;
    for (uint32_t i = 0; i < 400; ++i) {
      row.position = i;
      const int32_t token = sample(*device, logits, row, t).choice.token;
      EXPECT_TRUE(want.count(token)) << token;
      seen.insert(token);
    }
    for (const auto& [id, p] : want) {
      EXPECT_TRUE(p <= 0.05 || seen.count(id)) << "never drew " << id << " of probability " << p;
    }
  }
}

TEST(Sampling, GreedyTakesTheLowestOfEquals) {
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true, 1);
    std::vector<float> logits(100, 1.0f);
    logits[31] = logits[47] = logits[90] = 2.0f;
    SampleRow row;
    row.temperature = 0;
    row.top_logprobs = 4;
    for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{}, {40}, {31, 32, 91}}) {
      const Choice c = sample(*device, logits, row, {}, cuts).choice;
      EXPECT_EQ(c.token, 31);
      ASSERT_EQ(c.top.size(), 4u);
      EXPECT_EQ(c.top[0].id, 31);
      EXPECT_EQ(c.top[1].id, 47);
      EXPECT_EQ(c.top[2].id, 90);
      EXPECT_EQ(c.top[3].id, 0);
      EXPECT_NEAR(c.logprob, 2.0 - std::log(3 * std::exp(2.0) + 97 * std::exp(1.0)), 1e-5);
    }
  }
}

// Log-probabilities are those of the unmodified logits, whatever bends the draw.
TEST(Sampling, LogprobsIgnoreShaping) {
  const auto device = make_device("", true, 1);
  const auto logits = some_logits(45, 300, 2.0);
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x));
  const std::vector<TokenBias> biases = {{250, 0, false, 100.0f}};
  for (const float temperature : {0.0f, 0.5f, 1.0f}) {
    for (const Truncation& t : {Truncation{}, {3, 0.9f, 0}}) {
      SampleRow row;
      row.temperature = temperature;
      row.biases = biases;
      row.top_logprobs = 2;
      const Choice c = sample(*device, logits, row, t, {128}).choice;
      EXPECT_EQ(c.token, 250);
      EXPECT_NEAR(c.logprob, static_cast<double>(logits[250]) - std::log(total), 1e-5);
      const auto peak = std::max_element(logits.begin(), logits.end());
      EXPECT_EQ(c.top[0].id, peak - logits.begin());
      EXPECT_NEAR(c.top[0].value, static_cast<double>(*peak) - std::log(total), 1e-5);
    }
  }
}

TEST(Sampling, BrokenLogitsDoNoHarm) {
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true, 1);
    for (const float temperature : {0.0f, 1.0f, 1e-6f}) {
      for (const Truncation& t : {Truncation{}, {4, 0.9f, 0.1f}}) {
        SampleRow row;
        row.temperature = temperature;
        row.top_logprobs = 3;
        std::vector<float> logits(70, -INFINITY);
        logits[41] = -5.0f;
        for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{}, {20}, {41, 42}}) {
          const Choice c = sample(*device, logits, row, t, cuts).choice;
          EXPECT_FALSE(c.broken);
          EXPECT_EQ(c.token, 41) << isa << ": −∞ is a token that is never drawn";
          EXPECT_NEAR(c.logprob, 0, 1e-5);
          EXPECT_EQ(c.top.size(), 1u);
          for (const float bad : {NAN, -INFINITY, INFINITY}) {
            EXPECT_TRUE(sample(*device, std::vector<float>(70, bad), row, t, cuts).choice.broken);
          }
        }
      }
    }
  }
}

// One logit that is no number, wherever it stands and whichever rank has it, breaks the row.
TEST(Sampling, OneBrokenLogitBreaksTheRow) {
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true, 1);
    for (const int64_t n : {1, 7, 70, 257}) {
      for (const float bad : {NAN, -NAN, INFINITY}) {
        for (int64_t at = 0; at < n; at += at % 16 == 0 ? 1 : 5) {
          auto logits = some_logits(46, n, 2.0);
          logits[static_cast<size_t>(at)] = bad;
          const std::vector<TokenBias> biases = {{static_cast<int32_t>(at), 1, true, -100.0f}};
          SampleRow row;
          row.temperature = at % 2 == 0 ? 0.0f : 0.8f;
          row.repetition = 2.0f, row.presence = 1.0f;
          row.top_logprobs = static_cast<int32_t>(at % 3) - 1;
          if (at % 4 == 1) row.biases = biases;
          const Truncation t = at % 3 == 0 ? Truncation{3, 0.9f, 0.05f} : Truncation{};
          for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{}, {n / 3, n / 2}, {0}}) {
            const Choice c = sample(*device, logits, row, t, cuts).choice;
            ASSERT_TRUE(c.broken) << isa << ": " << bad << " at " << at << " of " << n;
            ASSERT_EQ(c.token, -1);
            ASSERT_TRUE(c.top.empty());
          }
        }
      }
    }
  }
}

TEST(Sampling, UnpackRefusesDamage) {
  SampleRow row;
  row.top_logprobs = 3, row.shaped_candidates = 5;
  LocalSample sample;
  sample.best = {7, 1.5f, 2.5f};
  sample.raw_sum = 3.25;
  sample.raw_top = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
  sample.shaped_top = {{10, 11, 12}};
  std::vector<uint8_t> bytes;
  pack(sample, row, 1000, &bytes);
  ASSERT_EQ(bytes.size(), packed_bytes(row, 1000));
  for (size_t n = 0; n < bytes.size(); ++n) {
    std::span<const uint8_t> cut(bytes.data(), n);
    LocalSample out;
    EXPECT_FALSE(unpack(&cut, row, 1000, &out)) << n;
  }
  std::span<const uint8_t> all(bytes);
  LocalSample out;
  ASSERT_TRUE(unpack(&all, row, 1000, &out));
  EXPECT_EQ(out.best.id, 7);
  EXPECT_EQ(out.raw_sum, 3.25);
  ASSERT_EQ(out.raw_top.size(), 3u);
  EXPECT_EQ(out.raw_top[2].raw, 9);
  ASSERT_EQ(out.shaped_top.size(), 1u);
  EXPECT_EQ(out.shaped_top[0].id, 10);
  std::fill(bytes.begin(), bytes.end(), uint8_t{0xff});
  std::span<const uint8_t> damaged(bytes);
  EXPECT_FALSE(unpack(&damaged, row, 1000, &out));
}

// The vectorised search finds what looking at every token finds, on every set.
TEST(Sampling, NoisyArgmaxIsExact) {
  Rng rng(test_seed(47));
  for (const std::string& isa : usable_sets()) {
    const auto device = make_device(isa, true, 1);
    for (int round = 0; round < 60; ++round) {
      const int64_t n = 1 + static_cast<int64_t>(rng.below(3000));
      const auto first_id = static_cast<int64_t>(rng.below(200000));
      auto logits = random_values(rng, n, round % 2 == 0 ? 0.01 : 6.0);
      if (round % 4 == 0) {
        for (float& x : logits) x += 3e4f;  // coarse floats: ties after the noise
      }
      SampleRow row;
      row.seed = rng(), row.choice = static_cast<uint32_t>(round);
      const uint64_t key = body::noise_key(row.seed, row.choice, row.position);
      float best = -INFINITY;
      int64_t want = -1;
      for (int64_t i = 0; i < n; ++i) {
        const double u = body::noise_uniform(key, static_cast<int32_t>(first_id + i));
        const auto noisy = static_cast<float>(static_cast<double>(logits[static_cast<size_t>(i)]) +
                                              body::gumbel(u));
        if (noisy > best) best = noisy, want = first_id + i;
      }
      LocalSample local;
      device->sample_local(logits.data(), n, n, first_id, {&row, 1}, {&local, 1});
      ASSERT_EQ(local.best.id, want) << isa << " round " << round;
      ASSERT_EQ(local.best.value, best);
    }
  }
}

// The bound that spares logarithms holds, also at the ends of the range.
TEST(Sampling, NoiseBoundHolds) {
  Rng rng(46);
  for (int i = 0; i < 200000; ++i) {
    const double u = body::noise_uniform(rng(), static_cast<int32_t>(i));
    ASSERT_GT(u, 0);
    ASSERT_LT(u, 1);
    ASSERT_LE(body::gumbel(u), body::gumbel_bound(u));
  }
  for (const double u : {0.5 * 0x1.0p-52, 0.5, 1 - 0x1.0p-53, 1 - 1.5 * 0x1.0p-52, 0.25, 0.75}) {
    EXPECT_TRUE(std::isfinite(body::gumbel(u)));
    EXPECT_LE(body::gumbel(u), body::gumbel_bound(u)) << u;
  }
}

}  // namespace
}  // namespace shoal

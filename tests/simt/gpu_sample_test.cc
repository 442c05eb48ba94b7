// Sampling of GpuDevice on the emulator, against the CPU device: what is found in a slice of the
// vocabulary is the same to the bit, sums to a millionth; eight orders of threads each.
#include <algorithm>
#include <array>
#include <limits>

#include "kernels/sampling.h"
#include "tests/simt/gpu_support.h"

namespace shoal {
namespace {

using namespace testing;

std::string show(const Candidate& c) {
  return std::to_string(c.id) + " (" + std::to_string(c.value) + ", raw " + std::to_string(c.raw) +
         ")";
}

void expect_candidate(const Candidate& got, const Candidate& want, const std::string& what) {
  ASSERT_EQ(got.id, want.id) << what << ": " << show(got) << ", not " << show(want);
  ASSERT_EQ(got.value, want.value) << what << ": " << show(got);
  ASSERT_EQ(got.raw, want.raw) << what << ": " << show(got);
}

void expect_list(const std::vector<Candidate>& got, const std::vector<Candidate>& want,
                 const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    expect_candidate(got[i], want[i], what + "[" + std::to_string(i) + "]");
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// `tolerance` 0: sums to the bit too.
void expect_sample(const LocalSample& got, const LocalSample& want, double tolerance,
                   const std::string& what) {
  ASSERT_EQ(got.broken, want.broken) << what;
  expect_candidate(got.best, want.best, what + " best");
  ASSERT_EQ(got.raw_max, want.raw_max) << what;
  ASSERT_EQ(got.shaped_max, want.shaped_max) << what;
  ASSERT_NEAR(got.raw_sum, want.raw_sum, tolerance * want.raw_sum) << what;
  ASSERT_NEAR(got.shaped_sum, want.shaped_sum, tolerance * want.shaped_sum) << what;
  expect_list(got.raw_top, want.raw_top, what + " raw_top");
  expect_list(got.shaped_top, want.shaped_top, what + " shaped_top");
}

// Rows of logits, each with its needs; `biases` is what SampleRow points into.
struct Step {
  int64_t vocab = 0, stride = 0, first_id = 0;
  std::vector<float> logits;
  std::vector<SampleRow> rows;
  std::vector<std::vector<TokenBias>> biases;
};

// Rows [first, first + count) on a device.
std::vector<LocalSample> sample(Device& device, const Step& step, size_t first, size_t count) {
  const auto begin = step.logits.begin() + static_cast<std::ptrdiff_t>(first) * step.stride;
  DeviceArray<float> logits(
      device, std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(count) * step.stride),
      "logits");
  std::vector<LocalSample> out(count);
  device.sample_local(logits.data(), step.stride, step.vocab, step.first_id,
                      std::span(step.rows).subspan(first, count), out);
  return out;
}

// What the rows of a real step may ask for, all different.
Step make_step(int64_t vocab, size_t rows, uint64_t seed) {
  Rng rng(seed);
  Step step{.vocab = vocab, .stride = vocab + 3, .first_id = seed % 2 == 0 ? 0 : 151000};
  const auto any = [&](int64_t n) {
    return static_cast<int32_t>(rng.below(static_cast<uint64_t>(n)));
  };
  for (size_t r = 0; r < rows; ++r) {
    auto logits = random_values(rng, step.stride, r % 3 == 0 ? 0.3 : 4.0);
    if (r % 4 == 1) {
      for (float& x : logits) x = std::round(x);  // ties
    }
    for (int64_t i = vocab; i < step.stride; ++i) logits[static_cast<size_t>(i)] = NAN;
    step.logits.insert(step.logits.end(), logits.begin(), logits.end());
    SampleRow row;
    row.temperature = r % 5 == 0   ? 0.0f
                      : r % 5 == 1 ? 1.0f
                                   : 0.4f + static_cast<float>(rng.uniform());
    row.seed = rng(), row.choice = static_cast<uint32_t>(r), row.position = 77;
    row.presence = 0.5f, row.frequency = 0.2f, row.repetition = 1.1f;
    row.top_logprobs = static_cast<int32_t>(std::array{-1, 0, 5, 20}[r % 4]);
    row.shaped_candidates = std::array{0, 128, 0, 4, kAllCandidates, 1, 0}[r % 7];
    step.rows.push_back(row);
    std::vector<TokenBias> biases;
    if (r % 2 == 1) {  // one in eight ids, some of them of other ranks
      for (int64_t i = any(8) - 9; i < vocab + 9; i += 1 + any(15)) {
        biases.push_back({static_cast<int32_t>(step.first_id + i), any(3), any(2) == 0,
                          static_cast<float>(2 * rng.normal())});
      }
      std::reverse(biases.begin(), biases.end());
    }
    step.biases.push_back(std::move(biases));
  }
  for (size_t r = 0; r < rows; ++r) step.rows[r].biases = step.biases[r];
  return step;
}

// The step on eight orders of threads and on the CPU.
void expect_as_cpu(const Step& step, const std::string& what) {
  const auto cpu = make_device("generic", true, 1);
  const auto want = sample(*cpu, step, 0, step.rows.size());
  for (uint64_t seed = 0; seed < kEmulatorSeeds; ++seed) {
    const auto gpu = make_emulated_device(seed);
    const auto got = sample(*gpu, step, 0, step.rows.size());
    for (size_t r = 0; r < got.size(); ++r) {
      expect_sample(got[r], want[r], 1e-6,
                    what + ", seed " + std::to_string(seed) + ", row " + std::to_string(r));
    }
    expect_clean(*gpu);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(GpuSample, RowsOfDifferentNeedsEqualTheCpu) {
  for (const int64_t vocab : {1, 31, 1000, 4096, 4097}) {
    expect_as_cpu(make_step(vocab, 7, static_cast<uint64_t>(vocab)), std::to_string(vocab));
  }
}

TEST(GpuSample, ManyRowsEqualTheCpu) { expect_as_cpu(make_step(70, 129, 5), "129 rows"); }

TEST(GpuSample, AWholeVocabulary) {
  const Step step = make_step(50257, 4, 6);
  const auto cpu = make_device("generic", true, 1);
  const auto gpu = make_emulated_device(1, false);
  const auto want = sample(*cpu, step, 0, 4), got = sample(*gpu, step, 0, 4);
  for (size_t r = 0; r < 4; ++r) expect_sample(got[r], want[r], 1e-6, std::to_string(r));
  expect_clean(*gpu);
}

// Flat logits: the noise decides alone, also against what its bound lets a thread skip.
TEST(GpuSample, NoiseDecidesAmongEquals) {
  Step step{.vocab = 5000, .stride = 5000};
  Rng rng(8);
  for (int r = 0; r < 96; ++r) {
    const auto logits = random_values(rng, 5000, 0.01);
    step.logits.insert(step.logits.end(), logits.begin(), logits.end());
    SampleRow row;
    row.seed = rng(), row.position = static_cast<uint32_t>(r);
    step.rows.push_back(row);
  }
  const auto cpu = make_device("generic", true, 1);
  const auto gpu = make_emulated_device(1, false);
  const auto want = sample(*cpu, step, 0, 96), got = sample(*gpu, step, 0, 96);
  for (size_t r = 0; r < 96; ++r) expect_sample(got[r], want[r], 1e-6, std::to_string(r));
  expect_clean(*gpu);
}

TEST(GpuSample, ARowDoesNotDependOnItsCompanyOrTheSeed) {
  const Step step = make_step(5000, 9, 7);
  const auto all = sample(*make_emulated_device(100), step, 0, 9);
  for (uint64_t seed = 0; seed < kEmulatorSeeds; ++seed) {
    const auto alone = sample(*make_emulated_device(seed), step, seed, 1);
    expect_sample(alone[0], all[seed], 0, "row " + std::to_string(seed));
  }
}

// Keys that differ in the id alone, and lists that end inside a run of equals.
TEST(GpuSample, EqualsAreTakenFromTheLowestIdOn) {
  Step step{.vocab = 4500, .stride = 4500, .first_id = 300};
  for (const int32_t wanted : {1, 7, 1025, 4499, 4500, 4501}) {
    std::vector<float> logits(4500, 1.0f);
    logits[4000] = logits[2100] = 2.0f;
    logits[5] = -0.0f, logits[6] = 0.0f, logits[7] = -1.0f;
    step.logits.insert(step.logits.end(), logits.begin(), logits.end());
    SampleRow row;
    row.temperature = 0;
    row.top_logprobs = row.shaped_candidates = wanted;
    step.rows.push_back(row);
  }
  expect_as_cpu(step, "equals");
  const auto gpu = make_emulated_device(1);
  const auto got = sample(*gpu, step, 1, 1)[0];
  const int32_t want[] = {2400, 4300, 300, 301, 302, 303, 304};
  ASSERT_EQ(got.raw_top.size(), 7u);
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(got.raw_top[i].id, want[i]);
}

TEST(GpuSample, BrokenLogitsDoNoHarm) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto fill = [](float value, std::vector<std::pair<size_t, float>> others) {
    std::vector<float> logits(300, value);
    for (const auto& [i, x] : others) logits[i] = x;
    return logits;
  };
  Step step{.vocab = 300, .stride = 300};
  for (const float temperature : {0.0f, 1.0f, 1e-6f, 0.7f}) {
    for (const int32_t shaped : {0, 6, kAllCandidates}) {
      for (const auto& logits :
           {fill(-kInfinity, {{3, NAN}, {141, -5.0f}, {299, NAN}}), fill(NAN, {}),
            fill(-kInfinity, {}), fill(0, {{50, kInfinity}}), fill(kInfinity, {{9, NAN}}),
            fill(NAN, {{0, 1}, {1, 2}, {2, -kInfinity}}), fill(-kInfinity, {{141, -5.0f}}),
            fill(1, {{0, NAN}}), fill(1, {{299, kInfinity}}),
            fill(3e38f, {{7, -3e38f}, {8, 3.4e38f}})}) {
        step.logits.insert(step.logits.end(), logits.begin(), logits.end());
        SampleRow row;
        row.temperature = temperature;
        row.top_logprobs = 3;
        row.shaped_candidates = shaped;
        row.seed = step.rows.size();
        step.rows.push_back(row);
      }
    }
  }
  expect_as_cpu(step, "broken");
}

// One of two chunks is broken, once in the first and once in the last logit.
TEST(GpuSample, OneBrokenLogitBreaksTheRow) {
  Step step{.vocab = 4099, .stride = 4099};
  for (const int64_t at : {0, 77, 4095, 4096, 4098, -1}) {
    std::vector<float> logits(4099, 1.0f);
    if (at >= 0) logits[static_cast<size_t>(at)] = NAN;
    step.logits.insert(step.logits.end(), logits.begin(), logits.end());
    step.rows.push_back({.top_logprobs = 2});
  }
  expect_as_cpu(step, "one of many");
  const auto gpu = make_emulated_device(1);
  const auto got = sample(*gpu, step, 0, step.rows.size());
  for (size_t r = 0; r < got.size(); ++r) EXPECT_EQ(got[r].broken, r < 5) << r;
}

// Penalties on −∞, a bias of ±∞, a repetition that makes infinities.
TEST(GpuSample, BiasesOfBrokenLogits) {
  Step step{.vocab = 64, .stride = 64};
  std::vector<float> logits(64, 0.5f);
  logits[1] = 3e38f, logits[2] = -3e38f, logits[3] = -INFINITY, logits[4] = -1e38f;
  const std::vector<TokenBias> biases = {{1, 1, true, 0},         {2, 2, true, 1.0f},
                                         {3, 1, true, 5.0f},      {4, 3, true, 0},
                                         {5, 0, false, INFINITY}, {6, 0, false, -INFINITY}};
  for (const float temperature : {0.0f, 0.5f}) {
    for (const int32_t shaped : {0, 64}) {
      step.logits.insert(step.logits.end(), logits.begin(), logits.end());
      SampleRow row;
      row.temperature = temperature;
      row.repetition = 10.0f, row.presence = 0.1f, row.frequency = 0.1f;
      row.top_logprobs = 8, row.shaped_candidates = shaped;
      row.biases = biases;
      step.rows.push_back(row);
    }
  }
  expect_as_cpu(step, "biases");
}

TEST(GpuSample, AKnownTokenWinsAndKeepsItsLogit) {
  Rng rng(3);
  Step step{.vocab = 700, .stride = 700, .first_id = 100};
  const int32_t known[] = {100, 799, 355, 99, 800};  // the last two are another rank's
  for (const int32_t token : known) {
    auto logits = random_values(rng, step.stride, 4.0);
    logits[17] = 3e38f;
    step.logits.insert(step.logits.end(), logits.begin(), logits.end());
    step.rows.push_back({.temperature = 0, .top_logprobs = 2});
    step.biases.push_back({deciding_bias(token)});
  }
  for (size_t r = 0; r < step.rows.size(); ++r) step.rows[r].biases = step.biases[r];
  expect_as_cpu(step, "known tokens");
  const auto cpu = make_device("generic", true, 1);
  const auto found = sample(*cpu, step, 0, step.rows.size());
  for (size_t r = 0; r < 3; ++r) {
    EXPECT_EQ(found[r].best.id, known[r]);
    const auto at = static_cast<size_t>(known[r] - 100) + r * 700;
    EXPECT_EQ(found[r].best.raw, step.logits[at]);
  }
  EXPECT_EQ(found[3].best.id, 117);
  EXPECT_LT(found[3].best.value, found[0].best.value);
}

TEST(GpuSample, AnEmptySliceAndNoRows) {
  const auto gpu = make_emulated_device(1);
  SampleRow row;
  row.top_logprobs = 3, row.shaped_candidates = 3;
  LocalSample sample;
  sample.best.id = 7;
  gpu->sample_local(nullptr, 0, 0, 10, {&row, 1}, {&sample, 1});
  EXPECT_EQ(sample.best.id, -1);
  EXPECT_EQ(sample.raw_max, -INFINITY);
  EXPECT_EQ(sample.raw_sum, 0);
  EXPECT_TRUE(sample.raw_top.empty() && sample.shaped_top.empty());
  gpu->sample_local(nullptr, 0, 100, 0, {}, {});
  expect_clean(*gpu);
}

// Slices on two emulated cards lead to the token that the CPU draws from the whole.
TEST(GpuSample, TwoRanksDrawWhatOneCpuDraws) {
  const auto cpu = make_device("generic", true, 1);
  for (uint64_t seed = 0; seed < kEmulatorSeeds; ++seed) {
    const auto gpu = make_emulated_device(seed, false);
    Rng rng(seed);
    for (uint32_t round = 0; round < 12; ++round) {
      const int64_t n = 900, cut = 64 * static_cast<int64_t>(rng.below(15));
      Step whole{.vocab = n, .stride = n};
      whole.logits = random_values(rng, n, 3.0);
      SampleRow row;
      row.temperature = 0.8f, row.seed = rng(), row.position = round, row.top_logprobs = 2;
      Truncation t;
      if (round % 3 == 1) t.top_p = 0.9f;
      if (round % 3 == 2) t.top_k = 40;
      row.shaped_candidates = first_candidates(t, row.temperature);
      whole.rows = {row};
      const Choice want = choose_token(sample(*cpu, whole, 0, 1), row, t);
      std::vector<LocalSample> ranks;
      for (const auto& [from, to] : {std::pair{int64_t{0}, cut}, {cut, n}}) {
        Step part{.vocab = to - from, .stride = to - from, .first_id = from};
        part.logits.assign(whole.logits.begin() + from, whole.logits.begin() + to);
        part.rows = {row};
        ranks.push_back(sample(*gpu, part, 0, 1)[0]);
      }
      const Choice got = choose_token(ranks, row, t);
      EXPECT_EQ(got.needs_all, want.needs_all);
      EXPECT_EQ(got.token, want.token) << "seed " << seed << ", round " << round;
      EXPECT_NEAR(got.logprob, want.logprob, 1e-5);
    }
    expect_clean(*gpu);
  }
}

}  // namespace
}  // namespace shoal

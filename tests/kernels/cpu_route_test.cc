// The routing rule against a plain double-precision reading of it.
#include <algorithm>
#include <numeric>

#include "tests/kernels/cpu_support.h"

namespace shoal {
namespace {

using namespace testing;

double gate_of(Gating gating, double logit, const float* row, int64_t n) {
  switch (gating) {
    case Gating::kSoftmax: {
      const auto peak = static_cast<double>(*std::max_element(row, row + n));
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(row[i]) - peak);
      return std::exp(logit - peak) / sum;
    }
    case Gating::kSigmoid:
      return 1 / (1 + std::exp(-logit));
    case Gating::kSqrtSoftplus:
      return std::sqrt(std::log1p(std::exp(logit)));
    case Gating::kSoftmaxSelected:
      break;
  }
  return logit;
}

struct Choice {
  std::vector<int32_t> ids;
  std::vector<double> weights;
};

// Reads the definition literally: sorts everything.
Choice reference(const RouteSpec& spec, const float* logits) {
  const auto n = static_cast<size_t>(spec.experts);
  std::vector<double> gates(n), values(n);
  for (size_t i = 0; i < n; ++i) {
    gates[i] = gate_of(spec.gating, static_cast<double>(logits[i]), logits, spec.experts);
    values[i] = gates[i];
    if (spec.selection_bias != nullptr) values[i] += static_cast<double>(spec.selection_bias[i]);
  }
  const auto by = [](const std::vector<double>& key, std::vector<int32_t>* order) {
    std::stable_sort(order->begin(), order->end(), [&](int32_t a, int32_t b) {
      return key[static_cast<size_t>(a)] > key[static_cast<size_t>(b)];
    });
  };
  const size_t size = n / static_cast<size_t>(spec.groups);
  std::vector<double> scores;
  for (size_t g = 0; g < n / size; ++g) {
    std::vector<double> sorted(values.begin() + static_cast<long>(g * size),
                               values.begin() + static_cast<long>((g + 1) * size));
    std::sort(sorted.rbegin(), sorted.rend());
    scores.push_back(size > 1 ? sorted[0] + sorted[1] : sorted[0]);
  }
  std::vector<int32_t> groups(scores.size());
  std::iota(groups.begin(), groups.end(), 0);
  by(scores, &groups);
  std::vector<bool> kept(scores.size());
  for (int64_t g = 0; g < spec.groups_used; ++g)
    kept[static_cast<size_t>(groups[static_cast<size_t>(g)])] = true;
  for (size_t i = 0; i < n; ++i) {
    if (!kept[i / size]) values[i] = -INFINITY;
  }
  Choice choice;
  choice.ids.resize(n);
  std::iota(choice.ids.begin(), choice.ids.end(), 0);
  by(values, &choice.ids);
  choice.ids.resize(static_cast<size_t>(spec.top_k));
  double sum = 0;
  for (const int32_t id : choice.ids) {
    const double gate = gates[static_cast<size_t>(id)];
    choice.weights.push_back(spec.gating == Gating::kSoftmaxSelected ? std::exp(gate) : gate);
    sum += choice.weights.back();
  }
  for (double& w : choice.weights) {
    if (spec.gating == Gating::kSoftmaxSelected) w /= sum;
  }
  sum = std::accumulate(choice.weights.begin(), choice.weights.end(), 0.0);
  for (double& w : choice.weights) {
    if (spec.normalise) w /= std::max(sum, 6.103515625e-5);
    w *= static_cast<double>(spec.scale);
  }
  return choice;
}

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Routed route(Device& device, const RouteSpec& spec, const std::vector<float>& logits) {
  const auto rows = static_cast<int64_t>(logits.size()) / spec.experts;
  Routed out{std::vector<int32_t>(static_cast<size_t>(rows * spec.top_k), -1),
             std::vector<float>(static_cast<size_t>(rows * spec.top_k), -7.0f)};
  device.route(logits.data(), rows, spec, out.ids.data(), out.weights.data());
  return out;
}

constexpr Gating kGatings[] = {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected,
                               Gating::kSqrtSoftplus};

struct Shape {
  int64_t experts, top_k, groups, groups_used;
};

TEST(CpuRoute, MatchesTheDefinition) {
  Rng rng(41);
  const auto device = make_device("", true, 3);
  for (const Shape s : {Shape{1, 1, 1, 1},
                        {16, 1, 1, 1},
                        {128, 8, 1, 1},
                        {160, 6, 8, 3},
                        {256, 8, 8, 4},
                        {6, 6, 1, 1},
                        {8, 2, 8, 2},
                        {60, 4, 1, 1}}) {
    for (const Gating gating : kGatings) {
      for (const bool biased : {false, true}) {
        for (const bool normalise : {false, true}) {
          const int64_t rows = 13;
          const auto logits = random_values(rng, rows * s.experts, 2.0);
          const auto bias = random_values(rng, s.experts, 0.3);
          const RouteSpec spec{s.experts, s.top_k,      gating,
                               normalise, 2.5f,         biased ? bias.data() : nullptr,
                               s.groups,  s.groups_used};
          const Routed got = route(*device, spec, logits);
          for (int64_t r = 0; r < rows; ++r) {
            const Choice want = reference(spec, logits.data() + r * s.experts);
            for (int64_t k = 0; k < s.top_k; ++k) {
              const auto at = static_cast<size_t>(r * s.top_k + k);
              const auto i = static_cast<size_t>(k);
              ASSERT_EQ(got.ids[at], want.ids[i]) << s.experts << " experts, gating "
                                                  << static_cast<int>(gating) << ", choice " << k;
              ASSERT_NEAR(got.weights[at], want.weights[i], 1e-5 * (1 + want.weights[i]));
            }
          }
        }
      }
    }
  }
}

TEST(CpuRoute, TiesGoToTheLowestExpertAndGroup) {
  const auto device = make_device("", true);
  for (const Gating gating : kGatings) {
    RouteSpec spec{.experts = 12, .top_k = 4, .gating = gating};
    EXPECT_EQ(route(*device, spec, std::vector<float>(12, 0.5f)).ids,
              (std::vector<int32_t>{0, 1, 2, 3}));
    std::vector<float> logits(12, -1.0f);
    logits[3] = logits[7] = logits[11] = 2.0f;
    EXPECT_EQ(route(*device, spec, logits).ids, (std::vector<int32_t>{3, 7, 11, 0}));
    spec.groups = 3, spec.groups_used = 2;
    EXPECT_EQ(route(*device, spec, logits).ids, (std::vector<int32_t>{3, 7, 0, 1}));
  }
}

// Logits so large that their gates round to the same number are still ranked.
TEST(CpuRoute, RoundedGatesDoNotTie) {
  const auto device = make_device("", true);
  std::vector<float> logits = {30.0f, 31.0f, 40.0f, 33.0f, 32.0f, 39.0f, 35.0f, 34.0f};
  RouteSpec spec{.experts = 8, .top_k = 3, .gating = Gating::kSigmoid};
  EXPECT_EQ(route(*device, spec, logits).ids, (std::vector<int32_t>{2, 5, 6}));
  spec.groups = 2, spec.groups_used = 1;  // both groups score 2: the first is kept
  EXPECT_EQ(route(*device, spec, logits).ids, (std::vector<int32_t>{2, 3, 1}));
  for (float& l : logits) l = -200.0f + 1.0f / l;  // probabilities of 0 beside expert 0
  logits[0] = 0;
  spec = {.experts = 8, .top_k = 3, .gating = Gating::kSoftmax};
  EXPECT_EQ(route(*device, spec, logits).ids, (std::vector<int32_t>{0, 1, 4}));
}

TEST(CpuRoute, WeightsAreWithoutTheBias) {
  const auto device = make_device("", true);
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f, 4.0f};
  const std::vector<float> bias = {9.0f, 0, 0, -9.0f};
  RouteSpec spec{4, 2, Gating::kSigmoid, false, 1.0f, bias.data(), 1, 1};
  const Routed got = route(*device, spec, logits);
  EXPECT_EQ(got.ids, (std::vector<int32_t>{0, 2}));
  EXPECT_NEAR(got.weights[0], 1 / (1 + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(got.weights[1], 1 / (1 + std::exp(-3.0)), 1e-6);
  spec.gating = Gating::kSoftmaxSelected;
  EXPECT_NEAR(route(*device, spec, logits).weights[1], 1 / (1 + std::exp(-2.0)), 1e-6);
}

TEST(CpuRoute, TinySumsAreNotBlownUp) {
  const auto device = make_device("", true);
  RouteSpec spec{.experts = 2, .top_k = 2, .gating = Gating::kSigmoid, .normalise = true};
  const Routed got = route(*device, spec, {-20.0f, -20.0f});
  EXPECT_NEAR(got.weights[0], std::exp(-20.0) / 6.103515625e-5, 1e-9);
}

// Broken rows give valid, different experts and weights that show the damage; infinities rank.
TEST(CpuRoute, BrokenLogits) {
  const auto device = make_device("", true);
  for (const Gating gating : kGatings) {
    for (const int64_t groups : {1, 4}) {
      const RouteSpec spec{16, 4, gating, true, 1.0f, nullptr, groups, groups == 1 ? 1 : 2};
      std::vector<float> logits(16 * 4, NAN);
      for (size_t i = 16; i < 32; ++i) logits[i] = i % 2 == 0 ? NAN : static_cast<float>(i);
      for (size_t i = 32; i < 48; ++i) logits[i] = -INFINITY;
      for (size_t i = 48; i < 64; ++i) logits[i] = i == 60 ? INFINITY : 0.0f;
      const Routed got = route(*device, spec, logits);
      for (int r = 0; r < 4; ++r) {
        std::vector<int32_t> ids(got.ids.begin() + 4 * r, got.ids.begin() + 4 * r + 4);
        std::sort(ids.begin(), ids.end());
        EXPECT_TRUE(ids[0] >= 0 && ids[3] < 16) << r;
        EXPECT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end()) << r;
      }
      EXPECT_TRUE(std::isnan(got.weights[0])) << "a NaN was hidden";
      if (groups > 1) continue;
      EXPECT_EQ(got.ids[4] % 2, 1) << "a number ranks before NaN";
      EXPECT_EQ(got.ids[7] % 2, 1) << "a number ranks before NaN";
      EXPECT_EQ(got.ids[12], 12) << "infinity ranks first";
    }
  }
}

// Groups too small for top_k: the rest comes from outside them, and nothing crashes.
TEST(CpuRoute, MoreExpertsThanTheGroupsHold) {
  const auto device = make_device("", true);
  const RouteSpec spec{8, 5, Gating::kSigmoid, false, 1.0f, nullptr, 4, 1};
  const Routed got = route(*device, spec, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(got.ids, (std::vector<int32_t>{7, 6, 0, 1, 2}));
}

TEST(CpuRoute, RowsDoNotDependOnTheirCompany) {
  Rng rng(42);
  const int64_t rows = 33, experts = 128;
  const auto logits = random_values(rng, rows * experts, 2.0);
  const RouteSpec spec{experts, 8, Gating::kSoftmax, true, 1.0f, nullptr, 1, 1};
  const Routed first = route(*make_device("", true, 1), spec, logits);
  for (const int threads : {2, 3}) {
    const auto device = make_device("", true, threads);
    const Routed all = route(*device, spec, logits);
    EXPECT_EQ(all.ids, first.ids);
    EXPECT_EQ(all.weights, first.weights);
    for (int64_t r = 0; r < rows; ++r) {
      const Routed alone =
          route(*device, spec, {logits.begin() + r * experts, logits.begin() + (r + 1) * experts});
      ASSERT_TRUE(
          std::equal(alone.weights.begin(), alone.weights.end(), first.weights.begin() + 8 * r));
    }
  }
}

}  // namespace
}  // namespace shoal

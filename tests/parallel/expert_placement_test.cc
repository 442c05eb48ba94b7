#include "parallel/plan/expert_placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using Mask = std::vector<uint64_t>;

// A dense layer, then mixtures with these numbers of experts.
ModelSpec spec_of(const std::vector<int64_t>& experts) {
  ModelSpec spec;
  spec.layers = static_cast<int64_t>(experts.size()) + 1;
  spec.layer.resize(experts.size() + 1);
  for (size_t i = 0; i < experts.size(); ++i) spec.layer[i + 1].ffn.moe.experts = experts[i];
  return spec;
}

PlacementRequest request_of(std::vector<uint64_t> bytes, std::vector<ExpertRank> ranks) {
  PlacementRequest request;
  request.bytes = std::move(bytes);
  request.ranks = std::move(ranks);
  return request;
}

Mask place(const ModelSpec& spec, const PlacementRequest& request) {
  const auto placement = make_placement(spec, request);
  EXPECT_TRUE(placement.is_ok()) << placement.status().to_string();
  return placement ? *placement : Mask{};
}

// [layers][world] experts held.
std::vector<std::vector<int>> counts(const ModelSpec& spec, const Mask& placement, size_t world) {
  std::vector<std::vector<int>> out;
  size_t entry = 0;
  for (const int64_t experts : mixture_experts(spec)) {
    out.emplace_back(world);
    for (int64_t e = 0; e < experts; ++e, ++entry) {
      for (size_t rank = 0; rank < world; ++rank) out.back()[rank] += placement[entry] >> rank & 1;
    }
  }
  return out;
}

TEST(ExpertPlacement, EvenInEveryLayerAndInTotal) {
  const ModelSpec spec = spec_of(std::vector<int64_t>(26, 64));
  const std::vector<uint64_t> bytes(26, 1000);
  const Mask placement = place(spec, request_of(bytes, {{}, {}, {}}));
  for (const auto& layer : counts(spec, placement, 3)) {
    for (const int held : layer) {
      EXPECT_GE(held, 21);
      EXPECT_LE(held, 22);
    }
  }
  for (const uint64_t mask : placement) EXPECT_EQ(std::popcount(mask), 1);
  std::vector<uint64_t> held = placed_bytes(spec, bytes, placement, 3);
  std::sort(held.begin(), held.end());
  EXPECT_EQ(held, (std::vector<uint64_t>{554000, 555000, 555000}));
  EXPECT_EQ(place(spec, request_of(bytes, {{}, {}, {}})), placement) << "deterministic";
  EXPECT_EQ(place(spec_of({4}), request_of({10}, {{}, {}})), (Mask{1, 2, 1, 2}));
}

TEST(ExpertPlacement, SharesAndMoreRanksThanExperts) {
  const ModelSpec spec = spec_of({6, 6, 6});
  const std::vector<uint64_t> bytes{100, 300, 100};
  for (const auto& layer : counts(spec, place(spec, request_of(bytes, {{2.0}, {1.0}})), 2)) {
    EXPECT_EQ(layer, (std::vector<int>{4, 2}));
  }
  for (const auto& layer : counts(spec, place(spec, request_of(bytes, {{1.0}, {0.0}, {1.0}})), 3)) {
    EXPECT_EQ(layer, (std::vector<int>{3, 0, 3}));
  }
  const auto wide = counts(spec, place(spec, request_of(bytes, std::vector<ExpertRank>(9))), 9);
  for (size_t rank = 0; rank < 9; ++rank) {
    const int most = std::max({wide[0][rank], wide[1][rank], wide[2][rank]});
    EXPECT_EQ(most, 1) << "no layer has two on a rank";
  }
  // Models whose layers differ in experts.
  const ModelSpec mixed = spec_of({2, 8, 4});
  EXPECT_EQ(counts(mixed, place(mixed, request_of({1, 1, 1}, {{}, {}})), 2),
            (std::vector<std::vector<int>>{{1, 1}, {4, 4}, {2, 2}}));
}

TEST(ExpertPlacement, SmallRoomIsSpreadOverAllLayers) {
  const ModelSpec spec = spec_of(std::vector<int64_t>(20, 64));
  const std::vector<uint64_t> bytes(20, 1000);
  // Rank 1 has room for an eighth.
  const std::vector<ExpertRank> ranks{{}, {1.0, 160'000}};
  const Mask placement = place(spec, request_of(bytes, ranks));
  for (const auto& layer : counts(spec, placement, 2)) EXPECT_EQ(layer[1], 8);
  EXPECT_EQ(placed_bytes(spec, bytes, placement, 2), (std::vector<uint64_t>{1'120'000, 160'000}));
  const std::vector<double> parts = parts_that_fit(ranks, 1'280'000);
  EXPECT_DOUBLE_EQ(parts[0], 0.875);
  EXPECT_DOUBLE_EQ(parts[1], 0.125);
}

TEST(ExpertPlacement, PartsThatFit) {
  const auto parts = [](const std::vector<ExpertRank>& ranks) {
    return parts_that_fit(ranks, 100);
  };
  EXPECT_EQ(parts({{3.0}, {1.0}}), (std::vector<double>{0.75, 0.25}));
  EXPECT_EQ(parts({{1.0, 10}, {1.0, 30}, {1.0}}), (std::vector<double>{0.1, 0.3, 0.6}));
  // The second is full only because the first is.
  EXPECT_EQ(parts({{1.0, 10}, {1.0, 40}, {1.0}}), (std::vector<double>{0.1, 0.4, 0.5}));
  EXPECT_EQ(parts({{1.0, 10}, {1.0, 30}}), (std::vector<double>{0.1, 0.3})) << "not all fits";
  EXPECT_EQ(parts({{1.0}, {0.0}}), (std::vector<double>{1, 0}));
  EXPECT_EQ(parts_that_fit({{1.0, 0}, {3.0, 0}}, 0), (std::vector<double>{0.25, 0.75}));
}

// A rank that is only to take what does not fit elsewhere has a tiny share.
TEST(ExpertPlacement, Spill) {
  const ModelSpec spec = spec_of(std::vector<int64_t>(8, 16));
  const std::vector<uint64_t> bytes(8, 1000);
  auto held = counts(spec, place(spec, request_of(bytes, {{1.0, 128'000}, {1e-6}})), 2);
  for (const auto& layer : held) EXPECT_EQ(layer, (std::vector<int>{16, 0}));
  held = counts(spec, place(spec, request_of(bytes, {{1.0, 96'000}, {1e-6}})), 2);
  for (const auto& layer : held) EXPECT_EQ(layer, (std::vector<int>{12, 4}));
}

TEST(ExpertPlacement, TightRoomIsPacked) {
  // 3 × 40 + 4 × 30 into 2 × 120: only the largest together, then the rest, fill it.
  const ModelSpec spec = spec_of({3, 4});
  const Mask placement = place(spec, request_of({40, 30}, {{1.0, 120}, {1.0, 120}}));
  EXPECT_EQ(placed_bytes(spec, {40, 30}, placement, 2), (std::vector<uint64_t>{120, 120}));
}

TEST(ExpertPlacement, PinsAndReplicas) {
  const ModelSpec spec = spec_of({4, 4});
  PlacementRequest request = request_of({10, 10}, {{}, {}, {0.0}});
  request.pins = {4, 1, 1, 0, 7, 0, 0, 0};
  const Mask placement = place(spec, request);
  EXPECT_EQ(placement[0], 4u) << "even where the share is 0";
  EXPECT_EQ(placement[1], 1u);
  EXPECT_EQ(placement[2], 1u);
  EXPECT_EQ(placement[3], 2u) << "what is free evens out";
  EXPECT_EQ(placement[4], 7u);
  const auto held = counts(spec, placement, 3);
  EXPECT_EQ(held[1][2], 1) << "share 0: nothing that is not pinned";
  EXPECT_EQ(held[1][0] + held[1][1], 5);
  EXPECT_EQ(placed_bytes(spec, {10, 10}, placement, 3)[2], 20u);
}

TEST(ExpertPlacement, MeasuredLoadIsBalanced) {
  Rng rng(testing::test_seed(5));
  const ModelSpec spec = spec_of(std::vector<int64_t>(12, 64));
  PlacementRequest request = request_of(std::vector<uint64_t>(12, 1000), {{}, {}, {}, {}});
  for (int i = 0; i < 12 * 64; ++i) {
    request.load.push_back(1e6 / (1.0 + static_cast<double>(rng.below(64))));  // about Zipf
  }
  const auto imbalance = [&](const Mask& placement) {
    double worst = 0;
    for (size_t layer = 0; layer < 12; ++layer) {
      std::vector<double> work(4);
      for (size_t e = 0; e < 64; ++e) {
        const size_t entry = layer * 64 + e;
        work[static_cast<size_t>(std::countr_zero(placement[entry]))] += request.load[entry];
      }
      // No placement of whole experts is below the mean or the heaviest of them.
      const auto first = request.load.begin() + static_cast<std::ptrdiff_t>(layer * 64);
      const double least = std::max((work[0] + work[1] + work[2] + work[3]) / 4,
                                    *std::max_element(first, first + 64));
      worst = std::max(worst, *std::max_element(work.begin(), work.end()) / least);
    }
    return worst;
  };
  PlacementRequest blind = request;
  blind.load.clear();
  const double before = imbalance(place(spec, blind)), after = imbalance(place(spec, request));
  EXPECT_LT(after, 1.25) << "blind: " << before;  // Graham's bound for 4 ranks: 4/3 − 1/12
  EXPECT_LT(after, before);
  // Experts nobody visited do not pile up on one rank.
  request.load.assign(12 * 64, 0);
  for (size_t layer = 0; layer < 12; ++layer) request.load[layer * 64] = 1000;
  for (const auto& layer : counts(spec, place(spec, request), 4)) {
    for (const int held : layer) EXPECT_LE(held, 22);
  }
  // Loads that are all zero count as none.
  request.load.assign(12 * 64, 0);
  EXPECT_EQ(place(spec, request), place(spec, blind));
}

// Every expert somewhere, never beyond a rank's room, whatever the figures.
TEST(ExpertPlacement, Properties) {
  Rng rng(testing::test_seed(11));
  int placed = 0, refused = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<int64_t> experts;
    PlacementRequest request;
    uint64_t total = 0;
    for (size_t layers = 1 + rng.below(6); experts.size() < layers;) {
      experts.push_back(static_cast<int64_t>(1 + rng.below(20)));
      request.bytes.push_back(1 + rng.below(1000));
      total += request.bytes.back() * static_cast<uint64_t>(experts.back());
    }
    const size_t world = 1 + rng.below(6);
    for (size_t rank = 0; rank < world; ++rank) {
      request.ranks.push_back({rank == 0 ? 1.0 : rng.uniform(), 1 + rng.below(2 * total)});
    }
    const ModelSpec spec = spec_of(experts);
    const auto placement = make_placement(spec, request);
    if (!placement) {
      EXPECT_EQ(placement.status().code(), Code::kResourceExhausted);
      ++refused;
      continue;
    }
    ++placed;
    for (const uint64_t mask : *placement) {
      ASSERT_EQ(std::popcount(mask), 1);
      ASSERT_LT(static_cast<size_t>(std::countr_zero(mask)), world);
    }
    const auto held = placed_bytes(spec, request.bytes, *placement, world);
    uint64_t sum = 0;
    for (size_t rank = 0; rank < world; ++rank) {
      ASSERT_LE(held[rank], request.ranks[rank].room) << "round " << round;
      sum += held[rank];
    }
    ASSERT_EQ(sum, total);
  }
  EXPECT_GT(placed, 100);
  EXPECT_GT(refused, 10);
}

TEST(ExpertPlacement, Refusals) {
  const ModelSpec spec = spec_of({4, 4});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refusal = [&](const PlacementRequest& request) {
    const auto placement = make_placement(spec, request);
    EXPECT_FALSE(placement.is_ok());
    return placement ? std::string() : placement.status().message();
  };
  const auto expect = [&](const PlacementRequest& request, const std::string& part) {
    const std::string message = refusal(request);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect(request_of({1, 1}, {}), "a group of 0 ranks");
  expect(request_of({1, 1}, std::vector<ExpertRank>(65)), "1 to 64");
  expect(request_of({1}, {{}}), "expert sizes of 1 layers; the model has 2");
  expect(request_of({1, 1}, {{0.0}, {0.0}}), "every expert share is 0");
  expect(request_of({1, 1}, {{1.0}, {nan}}), "the expert share of rank 1 is nan");
  expect(request_of({1, 1}, {{1.0}, {-1.0}}), "the expert share of rank 1 is -1");
  PlacementRequest request = request_of({1, 1}, {{}, {}});
  request.pins = {1, 1};
  expect(request, "pins of 2 experts; the model has 8");
  request.pins = {0, 0, 0, 0, 0, 4, 0, 0};
  expect(request, "expert 5 is pinned to ranks 0x4; there are 2");
  request.pins.clear();
  request.load = {1, 1, 1, 1, 1, 1, 1};
  expect(request, "loads of 7 experts");
  request.load = {1, 1, -1, 1, 1, 1, 1, 1};
  expect(request, "the load of expert 2 is -1");

  const uint64_t mib = 1 << 20;
  request = request_of({10 * mib, 10 * mib}, {{1.0, 50 * mib}, {1.0, 20 * mib}, {0.0, 99 * mib}});
  expect(request,
         "8 of them make 80.0 MiB, replicas not counted, but the ranks have room for 70.0 MiB "
         "beside everything else (rank 0: 50.0 MiB, rank 1: 20.0 MiB, rank 2: 99.0 MiB (share 0))");
  EXPECT_EQ(make_placement(spec, request).status().code(), Code::kResourceExhausted);
  request.pins = {2, 2, 2, 0, 0, 0, 0, 0};
  expect(request, "pinned to rank 1 do not fit: it has room for 20.0 MiB");
}

}  // namespace
}  // namespace shoal

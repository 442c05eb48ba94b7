// The contract of Collective, on every engine with ranks as threads.
#include "parallel/collective/collective.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>

#include "parallel/collective/slot_collective.h"
#include "parallel/collective/sum.h"
#include "tests/parallel/group.h"
#include "tests/parallel/reference.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using testing::bytes_of;
using testing::Engine;
using testing::GroupOptions;
using testing::in_seconds;
using testing::make_group;
using testing::run_ranks;
using testing::same_bits;
using testing::samples;
using testing::serial_sum;

constexpr uint64_t kEpoch = 7;
OpContext within(double s, uint64_t step = 0) { return {kEpoch, in_seconds(s), step}; }

struct Case {
  Engine engine;
  int world;
  uint64_t slot_bytes;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << testing::engine_name(c.engine) << " world " << c.world << " slot " << c.slot_bytes;
}

class EveryEngine : public ::testing::TestWithParam<Case> {
 protected:
  int world() const { return GetParam().world; }
  std::vector<std::unique_ptr<Collective>> group() const {
    const Case& c = GetParam();
    if (c.engine == Engine::kLocal && c.slot_bytes != 0) {
      std::vector<std::unique_ptr<Collective>> members;
      for (auto& member : make_local_slot_collectives(c.world, kEpoch, c.slot_bytes)) {
        member->set_two_round_bytes(1024);
        members.push_back(std::move(member));
      }
      return members;
    }
    return make_group({c.engine, c.world, kEpoch, c.slot_bytes});
  }
};

class EveryEngineWithPeers : public EveryEngine {};

TEST_P(EveryEngine, AllReduceIsTheRankOrderSumBitForBit) {
  auto members = group();
  ASSERT_EQ(members.size(), static_cast<size_t>(world()));
  const int64_t counts[] = {0, 1, 7, 4096, 1 << 20, 3, 5000, 0, 129};
  run_ranks(world(), [&](int rank) {
    Collective& member = *members[static_cast<size_t>(rank)];
    EXPECT_EQ(member.rank(), rank);
    EXPECT_EQ(member.world(), world());
    for (const int64_t count : counts) {
      std::vector<float> data = samples(99, rank, count);
      const Status status = member.all_reduce_sum(data.data(), count, within(30));
      ASSERT_TRUE(status.is_ok()) << status.to_string();
      ASSERT_TRUE(same_bits(data, serial_sum(99, world(), count))) << count;
    }
    const CollectiveStats stats = member.stats();
    EXPECT_EQ(stats.operations, std::size(counts));
    const int64_t total = std::accumulate(std::begin(counts), std::end(counts), int64_t{0});
    EXPECT_EQ(stats.bytes, static_cast<uint64_t>(total) * sizeof(float));
    EXPECT_GE(stats.total_seconds, stats.wait_seconds);
    EXPECT_GT(stats.total_seconds, 0);
  });
}

TEST_P(EveryEngine, GatherBroadcastBarrier) {
  auto members = group();
  ASSERT_EQ(members.size(), static_cast<size_t>(world()));
  run_ranks(world(), [&](int rank) {
    Collective& member = *members[static_cast<size_t>(rank)];
    for (const uint64_t n : {0u, 1u, 13u, 4096u, 100'001u, 3'000'000u}) {
      const std::vector<uint8_t> in = bytes_of(n, rank, n);
      std::vector<uint8_t> out(n * static_cast<uint64_t>(world()), 0xee);
      ASSERT_TRUE(member.all_gather(in.data(), n, out.data(), within(30)).is_ok());
      for (int r = 0; r < world(); ++r) {
        const std::vector<uint8_t> expected = bytes_of(n, r, n);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(),
                               out.begin() + static_cast<int64_t>(n) * r));
      }
      for (int root = 0; root < world(); ++root) {
        std::vector<uint8_t> data =
            rank == root ? bytes_of(n + 1, root, n) : std::vector<uint8_t>(n, 0);
        ASSERT_TRUE(member.broadcast(data.data(), n, root, within(30)).is_ok());
        ASSERT_EQ(data, bytes_of(n + 1, root, n));
      }
      ASSERT_TRUE(member.barrier(within(30)).is_ok());
    }
  });
}

TEST_P(EveryEngineWithPeers, BarrierWaitsForTheLast) {
  auto members = group();
  ASSERT_EQ(members.size(), static_cast<size_t>(world()));
  std::atomic<int> arrived{0};
  run_ranks(world(), [&](int rank) {
    for (int round = 1; round <= 20; ++round) {
      if (rank == round % world()) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      ++arrived;
      ASSERT_TRUE(members[static_cast<size_t>(rank)]->barrier(within(30)).is_ok());
      ASSERT_GE(arrived.load(), round * world());
      ASSERT_TRUE(members[static_cast<size_t>(rank)]->barrier(within(30)).is_ok());
    }
  });
}

TEST_P(EveryEngineWithPeers, MessagesInOrderBetweenPairs) {
  auto members = group();
  ASSERT_EQ(members.size(), static_cast<size_t>(world()));
  const uint64_t sizes[] = {0, 1, 300, 70'000, 2'000'000, 5};
  run_ranks(world(), [&](int rank) {
    Collective& member = *members[static_cast<size_t>(rank)];
    for (const uint64_t n : sizes) {  // down the line, as a pipeline does
      std::vector<uint8_t> data = bytes_of(n, 0, n);
      if (rank > 0) {
        std::fill(data.begin(), data.end(), 0);
        const Status status = member.recv(data.data(), n, rank - 1, within(30));
        ASSERT_TRUE(status.is_ok()) << status.to_string();
        ASSERT_EQ(data, bytes_of(n, 0, n));
      }
      if (rank + 1 < world()) {
        ASSERT_TRUE(member.send(data.data(), n, rank + 1, within(30)).is_ok());
      }
    }
    // One sender to all, taken in another order than sent; group operations in between.
    ASSERT_TRUE(member.barrier(within(30)).is_ok());
    uint32_t word = 0;
    if (rank == 0) {
      for (uint32_t i = 0; i < 40; ++i) {
        for (int to = 1; to < world(); ++to) {
          word = i * 100 + static_cast<uint32_t>(to);
          ASSERT_EQ(member.send(&word, sizeof(word), to, within(30)).to_string(), "ok");
        }
      }
    } else {
      for (uint32_t i = 0; i < 40; ++i) {
        if (rank == 1 && i % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ASSERT_EQ(member.recv(&word, sizeof(word), 0, within(30)).to_string(), "ok");
        ASSERT_EQ(word, i * 100 + static_cast<uint32_t>(rank));
      }
    }
    ASSERT_TRUE(member.barrier(within(30)).is_ok());
  });
}

TEST_P(EveryEngine, RandomSequences) {
  auto members = group();
  ASSERT_EQ(members.size(), static_cast<size_t>(world()));
  const uint64_t seed = testing::test_seed(4711);
  run_ranks(world(), [&](int rank) {
    EXPECT_EQ(
        testing::run_random_sequence(*members[static_cast<size_t>(rank)], kEpoch, seed, 250, 30),
        "");
  });
}

// 100 MB: many pieces. The parts are powers of two, so every sum is exact and cheap to know.
TEST(LargeCounts, HundredMegabytesInPieces) {
  constexpr int64_t kCount = 25'000'003;
  for (const Engine engine : {Engine::kLocal, Engine::kShm, Engine::kGloo}) {
    const int world = engine == Engine::kLocal ? 3 : 2;
    auto members = make_group({engine, world, kEpoch, 0});
    ASSERT_EQ(members.size(), static_cast<size_t>(world));
    run_ranks(world, [&](int rank) {
      std::vector<float> data(kCount);
      for (size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<float>((i % 8191) << rank);
      }
      const Status status =
          members[static_cast<size_t>(rank)]->all_reduce_sum(data.data(), kCount, within(60));
      ASSERT_EQ(status.to_string(), "ok") << testing::engine_name(engine);
      size_t wrong = 0;
      for (size_t i = 0; i < data.size(); ++i) {
        wrong += data[i] != static_cast<float>((i % 8191) * ((1u << world) - 1));
      }
      ASSERT_EQ(wrong, 0u) << testing::engine_name(engine);
    });
  }
}

std::vector<Case> cases(int least) {
  std::vector<Case> out;
  for (int world = least; world <= 4; ++world) {
    out.push_back({Engine::kLocal, world, 0});
    out.push_back({Engine::kLocal, world, 4096});  // many pieces, two rounds from 1 KiB
    out.push_back({Engine::kShm, world, 0});
    out.push_back({Engine::kShm, world, 4096});
    out.push_back({Engine::kGloo, world, 0});
  }
  return out;
}
std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return testing::engine_name(info.param.engine) + "_" + std::to_string(info.param.world) +
         (info.param.slot_bytes ? "_small_slots" : "");
}
INSTANTIATE_TEST_SUITE_P(Engines, EveryEngine, ::testing::ValuesIn(cases(1)), case_name);
INSTANTIATE_TEST_SUITE_P(Engines, EveryEngineWithPeers, ::testing::ValuesIn(cases(2)), case_name);

TEST(Sum, AddsInRankOrder) {
  for (const int64_t count : {0, 1, 15, 16, 17, 100}) {
    std::vector<std::vector<float>> parts;
    std::vector<const float*> pointers;
    for (int rank = 0; rank < 5; ++rank) {
      parts.push_back(samples(5, rank, count));
      pointers.push_back(parts.back().data());
    }
    const std::vector<float> expected = serial_sum(5, 5, count);
    std::vector<float> out(static_cast<size_t>(count));
    sum_in_rank_order(pointers, count, out.data());
    EXPECT_TRUE(same_bits(out, expected));
    sum_in_rank_order(pointers, count, parts[3].data());  // in place
    EXPECT_TRUE(same_bits(parts[3], expected));
  }
  // The order matters for these, so a sum in another order would be seen.
  const float a = 1e8f, b = -1e8f, c = 1.0f;
  const float* parts[] = {&a, &b, &c};
  float out = 0;
  sum_in_rank_order(parts, 1, &out);
  EXPECT_EQ(out, 1.0f);
  const float* reversed[] = {&c, &b, &a};
  sum_in_rank_order(reversed, 1, &out);
  EXPECT_EQ(out, 0.0f);
}

TEST(Single, ChecksEpochAndDeadlineAndCopies) {
  auto one = make_single_collective(kEpoch);
  const uint32_t in = 42;
  uint32_t out = 0;
  EXPECT_TRUE(one->all_gather(&in, sizeof(in), &out, within(1)).is_ok());
  EXPECT_EQ(out, 42u);
  EXPECT_TRUE(one->barrier(within(1)).is_ok());
  EXPECT_EQ(one->barrier(within(-1)).code(), Code::kDeadlineExceeded);
  EXPECT_EQ(one->barrier(within(1)).code(), Code::kUnavailable);  // dead
  auto other = make_single_collective(kEpoch);
  const Status status = other->barrier({kEpoch + 1, in_seconds(1)});
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("epoch 8"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("epoch 7"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace shoal

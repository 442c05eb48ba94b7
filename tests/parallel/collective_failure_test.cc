// How groups fail, on every engine with ranks as threads: deadlines, abort, disagreement, leaving.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "parallel/collective/collective.h"
#include "tests/parallel/group.h"

namespace shoal {
namespace {

using std::chrono::steady_clock;
using testing::Engine;
using testing::in_seconds;
using testing::make_group;
using testing::run_ranks;

constexpr uint64_t kEpoch = 7;
// What an idle machine needs is 50 ms; tests share two cores with others.
constexpr double kSlack = 0.4;

OpContext within(double s, uint64_t step = 0) { return {kEpoch, in_seconds(s), step}; }
double seconds_since(TimePoint start) { return to_seconds(steady_clock::now() - start); }

::testing::AssertionResult has(const Status& status, const std::string& text) {
  if (status.message().find(text) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "no '" << text << "' in: " << status.to_string();
}

class Failure : public ::testing::TestWithParam<Engine> {
 protected:
  std::vector<std::unique_ptr<Collective>> group(int world) {
    return make_group({GetParam(), world, kEpoch, 0});
  }
};

TEST_P(Failure, EpochMismatchNamesBothAndKills) {
  auto members = group(2);
  ASSERT_EQ(members.size(), 2u);
  float x = 1;
  const TimePoint start = steady_clock::now();
  run_ranks(2, [&](int rank) {
    Collective& member = *members[static_cast<size_t>(rank)];
    float value = x;
    const Status status = rank == 0 ? member.all_reduce_sum(&value, 1, {kEpoch + 5, in_seconds(10)})
                                    : member.all_reduce_sum(&value, 1, within(10));
    if (rank == 0) {
      EXPECT_EQ(status.code(), Code::kFailedPrecondition);
      EXPECT_TRUE(has(status, "plan epoch 12"));
      EXPECT_TRUE(has(status, "epoch 7"));
    } else {
      EXPECT_EQ(status.code(), Code::kUnavailable);  // told by rank 0, not at its deadline
    }
    const Status after = member.all_reduce_sum(&value, 1, within(10));
    EXPECT_EQ(after.code(), Code::kUnavailable);
    EXPECT_TRUE(has(after, "dead"));
  });
  EXPECT_LT(seconds_since(start), 2);
}

TEST_P(Failure, DeadlineIsHonouredAndNamesTheMissingRank) {
  auto members = group(3);
  ASSERT_EQ(members.size(), 3u);
  run_ranks(3, [&](int rank) {
    if (rank == 2) return;  // never comes
    std::vector<float> data(1000);
    const TimePoint start = steady_clock::now();
    // Rank 0 gives up first and takes rank 1 along.
    const Status status = members[static_cast<size_t>(rank)]->all_reduce_sum(
        data.data(), 1000, within(rank == 0 ? 0.3 : 20));
    const double took = seconds_since(start);
    EXPECT_LT(took, 0.3 + kSlack);
    if (rank == 0) {
      EXPECT_GE(took, 0.299);
      EXPECT_EQ(status.code(), Code::kDeadlineExceeded) << status.to_string();
      EXPECT_TRUE(has(status, "rank 2"));
      EXPECT_TRUE(has(status, "all_reduce of 4000 bytes"));
    } else {
      EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
    }
  });
}

TEST_P(Failure, EveryOperationHonoursItsDeadline) {
  for (int kind = 0; kind < 5; ++kind) {
    auto members = group(2);
    ASSERT_EQ(members.size(), 2u);
    Collective& member = *members[1];
    std::vector<uint8_t> data(4096), out(8192);
    const OpContext op = within(0.1);
    const TimePoint start = steady_clock::now();
    Status status;
    switch (kind) {
      case 0:
        status = member.all_gather(data.data(), data.size(), out.data(), op);
        break;
      case 1:
        status = member.broadcast(data.data(), data.size(), 0, op);
        break;
      case 2:
        status = member.broadcast(data.data(), data.size(), 1, op);
        break;
      case 3:
        status = member.recv(data.data(), data.size(), 0, op);
        break;
      case 4:
        status = member.barrier(op);
        break;
    }
    EXPECT_EQ(status.code(), Code::kDeadlineExceeded) << kind << " " << status.to_string();
    EXPECT_LT(seconds_since(start), 0.1 + kSlack) << kind;
    EXPECT_EQ(member.barrier(within(1)).code(), Code::kUnavailable);
  }
}

TEST_P(Failure, AbortWakesEverybody) {
  auto members = group(3);
  ASSERT_EQ(members.size(), 3u);
  std::atomic<int> inside{0};
  TimePoint aborted_at{};
  std::thread controller([&] {
    while (inside.load() < 2) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(60));  // asleep in their waits
    aborted_at = steady_clock::now();
    members[1]->abort("plan 8 replaces plan 7");
    members[1]->abort("again");
  });
  Status statuses[3];
  TimePoint woke[3];
  run_ranks(3, [&](int rank) {
    if (rank == 2) return;
    ++inside;
    std::vector<float> data(100'000);
    statuses[rank] =
        members[static_cast<size_t>(rank)]->all_reduce_sum(data.data(), 100'000, within(30));
    woke[rank] = steady_clock::now();
  });
  controller.join();
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(statuses[rank].code(), Code::kUnavailable) << statuses[rank].to_string();
    EXPECT_LT(to_seconds(woke[rank] - aborted_at), kSlack) << rank;
  }
  EXPECT_TRUE(has(statuses[1], "plan 8 replaces plan 7"));
  const Status after = members[1]->barrier(within(5));
  EXPECT_EQ(after.code(), Code::kUnavailable);
  EXPECT_TRUE(has(after, "plan 8 replaces plan 7"));
  EXPECT_EQ(members[2]->barrier(within(5)).code(), Code::kUnavailable);
}

struct Disagreement {
  const char* name;
  Status (*first)(Collective&, std::vector<uint8_t>&);
  Status (*second)(Collective&, std::vector<uint8_t>&);
  const char* one;    // what rank 0 is in
  const char* other;  // what rank 1 is in
};

const Disagreement kDisagreements[] = {
    {"kind",
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 64, within(10));
     },
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_gather(b.data(), 256, b.data() + 1024, within(10));
     },
     "all_reduce of 256 bytes", "all_gather of 256 bytes"},
    {"size",
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 64, within(10));
     },
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 128, within(10));
     },
     "of 256 bytes", "of 512 bytes"},
    {"size far apart",
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 1, within(10));
     },
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 1 << 20, within(10));
     },
     "of 4 bytes", "of 4194304 bytes"},
    {"root",
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.broadcast(b.data(), 64, 0, within(10));
     },
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.broadcast(b.data(), 64, 1, within(10));
     },
     "broadcast from rank 0", "broadcast from rank 1"},
    {"step",
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 64, within(10, 41));
     },
     [](Collective& c, std::vector<uint8_t>& b) {
       return c.all_reduce_sum(reinterpret_cast<float*>(b.data()), 64, within(10, 42));
     },
     "step 41", "step 42"},
    {"message size",
     [](Collective& c, std::vector<uint8_t>& b) { return c.recv(b.data(), 64, 1, within(10)); },
     [](Collective& c, std::vector<uint8_t>& b) { return c.send(b.data(), 128, 0, within(10)); },
     "of 64 bytes", "of 128 bytes"},
};

TEST_P(Failure, RanksInDifferentOperationsAreTold) {
  for (const Disagreement& d : kDisagreements) {
    SCOPED_TRACE(d.name);
    auto members = group(2);
    ASSERT_EQ(members.size(), 2u);
    std::vector<uint8_t> buffers[2] = {std::vector<uint8_t>(8 << 20),
                                       std::vector<uint8_t>(8 << 20)};
    Status statuses[2];
    const TimePoint start = steady_clock::now();
    run_ranks(2, [&](int rank) {
      statuses[rank] =
          (rank == 0 ? d.first : d.second)(*members[static_cast<size_t>(rank)], buffers[rank]);
    });
    EXPECT_LT(seconds_since(start), 5);
    // Whoever notices first tells the other, who then fails as told.
    int noticed = 0;
    for (int rank = 0; rank < 2; ++rank) {
      const Status& status = statuses[rank];
      if (rank == 1 && status.is_ok()) continue;  // a send may be over before it is looked at
      EXPECT_TRUE(has(status, "is not in the same operation: expected "));
      EXPECT_TRUE(has(status, d.one));
      EXPECT_TRUE(has(status, d.other));
      if (status.code() != Code::kFailedPrecondition) {
        EXPECT_EQ(status.code(), Code::kUnavailable);
        continue;
      }
      ++noticed;
      EXPECT_TRUE(has(status, rank == 0 ? "rank 1 is not in" : "rank 0 is not in"));
    }
    EXPECT_GE(noticed, 1);
    EXPECT_FALSE(statuses[0].is_ok());
    EXPECT_EQ(members[0]->barrier(within(1)).code(), Code::kUnavailable);
  }
}

TEST_P(Failure, LeavingFailsThoseWhoWait) {
  auto members = group(3);
  ASSERT_EQ(members.size(), 3u);
  run_ranks(3, [&](int rank) {
    Collective& member = *members[static_cast<size_t>(rank)];
    ASSERT_TRUE(member.barrier(within(10)).is_ok());
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      members[1].reset();
      return;
    }
    const TimePoint start = steady_clock::now();
    const Status status = member.barrier(within(20));
    EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
    EXPECT_LT(seconds_since(start), 2);
  });
}

TEST_P(Failure, BadArguments) {
  uint32_t word = 0;
  const auto fails = [&](auto&& call) {
    auto members = group(2);
    ASSERT_EQ(members.size(), 2u);
    const Status status = call(*members[0]);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << status.to_string();
  };
  fails([&](Collective& c) { return c.broadcast(&word, 4, 2, within(1)); });
  fails([&](Collective& c) { return c.broadcast(&word, 4, -1, within(1)); });
  fails([&](Collective& c) { return c.send(&word, 4, 0, within(1)); });
  fails([&](Collective& c) { return c.send(&word, 4, 9, within(1)); });
  fails([&](Collective& c) { return c.recv(&word, 4, 0, within(1)); });
  fails([&](Collective& c) { return c.recv(&word, 4, -3, within(1)); });
  fails([&](Collective& c) {
    return c.all_reduce_sum(reinterpret_cast<float*>(&word), -1, within(1));
  });
}

INSTANTIATE_TEST_SUITE_P(Engines, Failure,
                         ::testing::Values(Engine::kLocal, Engine::kShm, Engine::kGloo),
                         [](const auto& param) { return testing::engine_name(param.param); });

}  // namespace
}  // namespace shoal

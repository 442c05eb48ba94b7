// The exchange through host memory: ranks as threads, on devices whose memory the host sees. (That
// other devices get the same bits is what the layout tests on the emulator show.)
#include "worker/staged_exchange.h"

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

namespace shoal {
namespace {

using namespace std::chrono_literals;

class StagedExchangeTest : public ::testing::Test {
 protected:
  static ExchangeStep step(uint64_t number, Duration limit = 60s) {
    return {1, number, std::chrono::steady_clock::now() + limit};
  }
  // On both ranks at once.
  void on_both(const std::function<void(int rank, Exchange& exchange)>& task) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] { task(rank, *exchanges[static_cast<size_t>(rank)]); });
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::unique_ptr<Device> device = make_cpu_device({.threads = 1}).value();
  std::vector<std::unique_ptr<Collective>> groups = make_local_collectives(2, 1);
  std::unique_ptr<StagedExchange> exchanges[2] = {
      std::make_unique<StagedExchange>(*device, *groups[0]),
      std::make_unique<StagedExchange>(*device, *groups[1])};
};

TEST_F(StagedExchangeTest, StepsOfSumsAndBroadcasts) {
  on_both([&](int rank, Exchange& exchange) {
    EXPECT_EQ(exchange.rank(), rank);
    EXPECT_EQ(exchange.world(), 2);
    EXPECT_FALSE(exchange.in_stream()) << "ranks meet on the host";
    for (uint64_t number = 1; number <= 3; ++number) {
      exchange.begin_step(step(number));
      std::vector<float> values{1.0f + static_cast<float>(rank), 10};
      exchange.all_reduce(values.data(), 2);
      EXPECT_EQ(values, (std::vector<float>{3, 20}));
      std::vector<int32_t> ids{rank == 1 ? 7 : -5, rank == 1 ? 0 : 99};
      exchange.broadcast_ids(ids.data(), 2, 8, 1);
      EXPECT_EQ(ids, (std::vector<int32_t>{7, 0}));
      exchange.broadcast(values.data(), 4, 0);
      EXPECT_FALSE(exchange.failed());
      EXPECT_TRUE(exchange.end_step().is_ok());
    }
  });
}

TEST_F(StagedExchangeTest, IndicesOutOfRangeAreAnErrorAndHarmless) {
  for (const int32_t bad : {8, -1, INT32_MAX, INT32_MIN}) {
    on_both([&](int, Exchange& exchange) {
      exchange.begin_step(step(1));
      std::vector<int32_t> ids{3, bad, 5};
      exchange.broadcast_ids(ids.data(), 3, 8, 0);
      EXPECT_EQ(ids, (std::vector<int32_t>{0, 0, 0}));
      EXPECT_TRUE(exchange.failed());
      const Status status = exchange.end_step();
      EXPECT_EQ(status.code(), Code::kDataLoss);
      EXPECT_NE(status.message().find("rank 0 selected " + std::to_string(bad) + " of 8"),
                std::string::npos)
          << status.message();
    });
  }
}

TEST_F(StagedExchangeTest, TheFirstErrorOfAStepIsKeptAndNothingFollows) {
  Exchange& alone = *exchanges[0];
  alone.begin_step(step(1, 20ms));
  float value = 4;
  alone.all_reduce(&value, 1);  // its peer does not come
  EXPECT_TRUE(alone.failed());
  const Status first = alone.end_step();
  EXPECT_FALSE(first.is_ok());
  std::vector<int32_t> ids{99, -1};
  alone.broadcast_ids(ids.data(), 2, 8, 1);
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 0})) << "safe to compute with";
  alone.broadcast(&value, 4, 1);
  EXPECT_EQ(alone.end_step().message(), first.message());
  alone.begin_step(step(2));
  EXPECT_FALSE(alone.failed());
  alone.all_reduce(&value, 1);
  EXPECT_EQ(alone.end_step().code(), Code::kUnavailable) << "the group is dead";
}

TEST_F(StagedExchangeTest, AnAbortEndsAnOpThatWaits) {
  Exchange& alone = *exchanges[0];
  alone.begin_step(step(1));
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    groups[0]->abort("the plan is withdrawn");
  });
  float value = 4;
  alone.all_reduce(&value, 1);
  other.join();
  EXPECT_NE(alone.end_step().message().find("the plan is withdrawn"), std::string::npos);
}

TEST_F(StagedExchangeTest, OneRankNeedsNobody) {
  const auto group = make_single_collective(1);
  StagedExchange exchange(*device, *group);
  EXPECT_TRUE(exchange.in_stream());
  exchange.begin_step(step(1));
  float value = 4;
  exchange.all_reduce(&value, 1);
  EXPECT_EQ(value, 4);
  EXPECT_TRUE(exchange.end_step().is_ok());
}

}  // namespace
}  // namespace shoal

// The fork-join pool: every index once, in contiguous ranges, for any thread count; sleeps and
// wakes.
#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <vector>

namespace shoal {
namespace {

TEST(ThreadPool, EveryIndexOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads, {});
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t total : {0, 1, 2, 3, 7, 64, 1000}) {
      for (const int64_t grain : {1, 8, 32}) {
        std::vector<int> hits(static_cast<size_t>(total), 0);
        std::atomic<int> calls{0};
        pool.parallel_for(total, grain, [&](int64_t begin, int64_t end) {
          ++calls;
          EXPECT_LT(begin, end);
          EXPECT_EQ(begin % grain, 0);
          for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
        });
        EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0), total);
        for (const int h : hits) EXPECT_EQ(h, 1);
        EXPECT_LE(calls.load(), threads);
      }
    }
  }
}

TEST(ThreadPool, WeightedRangesCoverEverything) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads, {});
    for (const std::vector<int64_t>& cost : {std::vector<int64_t>{},
                                             {5},
                                             {1, 1},
                                             {100, 1, 1, 1},
                                             {1, 1, 1, 100},
                                             {0, 0, 0},
                                             std::vector<int64_t>(50, 7)}) {
      std::vector<int> hits(cost.size(), 0);
      std::atomic<int64_t> largest{0};
      pool.parallel_weighted(cost, [&](int64_t begin, int64_t end) {
        int64_t sum = 0;
        for (int64_t i = begin; i < end; ++i) {
          ++hits[static_cast<size_t>(i)];
          sum += cost[static_cast<size_t>(i)];
        }
        int64_t seen = largest.load();
        while (seen < sum && !largest.compare_exchange_weak(seen, sum)) {
        }
      });
      EXPECT_EQ(hits, std::vector<int>(cost.size(), 1));
      EXPECT_TRUE(cost.size() != 50 || largest.load() <= 350 / threads + 14);
    }
  }
}

// Writes of one job are seen by the next, whichever thread runs it.
TEST(ThreadPool, JobsAreOrdered) {
  ThreadPool pool(3, {});
  std::vector<int64_t> data(300, 0);
  for (int round = 0; round < 2000; ++round) {
    pool.parallel_for(300, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto from = static_cast<size_t>(299 - i);
        if (round % 2 == 0)
          data[static_cast<size_t>(i)] += 1;
        else
          EXPECT_EQ(data[from], round / 2 + 1);
      }
    });
  }
}

TEST(ThreadPool, WakesAfterSleeping) {
  ThreadPool pool(2, {});
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::atomic<int> ran{0};
    pool.run([&](int) { ++ran; });
    EXPECT_EQ(ran.load(), 2);
  }
}

TEST(ThreadPool, PinsToCores) {
  ThreadPool pool(2, {0, 0});
  std::atomic<int> ran{0};
  pool.run([&](int) { ++ran; });
  EXPECT_EQ(ran.load(), 2);
}

}  // namespace
}  // namespace shoal

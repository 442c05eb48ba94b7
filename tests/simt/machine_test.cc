// Indices, barriers, shuffles, votes, limits, order: what a launch does without memory checks.
#include <algorithm>
#include <numeric>
#include <set>

#include "tests/simt/simt_support.h"

namespace shoal::emulator {
namespace {

using simt::Global;
using simt::shared_array;
using ::testing::HasSubstr;

TEST(Launch, EveryThreadOfEveryBlockRunsOnce) {
  Memory memory;
  const auto out = memory.allocate<uint32_t>(2 * 3 * 2 * 70, "out");
  EXPECT_TRUE(run_once(memory, 1, {.grid = {2, 3, 2}, .block = {70}}, [=](auto& ctx) {
    const simt::Dim3 b = ctx.block(), g = ctx.grid_dim();
    const uint32_t block = b.x + g.x * (b.y + g.y * b.z);
    const auto o = ctx.global(out);
    o[block * ctx.block_dim().x + ctx.thread().x] = block * 1000 + ctx.warp() * 32 + ctx.lane();
  }));
  const auto values = download(out, 2 * 3 * 2 * 70);
  for (uint32_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], i / 70 * 1000 + i % 70);
}

// The order in which threads of several blocks pass a point.
std::vector<uint32_t> order_of(uint64_t seed) {
  Memory memory;
  const auto next = memory.upload<uint32_t>({0}, "next");
  const auto order = memory.allocate<uint32_t>(4 * 64, "order");
  EXPECT_TRUE(run_once(memory, seed, {.grid = {4}, .block = {64}}, [=](auto& ctx) {
    ctx.sync_warp();
    const uint32_t at = ctx.atomic_add(ctx.global(next), 1u);
    ctx.global(order)[at] = ctx.block().x * 64 + ctx.thread().x;
  }));
  return download(order, 4 * 64);
}

TEST(Launch, ASeedIsAnOrderAndSeedsDiffer) {
  std::set<std::vector<uint32_t>> orders;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const auto order = order_of(seed);
    EXPECT_EQ(order, order_of(seed)) << "seed " << seed;
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    for (uint32_t i = 0; i < sorted.size(); ++i) EXPECT_EQ(sorted[i], i);
    EXPECT_NE(order, sorted) << "seed " << seed;
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), kSeeds);
}

TEST(Launch, LaunchesOfOneStreamDifferInOrder) {
  Memory memory;
  Stream<> stream(memory, {.seed = 3});
  std::set<std::vector<uint32_t>> orders;
  for (int i = 0; i < 4; ++i) {
    const auto next = memory.upload<uint32_t>({0}, "next");
    const auto order = memory.allocate<uint32_t>(32, "order");
    EXPECT_TRUE(run_lambda(stream, {.block = {32}}, [=](auto& ctx) {
      const uint32_t at = ctx.atomic_add(ctx.global(next), 1u);
      ctx.global(order)[at] = ctx.lane();
    }));
    orders.insert(download(order, 32));
  }
  EXPECT_EQ(orders.size(), 4u);
}

template <class Arch>
Status launch_with(const simt::LaunchShape& shape) {
  Memory memory;
  Stream<> stream(memory);
  return run_lambda<Arch>(stream, shape, [](auto&) {});
}

TEST(Launch, LimitsAreThoseOfTheCard) {
  struct Row {
    simt::LaunchShape shape;
    const char* message;  // "" : allowed
  };
  const Row rows[] = {
      {{.block = {1024}}, ""},
      {{.block = {1025}}, "block.x 1025"},
      {{.block = {0}}, "block.x 0"},
      {{.block = {32, 2}}, "block.y 2"},
      {{.block = {32, 1, 2}}, "block.z 2"},
      {{.grid = {0}}, "grid.x 0"},
      {{.grid = {1, 65535}}, ""},
      {{.grid = {1, 65536}}, "grid.y 65536"},
      {{.grid = {1, 1, 65536}}, "grid.z 65536"},
      {{.grid = {0x80000000u}}, "grid.x 2147483648"},
      {{.shared_bytes = 163 * 1024}, ""},
      {{.shared_bytes = 163 * 1024 + 1}, "shared memory 166913"},
  };
  for (const Row& row : rows) {
    const Status status = launch_with<simt::Sm80>(row.shape);
    EXPECT_EQ(status.is_ok(), *row.message == 0) << row.message << status.message();
    EXPECT_THAT(status.message(), HasSubstr(row.message));
  }
  EXPECT_TRUE(launch_with<simt::Sm90>({.shared_bytes = 227 * 1024}));
  EXPECT_FALSE(launch_with<simt::Sm90>({.shared_bytes = 228 * 1024}));
  for (const uint32_t bytes : {99u * 1024, 99u * 1024 + 1}) {
    const bool fits = bytes == 99 * 1024;
    EXPECT_EQ(launch_with<simt::Sm86>({.shared_bytes = bytes}).is_ok(), fits);
    EXPECT_EQ(launch_with<simt::Sm89>({.shared_bytes = bytes}).is_ok(), fits);
    EXPECT_EQ(launch_with<simt::Sm120>({.shared_bytes = bytes}).is_ok(), fits);
  }
}

TEST(Launch, ParametersAreBounded) {
  struct Large {
    uint8_t bytes[simt::kMaxParamBytes + 1] = {};
  } large;
  Memory memory;
  const Status status = run_once(memory, 1, {}, [large](auto&) { (void)large; });
  EXPECT_THAT(status.message(), HasSubstr("parameter size 4097"));
}

TEST(Barrier, NobodyPassesBeforeAllHaveCome) {
  expect_clean({.block = {96}, .shared_bytes = 96 * 4}, [](Memory&) {
    return [](auto& ctx) {
      const auto cells = shared_array<uint32_t>(ctx, 0, 96);
      const uint32_t i = ctx.thread().x;
      for (uint32_t round = 0; round < 20; ++round) {
        cells[i] = round + i;
        ctx.sync_threads();
        const uint32_t other = cells[(i + 41) % 96];
        if (other != round + (i + 41) % 96) cells[96] = 0;  // out of bounds: reported
        ctx.sync_threads();
      }
    };
  });
}

TEST(Barrier, AllMustComeToTheSamePlace) {
  expect_fault({.block = {64}}, "others of the block wait at", [](Memory&) {
    return [](auto& ctx) {
      if (ctx.thread().x < 32) {
        ctx.sync_threads();
      } else {
        ctx.sync_threads();
      }
    };
  });
}

TEST(Barrier, NobodyMayHaveLeft) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Memory memory;
    const Status status = run_once(memory, seed, {.block = {64}}, [](auto& ctx) {
      if (ctx.thread().x == 5) return;
      ctx.sync_threads();
    });
    EXPECT_THAT(status.message(), ::testing::AnyOf(HasSubstr("left although its block waits"),
                                                   HasSubstr("threads of the block have left")));
  }
}

TEST(Shuffle, MovesValuesOfFourAndEightBytes) {
  Memory memory;
  const auto out = memory.allocate<uint64_t>(32 * 6, "out");
  EXPECT_TRUE(run_once(memory, 1, {.block = {32}}, [=](auto& ctx) {
    const auto o = ctx.global(out);
    const uint32_t lane = ctx.lane();
    o[lane * 6 + 0] = static_cast<uint64_t>(ctx.shuffle(0.5f + static_cast<float>(lane), 7) * 2);
    o[lane * 6 + 1] = ctx.shuffle_xor(uint64_t{lane} << 40, 5) >> 40;
    o[lane * 6 + 2] = ctx.shuffle_down(lane, 4);
    o[lane * 6 + 3] = ctx.shuffle_up(lane, 3);
    o[lane * 6 + 4] = static_cast<uint64_t>(-ctx.shuffle(-static_cast<int>(lane), (lane + 1) % 32));
    o[lane * 6 + 5] = ctx.ballot(lane % 3 == 0);
  }));
  const auto values = download(out, 32 * 6);
  uint64_t thirds = 0;
  for (uint64_t lane = 0; lane < 32; lane += 3) thirds |= uint64_t{1} << lane;
  for (uint64_t lane = 0; lane < 32; ++lane) {
    const uint64_t* v = values.data() + lane * 6;
    EXPECT_EQ(v[0], 15u);
    EXPECT_EQ(v[1], lane ^ 5);
    EXPECT_EQ(v[2], lane + 4 < 32 ? lane + 4 : lane);
    EXPECT_EQ(v[3], lane >= 3 ? lane - 3 : lane);
    EXPECT_EQ(v[4], (lane + 1) % 32);
    EXPECT_EQ(v[5], thirds);
  }
}

TEST(Shuffle, HalvesOfAWarpAreIndependent) {
  expect_clean({.block = {32}}, [](Memory& memory) {
    const auto out = memory.allocate<uint32_t>(32, "out");
    return [=](auto& ctx) {
      const uint32_t mask = ctx.lane() < 16 ? 0xffffu : 0xffff0000u;
      uint32_t sum = ctx.lane();
      for (uint32_t bits = 8; bits > 0; bits /= 2) sum += ctx.shuffle_xor(sum, bits, mask);
      const uint32_t expected = ctx.lane() < 16 ? 120 : 376;
      ctx.global(out)[sum == expected ? ctx.lane() : 32u] = sum;
      // One half takes part in more than the other.
      if (ctx.lane() < 16) ctx.sync_warp(mask);
    };
  });
}

TEST(Vote, AnyAllAndReductions) {
  expect_clean({.block = {64}}, [](Memory& memory) {
    const auto out = memory.allocate<uint32_t>(64, "out");
    return [=](auto& ctx) {
      const uint32_t lane = ctx.lane();
      const uint32_t low = 0xffu;
      bool right = ctx.any(lane == 31) && !ctx.any(lane == 32) && ctx.all(lane < 32) &&
                   !ctx.all(lane < 31) && ctx.reduce_add(lane) == 496 &&
                   ctx.reduce_max(static_cast<int>(lane) - 100) == -69 &&
                   ctx.reduce_add(-static_cast<int>(lane)) == -496;
      if (lane < 8) {
        right = right && ctx.reduce_add(lane, low) == 28 && ctx.all(true, low) &&
                ctx.ballot(lane > 5, low) == 0xc0;
      }
      ctx.global(out)[right ? ctx.thread().x : 64u] = 1u;
    };
  });
}

struct Misuse {
  const char* name;
  const char* message;
  void (*body)(Context<true>&);
};

TEST(WarpOperations, MisuseIsReported) {
  const Misuse rows[] = {
      {"an exited lane", "left",
       [](Context<true>& ctx) {
         if (ctx.lane() == 3) return;
         ctx.shuffle_xor(1, 1);
       }},
      {"unequal masks", "another mask",
       [](Context<true>& ctx) { ctx.shuffle(1, 0, ctx.lane() < 16 ? 0xffffu : simt::kAllLanes); }},
      {"a mask without the caller", "does not name the calling lane",
       [](Context<true>& ctx) { ctx.ballot(true, 0x7fffffffu); }},
      {"a source outside the mask", "is not in the mask",
       [](Context<true>& ctx) {
         if (ctx.lane() < 16) ctx.shuffle(1, 20, 0xffffu);
       }},
      {"two places", "other lanes of the mask wait at",
       [](Context<true>& ctx) {
         if (ctx.lane() % 2 == 0) {
           ctx.sync_warp();
         } else {
           ctx.sync_warp();
         }
       }},
      {"a barrier against a shuffle", "no thread can go on",
       [](Context<true>& ctx) {
         if (ctx.lane() < 16)
           ctx.sync_threads();
         else
           ctx.shuffle(1, 0);
       }},
      {"mma without a lane", "left",
       [](Context<true>& ctx) {
         int32_t c[4] = {};
         const uint32_t a[4] = {}, b[2] = {};
         if (ctx.lane() != 17) ctx.mma(simt::S8S8{}, c, a, b);
       }},
  };
  for (const Misuse& row : rows) {
    SCOPED_TRACE(row.name);
    expect_fault({.block = {32}}, row.message,
                 [&](Memory&) { return [body = row.body](auto& ctx) { body(ctx); }; });
  }
}

TEST(WarpOperations, LanesBeyondTheBlockAreNotThere) {
  expect_fault({.block = {40}}, "lanes the block does not have",
               [](Memory&) { return [](auto& ctx) { ctx.sync_warp(); }; });
}

TEST(Launch, ADeadlockSaysWhoWaitsWhere) {
  Memory memory;
  const Status status = run_once(memory, 1, {.block = {33}}, [](auto& ctx) {
    if (ctx.lane() == 0)
      ctx.sync_threads();
    else
      ctx.sync_warp(simt::kAllLanes);
  });
  EXPECT_THAT(status.message(), HasSubstr("no thread can go on"));
  EXPECT_THAT(status.message(), HasSubstr("waits for sync_threads, machine_test.cc:"));
}

TEST(Launch, AStreamGoesOnAfterAFault) {
  Memory memory;
  Stream<> stream(memory);
  const auto out = memory.allocate<uint32_t>(64, "out");
  const auto kernel = [&](uint32_t first) {
    return run_lambda(stream, {.grid = {5}, .block = {64}}, [=](auto& ctx) {
      ctx.sync_threads();
      if (ctx.block().x == 2) ctx.global(out)[first + ctx.thread().x] = 7u;
      ctx.sync_threads();
    });
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(kernel(1).message(), HasSubstr("out of bounds"));
    EXPECT_TRUE(kernel(0));
  }
  EXPECT_EQ(download(out, 64), std::vector<uint32_t>(64, 7));
}

TEST(Launch, WaitingInALoopEndsAtTheDeadline) {
  Memory memory;
  Stream<> stream(memory, {.deadline = std::chrono::milliseconds(50)});
  const auto flag = memory.allocate<uint32_t>(1, "flag", MemoryKind::kSystem);
  const Status status = run_lambda(stream, {.block = {32}}, [=](auto& ctx) {
    while (ctx.load_system(ctx.global(flag)) == 0) ctx.pause(100);
  });
  EXPECT_THAT(status.message(), HasSubstr("longer than the launch's deadline"));
}

TEST(Launch, BlocksThatWaitForEachOtherRunTogether) {
  Memory memory;
  Stream<> stream(memory, {.resident_blocks = 6});
  const auto flags = memory.allocate<uint32_t>(6, "flags", MemoryKind::kSystem);
  EXPECT_TRUE(run_lambda(stream, {.grid = {6}, .block = {32}}, [=](auto& ctx) {
    const auto f = ctx.global(flags);
    if (ctx.lane() == 0) ctx.store_system(f + ctx.block().x, 1u);
    if (ctx.lane() < 6) {
      while (ctx.load_system(f + ctx.lane()) == 0) ctx.pause(100);
    }
    ctx.sync_warp();
  }));
}

}  // namespace
}  // namespace shoal::emulator

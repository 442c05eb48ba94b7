// What becomes visible later: async copies and stores at system scope.
#include <barrier>
#include <thread>

#include "tests/simt/simt_support.h"

namespace shoal::emulator {
namespace {

using simt::shared_array;
using simt::U32x4;
using simt::vector_view;

constexpr simt::LaunchShape kWarp = {.block = {32}, .shared_bytes = 4096};

// A ring of two stages per warp: each lane copies 16 bytes, all read all.
struct Ring {
  uint32_t pending = 1;     // groups that may be under way when a stage is read
  bool sync_before = true;  // between the wait and the reads
  bool sync_after = true;   // between the reads and the next copy to the stage
  template <class Ctx, class In, class Out>
  void operator()(Ctx& ctx, In in, Out out) const {
    constexpr uint32_t kStages = 2, kWords = 128, kSteps = 6;
    const auto ring = shared_array<uint32_t>(ctx, 0, kStages * kWords);
    const uint32_t lane = ctx.lane();
    const auto fetch = [&](uint32_t step) {
      if (step < kSteps) {
        ctx.copy_async_16(ring + (step % kStages * kWords + 4 * lane),
                          in + (step * kWords + 4 * lane));
      }
      ctx.copy_async_commit();
    };
    fetch(0);
    fetch(1);
    uint32_t sum = 0;
    for (uint32_t step = 0; step < kSteps; ++step) {
      ctx.copy_async_wait(pending);
      if (sync_before) ctx.sync_warp();
      for (uint32_t i = 0; i < 4; ++i) {
        sum += ring[step % kStages * kWords + (lane + 32 * i + 5) % kWords];
      }
      if (sync_after) ctx.sync_warp();
      fetch(step + 2);
    }
    ctx.copy_async_wait(0);
    out[lane] = sum;
  }
};

Status run_ring(uint64_t seed, const Ring& ring, std::vector<uint32_t>* sums) {
  Memory memory;
  std::vector<uint32_t> values(6 * 128);
  for (uint32_t i = 0; i < values.size(); ++i) values[i] = i * i;
  const auto in = memory.upload_constant(values, "in");
  const auto out = memory.allocate<uint32_t>(32, "out");
  const Status status =
      run_once(memory, seed, kWarp, [=](auto& ctx) { ring(ctx, ctx.global(in), ctx.global(out)); });
  *sums = download(out, 32);
  return status;
}

TEST(CopyAsync, ARingOfStagesIsClean) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<uint32_t> sums;
    const Status status = run_ring(seed, {}, &sums);
    ASSERT_TRUE(status) << status.message();
    for (uint32_t lane = 0; lane < 32; ++lane) {
      uint32_t sum = 0;
      for (uint32_t step = 0; step < 6; ++step) {
        for (uint32_t i = 0; i < 4; ++i) {
          const uint32_t at = step * 128 + (lane + 32 * i + 5) % 128;
          sum += at * at;
        }
      }
      EXPECT_EQ(sums[lane], sum);
    }
  }
}

TEST(CopyAsync, ItsMutantsAreCaught) {
  struct Row {
    const char* name;
    Ring ring;
    const char* message;
  };
  const Row rows[] = {
      {"one group too few waited for", {.pending = 2}, "an async copy of it is not waited for"},
      {"no barrier after the wait",
       {.sync_before = false},
       "written without order by|an async copy of it is not waited for|nothing was written"},
      {"no barrier before the next copy",
       {.sync_after = false},
       "read without order by|an async copy of it is not waited for"},
  };
  for (const Row& row : rows) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      std::vector<uint32_t> sums;
      const Status status = run_ring(seed, row.ring, &sums);
      EXPECT_FALSE(status) << row.name << ", seed " << seed;
      EXPECT_THAT(status.message(), ::testing::ContainsRegex(row.message))
          << row.name << ", seed " << seed;
    }
  }
}

TEST(CopyAsync, ItsDestinationIsPoisonUntilItLands) {
  // Looked at from outside the kernel: neither the old nor surely the new value.
  int old = 0, landed_early = 0, poison = 0;
  for (uint64_t seed = 0; seed < 64; ++seed) {
    Memory memory;
    const auto in = memory.upload_constant<uint32_t>(std::vector<uint32_t>(4, 7), "in");
    uint32_t seen = 0;
    uint32_t* see = &seen;
    EXPECT_TRUE(run_once(memory, seed, kWarp, [=](auto& ctx) {
      const auto cells = shared_array<uint32_t>(ctx, 0, 4);
      if (ctx.lane() == 0) {
        vector_view<U32x4>(cells)[0] = U32x4{5, 5, 5, 5};
        ctx.copy_async_16(cells, ctx.global(in));
        ctx.copy_async_commit();
      }
      ctx.sync_warp();
      if (ctx.lane() == 0) *see = *cells.address();
      ctx.copy_async_wait(0);
    }));
    old += seen == 5, landed_early += seen == 7, poison += seen != 5 && seen != 7;
  }
  EXPECT_EQ(old, 0);
  EXPECT_GT(landed_early, 5);
  EXPECT_GT(poison, 5);
}

TEST(CopyAsync, InvalidBytesBecomeZeroAndAreNotRead) {
  expect_clean(kWarp, [](Memory& memory) {
    const auto in = memory.upload_constant(std::vector<uint8_t>(10, 9), "in");
    return [=](auto& ctx) {
      const auto bytes = shared_array<uint8_t>(ctx, 0, 32);
      if (ctx.lane() != 0) return;
      ctx.copy_async_16(bytes, ctx.global(in), 10);
      ctx.copy_async_8(bytes + 16, ctx.global(in), 0);
      ctx.copy_async_4(bytes + 24, ctx.global(in), 3);
      ctx.copy_async_4(bytes + 28, ctx.global(in) + 4);
      ctx.copy_async_commit();
      ctx.copy_async_wait(0);
      for (uint32_t i = 0; i < 32; ++i) {
        const uint32_t expected = i < 10 || (i >= 24 && i != 27) ? 9 : 0;
        if (bytes[i] != expected) bytes[32] = uint8_t{0};
      }
    };
  });
}

TEST(CopyAsync, MisuseIsReported) {
  expect_fault(kWarp, "misaligned copy_async of 16 bytes", [](Memory& memory) {
    const auto in = memory.upload_constant(std::vector<uint32_t>(64, 9), "in");
    return [=](auto& ctx) {
      ctx.copy_async_16(shared_array<uint32_t>(ctx, 0, 128) + 4 * ctx.lane(),
                        ctx.global(in) + (ctx.lane() == 3 ? 1 : 0));
      ctx.copy_async_commit();
      ctx.copy_async_wait(0);
    };
  });
  expect_fault(kWarp, "left with async copies it has not waited for", [](Memory& memory) {
    const auto in = memory.upload_constant(std::vector<uint32_t>(64, 9), "in");
    return [=](auto& ctx) {
      ctx.copy_async_4(shared_array<uint32_t>(ctx, 0, 32) + ctx.lane(), ctx.global(in));
      ctx.copy_async_commit();
    };
  });
  expect_fault(kWarp, "copy_async writes shared memory", [](Memory& memory) {
    const auto out = memory.allocate<uint32_t>(64, "out");
    return [=](auto& ctx) { ctx.copy_async_4(ctx.global(out) + ctx.lane(), ctx.global(out)); };
  });
  expect_fault(kWarp, "copy_async out of bounds", [](Memory& memory) {
    const auto in = memory.upload_constant(std::vector<uint32_t>(64, 9), "in");
    return [=](auto& ctx) {
      ctx.copy_async_4(shared_array<uint32_t>(ctx, 0, 31) + ctx.lane(), ctx.global(in));
      ctx.copy_async_commit();
      ctx.copy_async_wait(0);
    };
  });
}

TEST(CopyAsync, AnOpenGroupIsNotWaitedFor) {
  // wait(0) covers committed groups only.
  expect_fault(kWarp, "left with async copies", [](Memory& memory) {
    const auto in = memory.upload_constant(std::vector<uint32_t>(64, 9), "in");
    return [=](auto& ctx) {
      ctx.copy_async_4(shared_array<uint32_t>(ctx, 0, 32) + ctx.lane(), ctx.global(in));
      ctx.copy_async_wait(0);
    };
  });
}

// ---- system scope

TEST(System, PlainAccessesToMappedMemoryAreErrors) {
  expect_fault(kWarp, "a plain access to mapped", [](Memory& memory) {
    const auto mapped = memory.allocate<uint64_t>(32, "mapped", MemoryKind::kSystem);
    return [=](auto& ctx) { ctx.global(mapped)[ctx.lane()] = uint64_t{1}; };
  });
  // A vector access may be split by the hardware; one of 16 bytes is single.
  expect_fault(kWarp, "a plain access to mapped", [](Memory& memory) {
    const auto mapped = memory.allocate<uint32_t>(128, "mapped", MemoryKind::kSystem);
    return [=](auto& ctx) {
      vector_view<U32x4>(ctx.global(mapped))[ctx.lane()] = U32x4{1, 2, 3, 4};
    };
  });
  expect_fault(kWarp, "which is the card's own", [](Memory& memory) {
    const auto own = memory.allocate<uint32_t>(32, "own");
    return [=](auto& ctx) { ctx.store_system(ctx.global(own) + ctx.lane(), 1u); };
  });
}

TEST(System, StoresToDifferentAddressesDrainInAnyOrder) {
  // One lane writes data, then a flag, without a fence: some seed shows the flag first.
  const auto flag_first = [](uint64_t seed, bool fence) {
    Memory memory;
    const auto mapped = memory.allocate<uint32_t>(64, "mapped", MemoryKind::kSystem);
    bool wrong = false;
    bool* result = &wrong;
    const Status status = run_once(memory, seed, {.block = {64}}, [=](auto& ctx) {
      const auto m = ctx.global(mapped);
      if (ctx.thread().x == 0) {
        ctx.store_system(m, 1u);
        if (fence) ctx.thread_fence_system();
        ctx.store_system(m + 32, 1u);
      }
      // Another observer, such as the host: it sees memory, not the card's queue.
      while (*static_cast<volatile uint32_t*>(mapped.address + 32) == 0) {
        if (ctx.thread().x != 32) return;
        ctx.pause(20);
      }
      if (ctx.thread().x == 32) *result = *static_cast<volatile uint32_t*>(mapped.address) == 0;
    });
    EXPECT_TRUE(status) << status.message();
    return wrong;
  };
  int unfenced = 0;
  for (uint64_t seed = 0; seed < 64; ++seed) {
    unfenced += flag_first(seed, false);
    EXPECT_FALSE(flag_first(seed, true)) << "seed " << seed;
  }
  EXPECT_GT(unfenced, 4);
}

TEST(System, OneAddressKeepsItsOrderAndLoadsSeeOwnStores) {
  expect_clean(kWarp, [](Memory& memory) {
    const auto mapped = memory.allocate<uint64_t>(32, "mapped", MemoryKind::kSystem);
    return [=](auto& ctx) {
      const auto m = ctx.global(mapped) + ctx.lane();
      for (uint64_t i = 1; i < 20; ++i) {
        ctx.store_system(m, i);
        if (i % 3 == 0) ctx.sync_warp();
        if (ctx.load_system(m) != i) (ctx.global(mapped) + 32).load();
      }
    };
  });
}

// Two ranks as threads of this process, each with its own card, exchange words of data and flag
// through mapped memory.
TEST(System, RanksExchangeFlaggedWords) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Memory memory;  // both cards see the mapped part
    const auto mapped = memory.allocate<U32x4>(2 * 32, "mapped", MemoryKind::kSystem);
    Status status[2];
    std::barrier<> round_over(2);  // nobody overwrites what the other has not read
    std::vector<std::thread> ranks;
    for (uint32_t rank = 0; rank < 2; ++rank) {
      ranks.emplace_back([&, rank] {
        Stream<> stream(memory, {.seed = seed * 2 + rank});
        const auto out = memory.allocate<uint32_t>(32, "out");
        for (uint32_t round = 1; round < 20 && status[rank]; ++round) {
          status[rank] = run_lambda(stream, {.block = {32}}, [=](auto& ctx) {
            const auto m = ctx.global(mapped);
            const uint32_t lane = ctx.lane();
            ctx.store_system(m + (rank * 32 + lane),
                             U32x4{rank + lane, 2 * lane, 3 * round, round});
            U32x4 word;
            do {
              ctx.pause(20);
              word = ctx.load_system(m + ((1 - rank) * 32 + lane));
            } while (word.w != round);
            const bool whole =
                word.x == 1 - rank + lane && word.y == 2 * lane && word.z == 3 * round;
            ctx.global(out)[whole ? lane : 32u] = word.x;
          });
          if (status[rank]) round_over.arrive_and_wait();
        }
        round_over.arrive_and_drop();
      });
    }
    for (std::thread& rank : ranks) rank.join();
    EXPECT_TRUE(status[0]) << status[0].message();
    EXPECT_TRUE(status[1]) << status[1].message();
  }
}

}  // namespace
}  // namespace shoal::emulator

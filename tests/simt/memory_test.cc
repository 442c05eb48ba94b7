// What is checked of memory: bounds, alignment, races inside a block, between lanes, between
// blocks; and what must not be called a race.
#include "tests/simt/simt_support.h"

namespace shoal::emulator {
namespace {

using simt::arrive_last;
using simt::shared_array;
using simt::U32x4;
using simt::vector_view;
using ::testing::HasSubstr;

constexpr simt::LaunchShape kBlock64 = {.block = {64}, .shared_bytes = 1024};

TEST(Bounds, OfGlobalAndSharedArrays) {
  expect_fault(kBlock64, "write out of bounds: 4 bytes of out at byte 252", [](Memory& memory) {
    const auto out = memory.allocate<uint32_t>(63, "out");
    return [=](auto& ctx) { ctx.global(out)[ctx.thread().x] = 1u; };
  });
  expect_fault(kBlock64, "read out of bounds", [](Memory& memory) {
    const auto in = memory.upload_constant<uint32_t>({1, 2, 3}, "in");
    return [=](auto& ctx) { ctx.global(in)[-1].operator uint32_t(); };
  });
  // Neighbours in the arena, each with its own bounds.
  expect_fault(kBlock64, "the array is bytes 256 … 512", [](Memory&) {
    return [](auto& ctx) { shared_array<uint32_t>(ctx, 256, 64)[ctx.thread().x - 1] = 1u; };
  });
  expect_fault(kBlock64, "the launch asked for 1024",
               [](Memory&) { return [](auto& ctx) { shared_array<uint32_t>(ctx, 256, 193); }; });
  expect_fault(kBlock64, "alignment 16",
               [](Memory&) { return [](auto& ctx) { shared_array<U32x4>(ctx, 8, 1); }; });
  expect_fault(kBlock64, "points to no allocation", [](Memory& memory) {
    const auto gone = memory.allocate<uint32_t>(4, "gone");
    memory.free(gone.address);
    return [=](auto& ctx) { ctx.global(gone)[0] = 1u; };
  });
  expect_fault(kBlock64, "null pointer", [](Memory&) {
    return [](auto& ctx) { ctx.global(simt::Global<uint32_t>{})[0] = 1u; };
  });
}

TEST(Bounds, OffsetsBeyondFourGigabytesStayOffsets) {
  expect_fault(kBlock64, "write out of bounds", [](Memory& memory) {
    const auto out = memory.allocate<uint32_t>(64, "out");
    return [=](auto& ctx) {
      // As an int this would be element 0.
      ctx.global(out)[int64_t{1} << 32] = 1u;
    };
  });
}

TEST(Bounds, ConstantsAreNotWritten) {
  expect_fault(kBlock64, "write to read-only in", [](Memory& memory) {
    const auto in = memory.upload<uint32_t>({1, 2, 3}, "in", MemoryKind::kConstant);
    return [=](auto& ctx) { ctx.global(in)[0] = 1u; };
  });
}

TEST(Alignment, OfVectorViews) {
  expect_fault(kBlock64, "misaligned read of 16 bytes", [](Memory& memory) {
    const auto in = memory.upload_constant(std::vector<uint32_t>(64, 1), "in");
    return [=](auto& ctx) { vector_view<U32x4>(ctx.global(in) + 2).load(); };
  });
  expect_fault(kBlock64, "misaligned write of 8 bytes", [](Memory&) {
    return [](auto& ctx) {
      const auto cells = shared_array<uint32_t>(ctx, 4, 64);
      vector_view<simt::F32x2>(cells)[0] = simt::F32x2{1, 2};
    };
  });
}

TEST(Initialisation, OfSharedMemory) {
  expect_fault(kBlock64, "nothing was written there", [](Memory&) {
    return
        [](auto& ctx) { shared_array<uint32_t>(ctx, 0, 64)[ctx.thread().x].operator uint32_t(); };
  });
  // What an earlier block of the same place left does not count.
  expect_fault({.grid = {8}, .block = {32}, .shared_bytes = 128}, "nothing was written there",
               [](Memory&) {
                 return [](auto& ctx) {
                   const auto cells = shared_array<uint32_t>(ctx, 0, 32);
                   if (ctx.block().x % 4 != 3) {
                     cells[ctx.lane()] = 1u;
                   } else {
                     cells[ctx.lane()].operator uint32_t();
                   }
                 };
               });
}

// ---- inside a block

TEST(Race, AMissingBarrierBetweenWriteAndRead) {
  expect_fault(kBlock64, "written without order by|nothing was written there", [](Memory&) {
    return [](auto& ctx) {
      const auto cells = shared_array<uint32_t>(ctx, 0, 64);
      cells[ctx.thread().x] = 1u;
      ctx.sync_warp();
      cells[63 - ctx.thread().x].operator uint32_t();
    };
  });
}

TEST(Race, AMissingBarrierBetweenReadAndWrite) {
  expect_fault(kBlock64, "(read|written) without order by", [](Memory&) {
    return [](auto& ctx) {
      const auto cells = shared_array<uint32_t>(ctx, 0, 64);
      cells[ctx.thread().x] = 1u;
      ctx.sync_threads();
      for (uint32_t i = 0; i < 64; ++i) cells[i].operator uint32_t();
      // Here one is missing.
      cells[ctx.thread().x] = 2u;
      ctx.sync_threads();
    };
  });
}

TEST(Race, TwoWritersEvenOfTheSameValue) {
  expect_fault(kBlock64, "written without order by", [](Memory&) {
    return [](auto& ctx) { shared_array<uint32_t>(ctx, 0, 64)[3] = 1u; };
  });
}

TEST(Race, AShuffleOrdersNoMemory) {
  expect_fault({.block = {32}, .shared_bytes = 128},
               "written without order by|nothing was written there", [](Memory&) {
                 return [](auto& ctx) {
                   const auto cells = shared_array<uint32_t>(ctx, 0, 32);
                   cells[ctx.lane()] = 1u;
                   ctx.shuffle_xor(1, 1);
                   cells[ctx.lane() ^ 1].operator uint32_t();
                 };
               });
}

TEST(Race, SyncWarpOrdersItsLanesOnly) {
  const auto exchange = [](auto& ctx, uint32_t mask, uint32_t partner) {
    const auto cells = shared_array<uint32_t>(ctx, 0, 32);
    for (int round = 0; round < 3; ++round) {
      cells[ctx.lane()] = 1u;
      ctx.sync_warp(mask);
      cells[partner].operator uint32_t();
      ctx.sync_warp(mask);
    }
  };
  const simt::LaunchShape warp = {.block = {32}, .shared_bytes = 128};
  expect_clean(warp, [&](Memory&) {
    return [=](auto& ctx) { exchange(ctx, simt::kAllLanes, 31 - ctx.lane()); };
  });
  expect_clean(warp, [&](Memory&) {
    return
        [=](auto& ctx) { exchange(ctx, ctx.lane() < 16 ? 0xffffu : 0xffff0000u, ctx.lane() ^ 8); };
  });
  expect_fault(warp, "race|nothing was written there", [&](Memory&) {
    return
        [=](auto& ctx) { exchange(ctx, ctx.lane() < 16 ? 0xffffu : 0xffff0000u, ctx.lane() ^ 16); };
  });
}

TEST(Race, PartialSyncsCarryKnowledgeOn) {
  // Lane 0 to 1, lane 1 to 2: what 0 wrote is over for 2.
  const simt::LaunchShape warp = {.block = {32}, .shared_bytes = 128};
  const auto chain = [](auto& ctx, bool second) {
    const auto cells = shared_array<uint32_t>(ctx, 0, 32);
    const uint32_t lane = ctx.lane();
    if (lane == 0) cells[0] = 1u;
    if (lane < 2) ctx.sync_warp(0x3u);
    if (second && (lane == 1 || lane == 2)) ctx.sync_warp(0x6u);
    if (lane == 2) cells[0] = 2u;
  };
  expect_clean(warp, [&](Memory&) { return [=](auto& ctx) { chain(ctx, true); }; });
  expect_fault(warp, "race", [&](Memory&) { return [=](auto& ctx) { chain(ctx, false); }; });
}

TEST(Race, BytesOfAWordAreSeparate) {
  expect_clean(kBlock64, [](Memory& memory) {
    const auto out = memory.allocate<uint8_t>(64, "out");
    return [=](auto& ctx) {
      ctx.global(out)[ctx.thread().x] = static_cast<uint8_t>(ctx.thread().x);
      ctx.sync_threads();
      if (ctx.thread().x < 16) {
        const uint32_t word = vector_view<uint32_t>(ctx.global(out))[ctx.thread().x];
        if (word % 256 != 4 * ctx.thread().x) ctx.global(out)[64] = uint8_t{0};
      }
    };
  });
  expect_fault(kBlock64, "race", [](Memory& memory) {
    const auto out = memory.allocate<uint8_t>(64, "out");
    return [=](auto& ctx) {
      const uint32_t i = ctx.thread().x;
      ctx.global(out)[i < 63 ? i : 62] = uint8_t{1};
    };
  });
  expect_fault(kBlock64, "race", [](Memory& memory) {
    const auto out = memory.allocate<uint8_t>(64, "out");
    return [=](auto& ctx) {
      ctx.global(out)[ctx.thread().x] = uint8_t{1};
      vector_view<uint32_t>(ctx.global(out))[ctx.thread().x / 4].operator uint32_t();
    };
  });
}

TEST(Race, AtomicsAmongThemselvesAreNone) {
  expect_clean(kBlock64, [](Memory&) {
    return [](auto& ctx) {
      const auto sum = shared_array<uint32_t>(ctx, 0, 2);
      if (ctx.thread().x < 2) sum[ctx.thread().x] = 0u;
      ctx.sync_threads();
      ctx.atomic_add(sum, ctx.thread().x);
      ctx.atomic_max(sum + 1, ctx.thread().x);
      ctx.sync_threads();
      const uint32_t total = sum[0], largest = sum[1];
      if (total != 2016 || largest != 63) sum[2] = 0u;
    };
  });
  expect_fault(kBlock64, "race", [](Memory&) {
    return [](auto& ctx) {
      const auto sum = shared_array<uint32_t>(ctx, 0, 1);
      if (ctx.thread().x == 0) sum[0] = 0u;
      ctx.sync_threads();
      ctx.atomic_add(sum, 1u);
      sum[0].operator uint32_t();
    };
  });
  expect_fault(kBlock64, "nothing was written there", [](Memory&) {
    return [](auto& ctx) { ctx.atomic_add(shared_array<uint32_t>(ctx, 0, 1), 1u); };
  });
}

// ---- between blocks

constexpr simt::LaunchShape kBlocks = {.grid = {8}, .block = {64}, .shared_bytes = 16};

TEST(Race, OtherBlocksAlwaysCountAsConcurrent) {
  expect_fault(kBlocks, "written without order by", [](Memory& memory) {
    const auto out = memory.allocate<uint32_t>(64, "out");
    return [=](auto& ctx) { ctx.global(out)[ctx.thread().x] = 1u; };
  });
  expect_fault(kBlocks, "race", [](Memory& memory) {
    const auto out = memory.upload(std::vector<uint32_t>(8), "out");
    return [=](auto& ctx) {
      if (ctx.thread().x != 0) return;
      ctx.global(out)[ctx.block().x] = 1u;
      ctx.global(out)[(ctx.block().x + 1) % 8].operator uint32_t();
    };
  });
  // Even if one block runs at a time.
  Memory memory;
  Stream<> stream(memory, {.resident_blocks = 1});
  const auto out = memory.allocate<uint32_t>(64, "out");
  EXPECT_FALSE(
      run_lambda(stream, kBlocks, [=](auto& ctx) { ctx.global(out)[ctx.thread().x] = 1u; }));
}

TEST(Race, AWriteAfterBlocksHaveReadIsOne) {
  expect_fault(kBlocks, "(read|written) without order by", [](Memory& memory) {
    const auto x = memory.upload(std::vector<uint32_t>(64, 1), "x");
    return [=](auto& ctx) {
      const auto v = ctx.global(x);
      for (uint32_t i = 0; i < 64; ++i) v[i].operator uint32_t();
      ctx.sync_threads();
      if (ctx.block().x == 3) v[ctx.thread().x] = 2u;
    };
  });
}

TEST(Race, AnotherLaunchIsOver) {
  Memory memory;
  Stream<> stream(memory);
  const auto out = memory.allocate<uint32_t>(64, "out");
  for (uint32_t round = 0; round < 3; ++round) {
    EXPECT_TRUE(run_lambda(stream, {.block = {64}}, [=](auto& ctx) {
      ctx.global(out)[(ctx.thread().x + round) % 64] = round;
    }));
  }
}

// Each block sums its part; the last to arrive adds the parts.
struct LastBlock {
  bool fenced = true;
  bool barrier = true;
  template <class Ctx, class P, class C>
  void operator()(Ctx& ctx, P parts, C counter, P total) const {
    const uint32_t t = ctx.thread().x, blocks = ctx.grid_dim().x;
    if (t < 4) parts[ctx.block().x * 4 + t] = ctx.block().x + t;
    const auto last = shared_array<uint32_t>(ctx, 0, 1);
    if (barrier) ctx.sync_threads();
    if (t == 0) {
      if (fenced) {
        last[0] = arrive_last(ctx, counter, blocks) ? 1u : 0u;
      } else {
        last[0] = ctx.atomic_add(counter, 1u) == blocks - 1 ? 1u : 0u;
      }
    }
    ctx.sync_threads();
    const uint32_t is_last = last[0];
    if (is_last == 0) return;
    if (t < 4) {
      uint32_t sum = 0;
      for (uint32_t b = 0; b < blocks; ++b) sum += parts[b * 4 + t];
      total[t] = sum;
    }
    if (t == 0) counter[0] = 0u;  // for the next launch
  }
};

TEST(LastBlock, SeesWhatTheOthersWrote) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Memory memory;
    Stream<> stream(memory, {.seed = seed});
    const auto parts = memory.allocate<uint32_t>(32, "parts");
    const auto total = memory.allocate<uint32_t>(4, "total");
    const auto counter = memory.upload<uint32_t>({0}, "counter");
    for (int launch = 0; launch < 3; ++launch) {
      const Status status = run_lambda(stream, kBlocks, [=](auto& ctx) {
        LastBlock{}(ctx, ctx.global(parts), ctx.global(counter), ctx.global(total));
      });
      EXPECT_TRUE(status) << status.message();
      EXPECT_EQ(download(total, 4), (std::vector<uint32_t>{28, 36, 44, 52}));
    }
  }
}

TEST(LastBlock, WithoutFenceOrBarrierIsARace) {
  for (const LastBlock& mutant : {LastBlock{.fenced = false}, LastBlock{.barrier = false}}) {
    expect_fault(kBlocks, "race", [&](Memory& memory) {
      const auto parts = memory.allocate<uint32_t>(32, "parts");
      const auto total = memory.allocate<uint32_t>(4, "total");
      const auto counter = memory.upload<uint32_t>({0}, "counter");
      return [=](auto& ctx) {
        mutant(ctx, ctx.global(parts), ctx.global(counter), ctx.global(total));
      };
    });
  }
}

// The same between warps, without any barrier of the block.
TEST(LastBlock, WarpsMayArriveOnTheirOwn) {
  const auto body = [](auto& ctx, auto parts, auto counter, auto total, bool synced) {
    const uint32_t lane = ctx.lane(), warps = 2 * ctx.grid_dim().x;
    const uint32_t warp = 2 * ctx.block().x + ctx.warp();
    parts[32 * warp + lane] = warp;
    if (synced) ctx.sync_warp();
    uint32_t last = 0;
    if (lane == 0) last = arrive_last(ctx, counter, warps) ? 1 : 0;
    if (ctx.shuffle(last, 0) == 0) return;
    ctx.sync_warp();
    uint32_t sum = 0;
    for (uint32_t w = 0; w < warps; ++w) sum += parts[32 * w + (lane ^ 1)];
    total[lane] = sum;
  };
  const auto launch_with = [&](Memory& memory, bool synced) {
    const auto parts = memory.allocate<uint32_t>(512, "parts");
    const auto total = memory.allocate<uint32_t>(32, "total");
    const auto counter = memory.upload<uint32_t>({0}, "counter");
    return [=](auto& ctx) {
      body(ctx, ctx.global(parts), ctx.global(counter), ctx.global(total), synced);
    };
  };
  expect_clean(kBlocks, [&](Memory& memory) { return launch_with(memory, true); });
  expect_fault(kBlocks, "race", [&](Memory& memory) { return launch_with(memory, false); });
}

TEST(Atomics, AddFloatsAndWiderIntegers) {
  Memory memory;
  const auto sum = memory.upload<float>({0.5f}, "sum");
  const auto wide = memory.upload<uint64_t>({uint64_t{1} << 40}, "wide");
  EXPECT_TRUE(run_once(memory, 1, kBlocks, [=](auto& ctx) {
    ctx.atomic_add(ctx.global(sum), static_cast<float>(ctx.lane()));
    ctx.atomic_max(ctx.global(wide), (uint64_t{1} << 40) + ctx.block().x);
  }));
  EXPECT_EQ(*sum.address, 0.5f + 496 * 16);
  EXPECT_EQ(*wide.address, (uint64_t{1} << 40) + 7);
}

TEST(Unchecked, RunsTheSameKernelOnPlainPointers) {
  Memory memory;
  Stream<false> stream(memory);
  const auto out = memory.allocate<uint32_t>(64, "out");
  EXPECT_TRUE(run_lambda(stream, kBlock64, [=](auto& ctx) {
    const auto cells = shared_array<uint32_t>(ctx, 0, 64);
    cells[ctx.thread().x] = ctx.thread().x;
    ctx.sync_threads();
    ctx.global(out)[ctx.thread().x] = cells[63 - ctx.thread().x];
  }));
  for (uint32_t i = 0; i < 64; ++i) EXPECT_EQ(out.address[i], 63 - i);
  // Warp operations are checked all the same.
  EXPECT_FALSE(run_lambda(stream, kBlock64, [](auto& ctx) {
    if (ctx.lane() != 1) ctx.shuffle(1, 0);
  }));
}

TEST(Shadow, SerialNumbersStartAgain) {
  Memory memory;
  Stream<> stream(memory);
  const auto out = memory.allocate<uint32_t>(64, "out");
  const auto kernel = [&] {
    return run_lambda(stream, {.block = {64}},
                      [=](auto& ctx) { ctx.global(out)[ctx.thread().x] = 1u; });
  };
  EXPECT_TRUE(kernel());
  while (memory.take_serials(1 << 20) > (1 << 20)) {
  }
  EXPECT_TRUE(kernel());
}

}  // namespace
}  // namespace shoal::emulator

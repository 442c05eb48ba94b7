// Fragments of mma and ldmatrix. The expected places are the PTX ISA's formulas for element i of a
// lane's fragment, written down a second time.
#include <cmath>

#include "base/rng.h"
#include "kernels/body/half.h"
#include "tests/simt/simt_support.h"

namespace shoal::emulator {
namespace {

using simt::shared_array;

constexpr int kM = 16, kN = 8;

// Row and column of element i of A, of B, of C.
struct Place {
  int row, column;
};
// m16n8k32, 8-bit: "row = groupID for 0 ≤ i < 4 || 8 ≤ i < 12, groupID + 8 otherwise; col =
// threadID_in_group × 4 + (i & 3) for i < 8, + 16 for i ≥ 8".
Place a_k32(int lane, int i) {
  return {lane / 4 + (i < 4 || (i >= 8 && i < 12) ? 0 : 8),
          lane % 4 * 4 + (i & 3) + (i < 8 ? 0 : 16)};
}
// m16n8k16, 8-bit: "row = groupID for 0 ≤ i < 4, groupID + 8 for 4 ≤ i < 8".
Place a_k16(int lane, int i) { return {lane / 4 + (i < 4 ? 0 : 8), lane % 4 * 4 + (i & 3)}; }
// "row = threadID_in_group × 4 + (i & 3), + 16 for i ≥ 4; col = groupID".
Place b_bytes(int lane, int i) { return {lane % 4 * 4 + (i & 3) + (i < 4 ? 0 : 16), lane / 4}; }
// m16n8k16, 16-bit: "row = groupID for 0 ≤ i < 2 || 4 ≤ i < 6, groupID + 8 otherwise; col =
// threadID_in_group × 2 + (i & 1) for i < 4, + 8 for i ≥ 4".
Place a_half(int lane, int i) {
  return {lane / 4 + (i < 2 || (i >= 4 && i < 6) ? 0 : 8),
          lane % 4 * 2 + (i & 1) + (i < 4 ? 0 : 8)};
}
// "row = threadID_in_group × 2 + (i & 1), + 8 for i ≥ 2; col = groupID".
Place b_half(int lane, int i) { return {lane % 4 * 2 + (i & 1) + (i < 2 ? 0 : 8), lane / 4}; }
// "row = groupID for i < 2, groupID + 8 for i ≥ 2; col = threadID_in_group × 2 + (i & 1)".
Place c_place(int lane, int i) { return {lane / 4 + (i < 2 ? 0 : 8), lane % 4 * 2 + (i & 1)}; }

template <bool kUnsignedA, int kK>
void check_integers(uint64_t seed) {
  constexpr int kWordsA = kK / 8, kWordsB = kK / 16;
  Rng rng(seed);
  int a[kM][kK], b[kK][kN], c[kM][kN];
  for (auto& row : a) {
    for (int& v : row) v = static_cast<int>(rng.below(256)) - (kUnsignedA ? 0 : 128);
  }
  for (auto& row : b) {
    for (int& v : row) v = static_cast<int>(rng.below(256)) - 128;
  }
  for (auto& row : c) {
    for (int& v : row) v = static_cast<int>(rng.below(2000)) - 1000;
  }
  std::vector<uint32_t> fragments(32 * 10);
  for (int lane = 0; lane < 32; ++lane) {
    uint32_t* words = fragments.data() + lane * 10;
    for (int i = 0; i < 4 * kWordsA; ++i) {
      const Place p = kK == 32 ? a_k32(lane, i) : a_k16(lane, i);
      words[4 + i / 4] |= static_cast<uint32_t>(a[p.row][p.column] & 255) << (8 * (i % 4));
    }
    for (int i = 0; i < 4 * kWordsB; ++i) {
      const Place p = b_bytes(lane, i);
      words[8 + i / 4] |= static_cast<uint32_t>(b[p.row][p.column] & 255) << (8 * (i % 4));
    }
    for (int i = 0; i < 4; ++i) {
      const Place p = c_place(lane, i);
      words[i] = static_cast<uint32_t>(c[p.row][p.column]);
    }
  }
  Memory memory;
  const auto in = memory.upload_constant(fragments, "fragments");
  const auto out = memory.allocate<int32_t>(32 * 4, "out");
  ASSERT_TRUE(run_once(memory, seed, {.block = {32}}, [=](auto& ctx) {
    const auto words = ctx.global(in) + 10 * ctx.lane();
    int32_t sums[4];
    uint32_t fa[kWordsA], fb[kWordsB];
    for (int i = 0; i < 4; ++i) sums[i] = static_cast<int32_t>(words[i].operator uint32_t());
    for (int i = 0; i < kWordsA; ++i) fa[i] = words[4 + i];
    for (int i = 0; i < kWordsB; ++i) fb[i] = words[8 + i];
    if constexpr (kUnsignedA) {
      ctx.mma(simt::U8S8{}, sums, fa, fb);
    } else {
      ctx.mma(simt::S8S8{}, sums, fa, fb);
    }
    for (int i = 0; i < 4; ++i) ctx.global(out)[4 * ctx.lane() + i] = sums[i];
  }));
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Place p = c_place(lane, i);
      int expected = c[p.row][p.column];
      for (int k = 0; k < kK; ++k) expected += a[p.row][k] * b[k][p.column];
      EXPECT_EQ(out.address[4 * lane + i], expected) << "lane " << lane << " element " << i;
    }
  }
}

TEST(Mma, IntegerFragments) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    check_integers<true, 32>(seed);
    check_integers<false, 32>(seed);
    check_integers<true, 16>(seed);
    check_integers<false, 16>(seed);
  }
}

template <class Kind>
void check_halves(uint64_t seed) {
  constexpr int kK = 16;
  constexpr bool kBf16 = std::is_same_v<Kind, simt::BF16>;
  const auto encode = [](float v) {
    return kBf16 ? body::float_to_bf16(v) : body::float_to_half(v);
  };
  const auto decode = [](uint16_t v) {
    return kBf16 ? body::bf16_to_float(v) : body::half_to_float(v);
  };
  Rng rng(seed);
  uint16_t a[kM][kK], b[kK][kN];
  float c[kM][kN];
  for (auto& row : a) {
    for (uint16_t& v : row) v = encode(static_cast<float>(rng.normal()));
  }
  for (auto& row : b) {
    for (uint16_t& v : row) v = encode(static_cast<float>(rng.normal()));
  }
  for (auto& row : c) {
    for (float& v : row) v = static_cast<float>(rng.normal());
  }
  std::vector<uint32_t> fragments(32 * 10);
  for (int lane = 0; lane < 32; ++lane) {
    uint32_t* words = fragments.data() + lane * 10;
    for (int i = 0; i < 8; ++i) {
      const Place p = a_half(lane, i);
      words[4 + i / 2] |= static_cast<uint32_t>(a[p.row][p.column]) << (16 * (i % 2));
    }
    for (int i = 0; i < 4; ++i) {
      const Place p = b_half(lane, i);
      words[8 + i / 2] |= static_cast<uint32_t>(b[p.row][p.column]) << (16 * (i % 2));
      const Place q = c_place(lane, i);
      words[i] = body::bits_from_float(c[q.row][q.column]);
    }
  }
  Memory memory;
  const auto in = memory.upload_constant(fragments, "fragments");
  const auto out = memory.allocate<float>(32 * 4, "out");
  ASSERT_TRUE(run_once(memory, seed, {.block = {32}}, [=](auto& ctx) {
    const auto words = ctx.global(in) + 10 * ctx.lane();
    float sums[4];
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; ++i) sums[i] = body::float_from_bits(words[i]);
    for (int i = 0; i < 4; ++i) fa[i] = words[4 + i];
    for (int i = 0; i < 2; ++i) fb[i] = words[8 + i];
    ctx.mma(Kind{}, sums, fa, fb);
    for (int i = 0; i < 4; ++i) ctx.global(out)[4 * ctx.lane() + i] = sums[i];
  }));
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const Place p = c_place(lane, i);
      double expected = c[p.row][p.column];
      for (int k = 0; k < kK; ++k) {
        expected += static_cast<double>(decode(a[p.row][k])) * decode(b[k][p.column]);
      }
      EXPECT_NEAR(out.address[4 * lane + i], expected, 1e-5) << "lane " << lane << " element " << i;
    }
  }
}

TEST(Mma, HalfFragments) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    check_halves<simt::F16>(seed);
    check_halves<simt::BF16>(seed);
  }
}

TEST(Mma, IntegerSumsWrap) {
  Memory memory;
  const auto out = memory.allocate<int32_t>(32, "out");
  ASSERT_TRUE(run_once(memory, 1, {.block = {32}}, [=](auto& ctx) {
    int32_t sums[4] = {0x7fffffff, 0, 0, 0};
    const uint32_t a[2] = {0x01010101u, 0}, b[1] = {0x01010101u};
    ctx.mma(simt::S8S8{}, sums, a, b);
    ctx.global(out)[ctx.lane()] = sums[0];
  }));
  EXPECT_EQ(*out.address, INT32_MIN + 15);
}

// Matrix m holds at row r, column j the number 64 m + 8 r + j.
template <size_t kCount>
void check_ldmatrix(bool transposed) {
  expect_clean({.block = {32}, .shared_bytes = 4 * 8 * 32}, [&](Memory& memory) {
    const auto wrong = memory.allocate<uint32_t>(1, "wrong");
    return [=](auto& ctx) {
      const uint32_t lane = ctx.lane(), matrix = lane / 8, row = lane % 8;
      // Rows are 32 bytes apart: as in a padded tile.
      const auto tile = shared_array<uint16_t>(ctx, 0, 4 * 8 * 16);
      const auto own = tile + 16 * lane;
      for (uint32_t j = 0; j < 8; ++j) own[j] = static_cast<uint16_t>(64 * matrix + 8 * row + j);
      ctx.sync_warp();
      uint32_t r[kCount];
      if (transposed) {
        ctx.ldmatrix_transposed(r, own);
      } else {
        ctx.ldmatrix(r, own);
      }
      for (uint32_t m = 0; m < kCount; ++m) {
        const uint32_t one = lane / 4, two = lane % 4 * 2;
        const uint32_t low = 64 * m + (transposed ? 8 * two + one : 8 * one + two);
        const uint32_t high = 64 * m + (transposed ? 8 * (two + 1) + one : 8 * one + two + 1);
        if (r[m] != (low | high << 16)) ctx.global(wrong)[1] = m;
      }
    };
  });
}

TEST(LdMatrix, OneTwoAndFourMatrices) {
  for (const bool transposed : {false, true}) {
    check_ldmatrix<1>(transposed);
    check_ldmatrix<2>(transposed);
    check_ldmatrix<4>(transposed);
  }
}

TEST(LdMatrix, MisuseIsReported) {
  const simt::LaunchShape warp = {.block = {32}, .shared_bytes = 1024};
  expect_fault(warp, "misaligned read of 16 bytes", [](Memory&) {
    return [](auto& ctx) {
      const auto tile = shared_array<uint16_t>(ctx, 0, 512);
      for (uint32_t i = 0; i < 16; ++i) tile[16 * ctx.lane() + i] = uint16_t{0};
      ctx.sync_warp();
      uint32_t r[1];
      ctx.ldmatrix(r, tile + 12 * ctx.lane());
    };
  });
  expect_fault(warp, "race|nothing was written", [](Memory&) {
    return [](auto& ctx) {
      // Lane i writes row 31 − i; nothing orders that before the read.
      const auto tile = shared_array<uint16_t>(ctx, 0, 512);
      for (uint32_t i = 0; i < 8; ++i) tile[8 * (31 - ctx.lane()) + i] = uint16_t{0};
      uint32_t r[4];
      ctx.ldmatrix(r, tile + 8 * ctx.lane());
    };
  });
  expect_fault(warp, "race", [](Memory&) {
    return [](auto& ctx) {
      // Even if each lane writes the row whose address it gives: the others get it too.
      const auto tile = shared_array<uint16_t>(ctx, 0, 512);
      for (uint32_t i = 0; i < 8; ++i) tile[8 * ctx.lane() + i] = uint16_t{0};
      uint32_t r[4];
      ctx.ldmatrix(r, tile + 8 * ctx.lane());
    };
  });
}

}  // namespace
}  // namespace shoal::emulator

// Half and bfloat16 are rounded once per operation; the byte helpers do what the instructions do.
#include "kernels/cuda/number.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "tests/support/support.h"

namespace shoal::simt {
namespace {

// Every pair of neighbours is further from the exact value, and a tie has gone to the even one.
template <class T>
bool is_nearest(T result, __float128 exact, uint16_t infinity) {
  const uint16_t magnitude = result.bits & 0x7fffu;
  if (magnitude > infinity) return false;
  const auto value = [&](uint16_t bits) -> __float128 {
    if (bits < infinity) return to_float(T{bits});
    // Beyond the largest: what would come next.
    const __float128 last = to_float(T{static_cast<uint16_t>(infinity - 1)});
    return last + (last - to_float(T{static_cast<uint16_t>(infinity - 2)}));
  };
  if ((result.bits & 0x8000u) != 0) exact = -exact;
  const auto distance = [&](__float128 v) { return v > exact ? v - exact : exact - v; };
  if (exact < 0) return magnitude == 0 && distance(value(0)) <= distance(-value(1));
  const __float128 own = distance(value(magnitude));
  const bool even = magnitude % 2 == 0;
  if (magnitude == infinity && exact >= value(infinity)) return true;
  if (magnitude > 0) {
    const __float128 below = distance(value(static_cast<uint16_t>(magnitude - 1)));
    if (below < own || (below == own && !even)) return false;
  }
  if (magnitude < infinity) {
    const __float128 above = distance(value(static_cast<uint16_t>(magnitude + 1)));
    if (above < own || (above == own && !even)) return false;
  }
  return true;
}

TEST(Half, OperationsAreRoundedOnce) {
  Rng rng(testing::test_seed(1));
  for (int i = 0; i < 400000; ++i) {
    Half v[3];
    for (Half& x : v) {
      x.bits = static_cast<uint16_t>(rng());
      if ((x.bits & 0x7c00u) == 0x7c00u) x.bits &= 0xbfffu;
    }
    if (i % 4 == 0) v[2].bits = static_cast<uint16_t>(v[2].bits & 0x801fu);  // far below
    const __float128 a = to_float(v[0]), b = to_float(v[1]), c = to_float(v[2]);
    ASSERT_TRUE(is_nearest(v[0] + v[1], a + b, 0x7c00u)) << v[0].bits << " + " << v[1].bits;
    ASSERT_TRUE(is_nearest(v[0] - v[1], a - b, 0x7c00u)) << v[0].bits << " - " << v[1].bits;
    ASSERT_TRUE(is_nearest(v[0] * v[1], a * b, 0x7c00u)) << v[0].bits << " * " << v[1].bits;
    ASSERT_TRUE(is_nearest(fma(v[0], v[1], v[2]), a * b + c, 0x7c00u))
        << v[0].bits << " * " << v[1].bits << " + " << v[2].bits;
  }
}

TEST(BFloat16, OperationsAreRoundedOnce) {
  Rng rng(testing::test_seed(2));
  for (int i = 0; i < 400000; ++i) {
    BFloat16 v[3];
    // 2^±20, so that the reference is exact; the third sometimes far below a tie of the product.
    for (BFloat16& x : v) {
      x.bits = static_cast<uint16_t>((rng() & 0x807fu) | (107 + rng.below(40)) << 7);
    }
    if (i % 4 == 0) v[2].bits = static_cast<uint16_t>((v[2].bits & 0x807fu) | (80u << 7));
    const __float128 a = to_float(v[0]), b = to_float(v[1]), c = to_float(v[2]);
    ASSERT_TRUE(is_nearest(v[0] + v[1], a + b, 0x7f80u)) << v[0].bits << " + " << v[1].bits;
    ASSERT_TRUE(is_nearest(v[0] * v[1], a * b, 0x7f80u)) << v[0].bits << " * " << v[1].bits;
    ASSERT_TRUE(is_nearest(fma(v[0], v[1], v[2]), a * b + c, 0x7f80u))
        << v[0].bits << " * " << v[1].bits << " + " << v[2].bits;
  }
}

TEST(BFloat16, ATinyAddendDecidesATie) {
  // 1.0000001b · 1.1b = 1.10000001 1b: exactly between two; c = ±2^-100 must decide.
  const BFloat16 a{0x3f81u}, b{0x3fc0u}, up{0x0d80u}, down{0x8d80u};
  const float product = to_float(a) * to_float(b);
  const BFloat16 above = fma(a, b, up), below = fma(a, b, down);
  EXPECT_GT(to_float(above), product);
  EXPECT_LT(to_float(below), product);
  EXPECT_EQ(above.bits, below.bits + 1);
}

TEST(Half, SpecialValues) {
  const Half infinity{0x7c00u}, one{0x3c00u}, zero{0}, largest{0x7bffu};
  EXPECT_EQ((infinity + one).bits, infinity.bits);
  EXPECT_EQ((largest + largest).bits, infinity.bits);
  EXPECT_TRUE(std::isnan(to_float(infinity - infinity)));
  EXPECT_TRUE(std::isnan(to_float(infinity * zero)));
  EXPECT_EQ((-zero * one).bits, 0x8000u);
  EXPECT_EQ((one - one).bits, 0u);
}

TEST(Packed, FirstValueIsTheLowHalf) {
  EXPECT_EQ(pack_halves(1.0f, -2.0f), 0xc0003c00u);
  EXPECT_EQ(pack_bf16s(1.0f, -2.0f), 0xc0003f80u);
}

TEST(Bytes, ProductsAndPermutation) {
  EXPECT_EQ(dot4_u8s8(0xff010203u, 0x80017f02u, 10), 255 * -128 + 1 + 2 * 127 + 3 * 2 + 10);
  EXPECT_EQ(dot4_s8s8(0xff010203u, 0x80017f02u, 10), 128 + 1 + 2 * 127 + 3 * 2 + 10);
  EXPECT_EQ(permute_bytes(0x33221100u, 0x77665544u, 0x7531u), 0x77553311u);
  EXPECT_EQ(permute_bytes(0x33221180u, 0x77665544u, 0x0189u), 0x8011ff00u);
}

}  // namespace
}  // namespace shoal::simt

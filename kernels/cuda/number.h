// Numbers of kernels: half and bfloat16 rounded after every operation, packed pairs, byte products
// and the approximate functions of the special function unit. On the host the exact rounding in
// software; approximations there are the exact functions, so results are compared by tolerance.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/body/half.h"

namespace shoal::simt {

struct Half {
  uint16_t bits = 0;
};
struct BFloat16 {
  uint16_t bits = 0;
};

namespace internal {

// The float below |a · b + c| in magnitude, its last bit set if anything was dropped: rounding that
// to a shorter format gives the same as rounding the exact value once (Boldo and Melquiond 2008).
inline float fma_to_odd(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;  // exact: 24 + 24 bits
  const double sum = product + c;
  const double back = sum - product;
  const double lost = (product - (sum - back)) + (c - back);  // exact (Knuth's TwoSum)
  float cut = static_cast<float>(sum);
  if (!std::isfinite(sum) || (static_cast<double>(cut) == sum && lost == 0.0)) return cut;
  const bool above = cut > sum || (static_cast<double>(cut) == sum && lost < 0.0);
  const bool below = cut < sum || (static_cast<double>(cut) == sum && lost > 0.0);
  if ((cut > 0 && above) || (cut < 0 && below)) cut = std::nextafterf(cut, 0.0f);
  return body::float_from_bits(body::bits_from_float(cut) | 1u);
}

}  // namespace internal

#if defined(__CUDA_ARCH__)

SHOAL_BODY float to_float(Half v) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v.bits));
  return f;
}
SHOAL_BODY float to_float(BFloat16 v) { return body::bf16_to_float(v.bits); }
SHOAL_BODY Half to_half(float v) {
  Half h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(v));
  return h;
}
SHOAL_BODY BFloat16 to_bf16(float v) {
  BFloat16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h.bits) : "f"(v));
  return h;
}
SHOAL_BODY Half fma(Half a, Half b, Half c) {
  Half r;
  asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(r.bits) : "h"(a.bits), "h"(b.bits), "h"(c.bits));
  return r;
}
SHOAL_BODY BFloat16 fma(BFloat16 a, BFloat16 b, BFloat16 c) {
  BFloat16 r;
  asm("fma.rn.bf16 %0, %1, %2, %3;" : "=h"(r.bits) : "h"(a.bits), "h"(b.bits), "h"(c.bits));
  return r;
}
// Two values in a word, the first in the low half.
SHOAL_BODY uint32_t pack_halves(float low, float high) {
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
SHOAL_BODY uint32_t pack_bf16s(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
// Σ of four byte products, added to c.
SHOAL_BODY int32_t dot4_u8s8(uint32_t a, uint32_t b, int32_t c) {
  int32_t r;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
SHOAL_BODY int32_t dot4_s8s8(uint32_t a, uint32_t b, int32_t c) {
  int32_t r;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
// Byte i of the result is byte (selector >> 4i) % 8 of b:a, a the low word; where bit 3 of that
// nibble is set, eight times the byte's sign. __byte_perm() would clear these bits.
SHOAL_BODY uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
SHOAL_BODY float exp2_approx(float x) {  // 2 ulp, 0 below 2^-126
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
SHOAL_BODY float rsqrt_approx(float x) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
SHOAL_BODY float divide_approx(float a, float b) { return __fdividef(a, b); }
SHOAL_BODY float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }

#else

SHOAL_BODY float to_float(Half v) { return body::half_to_float(v.bits); }
SHOAL_BODY float to_float(BFloat16 v) { return body::bf16_to_float(v.bits); }
SHOAL_BODY Half to_half(float v) { return {body::float_to_half(v)}; }
SHOAL_BODY BFloat16 to_bf16(float v) { return {body::float_to_bf16(v)}; }
SHOAL_BODY Half fma(Half a, Half b, Half c) {
  return to_half(internal::fma_to_odd(to_float(a), to_float(b), to_float(c)));
}
SHOAL_BODY BFloat16 fma(BFloat16 a, BFloat16 b, BFloat16 c) {
  return to_bf16(internal::fma_to_odd(to_float(a), to_float(b), to_float(c)));
}
SHOAL_BODY uint32_t pack_halves(float low, float high) {
  return body::float_to_half(low) | static_cast<uint32_t>(body::float_to_half(high)) << 16;
}
SHOAL_BODY uint32_t pack_bf16s(float low, float high) {
  return body::float_to_bf16(low) | static_cast<uint32_t>(body::float_to_bf16(high)) << 16;
}
SHOAL_BODY int32_t dot4_u8s8(uint32_t a, uint32_t b, int32_t c) {
  for (int i = 0; i < 32; i += 8) {
    c += static_cast<uint8_t>(a >> i) * static_cast<int8_t>(static_cast<uint8_t>(b >> i));
  }
  return c;
}
SHOAL_BODY int32_t dot4_s8s8(uint32_t a, uint32_t b, int32_t c) {
  for (int i = 0; i < 32; i += 8) {
    c += static_cast<int8_t>(static_cast<uint8_t>(a >> i)) *
         static_cast<int8_t>(static_cast<uint8_t>(b >> i));
  }
  return c;
}
SHOAL_BODY uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t r = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t select = selector >> (4 * i);
    uint32_t byte = static_cast<uint8_t>(both >> (8 * (select & 7)));
    if ((select & 8) != 0) byte = (byte & 0x80u) != 0 ? 0xffu : 0u;  // its sign
    r |= byte << (8 * i);
  }
  return r;
}
SHOAL_BODY float exp2_approx(float x) { return std::exp2(x); }
SHOAL_BODY float rsqrt_approx(float x) { return 1.0f / std::sqrt(x); }
SHOAL_BODY float divide_approx(float a, float b) { return a / b; }
SHOAL_BODY float fused_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }

#endif

SHOAL_BODY Half operator-(Half v) { return {static_cast<uint16_t>(v.bits ^ 0x8000u)}; }
SHOAL_BODY BFloat16 operator-(BFloat16 v) { return {static_cast<uint16_t>(v.bits ^ 0x8000u)}; }
// One rounding each: a · 1 + b and a · b + (−0) are exact before it.
SHOAL_BODY Half operator+(Half a, Half b) { return fma(a, Half{0x3c00u}, b); }
SHOAL_BODY Half operator-(Half a, Half b) { return a + -b; }
SHOAL_BODY Half operator*(Half a, Half b) { return fma(a, b, Half{0x8000u}); }
SHOAL_BODY BFloat16 operator+(BFloat16 a, BFloat16 b) { return fma(a, BFloat16{0x3f80u}, b); }
SHOAL_BODY BFloat16 operator-(BFloat16 a, BFloat16 b) { return a + -b; }
SHOAL_BODY BFloat16 operator*(BFloat16 a, BFloat16 b) { return fma(a, b, BFloat16{0x8000u}); }

}  // namespace shoal::simt

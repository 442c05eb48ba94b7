// Half precision and byte loads for code shared by host and device: no thread indices, containers
// or exceptions in this folder.
#pragma once

#include <bit>
#include <cstdint>
#if defined(__F16C__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

// Functions of kernels/body. On the host they are always inlined: files compiled for different
// instruction sets include them, and the linker must not keep one set's copy for all.
#if defined(__CUDACC__)
#define SHOAL_BODY __host__ __device__ __forceinline__
#else
#define SHOAL_BODY inline __attribute__((always_inline))
#endif

// Constant tables they read: in device memory in the device pass.
#if defined(__CUDA_ARCH__)
#define SHOAL_TABLE static __device__ const
#else
#define SHOAL_TABLE inline constexpr
#endif

namespace shoal::body {

SHOAL_BODY float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
SHOAL_BODY uint32_t bits_from_float(float value) { return __builtin_bit_cast(uint32_t, value); }

// Little-endian loads without an alignment requirement.
SHOAL_BODY uint16_t load_u16(auto p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
SHOAL_BODY uint32_t load_u32(auto p) {
  return static_cast<uint32_t>(p[0]) | (static_cast<uint32_t>(p[1]) << 8) |
         (static_cast<uint32_t>(p[2]) << 16) | (static_cast<uint32_t>(p[3]) << 24);
}
SHOAL_BODY void store_u16(uint8_t* p, uint16_t value) {
  p[0] = static_cast<uint8_t>(value);
  p[1] = static_cast<uint8_t>(value >> 8);
}

// IEEE half to float, exact; a signalling NaN becomes quiet, as the hardware conversion does.
// Never makes a float denormal, so flush-to-zero modes do not change it.
SHOAL_BODY float half_to_float(uint16_t half) {
#if defined(__F16C__) && !defined(__CUDACC__)
  return _cvtsh_ss(half);
#else
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  // Below 2^-14: magnitude × 2^-24.
  const uint32_t small =
      bits_from_float(static_cast<float>(static_cast<int>(magnitude)) * 0x1p-24f);
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const uint32_t quiet = (magnitude & 0x3ffu) != 0 ? 0x400000u : 0;
  const uint32_t special = (magnitude << 13) | 0x7f800000u | quiet;
  const uint32_t bits = magnitude < 0x400u ? small : magnitude < 0x7c00u ? normal : special;
  return float_from_bits(sign | bits);
#endif
}

// Float to IEEE half, nearest even; beyond 65519.996 infinity; NaN stays a quiet NaN.
SHOAL_BODY uint16_t float_to_half(float value) {
  const uint32_t bits = bits_from_float(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  }
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  uint32_t kept;     // the result before rounding
  uint32_t dropped;  // the bits below it, as a fraction of 2^dropped_bits
  uint32_t dropped_bits;
  if (magnitude >= 0x38800000u) {  // at least 2^-14: a normal half
    kept = (magnitude - (112u << 23)) >> 13;
    dropped_bits = 13;
    dropped = magnitude & 0x1fffu;
  } else {
    const uint32_t shift = 126u - (magnitude >> 23);  // ≥ 14: units of 2^-24
    if (shift > 25) return static_cast<uint16_t>(sign);
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    kept = mantissa >> shift;
    dropped_bits = shift;
    dropped = mantissa & ((1u << shift) - 1);
  }
  const uint32_t middle = 1u << (dropped_bits - 1);
  if (dropped > middle || (dropped == middle && (kept & 1) != 0)) ++kept;
  return static_cast<uint16_t>(sign | kept);
}

SHOAL_BODY float bf16_to_float(uint16_t value) {
  return float_from_bits(static_cast<uint32_t>(value) << 16);
}

// Nearest even; NaN becomes quiet.
SHOAL_BODY uint16_t float_to_bf16(float value) {
  const uint32_t bits = bits_from_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

SHOAL_BODY float load_half(auto p) { return half_to_float(load_u16(p)); }

}  // namespace shoal::body

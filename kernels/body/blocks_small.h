// Ternary, one- and two-bit, and micro-scaled 4-bit float formats (gguf.md sections 2.3, 2.6.3).
#pragma once

#include "kernels/body/block.h"
#include "kernels/body/blocks_k.h"

namespace shoal::body {

// Twice the E2M1 value of a nibble: 0, 1, 2, 3, 4, 6, 8, 12 and, with bit 3, the negatives. The
// scales below are halved to match.
SHOAL_BODY int e2m1_doubled(int nibble) {
  const int magnitude = static_cast<int>((0xc8643210u >> (4 * (nibble & 7))) & 15);
  return (nibble & 8) != 0 ? -magnitude : magnitude;
}

// Half of an E8M0 scale: 2^(e − 128). 255 is not special.
SHOAL_BODY float e8m0_halved(uint32_t e) {
  return float_from_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

// Half of an unsigned E4M3 scale; 0x7f (NaN) counts as 0, bit 7 is ignored.
SHOAL_BODY float ue4m3_halved(uint32_t x) {
  const uint32_t exponent = (x >> 3) & 15;
  const uint32_t mantissa = x & 7;
  if (x == 0x7f) return 0.0f;
  if (exponent == 0) return static_cast<float>(static_cast<int>(mantissa)) * 0x1p-10f;
  return float_from_bits(((exponent + 119u) << 23) | (mantissa << 20));
}

template <>
struct Block<TensorType::kMXFP4> : BlockOf32<TensorType::kMXFP4, 32, 17> {
  // 0: E8M0 scale; 1: nibbles[16] as Q4_0.
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float scale = e8m0_halved(block[0]);
    for (int j = 0; j < 16; ++j) {
      out[j] = scale * static_cast<float>(e2m1_doubled(block[1 + j] & 15));
      out[j + 16] = scale * static_cast<float>(e2m1_doubled(block[1 + j] >> 4));
    }
  }
};

template <>
struct Block<TensorType::kNVFP4> : BlockOf32<TensorType::kNVFP4, 64, 36> {
  // 0: UE4M3 scales[4] of 16 elements; 4: nibbles[32], of scale s in bytes [8s, 8s + 8): element j
  // low, element j + 8 high.
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    for (int s = 0; s < 2; ++s) {
      const float scale = ue4m3_halved(block[2 * part + s]);
      const auto codes = block + 4 + 8 * (2 * part + s);
      for (int j = 0; j < 8; ++j) {
        out[16 * s + j] = scale * static_cast<float>(e2m1_doubled(codes[j] & 15));
        out[16 * s + j + 8] = scale * static_cast<float>(e2m1_doubled(codes[j] >> 4));
      }
    }
  }
};

template <>
struct Block<TensorType::kTQ1_0> : BlockOf32<TensorType::kTQ1_0, 256, 54> {
  // 0: bytes[48] of five trits; 48: bytes[4] of four; 52: d. Trit n of a byte is its n-th base-3
  // digit in a fixed-point encoding. d · (trit − 1)
  SHOAL_BODY static int trit(uint32_t byte, int n) {
    static constexpr uint8_t kPower[5] = {1, 3, 9, 27, 81};
    return static_cast<int>((((byte * kPower[n]) & 255u) * 3) >> 8) - 1;
  }
  // 160 elements: digit e/32 of byte e%32; 80: digit of 16 more bytes; 16: digit of 4 more.
  SHOAL_BODY static int code(auto block, int e) {
    if (e < 160) return trit(block[e % 32], e / 32);
    if (e < 240) return trit(block[32 + e % 16], (e - 160) / 16);
    return trit(block[48 + e % 4], (e - 240) / 4);
  }
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block + 52);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(code(block, 32 * part + j));
  }
};

template <>
struct Block<TensorType::kTQ2_0> : BlockOf32<TensorType::kTQ2_0, 256, 66> {
  // 0: two-bit codes[64]; 64: d. d · (q − 1)
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block + 64);
    for (int j = 0; j < 32; ++j) {
      out[j] = d * static_cast<float>(two_bit_code(block, part, j) - 1);
    }
  }
};

template <>
struct Block<TensorType::kQ1_0> : BlockOf32<TensorType::kQ1_0, 128, 18> {
  // 0: d; 2: bits[16]. A set bit is +d, a clear one −d.
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block);
    for (int j = 0; j < 32; ++j) {
      out[j] = ((block[2 + 4 * part + j / 8] >> (j % 8)) & 1) != 0 ? d : -d;
    }
  }
};

template <>
struct Block<TensorType::kQ2_0> : BlockOf32<TensorType::kQ2_0, 64, 18> {
  // 0: d; 2: two-bit codes[16], four elements per byte in order. d · (q − 1)
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block);
    for (int j = 0; j < 32; ++j) {
      const int q = (block[2 + 8 * part + j / 4] >> (2 * (j % 4))) & 3;
      out[j] = d * static_cast<float>(q - 1);
    }
  }
};

}  // namespace shoal::body

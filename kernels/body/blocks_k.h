// The K formats: super-blocks of 256 elements (gguf.md section 2.4).
#pragma once

#include "kernels/body/block.h"

namespace shoal::body {

// Two-bit codes as Q2_K, Q3_K and TQ2_0 store them: the byte of element e is 32·(e/128) + e%32, its
// shift 2·((e%128)/32). Here for element 32·part + j.
SHOAL_BODY int two_bit_code(auto codes, int part, int j) {
  return (codes[32 * (part / 4) + j] >> (2 * (part % 4))) & 3;
}

template <>
struct Block<TensorType::kQ2_K> : BlockOf32<TensorType::kQ2_K, 256, 84> {
  // 0: scales[16], low nibble scale, high nibble minimum, of 16 elements; 16: codes[64]; 80: d; 82:
  // dmin. d · sc · q − dmin · mn
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block + 80);
    const float dmin = load_half(block + 82);
    for (int j = 0; j < 32; ++j) {
      const int scales = block[2 * part + j / 16];
      const float scale = d * static_cast<float>(scales & 15);
      const float minimum = dmin * static_cast<float>(scales >> 4);
      out[j] = scale * static_cast<float>(two_bit_code(block + 16, part, j)) - minimum;
    }
  }
};

template <>
struct Block<TensorType::kQ3_K> : BlockOf32<TensorType::kQ3_K, 256, 110> {
  // 0: high bits[32], a set bit means "no −4"; 32: low two bits[64]; 96: scales[12]; 108: d.
  // d · s · c
  SHOAL_BODY static int scale(auto block, int g) {  // of elements [16g, 16g + 16)
    const auto s = block + 96;
    const int low = (s[g % 8] >> (4 * (g / 8))) & 15;
    const int high = (s[8 + g % 4] >> (2 * (g / 4))) & 3;
    return (low | (high << 4)) - 32;
  }
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block + 108);
    const float scales[2] = {d * static_cast<float>(scale(block, 2 * part)),
                             d * static_cast<float>(scale(block, 2 * part + 1))};
    for (int j = 0; j < 32; ++j) {
      const int high = (block[j] >> part) & 1;
      const int code = two_bit_code(block + 32, part, j) - (high != 0 ? 0 : 4);
      out[j] = scales[j / 16] * static_cast<float>(code);
    }
  }
};

// The 12 bytes of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minimums, of 32 elements each.
SHOAL_BODY int k_scale(auto s, int j) {
  return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
}
SHOAL_BODY int k_minimum(auto s, int j) {
  return j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
}

template <>
struct Block<TensorType::kQ4_K> : BlockOf32<TensorType::kQ4_K, 256, 144> {
  // 0: d; 2: dmin; 4: scales[12]; 16: codes[128], parts 2k and 2k + 1 in the low and high nibbles
  // of bytes [32k, 32k + 32). d · sc · q − dmin · mn
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float scale = load_half(block) * static_cast<float>(k_scale(block + 4, part));
    const float minimum = load_half(block + 2) * static_cast<float>(k_minimum(block + 4, part));
    const auto codes = block + 16 + 32 * (part / 2);
    for (int j = 0; j < 32; ++j) {
      const int q = (codes[j] >> (4 * (part % 2))) & 15;
      out[j] = scale * static_cast<float>(q) - minimum;
    }
  }
};

template <>
struct Block<TensorType::kQ5_K> : BlockOf32<TensorType::kQ5_K, 256, 176> {
  // As Q4_K with 16: fifth bits[32], bit `part` of byte j; 48: codes[128].
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float scale = load_half(block) * static_cast<float>(k_scale(block + 4, part));
    const float minimum = load_half(block + 2) * static_cast<float>(k_minimum(block + 4, part));
    const auto codes = block + 48 + 32 * (part / 2);
    for (int j = 0; j < 32; ++j) {
      const int q = ((codes[j] >> (4 * (part % 2))) & 15) | (((block[16 + j] >> part) & 1) << 4);
      out[j] = scale * static_cast<float>(q) - minimum;
    }
  }
};

template <>
struct Block<TensorType::kQ6_K> : BlockOf32<TensorType::kQ6_K, 256, 210> {
  // 0: low nibbles[128]; 128: high two bits[64]; 192: i8 scales[16]; 208: d. d · s · (q − 32)
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block + 208);
    const int half = part / 4;     // of the super-block
    const int quarter = part % 4;  // of the half
    const auto low = block + 64 * half + 32 * (quarter % 2);
    const auto high = block + 128 + 32 * half;
    for (int j = 0; j < 32; ++j) {
      const float scale =
          d * static_cast<float>(static_cast<int8_t>(block[192 + 2 * part + j / 16]));
      const int low4 = (low[j] >> (4 * (quarter / 2))) & 15;
      const int high2 = (high[j] >> (2 * quarter)) & 3;
      out[j] = scale * static_cast<float>((low4 | (high2 << 4)) - 32);
    }
  }
};

}  // namespace shoal::body

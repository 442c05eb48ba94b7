// The codebook formats IQ1, IQ2, IQ3 and the non-linear IQ4 (gguf.md sections 2.5, 2.6). A part is
// four groups of 8 elements; the values of IQ2 and IQ3 are scale · level · sign.
#pragma once

#include "kernels/body/block.h"
#include "kernels/body/iq_codebooks.h"

namespace shoal::body {

// The 16 levels of IQ4_NL and IQ4_XS.
SHOAL_BODY int iq4_level(int code) {
  static constexpr int8_t kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};
  return kLevels[code];
}

// Eight elements of an IQ2 group.
SHOAL_BODY void iq2_group(float scale, uint16_t entry, uint32_t signs, float* out) {
  for (int j = 0; j < 8; ++j) {
    const int level = iq2_level(entry, j);
    out[j] = scale * static_cast<float>((signs >> j) & 1 ? -level : level);
  }
}

template <>
struct Block<TensorType::kIQ4_NL> : BlockOf32<TensorType::kIQ4_NL, 32, 18> {
  // 0: d; 2: nibbles[16] as Q4_0. d · level
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float d = load_half(block);
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(iq4_level(block[2 + j] & 15));
      out[j + 16] = d * static_cast<float>(iq4_level(block[2 + j] >> 4));
    }
  }
};

template <>
struct Block<TensorType::kIQ4_XS> : BlockOf32<TensorType::kIQ4_XS, 256, 136> {
  // 0: d; 2: high scale bits u16; 4: low scale nibbles[4]; 8: nibbles[128]. d · (s − 32) · level
  SHOAL_BODY static int scale(auto block, int part) {
    const int low = (block[4 + part / 2] >> (4 * (part % 2))) & 15;
    const int high = (load_u16(block + 2) >> (2 * part)) & 3;
    return (low | (high << 4)) - 32;
  }
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block) * static_cast<float>(scale(block, part));
    const auto codes = block + 8 + 16 * part;
    for (int j = 0; j < 16; ++j) {
      out[j] = d * static_cast<float>(iq4_level(codes[j] & 15));
      out[j + 16] = d * static_cast<float>(iq4_level(codes[j] >> 4));
    }
  }
};

template <>
struct Block<TensorType::kIQ2_XXS> : BlockOf32<TensorType::kIQ2_XXS, 256, 66> {
  // 0: d; 2 + 8 · part: 4 entry indices, then u32: 4 × 7 bits of signs, 4 bits of scale.
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const auto at = block + 2 + 8 * part;
    const uint32_t tail = load_u32(at + 4);
    const float scale = load_half(block) * (0.5f + static_cast<float>(tail >> 28)) * 0.25f;
    for (int l = 0; l < 4; ++l) {
      iq2_group(scale, iq2_xxs_entry(at[l]), iq_signs((tail >> (7 * l)) & 127), out + 8 * l);
    }
  }
};

template <>
struct Block<TensorType::kIQ2_XS> : BlockOf32<TensorType::kIQ2_XS, 256, 74> {
  // 0: d; 2: u16[32], 9 bits of index and 7 of signs; 66: scale nibbles[8] of 16 elements.
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block);
    for (int l = 0; l < 4; ++l) {
      const int s = (block[66 + part] >> (4 * (l / 2))) & 15;
      const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
      const uint32_t code = load_u16(block + 2 + 2 * (4 * part + l));
      iq2_group(scale, iq2_xs_entry(code & 511), iq_signs(code >> 9), out + 8 * l);
    }
  }
};

template <>
struct Block<TensorType::kIQ2_S> : BlockOf32<TensorType::kIQ2_S, 256, 82> {
  // 0: d; 2: low index bytes[32]; 34: signs[32]; 66: high index bits[8]; 74: scale nibbles[8].
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = load_half(block);
    for (int l = 0; l < 4; ++l) {
      const int k = 4 * part + l;
      const int s = (block[74 + part] >> (4 * (l / 2))) & 15;
      const float scale = d * (0.5f + static_cast<float>(s)) * 0.25f;
      const uint32_t high = (static_cast<uint32_t>(block[66 + part]) >> (2 * l)) & 3;
      iq2_group(scale, iq2_s_entry(block[2 + k] | (high << 8)), block[34 + k], out + 8 * l);
    }
  }
};

template <>
struct Block<TensorType::kIQ3_XXS> : BlockOf32<TensorType::kIQ3_XXS, 256, 98> {
  // 0: d; 2: entry indices[64] of 4 elements; 66: u32[8], 4 × 7 bits of signs and 4 of scale.
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const uint32_t tail = load_u32(block + 66 + 4 * part);
    const float scale = load_half(block) * (0.5f + static_cast<float>(tail >> 28)) * 0.5f;
    for (int j = 0; j < 32; ++j) {
      const uint32_t signs = iq_signs((tail >> (7 * (j / 8))) & 127);
      const int level = iq3_xxs_level(iq3_xxs_entry(block[2 + 8 * part + j / 4]), j % 4);
      out[j] = scale * static_cast<float>((signs >> (j % 8)) & 1 ? -level : level);
    }
  }
};

template <>
struct Block<TensorType::kIQ3_S> : BlockOf32<TensorType::kIQ3_S, 256, 110> {
  // 0: d; 2: low index bytes[64] of 4 elements; 66: high index bits[8]; 74: signs[32]; 106: scale
  // nibbles[4] of 32 elements. d · (1 + 2s) · level · sign
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const int s = (block[106 + part / 2] >> (4 * (part % 2))) & 15;
    const float scale = load_half(block) * static_cast<float>(1 + 2 * s);
    for (int j = 0; j < 32; ++j) {
      const int k = j / 4;  // the group within the part
      const uint32_t high = (static_cast<uint32_t>(block[66 + part]) >> k) & 1;
      const uint16_t entry = iq3_s_entry(block[2 + 8 * part + k] | (high << 8));
      const int level = iq3_s_level(entry, j % 4);
      const int negative = (block[74 + 4 * part + j / 8] >> (j % 8)) & 1;
      out[j] = scale * static_cast<float>(negative != 0 ? -level : level);
    }
  }
};

// Eight elements of an IQ1 group: scale · (level ± 1/8).
SHOAL_BODY void iq1_group(float scale, uint16_t entry, bool minus, float* out) {
  const float shift = minus ? -0.125f : 0.125f;
  for (int j = 0; j < 8; ++j) out[j] = scale * (static_cast<float>(iq1_level(entry, j)) + shift);
}

template <>
struct Block<TensorType::kIQ1_S> : BlockOf32<TensorType::kIQ1_S, 256, 50> {
  // 0: d; 2: low index bytes[32]; 34: u16[8], 4 × 3 high index bits, 3 bits of scale, shift sign.
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const uint32_t high = load_u16(block + 34 + 2 * part);
    const float scale = load_half(block) * static_cast<float>(2 * ((high >> 12) & 7) + 1);
    for (int l = 0; l < 4; ++l) {
      const uint32_t index = block[2 + 4 * part + l] | (((high >> (3 * l)) & 7) << 8);
      iq1_group(scale, iq1_s_entry(index), (high & 0x8000u) != 0, out + 8 * l);
    }
  }
};

template <>
struct Block<TensorType::kIQ1_M> : BlockOf32<TensorType::kIQ1_M, 256, 56> {
  // 0: low index bytes[32]; 32: nibbles[16], 3 high index bits and the shift sign of a group;
  // 48: u16[4], 3-bit scales of 16 elements below, a quarter of d in the top four bits.
  SHOAL_BODY static float block_scale(auto block) {
    const auto s = block + 48;
    return half_to_float(
        static_cast<uint16_t>((load_u16(s) >> 12) | ((load_u16(s + 2) >> 8) & 0x00f0) |
                              ((load_u16(s + 4) >> 4) & 0x0f00) | (load_u16(s + 6) & 0xf000)));
  }
  SHOAL_BODY static void decode32(auto block, int part, float* out) {
    const float d = block_scale(block);
    for (int l = 0; l < 4; ++l) {
      const int k = 4 * part + l;
      const int s = (load_u16(block + 48 + 2 * (k / 8)) >> (3 * ((k / 2) % 4))) & 7;
      const float scale = d * static_cast<float>(2 * s + 1);
      const uint32_t nibble = (static_cast<uint32_t>(block[32 + k / 2]) >> (4 * (k % 2))) & 15;
      const uint32_t index = block[k] | ((nibble & 7) << 8);
      iq1_group(scale, iq1_s_entry(index), (nibble & 8) != 0, out + 8 * l);
    }
  }
};

}  // namespace shoal::body

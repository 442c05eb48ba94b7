// Plain numbers and the 32-element formats (gguf.md sections 2.2, 2.3). In the nibble formats byte
// j holds element j in its low and element j + 16 in its high nibble.
#pragma once

#include "kernels/body/block.h"

namespace shoal::body {

// One element per block.
#define SHOAL_PLAIN_BLOCK(TYPE, BYTES, VALUE)                               \
  template <>                                                               \
  struct Block<TensorType::TYPE> {                                          \
    static constexpr int elems = 1;                                         \
    static constexpr int bytes = BYTES;                                     \
    SHOAL_BODY static void decode(auto block, float* out) { *out = VALUE; } \
  };

SHOAL_BODY uint64_t load_u64(auto p) {
  return load_u32(p) | (static_cast<uint64_t>(load_u32(p + 4)) << 32);
}

SHOAL_PLAIN_BLOCK(kF32, 4, float_from_bits(load_u32(block)))
SHOAL_PLAIN_BLOCK(kF16, 2, load_half(block))
SHOAL_PLAIN_BLOCK(kBF16, 2, bf16_to_float(load_u16(block)))
SHOAL_PLAIN_BLOCK(kF64, 8, static_cast<float>(__builtin_bit_cast(double, load_u64(block))))
SHOAL_PLAIN_BLOCK(kI8, 1, static_cast<float>(static_cast<int8_t>(*block)))
SHOAL_PLAIN_BLOCK(kI16, 2, static_cast<float>(static_cast<int16_t>(load_u16(block))))
SHOAL_PLAIN_BLOCK(kI32, 4, static_cast<float>(static_cast<int32_t>(load_u32(block))))
SHOAL_PLAIN_BLOCK(kI64, 8, static_cast<float>(static_cast<int64_t>(load_u64(block))))
#undef SHOAL_PLAIN_BLOCK

template <>
struct Block<TensorType::kQ4_0> : BlockOf32<TensorType::kQ4_0, 32, 18> {
  // 0: d; 2: nibbles[16]. d · (q − 8)
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float d = load_half(block);
    for (int j = 0; j < 16; ++j) {
      const int byte = block[2 + j];
      out[j] = d * static_cast<float>((byte & 15) - 8);
      out[j + 16] = d * static_cast<float>((byte >> 4) - 8);
    }
  }
};

template <>
struct Block<TensorType::kQ4_1> : BlockOf32<TensorType::kQ4_1, 32, 20> {
  // 0: d; 2: m; 4: nibbles[16]. d · q + m
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float d = load_half(block);
    const float m = load_half(block + 2);
    for (int j = 0; j < 16; ++j) {
      const int byte = block[4 + j];
      out[j] = d * static_cast<float>(byte & 15) + m;
      out[j + 16] = d * static_cast<float>(byte >> 4) + m;
    }
  }
};

template <>
struct Block<TensorType::kQ5_0> : BlockOf32<TensorType::kQ5_0, 32, 22> {
  // 0: d; 2: fifth bits, bit e of element e; 6: nibbles[16]. d · (q − 16)
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float d = load_half(block);
    const uint32_t high = load_u32(block + 2);
    for (int j = 0; j < 16; ++j) {
      const int byte = block[6 + j];
      const int low_q = (byte & 15) | static_cast<int>(((high >> j) & 1) << 4);
      const int high_q = (byte >> 4) | static_cast<int>(((high >> (j + 16)) & 1) << 4);
      out[j] = d * static_cast<float>(low_q - 16);
      out[j + 16] = d * static_cast<float>(high_q - 16);
    }
  }
};

template <>
struct Block<TensorType::kQ5_1> : BlockOf32<TensorType::kQ5_1, 32, 24> {
  // 0: d; 2: m; 4: fifth bits; 8: nibbles[16]. d · q + m
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float d = load_half(block);
    const float m = load_half(block + 2);
    const uint32_t high = load_u32(block + 4);
    for (int j = 0; j < 16; ++j) {
      const int byte = block[8 + j];
      const int low_q = (byte & 15) | static_cast<int>(((high >> j) & 1) << 4);
      const int high_q = (byte >> 4) | static_cast<int>(((high >> (j + 16)) & 1) << 4);
      out[j] = d * static_cast<float>(low_q) + m;
      out[j + 16] = d * static_cast<float>(high_q) + m;
    }
  }
};

template <>
struct Block<TensorType::kQ8_0> : BlockOf32<TensorType::kQ8_0, 32, 34> {
  // 0: d; 2: i8 codes[32]. d · q
  SHOAL_BODY static void decode32(auto block, int, float* out) {
    const float d = load_half(block);
    for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
  }
};

}  // namespace shoal::body

// How a lane takes 32 features of a block as integer codes: CodeFormat<type>, per type
//
//   kSigned          codes are signed; else unsigned
//   kHalves          every 16 features have a scale of their own
//   kMinima          something is subtracted
//   load(block, part, out)
//
//   value[i] = scale[i / 16] · code[i] − minimum[i / 16]
//
// exactly as kernels/body decodes it (docs/formats.md), codes in the order of features, four to a
// word. Types without a CodeFormat meet float activations.
#pragma once

#include <cstdint>

#include "kernels/body/blocks.h"
#include "kernels/cuda/byte_codes.h"
#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"

namespace shoal::gpu {

using simt::U32x4;

// 32 features. Formats without halves use the first scale and minimum only.
struct PartCodes {
  uint32_t words[8];
  float scales[2];
  float minima[2];
};

// A block of a chunk in shared memory. `base` is aligned to 16, `at` counts bytes from there;
// kAlign: what every block's start is a multiple of.
template <class Pointer, int kAlign>
struct CodeBlock {
  Pointer base;
  uint32_t at;

  SHOAL_SIMT Pointer bytes() const { return base + at; }
  // kWords words that start `offset` bytes into the block.
  template <int kWords>
  SHOAL_SIMT void words(uint32_t offset, uint32_t* out) const {
    const uint32_t first = at + offset;
    if (kAlign % 4 == 0 && kWords == 1) {
      out[0] = simt::vector_view<uint32_t>(base)[first / 4];
      return;
    }
    if (kAlign % 16 == 0 && kWords % 4 == 0) {
      for (int i = 0; i < kWords; i += 4) {
        const U32x4 four = simt::vector_view<U32x4>(base)[(first + 4 * i) / 16];
        out[i] = four.x, out[i + 1] = four.y, out[i + 2] = four.z, out[i + 3] = four.w;
      }
      return;
    }
    const auto view = simt::vector_view<uint32_t>(base);
    if (kAlign % 4 == 0) {
      for (int i = 0; i < kWords; ++i) out[i] = view[first / 4 + i];
      return;
    }
    // The last word read holds the last byte wanted: nothing beyond the copied bytes is touched.
    const uint32_t selector = 0x3210u + 0x1111u * (first % 4);
    uint32_t low = view[first / 4];
    for (int i = 0; i < kWords; ++i) {
      const bool last = i + 1 == kWords;
      const uint32_t high = view[last ? (first + 4 * kWords - 1) / 4 : first / 4 + i + 1];
      out[i] = simt::permute_bytes(low, high, selector);
      low = high;
    }
  }
  // The half at an even offset, of a type whose blocks are of even sizes.
  SHOAL_SIMT float half(uint32_t offset) const {
    const uint16_t bits = simt::vector_view<uint16_t>(base)[(at + offset) / 2];
    return simt::to_float(simt::Half{bits});
  }
};

template <TensorType type>
struct CodeFormat {
  static constexpr bool kExists = false;
};

struct CodeFormatBase {
  static constexpr bool kExists = true;
};
template <bool signed_codes, bool halves, bool minima>
struct CodeTraits : CodeFormatBase {
  static constexpr bool kSigned = signed_codes, kHalves = halves, kMinima = minima;
};

template <>
struct CodeFormat<TensorType::kQ8_0> : CodeTraits<true, false, false> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    out.scales[0] = block.half(0);
    block.template words<8>(2, out.words);
  }
};

template <>
struct CodeFormat<TensorType::kQ4_0> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    uint32_t raw[4];
    block.template words<4>(2, raw);
    codes::split_nibbles(raw, out.words);
    out.scales[0] = block.half(0);
    out.minima[0] = 8.0f * out.scales[0];
  }
};

template <>
struct CodeFormat<TensorType::kQ4_1> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    uint32_t raw[4];
    block.template words<4>(4, raw);
    codes::split_nibbles(raw, out.words);
    out.scales[0] = block.half(0);
    out.minima[0] = -block.half(2);
  }
};

template <>
struct CodeFormat<TensorType::kQ5_0> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    uint32_t raw[4], fifth;
    block.template words<1>(2, &fifth);
    block.template words<4>(6, raw);
    codes::split_nibbles(raw, out.words);
    codes::add_fifth_bits(fifth, out.words);
    out.scales[0] = block.half(0);
    out.minima[0] = 16.0f * out.scales[0];
  }
};

template <>
struct CodeFormat<TensorType::kQ5_1> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    uint32_t raw[4], fifth;
    block.template words<1>(4, &fifth);
    block.template words<4>(8, raw);
    codes::split_nibbles(raw, out.words);
    codes::add_fifth_bits(fifth, out.words);
    out.scales[0] = block.half(0);
    out.minima[0] = -block.half(2);
  }
};

// Codes of two bits as Q2_K, Q3_K and TQ2_0 store them, from `offset`.
SHOAL_SIMT void two_bit_codes(const auto& block, uint32_t offset, int part, uint32_t (&words)[8]) {
  block.template words<8>(offset + 32 * static_cast<uint32_t>(part / 4), words);
  for (int i = 0; i < 8; ++i) words[i] = (words[i] >> (2 * (part % 4))) & codes::kPairs;
}

template <>
struct CodeFormat<TensorType::kQ2_K> : CodeTraits<false, true, true> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    two_bit_codes(block, 16, part, out.words);
    const float d = block.half(80), low = block.half(82);
    for (int half = 0; half < 2; ++half) {
      const int scales = block.bytes()[2 * part + half];
      out.scales[half] = d * codes::number(scales & 15);
      out.minima[half] = low * codes::number(scales >> 4);
    }
  }
};

template <>
struct CodeFormat<TensorType::kQ3_K> : CodeTraits<true, true, false> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    uint32_t high[8];
    two_bit_codes(block, 32, part, out.words);
    block.template words<8>(0, high);
    for (int i = 0; i < 8; ++i) {
      const uint32_t third = ((high[i] >> part) & codes::kOnes) << 2;
      out.words[i] = codes::subtract(out.words[i] | third, 4);
    }
    const float d = block.half(108);
    for (int half = 0; half < 2; ++half) {
      const int scale = body::Block<TensorType::kQ3_K>::scale(block.bytes(), 2 * part + half);
      out.scales[half] = d * codes::number(scale);
    }
  }
};

// Q4_K, and Q5_K without its fifth bits; codes from `offset`.
SHOAL_SIMT void load_k4(const auto& block, uint32_t offset, int part, PartCodes& out) {
  block.template words<8>(offset + 32 * static_cast<uint32_t>(part / 2), out.words);
  for (int i = 0; i < 8; ++i) out.words[i] = (out.words[i] >> (4 * (part % 2))) & codes::kNibbles;
  uint32_t head;
  block.template words<1>(0, &head);
  const auto scales = block.bytes() + 4;
  out.scales[0] = simt::to_float(simt::Half{static_cast<uint16_t>(head)}) *
                  codes::number(body::k_scale(scales, part));
  out.minima[0] = simt::to_float(simt::Half{static_cast<uint16_t>(head >> 16)}) *
                  codes::number(body::k_minimum(scales, part));
}

template <>
struct CodeFormat<TensorType::kQ4_K> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    load_k4(block, 16, part, out);
  }
};

template <>
struct CodeFormat<TensorType::kQ5_K> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    uint32_t fifth[8];
    load_k4(block, 48, part, out);
    block.template words<8>(16, fifth);
    for (int i = 0; i < 8; ++i) out.words[i] |= ((fifth[i] >> part) & codes::kOnes) << 4;
  }
};

template <>
struct CodeFormat<TensorType::kQ6_K> : CodeTraits<true, true, false> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    const auto half_block = static_cast<uint32_t>(part / 4);
    const int quarter = part % 4;
    uint32_t high[8];
    block.template words<8>(64 * half_block + 32 * static_cast<uint32_t>(quarter % 2), out.words);
    block.template words<8>(128 + 32 * half_block, high);
    for (int i = 0; i < 8; ++i) {
      const uint32_t low4 = (out.words[i] >> (4 * (quarter / 2))) & codes::kNibbles;
      const uint32_t high2 = (high[i] >> (2 * quarter)) & codes::kPairs;
      out.words[i] = codes::subtract(low4 | (high2 << 4), 32);
    }
    const float d = block.half(208);
    for (int half = 0; half < 2; ++half) {
      const auto scale = static_cast<int8_t>(uint8_t{block.bytes()[192 + 2 * part + half]});
      out.scales[half] = d * codes::number(scale);
    }
  }
};

template <>
struct CodeFormat<TensorType::kIQ4_NL> : CodeTraits<true, false, false> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    uint32_t raw[4];
    block.template words<4>(2, raw);
    codes::look_up_split(codes::iq4_levels(), raw, out.words);
    out.scales[0] = block.half(0);
  }
};

template <>
struct CodeFormat<TensorType::kIQ4_XS> : CodeTraits<true, false, false> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    uint32_t raw[4];
    block.template words<4>(8 + 16 * static_cast<uint32_t>(part), raw);
    codes::look_up_split(codes::iq4_levels(), raw, out.words);
    const int scale = body::Block<TensorType::kIQ4_XS>::scale(block.bytes(), part);
    out.scales[0] = block.half(0) * codes::number(scale);
  }
};

template <>
struct CodeFormat<TensorType::kMXFP4> : CodeTraits<true, false, false> {
  SHOAL_SIMT static void load(const auto& block, int, PartCodes& out) {
    uint32_t raw[4];
    block.template words<4>(1, raw);
    codes::look_up_split(codes::e2m1_levels(), raw, out.words);
    out.scales[0] = body::e8m0_halved(uint8_t{block.bytes()[0]});
  }
};

template <>
struct CodeFormat<TensorType::kNVFP4> : CodeTraits<true, true, false> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    uint32_t raw[4];
    block.template words<4>(4 + 16 * static_cast<uint32_t>(part), raw);
    for (int half = 0; half < 2; ++half) {
      uint32_t* to = out.words + 4 * half;
      for (int i = 0; i < 2; ++i) {
        codes::look_up(codes::e2m1_levels(), raw[2 * half + i], to + i, to + 2 + i);
      }
      out.scales[half] = body::ue4m3_halved(uint8_t{block.bytes()[2 * part + half]});
    }
  }
};

template <>
struct CodeFormat<TensorType::kTQ2_0> : CodeTraits<false, false, true> {
  SHOAL_SIMT static void load(const auto& block, int part, PartCodes& out) {
    two_bit_codes(block, 0, part, out.words);
    out.scales[0] = out.minima[0] = block.half(64);
  }
};

}  // namespace shoal::gpu

// Codes four to a word, one per byte: how they are put together from the bits formats store apart.
#pragma once

#include <cstdint>

#include "kernels/cuda/number.h"
#include "kernels/cuda/simt.h"

namespace shoal::gpu::codes {

inline constexpr uint32_t kNibbles = 0x0f0f0f0fu, kPairs = 0x03030303u, kOnes = 0x01010101u,
                          kTops = 0x80808080u;

// Bytes minus a number, each, as signed bytes: below 128 and the difference in −128 … 127.
SHOAL_SIMT uint32_t subtract(uint32_t bytes, uint32_t number) {
  return ((bytes | kTops) - number * kOnes) ^ kTops;
}
// Bits 0 … 3 to bit 0 of the four bytes.
SHOAL_SIMT uint32_t spread(uint32_t bits) { return ((bits & 15) * 0x00204081u) & kOnes; }

// Nibbles of 16 bytes: low ones, then high ones.
SHOAL_SIMT void split_nibbles(const uint32_t (&raw)[4], uint32_t (&words)[8]) {
  for (int i = 0; i < 4; ++i) {
    words[i] = raw[i] & kNibbles;
    words[4 + i] = (raw[i] >> 4) & kNibbles;
  }
}

// A signed byte for each of 16 nibbles.
struct Levels {
  uint32_t words[4];
};
// Those of the low four nibbles of a word, in their order.
SHOAL_SIMT uint32_t look_up_four(const Levels& table, uint32_t nibbles) {
  const uint32_t index = nibbles & 0x7777u;
  const uint32_t below = simt::permute_bytes(table.words[0], table.words[1], index);
  const uint32_t above = simt::permute_bytes(table.words[2], table.words[3], index);
  return simt::permute_bytes(below, above, 0x3210u | ((nibbles & 0x8888u) >> 1));
}
// Those of all eight: of the low one of each byte, of the high one.
SHOAL_SIMT void look_up(const Levels& table, uint32_t raw, uint32_t* low, uint32_t* high) {
  const uint32_t pairs[2] = {look_up_four(table, raw), look_up_four(table, raw >> 16)};
  *low = simt::permute_bytes(pairs[0], pairs[1], 0x6420u);
  *high = simt::permute_bytes(pairs[0], pairs[1], 0x7531u);
}
SHOAL_SIMT Levels iq4_levels() { return {{0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u}}; }
SHOAL_SIMT Levels e2m1_levels() { return {{0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu}}; }
SHOAL_SIMT void look_up_split(const Levels& table, const uint32_t (&raw)[4], uint32_t (&words)[8]) {
  for (int i = 0; i < 4; ++i) look_up(table, raw[i], &words[i], &words[4 + i]);
}

// Fifth bits 0 … 31 of the features to bit 4 of their codes.
SHOAL_SIMT void add_fifth_bits(uint32_t bits, uint32_t (&words)[8]) {
  for (int i = 0; i < 8; ++i) words[i] |= spread(bits >> (4 * i)) << 4;
}

SHOAL_SIMT float number(int value) { return static_cast<float>(value); }

}  // namespace shoal::gpu::codes

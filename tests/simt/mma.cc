#include "tests/simt/mma.h"

#include <bit>
#include <cstring>

#include "kernels/body/half.h"

namespace shoal::emulator {
namespace {

constexpr int kM = 16, kN = 8, kC = 0, kA = 4, kB = 8;

// Word i of a lane's a holds 4 bytes (2 halves) of consecutive k. g = lane / 4, t = lane % 4.
// Integers, k32:  a: row g + 8 · (i % 2), k = 4t + 16 · (i / 2);  b: column g, k = 4t + 16i
// Integers, k16:  a: row g + 8i,          k = 4t;                 b: column g, k = 4t
// Halves, k16:    a: row g + 8 · (i % 2), k = 2t + 8 · (i / 2);   b: column g, k = 2t + 8i
// Results:        c[i]: row g + 8 · (i / 2), column 2t + i % 2

template <bool kUnsignedA, int kK>
void mma_integer(Warp& warp) {
  // 16 bits per element, so that one loop multiplies and adds.
  int16_t a[kM][kK];
  int16_t b[kN][kK];
  for (int lane = 0; lane < 32; ++lane) {
    const uint32_t* words = warp.slots[static_cast<size_t>(lane)].words;
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < kK / 8; ++i) {
      for (int j = 0; j < 4; ++j) {
        const uint8_t byte = static_cast<uint8_t>(words[kA + i] >> (8 * j));
        a[g + 8 * (i % 2)][4 * t + 16 * (i / 2) + j] =
            kUnsignedA ? static_cast<int16_t>(byte)
                       : static_cast<int16_t>(static_cast<int8_t>(byte));
      }
    }
    for (int i = 0; i < kK / 16; ++i) {
      for (int j = 0; j < 4; ++j) {
        b[g][4 * t + 16 * i + j] = static_cast<int8_t>(words[kB + i] >> (8 * j));
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    uint32_t* words = warp.slots[static_cast<size_t>(lane)].words;
    for (int i = 0; i < 4; ++i) {
      const int16_t* row = a[lane / 4 + 8 * (i / 2)];
      const int16_t* column = b[2 * (lane % 4) + i % 2];
      int32_t sum = 0;
      for (int k = 0; k < kK; ++k) sum += row[k] * column[k];
      words[kC + i] += static_cast<uint32_t>(sum);  // wraps, as without .satfinite
    }
  }
}

// Products are exact; their sum is rounded once. Cards differ in how they round sums, so results
// are compared by tolerance.
template <float (*to_float)(uint16_t)>
void mma_half(Warp& warp) {
  constexpr int kK = 16;
  float a[kM][kK];
  float b[kN][kK];
  for (int lane = 0; lane < 32; ++lane) {
    const uint32_t* words = warp.slots[static_cast<size_t>(lane)].words;
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 2; ++j) {
        a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + j] =
            to_float(static_cast<uint16_t>(words[kA + i] >> (16 * j)));
      }
    }
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) {
        b[g][2 * t + 8 * i + j] = to_float(static_cast<uint16_t>(words[kB + i] >> (16 * j)));
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    uint32_t* words = warp.slots[static_cast<size_t>(lane)].words;
    for (int i = 0; i < 4; ++i) {
      const float* row = a[lane / 4 + 8 * (i / 2)];
      const float* column = b[2 * (lane % 4) + i % 2];
      double sum = std::bit_cast<float>(words[kC + i]);
      for (int k = 0; k < kK; ++k) sum += static_cast<double>(row[k]) * column[k];
      words[kC + i] = std::bit_cast<uint32_t>(static_cast<float>(sum));
    }
  }
}

float from_half(uint16_t v) { return body::half_to_float(v); }
float from_bf16(uint16_t v) { return body::bf16_to_float(v); }

}  // namespace

void mma(Warp& warp, MmaKind kind) {
  switch (kind) {
    case MmaKind::kU8S8K32:
      return mma_integer<true, 32>(warp);
    case MmaKind::kS8S8K32:
      return mma_integer<false, 32>(warp);
    case MmaKind::kU8S8K16:
      return mma_integer<true, 16>(warp);
    case MmaKind::kS8S8K16:
      return mma_integer<false, 16>(warp);
    case MmaKind::kF16K16:
      return mma_half<from_half>(warp);
    case MmaKind::kBF16K16:
      return mma_half<from_bf16>(warp);
  }
}

void collect_matrices(Warp& warp, int count, bool transposed) {
  const auto element = [&](int matrix, int row, int column) {
    const uint8_t* at;
    std::memcpy(&at, warp.slots[static_cast<size_t>(8 * matrix + row)].words, sizeof(at));
    uint16_t value;
    std::memcpy(&value, at + 2 * column, 2);
    return uint32_t{value};
  };
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < count; ++i) {
      const int one = lane / 4, two = 2 * (lane % 4);
      warp.slots[static_cast<size_t>(lane)].words[4 + i] =
          transposed ? element(i, two, one) | element(i, two + 1, one) << 16
                     : element(i, one, two) | element(i, one, two + 1) << 16;
    }
  }
}

}  // namespace shoal::emulator

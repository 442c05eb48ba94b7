// What find_non_finite() says of a block is what decoding it says, for every type and every field.
#include "kernels/formats/non_finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/formats/decode.h"
#include "kernels/formats/encode.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

std::vector<TensorType> storable_types() {
  std::vector<TensorType> types;
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    if (kTensorTypes[id].storable) types.push_back(static_cast<TensorType>(id));
  }
  return types;
}

int64_t first_by_decoding(TensorType type, const std::vector<uint8_t>& data, int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  decode_row(type, data.data(), n, values.data());
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(values[static_cast<size_t>(i)])) return i;
  }
  return -1;
}

void expect_same(TensorType type, const std::vector<uint8_t>& data, int64_t n) {
  float value = 0;
  const int64_t found = find_non_finite(type, data.data(), n, &value);
  ASSERT_EQ(found, first_by_decoding(type, data, n)) << tensor_type_name(type);
  if (found >= 0) {
    ASSERT_FALSE(std::isfinite(value)) << tensor_type_name(type);
  }
}

TEST(NonFinite, IsWhatDecodingSays) {
  Rng rng(testing::test_seed(51));
  int found = 0;
  for (const TensorType type : storable_types()) {
    const TensorTypeTraits& t = traits(type);
    const int64_t n = 3 * static_cast<int64_t>(t.block_elems);
    std::vector<uint8_t> sane(3 * t.block_bytes);
    random_row(type, rng, 0.02f, n, sane.data());
    expect_same(type, sane, n);
    // Bytes that end the patterns of NaN and infinity, in every place of the middle block.
    for (uint32_t at = 0; at < t.block_bytes; ++at) {
      for (const uint8_t byte : {0x7c, 0x7e, 0x7f, 0x80, 0xfc, 0xfe, 0xff, 0x00}) {
        std::vector<uint8_t> data = sane;
        data[t.block_bytes + at] = byte;
        expect_same(type, data, n);
        if (at > 0) data[t.block_bytes + at - 1] = 0x80;  // BF16, F32: the exponent's last bit
        expect_same(type, data, n);
        if (HasFatalFailure()) return;
        found += first_by_decoding(type, data, n) >= 0;
      }
    }
    // Any bytes at all: words with all exponent bits where scales may be.
    for (int round = 0; round < 200; ++round) {
      std::vector<uint8_t> data = sane;
      for (uint8_t& byte : data) {
        if (rng.below(3) == 0) byte = rng.below(2) == 0 ? 0xff : static_cast<uint8_t>(rng());
      }
      expect_same(type, data, n);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_GT(found, 100);
}

// IQ1_M spreads its scale over four words.
TEST(NonFinite, TheScaleOfIq1M) {
  const TensorTypeTraits& t = traits(TensorType::kIQ1_M);
  Rng rng(52);
  for (const uint16_t scale : {0x7c00, 0x7e01, 0xfc00, 0x7bff, 0x0000, 0x3c00}) {
    std::vector<uint8_t> block(t.block_bytes);
    random_row(TensorType::kIQ1_M, rng, 0.02f, t.block_elems, block.data());
    for (int word = 0; word < 4; ++word) {
      const int nibble = (scale >> (4 * word)) & 15;
      uint8_t& high = block[static_cast<size_t>(49 + 2 * word)];
      high = static_cast<uint8_t>((high & 15) | (nibble << 4));
    }
    expect_same(TensorType::kIQ1_M, block, t.block_elems);
    EXPECT_EQ(first_by_decoding(TensorType::kIQ1_M, block, t.block_elems) >= 0,
              (scale & 0x7c00) == 0x7c00);
  }
}

TEST(NonFinite, TheFirstOfMany) {
  std::vector<float> values(1000, 1.0f);
  values[640] = -std::numeric_limits<float>::infinity(), values[641] = NAN;
  std::vector<uint8_t> data(4 * values.size());
  std::memcpy(data.data(), values.data(), data.size());
  float value = 0;
  EXPECT_EQ(find_non_finite(TensorType::kF32, data.data(), 1000, &value), 640);
  EXPECT_EQ(value, values[640]);
  EXPECT_EQ(find_non_finite(TensorType::kF32, data.data(), 640, &value), -1);
  EXPECT_EQ(find_non_finite(TensorType::kF32, data.data(), 0, &value), -1);
}

}  // namespace
}  // namespace shoal

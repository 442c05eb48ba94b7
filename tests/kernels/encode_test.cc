// Half precision, the quantisers and random blocks.
#include "kernels/formats/encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "kernels/body/half.h"
#include "kernels/formats/decode.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using nlohmann::json;
using shoal::testing::read_file;
using shoal::testing::shared_path;
using shoal::testing::test_seed;

uint16_t reference_half(float value) {
  return __builtin_bit_cast(uint16_t, static_cast<_Float16>(value));
}

bool half_is_nan(uint16_t h) { return (h & 0x7fff) > 0x7c00; }

TEST(Half, EveryValueBothWays) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const auto half = static_cast<uint16_t>(h);
    const float value = body::half_to_float(half);
    if (half_is_nan(half)) {
      EXPECT_TRUE(std::isnan(value)) << h;
      EXPECT_EQ(body::float_to_half(value), half | 0x200) << h;  // quiet
      continue;
    }
    const auto want = static_cast<float>(__builtin_bit_cast(_Float16, half));
    ASSERT_EQ(body::bits_from_float(value), body::bits_from_float(want)) << h;
    ASSERT_EQ(body::float_to_half(value), half) << h;
  }
}

TEST(Half, RoundsToNearestEven) {
  // Every boundary: half way between neighbours, and one float to either side.
  for (uint32_t h = 0; h < 0x7c00; ++h) {
    const float low = body::half_to_float(static_cast<uint16_t>(h));
    const double high =
        h + 1 == 0x7c00 ? 65536.0 : body::half_to_float(static_cast<uint16_t>(h + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    for (const float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)}) {
      ASSERT_EQ(body::float_to_half(value), reference_half(value)) << value;
      ASSERT_EQ(body::float_to_half(-value), reference_half(-value)) << -value;
    }
  }
  Rng rng(test_seed(1));
  for (int i = 0; i < 1000000; ++i) {
    const float value = body::float_from_bits(static_cast<uint32_t>(rng()));
    if (std::isnan(value)) {
      ASSERT_TRUE(half_is_nan(body::float_to_half(value)));
    } else {
      ASSERT_EQ(body::float_to_half(value), reference_half(value)) << value;
    }
  }
}

TEST(Half, Bf16) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    const float value = body::bf16_to_float(bits);
    ASSERT_EQ(body::float_to_bf16(value), std::isnan(value) ? bits | 0x40 : bits);
  }
  EXPECT_EQ(body::float_to_bf16(body::float_from_bits(0x3f808000)), 0x3f80);  // tie to even
  EXPECT_EQ(body::float_to_bf16(body::float_from_bits(0x3f818000)), 0x3f82);
  EXPECT_EQ(body::float_to_bf16(body::float_from_bits(0x3f808001)), 0x3f81);
  EXPECT_EQ(body::float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Encode, GoldenBytes) {
  SHOAL_SKIP_WITHOUT_SHARED("facts/quant-golden.json");
  const json golden = json::parse(read_file(*shared_path("facts/quant-golden.json")));
  const auto bytes_of = [](const std::string& hex) {
    std::vector<uint8_t> bytes(hex.size() / 2);
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
    }
    return bytes;
  };
  for (const char* name : {"q8_0", "q4_0"}) {
    const TensorType type = *tensor_type_from_name(name);
    for (size_t row = 0; row < golden["x_f32le"].size(); ++row) {
      const std::vector<uint8_t> raw = bytes_of(golden["x_f32le"][row]);
      std::vector<float> values(raw.size() / 4);
      std::memcpy(values.data(), raw.data(), raw.size());
      const auto n = static_cast<int64_t>(values.size());
      std::vector<uint8_t> got(row_bytes(type, values.size()));
      ASSERT_TRUE(encode_row(type, values.data(), n, got.data()).is_ok());
      EXPECT_EQ(got, bytes_of(golden["types"][name]["plain"][row])) << name << " row " << row;
    }
  }
}

double relative_error(TensorType type, const std::vector<float>& values) {
  std::vector<uint8_t> encoded(row_bytes(type, values.size()));
  const auto n = static_cast<int64_t>(values.size());
  EXPECT_TRUE(encode_row(type, values.data(), n, encoded.data()).is_ok());
  std::vector<float> decoded(values.size());
  decode_row(type, encoded.data(), n, decoded.data());
  double error = 0, size = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(values[i] - decoded[i], 2.0);
    size += std::pow(values[i], 2.0);
  }
  return size == 0 ? error : std::sqrt(error / size);
}

TEST(Encode, RoundTripError) {
  Rng rng(test_seed(2));
  std::vector<float> gaussian(256 * 64);
  for (float& v : gaussian) v = static_cast<float>(0.02 * rng.normal());
  // Bounds a little above what a plain fit gives on Gaussian weights.
  const std::pair<TensorType, double> bounds[] = {
      {TensorType::kF32, 0},       {TensorType::kF16, 3e-4},    {TensorType::kBF16, 2.5e-3},
      {TensorType::kQ8_0, 7e-3},   {TensorType::kQ6_K, 2.2e-2}, {TensorType::kQ4_K, 8.5e-2},
      {TensorType::kQ4_0, 1.1e-1},
  };
  for (const auto& [type, bound] : bounds) {
    const double error = relative_error(type, gaussian);
    std::printf("%s: relative error %.2e\n", std::string(tensor_type_name(type)).c_str(), error);
    EXPECT_LE(error, bound) << tensor_type_name(type);
    EXPECT_EQ(relative_error(type, std::vector<float>(256, 0.0f)), 0) << tensor_type_name(type);
    // One value far from zero on either side, all values equal and positive (Q4_K: minimum stays
    // 0).
    std::vector<float> spike(256, 0.0f);
    spike[17] = 3.5f;
    spike[200] = -3.5f;
    EXPECT_LE(relative_error(type, spike), 0.12) << tensor_type_name(type);
    EXPECT_LE(relative_error(type, std::vector<float>(256, 0.7f)), 0.05) << tensor_type_name(type);
    EXPECT_LE(relative_error(type, std::vector<float>(256, -0.7f)), 0.05) << tensor_type_name(type);
  }
}

TEST(Encode, RefusesWhatItCannotDo) {
  std::vector<float> values(256, 1.0f);
  std::vector<uint8_t> out(1024);
  const Status unknown = encode_row(TensorType::kIQ2_XXS, values.data(), 256, out.data());
  EXPECT_EQ(unknown.code(), Code::kUnsupported);
  EXPECT_NE(unknown.message().find("IQ2_XXS"), std::string::npos);
  values[37] = std::numeric_limits<float>::infinity();
  const Status infinite = encode_row(TensorType::kQ8_0, values.data(), 256, out.data());
  EXPECT_EQ(infinite.code(), Code::kInvalidArgument);
  EXPECT_NE(infinite.message().find("element 37"), std::string::npos);
}

TEST(RandomBlock, EveryStorableTypeHasTheWantedSize) {
  const uint64_t seed = test_seed(3);
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    if (!kTensorTypes[id].storable) continue;
    const auto type = static_cast<TensorType>(id);
    const bool integer = id >= 24 && id <= 27;
    for (const float scale : {integer ? 20.0f : 0.02f, 7.0f}) {
      Rng rng(seed);
      const int64_t n = 16384;
      std::vector<uint8_t> bytes(row_bytes(type, static_cast<uint64_t>(n)));
      random_row(type, rng, scale, n, bytes.data());
      std::vector<float> values(static_cast<size_t>(n));
      decode_row(type, bytes.data(), n, values.data());
      double sum = 0, squares = 0;
      for (const float v : values) {
        ASSERT_TRUE(std::isfinite(v)) << traits(type).name;
        sum += v;
        squares += static_cast<double>(v) * v;
      }
      const double rms = std::sqrt(squares / static_cast<double>(n));
      const double slack = type == TensorType::kMXFP4 || type == TensorType::kNVFP4 ? 1.45 : 1.05;
      EXPECT_LT(rms, scale * slack) << traits(type).name;
      EXPECT_GT(rms, scale / slack) << traits(type).name;
      EXPECT_LT(std::fabs(sum / static_cast<double>(n)), 0.16 * scale) << traits(type).name;
      Rng again(seed);
      std::vector<uint8_t> same(bytes.size());
      random_row(type, again, scale, n, same.data());
      EXPECT_EQ(same, bytes) << traits(type).name;
    }
  }
}

TEST(DecodeRange, AgreesWithTheWholeRow) {
  Rng rng(test_seed(4));
  for (const TensorType type :
       {TensorType::kF16, TensorType::kQ4_0, TensorType::kQ6_K, TensorType::kNVFP4}) {
    const int64_t n = 768;
    std::vector<uint8_t> bytes(row_bytes(type, n));
    random_row(type, rng, 1.0f, n, bytes.data());
    std::vector<float> whole(n);
    decode_row(type, bytes.data(), n, whole.data());
    for (int i = 0; i < 200; ++i) {
      const auto first = static_cast<int64_t>(rng.below(n + 1));
      const auto count = static_cast<int64_t>(rng.below(static_cast<uint64_t>(n - first + 1)));
      std::vector<float> part(static_cast<size_t>(count) + 1, 99.0f);
      decode_range(type, bytes.data(), first, count, part.data());
      EXPECT_EQ(std::memcmp(part.data(), whole.data() + first, static_cast<size_t>(count) * 4), 0);
      EXPECT_EQ(part.back(), 99.0f);
    }
  }
}

}  // namespace
}  // namespace shoal

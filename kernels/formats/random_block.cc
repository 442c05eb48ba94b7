// Random valid blocks: random bytes everywhere, then the fields that scale the block are set so
// that the decoded values have the wanted size. Decoded values are linear in those fields, so one
// decode with them at 1 tells the right factor.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/body/blocks_small.h"
#include "kernels/body/half.h"
#include "kernels/formats/decode.h"
#include "kernels/formats/encode.h"
#include "kernels/formats/scale_fields.h"

namespace shoal {
namespace {

void random_bytes(Rng& rng, uint8_t* out, int64_t n) {
  for (int64_t i = 0; i < n; i += 8) {
    const uint64_t word = rng();
    std::memcpy(out + i, &word, static_cast<size_t>(std::min<int64_t>(8, n - i)));
  }
}

// Two-bit codes 3 → 1: the ternary formats never use 3, and it would shift the mean.
void drop_code_three(uint8_t* codes, int n) {
  for (int i = 0; i < n; ++i) {
    const int both = codes[i] & (codes[i] >> 1) & 0x55;
    codes[i] = static_cast<uint8_t>(codes[i] & ~(both << 1));
  }
}

void set_half(uint8_t* at, float value) { body::store_u16(at, body::float_to_half(value)); }

// IQ1_M spreads its half over the top nibbles of four u16.
void set_iq1_m_scale(uint8_t* block, float value) {
  const uint16_t half = body::float_to_half(value);
  for (int i = 0; i < 4; ++i) {
    uint8_t* byte = block + 48 + 2 * i + 1;
    *byte = static_cast<uint8_t>((*byte & 15) | (((half >> (4 * i)) & 15) << 4));
  }
}

void set_scale(TensorType type, float value, uint8_t* block) {
  if (type == TensorType::kIQ1_M) return set_iq1_m_scale(block, value);
  const ScaleFields& fields = kScaleFields[static_cast<uint32_t>(type)];
  SHOAL_CHECK(fields.scale >= 0, "no scale field known for this type");
  set_half(block + fields.scale, value);
  if (fields.minimum >= 0) set_half(block + fields.minimum, value * fields.ratio);
}

float root_mean_square(TensorType type, const uint8_t* block) {
  float values[256];
  const int n = static_cast<int>(traits(type).block_elems);
  decode_row(type, block, n, values);
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<double>(values[i]) * values[i];
  return static_cast<float>(std::sqrt(sum / n));
}

// The UE4M3 code whose halved value is nearest to `wanted`, at least the smallest above zero.
uint8_t nearest_ue4m3(float wanted) {
  int best = 1;
  for (int code = 1; code < 0x7f; ++code) {
    const float error = std::fabs(body::ue4m3_halved(static_cast<uint32_t>(code)) - wanted);
    const float least = std::fabs(body::ue4m3_halved(static_cast<uint32_t>(best)) - wanted);
    if (error < least) best = code;
  }
  return static_cast<uint8_t>(best);
}

// Root mean square of e2m1_doubled over random nibbles: √((0+1+4+9+16+36+64+144) / 8).
constexpr float kE2m1Rms = 5.852350f;

// One block in five has twice the scale, the others half: their mean square is that of the scale.
void random_mxfp4(float scale, uint8_t* block) {
  const float step = block[0] < 51 ? 1.0f : -1.0f;
  const float exponent = std::round(std::log2(scale / kE2m1Rms)) + 128.0f + step;
  block[0] = static_cast<uint8_t>(std::clamp(exponent, 1.0f, 254.0f));
}

// The four scales differ; the mean of their squares does not.
void random_nvfp4(float scale, uint8_t* block) {
  constexpr float kFactors[4] = {0.5f, 0.8f, 1.1f, 1.3784049f};
  const int first = block[0] & 3;
  for (int i = 0; i < 4; ++i) {
    block[i] = nearest_ue4m3(scale * kFactors[(first + i) % 4] / kE2m1Rms);
  }
}

// One number of a type without blocks.
void random_plain(TensorType type, double value, uint8_t* out) {
  const auto put = [out](auto number) { std::memcpy(out, &number, sizeof(number)); };
  const auto integer = [value](double limit) {
    return std::clamp(std::round(value), -limit, limit);
  };
  switch (type) {
    case TensorType::kF64:
      return put(value);
    case TensorType::kI8:
      return put(static_cast<int8_t>(integer(127)));
    case TensorType::kI16:
      return put(static_cast<int16_t>(integer(32767)));
    case TensorType::kI32:
      return put(static_cast<int32_t>(integer(2147483647)));
    case TensorType::kI64:
      return put(static_cast<int64_t>(integer(0x1p62)));
    default: {
      const auto number = static_cast<float>(value);
      const Status status = encode_row(type, &number, 1, out);
      SHOAL_CHECK(status.is_ok(), status.message());
    }
  }
}

void random_scaled_block(TensorType type, Rng& rng, float scale, uint8_t* block) {
  random_bytes(rng, block, traits(type).block_bytes);
  if (type == TensorType::kMXFP4) return random_mxfp4(scale, block);
  if (type == TensorType::kNVFP4) return random_nvfp4(scale, block);
  if (type == TensorType::kTQ2_0) drop_code_three(block, 64);
  if (type == TensorType::kQ2_0) drop_code_three(block + 2, 16);
  set_scale(type, 1.0f, block);
  const float size = root_mean_square(type, block);
  set_scale(type, size > 0 ? scale / size : scale, block);
}

}  // namespace

void random_row(TensorType type, Rng& rng, float scale, int64_t n, uint8_t* out) {
  const TensorTypeTraits& t = traits(type);
  SHOAL_CHECK(t.storable, "random_row of a type that is not stored");
  SHOAL_CHECK(n >= 0 && n % t.block_elems == 0, "random_row of a part of a block");
  SHOAL_CHECK(std::isfinite(scale) && scale > 0, "random_row needs a positive scale");
  for (int64_t i = 0; i < n; i += t.block_elems, out += t.block_bytes) {
    if (t.block_elems == 1) {
      random_plain(type, scale * rng.normal(), out);
    } else {
      random_scaled_block(type, rng, scale, out);
    }
  }
}

}  // namespace shoal

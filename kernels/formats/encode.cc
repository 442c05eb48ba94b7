#include "kernels/formats/encode.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/body/half.h"

namespace shoal {
namespace {

using body::float_to_bf16;
using body::float_to_half;
using body::half_to_float;
using body::store_u16;

float largest_magnitude(const float* x, int n) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

// Nearest integer in [low, high].
int nearest(float value, int low, int high) {
  return std::clamp(static_cast<int>(std::lrintf(value)), low, high);
}

// d = max|x| / 127, codes rounded half away from zero with the float d (gguf.md section 2.3).
void encode_q8_0(const float* x, uint8_t* out) {
  const float d = largest_magnitude(x, 32) / 127.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  store_u16(out, float_to_half(d));
  for (int i = 0; i < 32; ++i)
    out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::round(x[i] * inverse)));
}

// d = m / −8 with m the value of largest magnitude, so that m itself has code 0
// (conversion.md 7.2).
void encode_q4_0(const float* x, uint8_t* out) {
  float extreme = 0;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  const float d = extreme / -8.0f;
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  const auto code = [&](int i) { return std::min(15, static_cast<int>(x[i] * inverse + 8.5f)); };
  store_u16(out, float_to_half(d));
  for (int j = 0; j < 16; ++j) out[2 + j] = static_cast<uint8_t>(code(j) | (code(j + 16) << 4));
}

// Per 32 values: minimum min(0, min x), scale range / 15; both in 6 bits of a common half.
void encode_q4_k(const float* x, uint8_t* out) {
  float scales[8], minimums[8];
  for (int j = 0; j < 8; ++j) {
    const auto [low, high] = std::minmax_element(x + 32 * j, x + 32 * j + 32);
    minimums[j] = std::max(0.0f, -*low);
    scales[j] = (std::max(*high, -minimums[j]) + minimums[j]) / 15.0f;
  }
  const uint16_t d_half = float_to_half(*std::max_element(scales, scales + 8) / 63.0f);
  const uint16_t m_half = float_to_half(*std::max_element(minimums, minimums + 8) / 63.0f);
  const float d = half_to_float(d_half), dmin = half_to_float(m_half);
  std::memset(out, 0, 144);
  store_u16(out, d_half);
  store_u16(out + 2, m_half);
  for (int j = 0; j < 8; ++j) {
    const int s = d > 0 ? nearest(scales[j] / d, 0, 63) : 0;
    const int m = dmin > 0 ? nearest(minimums[j] / dmin, 0, 63) : 0;
    uint8_t* packed = out + 4;
    if (j < 4) {
      packed[j] |= static_cast<uint8_t>(s);
      packed[j + 4] |= static_cast<uint8_t>(m);
    } else {
      packed[j + 4] = static_cast<uint8_t>((s & 15) | ((m & 15) << 4));
      packed[j - 4] |= static_cast<uint8_t>((s >> 4) << 6);
      packed[j] |= static_cast<uint8_t>((m >> 4) << 6);
    }
    const float step = d * static_cast<float>(s);
    const float minimum = dmin * static_cast<float>(m);
    for (int i = 0; i < 32; ++i) {
      const int q = step > 0 ? nearest((x[32 * j + i] + minimum) / step, 0, 15) : 0;
      out[16 + 32 * (j / 2) + i] |= static_cast<uint8_t>(q << (4 * (j % 2)));
    }
  }
}

// Per 16 values: scale max|x| / 31 as an 8-bit multiple of a half.
void encode_q6_k(const float* x, uint8_t* out) {
  float scales[16];
  for (int g = 0; g < 16; ++g) scales[g] = largest_magnitude(x + 16 * g, 16) / 31.0f;
  const uint16_t d_half = float_to_half(*std::max_element(scales, scales + 16) / 127.0f);
  const float d = half_to_float(d_half);
  std::memset(out, 0, 210);
  store_u16(out + 208, d_half);
  for (int g = 0; g < 16; ++g) {
    const int s = d > 0 ? nearest(scales[g] / d, 0, 127) : 0;
    out[192 + g] = static_cast<uint8_t>(s);
    const float step = d * static_cast<float>(s);
    for (int i = 0; i < 16; ++i) {
      const int e = 16 * g + i;
      const int q = 32 + (step > 0 ? nearest(x[e] / step, -32, 31) : 0);
      const int half = e / 128, r = e % 128;
      out[64 * half + r % 64] |= static_cast<uint8_t>((q & 15) << (r < 64 ? 0 : 4));
      out[128 + 32 * half + r % 32] |= static_cast<uint8_t>((q >> 4) << (2 * (r / 32)));
    }
  }
}

void encode_f32(const float* x, uint8_t* out) { std::memcpy(out, x, 4); }
void encode_f16(const float* x, uint8_t* out) { store_u16(out, float_to_half(*x)); }
void encode_bf16(const float* x, uint8_t* out) { store_u16(out, float_to_bf16(*x)); }

using EncodeBlock = void (*)(const float* x, uint8_t* out);

EncodeBlock encoder(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return encode_f32;
    case TensorType::kF16:
      return encode_f16;
    case TensorType::kBF16:
      return encode_bf16;
    case TensorType::kQ8_0:
      return encode_q8_0;
    case TensorType::kQ4_0:
      return encode_q4_0;
    case TensorType::kQ4_K:
      return encode_q4_k;
    case TensorType::kQ6_K:
      return encode_q6_k;
    default:
      return nullptr;
  }
}

}  // namespace

bool can_encode(TensorType type) { return encoder(type) != nullptr; }

Status encode_row(TensorType type, const float* values, int64_t n, uint8_t* out) {
  const TensorTypeTraits& t = traits(type);
  const EncodeBlock encode = encoder(type);
  if (encode == nullptr) return unsupported(fmt::format("no encoder for tensor type {}", t.name));
  SHOAL_CHECK(n >= 0 && n % t.block_elems == 0, "encode_row of a part of a block");
  if (t.block_elems > 1) {
    const auto* bad =
        std::find_if_not(values, values + n, [](float v) { return std::isfinite(v); });
    if (bad != values + n) {
      return invalid_argument(
          fmt::format("element {} is {}, which {} cannot hold", bad - values, *bad, t.name));
    }
  }
  for (int64_t i = 0; i < n; i += t.block_elems, out += t.block_bytes) encode(values + i, out);
  return Status::ok();
}

}  // namespace shoal

#include "kernels/formats/non_finite.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/formats/decode.h"
#include "kernels/formats/scale_fields.h"

namespace shoal {
namespace {

template <class T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// All bits of the exponent set: NaN or infinite.
template <class T>
bool any_full_exponent(const uint8_t* data, int64_t n, T exponent) {
  T bad = 0;  // compares and ors, which every vector unit has
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = static_cast<T>(load<T>(data + i * int64_t{sizeof(T)}) & exponent);
    bad = static_cast<T>(bad | static_cast<T>(bits == exponent));
  }
  return bad != 0;
}

constexpr uint16_t kHalfExponent = 0x7c00;
bool is_bad_half(const uint8_t* at) {
  return (load<uint16_t>(at) & kHalfExponent) == kHalfExponent;
}

// IQ1_M: a quarter of the scale in the top four bits of each of four words at 48.
bool is_bad_iq1_m(const uint8_t* block) {
  const uint32_t high = load<uint16_t>(block + 54) >> 12, next = load<uint16_t>(block + 52) >> 12;
  return (high & 7) == 7 && (next & 12) == 12;
}

// MXFP4: a power of two times up to 6; from 2^126 on that overflows.
bool is_bad_mxfp4(const uint8_t* block) { return block[0] >= 253; }

// May a value of the block be no finite number?
bool suspicious(TensorType type, const uint8_t* block) {
  if (type == TensorType::kIQ1_M) return is_bad_iq1_m(block);
  if (type == TensorType::kMXFP4) return is_bad_mxfp4(block);
  const ScaleFields& fields = kScaleFields[static_cast<uint32_t>(type)];
  return (fields.scale >= 0 && is_bad_half(block + fields.scale)) ||
         (fields.minimum >= 0 && is_bad_half(block + fields.minimum));
}

int64_t first_bad(TensorType type, const uint8_t* data, int64_t n, float* value) {
  const TensorTypeTraits& t = traits(type);
  float decoded[256];
  for (int64_t i = 0; i < n; i += t.block_elems, data += t.block_bytes) {
    if (t.block_elems > 1 && !suspicious(type, data)) continue;
    decode_row(type, data, t.block_elems, decoded);
    for (uint32_t j = 0; j < t.block_elems; ++j) {
      if (std::isfinite(decoded[j])) continue;
      *value = decoded[j];
      return i + j;
    }
  }
  return -1;
}

bool any_suspicious(TensorType type, const uint8_t* data, int64_t n) {
  const TensorTypeTraits& t = traits(type);
  switch (type) {
    case TensorType::kF32:
      return any_full_exponent<uint32_t>(data, n, 0x7f800000u);
    case TensorType::kF16:
      return any_full_exponent<uint16_t>(data, n, kHalfExponent);
    case TensorType::kBF16:
      return any_full_exponent<uint16_t>(data, n, 0x7f80);
    default:
      break;
  }
  if (t.block_elems == 1) return type == TensorType::kF64;  // the others are integers
  bool any = false;
  for (int64_t i = 0; i < n; i += t.block_elems, data += t.block_bytes) {
    any = any || suspicious(type, data);
  }
  return any;
}

}  // namespace

int64_t find_non_finite(TensorType type, const uint8_t* data, int64_t n, float* value) {
  return any_suspicious(type, data, n) ? first_bad(type, data, n, value) : -1;
}

}  // namespace shoal

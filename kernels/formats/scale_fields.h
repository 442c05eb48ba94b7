// Which bytes of a block scale its values, for formats that scale with half-precision numbers.
#pragma once

#include <array>
#include <cstdint>

#include "model/tensor_type.h"

namespace shoal {

// Where a block keeps its half-precision scale and, if it has one, its minimum. `ratio` is the
// minimum per unit of scale that centres the values on zero.
struct ScaleFields {
  int16_t scale = -1;
  int16_t minimum = -1;
  float ratio = 0;
};

inline constexpr std::array<ScaleFields, kTensorTypeIds> kScaleFields = [] {
  std::array<ScaleFields, kTensorTypeIds> t{};
  const auto set = [&t](TensorType type, ScaleFields fields) {
    t[static_cast<uint32_t>(type)] = fields;
  };
  using enum TensorType;
  for (const TensorType type : {kQ4_0, kQ5_0, kQ8_0, kIQ1_S, kIQ2_XXS, kIQ2_XS, kIQ2_S, kIQ3_XXS,
                                kIQ3_S, kIQ4_NL, kIQ4_XS, kQ1_0, kQ2_0}) {
    set(type, {.scale = 0});
  }
  set(kQ4_1, {.scale = 0, .minimum = 2, .ratio = -7.5f});
  set(kQ5_1, {.scale = 0, .minimum = 2, .ratio = -15.5f});
  set(kQ2_K, {.scale = 80, .minimum = 82, .ratio = 1.5f});
  set(kQ3_K, {.scale = 108});
  set(kQ4_K, {.scale = 0, .minimum = 2, .ratio = 7.5f});
  set(kQ5_K, {.scale = 0, .minimum = 2, .ratio = 15.5f});
  set(kQ6_K, {.scale = 208});
  set(kTQ1_0, {.scale = 52});
  set(kTQ2_0, {.scale = 64});
  return t;
}();

}  // namespace shoal

// Weights that are no numbers: a damaged file, or a conversion that overflowed.
#pragma once

#include <cstdint>

#include "model/tensor_type.h"

namespace shoal {

// The first of n stored elements that is NaN or infinite once decoded, or −1; its value goes to
// *value. Where values are codes times scales only the scales are looked at, so this costs little
// beside reading. REQUIRES as decode_row().
int64_t find_non_finite(TensorType type, const uint8_t* data, int64_t n, float* value);

}  // namespace shoal

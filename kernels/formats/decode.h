// Decoding of stored tensor data to float32 on the host, for any storable type. The reference for
// every faster kernel: bit-identical to the decoders of the format's origin.
#pragma once

#include <cstdint>

#include "model/tensor_type.h"

namespace shoal {

// n elements of a row (or of whole rows back to back). `row` holds row_bytes(type, n) bytes, any
// alignment. REQUIRES: a storable type, n ≥ 0 and a multiple of the type's block_elems.
void decode_row(TensorType type, const uint8_t* row, int64_t n, float* out);

// Elements [first, first + n) of a row that starts at `row`; any first and n.
void decode_range(TensorType type, const uint8_t* row, int64_t first, int64_t n, float* out);

}  // namespace shoal

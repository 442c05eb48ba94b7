// Encoding of float32 to stored formats, for tests and synthetic models, and random valid blocks of
// every storable type.
#pragma once

#include <cstdint>

#include "base/rng.h"
#include "base/status.h"
#include "model/tensor_type.h"

namespace shoal {

// F32, F16, BF16, Q8_0, Q4_0, Q4_K and Q6_K. The first five write the bytes of the reference
// quantiser; Q4_K and Q6_K use plain round-to-nearest fits, without its search for a better scale.
bool can_encode(TensorType type);

// Writes row_bytes(type, n) bytes. Unsupported for other types; invalid_argument, naming the
// element, if a value is not finite and the type has a scale per block.
// REQUIRES: n ≥ 0 and a multiple of the type's block_elems.
Status encode_row(TensorType type, const float* values, int64_t n, uint8_t* out);

// Blocks of random codes for n elements. The root mean square of each block's decoded values is
// `scale` to the precision of the format's scale field. MXFP4's and NVFP4's scales differ from
// block to block and are right over many of them: to a factor √2 for MXFP4, whose scales are powers
// of two, and at least 2^-8 for NVFP4. Integer types hold round(scale · normal). Never a NaN or
// infinity.
//
// REQUIRES: a storable type, scale finite and > 0, n as above.
void random_row(TensorType type, Rng& rng, float scale, int64_t n, uint8_t* out);

// One block of it.
inline void random_block(TensorType type, Rng& rng, float scale, uint8_t* out) {
  random_row(type, rng, scale, traits(type).block_elems, out);
}

}  // namespace shoal

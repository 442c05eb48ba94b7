// Weights of a file that cannot be computed with: NaN and infinities, rope factors out of range.
// What is small is looked at before anybody serves the file, all of it by the worker that loads it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/gguf.h"
#include "model/model_spec.h"

namespace shoal {

// All elements of a vector as float32. Errors name file, tensor, element and value.
Result<std::vector<float>> read_finite_vector(const GgufFile& file, const TensorInfo& tensor);
// The same of factors that divide rope's angles, which must be positive and of sane size.
Result<std::vector<float>> read_rope_factors(const GgufFile& file, const TensorInfo& tensor);

// Every vector the model uses: norms, biases, sinks, scales, rope factors.
Status check_vectors(const GgufFile& file, const ModelSpec& spec);

// `rows` holds columns [first_col, first_col + cols) of `count` rows of the tensor from row `first`
// on, as stored, whole blocks. REQUIRES: first_col and cols are multiples of the type's block.
Status check_rows(const GgufFile& file, const TensorInfo& tensor, uint64_t first,
                  uint64_t first_col, uint64_t cols, std::span<const uint8_t> rows);

}  // namespace shoal

// Every storable block format. A new one is a trait in a blocks_*.h file, a line here and a line in
// model/tensor_type.h; decode.cc refuses to compile if one of them is forgotten.
#pragma once

#include "kernels/body/blocks_iq.h"
#include "kernels/body/blocks_k.h"
#include "kernels/body/blocks_legacy.h"
#include "kernels/body/blocks_small.h"

namespace shoal::body {

template <TensorType... types>
struct TypeList {};

using BlockTypes =
    TypeList<TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kF64,
             TensorType::kI8, TensorType::kI16, TensorType::kI32, TensorType::kI64,
             TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1,
             TensorType::kQ8_0, TensorType::kQ2_K, TensorType::kQ3_K, TensorType::kQ4_K,
             TensorType::kQ5_K, TensorType::kQ6_K, TensorType::kIQ1_S, TensorType::kIQ1_M,
             TensorType::kIQ2_XXS, TensorType::kIQ2_XS, TensorType::kIQ2_S, TensorType::kIQ3_XXS,
             TensorType::kIQ3_S, TensorType::kIQ4_NL, TensorType::kIQ4_XS, TensorType::kTQ1_0,
             TensorType::kTQ2_0, TensorType::kQ1_0, TensorType::kQ2_0, TensorType::kMXFP4,
             TensorType::kNVFP4>;

}  // namespace shoal::body

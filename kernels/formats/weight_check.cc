#include "kernels/formats/weight_check.h"

#include <cmath>

#include <fmt/core.h>

#include "kernels/formats/decode.h"
#include "kernels/formats/non_finite.h"

namespace shoal {
namespace {

// Published factors lie between 1 and 100.
constexpr float kLeastRopeFactor = 1e-6f, kMostRopeFactor = 1e6f;

constexpr std::string_view kAdvice = "the file is damaged or its conversion overflowed";

bool is_rope_factors(Role role) {
  return role == Role::kRopeFactors || role == Role::kRopeFactorsLong ||
         role == Role::kRopeFactorsShort;
}

}  // namespace

Result<std::vector<float>> read_finite_vector(const GgufFile& file, const TensorInfo& tensor) {
  std::vector<uint8_t> raw(tensor.bytes);
  SHOAL_TRY(file.read_tensor(tensor, 0, raw));
  std::vector<float> values(tensor.elements());
  decode_row(tensor.type, raw.data(), static_cast<int64_t>(values.size()), values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return file.tensor_error(tensor, fmt::format("element {} is {}; {}", i, values[i], kAdvice));
  }
  return values;
}

Result<std::vector<float>> read_rope_factors(const GgufFile& file, const TensorInfo& tensor) {
  SHOAL_ASSIGN(std::vector<float> factors, read_finite_vector(file, tensor));
  for (size_t i = 0; i < factors.size(); ++i) {
    if (factors[i] >= kLeastRopeFactor && factors[i] <= kMostRopeFactor) continue;
    return file.tensor_error(
        tensor, fmt::format("element {} is {}; a rope factor must be in {}..{}", i, factors[i],
                            kLeastRopeFactor, kMostRopeFactor));
  }
  return factors;
}

Status check_vectors(const GgufFile& file, const ModelSpec& spec) {
  for (const TensorDecl& decl : spec.tensors) {
    if (!decl.scale_name.empty()) {
      SHOAL_TRY(read_finite_vector(file, *file.find_tensor(decl.scale_name)).status());
    }
    if (decl.cols != 1) continue;
    const TensorInfo& tensor = *file.find_tensor(decl.name);
    SHOAL_TRY(is_rope_factors(decl.role) ? read_rope_factors(file, tensor).status()
                                         : read_finite_vector(file, tensor).status());
  }
  return Status::ok();
}

Status check_rows(const GgufFile& file, const TensorInfo& tensor, uint64_t first,
                  uint64_t first_col, uint64_t cols, std::span<const uint8_t> rows) {
  if (cols == 0) return Status::ok();
  const uint64_t row = row_bytes(tensor.type, cols), count = rows.size() / row;
  float value = 0;
  const int64_t at =
      find_non_finite(tensor.type, rows.data(), static_cast<int64_t>(count * cols), &value);
  if (at < 0) return Status::ok();
  const uint64_t r = first + static_cast<uint64_t>(at) / cols;
  const uint64_t c = first_col + static_cast<uint64_t>(at) % cols;
  return file.tensor_error(tensor, fmt::format("element {} (row {}, column {}) is {}; {}",
                                               r * tensor.dims[0] + c, r, c, value, kAdvice));
}

}  // namespace shoal

// Helpers of the CPU kernel tests: devices of every kernel set, weights of random blocks, and
// double precision references.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/device.h"
#include "kernels/formats/decode.h"
#include "kernels/formats/encode.h"
#include "tests/support/support.h"

namespace shoal::testing {

// A device, or null where this processor lacks the set.
inline std::unique_ptr<Device> make_device(const std::string& isa, bool int8, int threads = 2) {
  CpuOptions options;
  options.threads = threads;
  options.isa = isa;
  options.int8_activations = int8;
  auto device = make_cpu_device(options);
  return device.is_ok() ? std::move(device).value() : nullptr;
}

// Names of the sets this processor runs; "generic" always does.
inline std::vector<std::string> usable_sets() {
  std::vector<std::string> names;
  for (const char* name : {"generic", "avx2", "avxvnni", "avx512vnni"}) {
    if (make_device(name, true, 1) != nullptr) names.emplace_back(name);
  }
  return names;
}

inline std::vector<TensorType> storable_types() {
  std::vector<TensorType> types;
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    if (kTensorTypes[id].storable) types.push_back(static_cast<TensorType>(id));
  }
  return types;
}

inline std::vector<float> random_values(Rng& rng, int64_t n, double scale = 1.0) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = static_cast<float>(scale * rng.normal());
  return values;
}

// A matrix as a file holds it, and its decoded values.
struct Matrix {
  Matrix(TensorType t, int64_t r, int64_t c, Rng& rng, float scale = 1.0f)
      : type(t), rows(r), cols(c), row_size(row_bytes(t, static_cast<uint64_t>(c))) {
    bytes.resize(static_cast<size_t>(r) * row_size);
    values.resize(static_cast<size_t>(r * c));
    for (int64_t i = 0; i < r; ++i) {
      uint8_t* row = bytes.data() + static_cast<uint64_t>(i) * row_size;
      random_row(t, rng, scale, c, row);
      decode_row(t, row, c, values.data() + i * c);
    }
  }
  // F32 of given values.
  Matrix(int64_t r, int64_t c, std::vector<float> given)
      : type(TensorType::kF32),
        rows(r),
        cols(c),
        row_size(4 * static_cast<uint64_t>(c)),
        bytes(4 * given.size()),
        values(std::move(given)) {
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  }

  TensorType type;
  int64_t rows, cols;
  uint64_t row_size;
  std::vector<uint8_t> bytes;
  std::vector<float> values;
};

// Columns [first, first + cols) of the matrix on a device.
inline std::unique_ptr<Weight> upload(Device& device, const Matrix& m, int64_t first, int64_t cols,
                                      WeightUse use = WeightUse::kProducts) {
  const WeightSlice slice{m.type, m.rows, cols, first, m.cols, use};
  auto weight = device.create_weight(slice, "test");
  SHOAL_CHECK(weight.is_ok(), weight.status().to_string());
  const uint64_t offset = static_cast<uint64_t>(slice.first_block()) * traits(m.type).block_bytes;
  for (int64_t r = 0; r < m.rows; ++r) {
    const uint8_t* row = m.bytes.data() + static_cast<uint64_t>(r) * m.row_size + offset;
    const Status filled = device.fill_weight(**weight, r, {row, slice.slice_row_bytes()});
    SHOAL_CHECK(filled.is_ok(), filled.to_string());
  }
  return std::move(weight).value();
}
inline std::unique_ptr<Weight> upload(Device& device, const Matrix& m) {
  return upload(device, m, 0, m.cols);
}

inline std::unique_ptr<Activations> activations(Device& device, int64_t max_rows, int64_t cols) {
  auto made = device.create_activations(max_rows, cols);
  SHOAL_CHECK(made.is_ok(), made.status().to_string());
  return std::move(made).value();
}

// The float values of the first `rows` rows.
inline std::vector<float> read_back(const Activations& x, int64_t rows) {
  const auto& stored = static_cast<const CpuActivations&>(x);
  std::vector<float> out;
  for (int64_t r = 0; r < rows; ++r) {
    out.insert(out.end(), stored.row(r), stored.row(r) + stored.columns);
  }
  return out;
}

}  // namespace shoal::testing

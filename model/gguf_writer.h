// Writes GGUF version 3 files: metadata, tensor infos, then tensor data streamed from generators,
// so that a file larger than memory can be made. Not thread-safe.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/status.h"
#include "model/gguf_metadata.h"
#include "model/tensor_type.h"

namespace shoal {

namespace internal {
template <class T>
constexpr GgufType gguf_type_of() {
  if constexpr (std::same_as<T, bool>) return GgufType::kBool;
  if constexpr (std::same_as<T, uint8_t>) return GgufType::kUint8;
  if constexpr (std::same_as<T, int8_t>) return GgufType::kInt8;
  if constexpr (std::same_as<T, uint16_t>) return GgufType::kUint16;
  if constexpr (std::same_as<T, int16_t>) return GgufType::kInt16;
  if constexpr (std::same_as<T, uint32_t>) return GgufType::kUint32;
  if constexpr (std::same_as<T, int32_t>) return GgufType::kInt32;
  if constexpr (std::same_as<T, uint64_t>) return GgufType::kUint64;
  if constexpr (std::same_as<T, int64_t>) return GgufType::kInt64;
  if constexpr (std::same_as<T, float>) return GgufType::kFloat32;
  if constexpr (std::same_as<T, double>) return GgufType::kFloat64;
}
}  // namespace internal

// Values as metadata; the C++ type decides the stored type.
template <class T>
requires std::is_arithmetic_v<T> GgufValue gguf_value(T value) {
  GgufValue out;
  out.type = out.element_type = internal::gguf_type_of<T>();
  out.data.assign(reinterpret_cast<const char*>(&value), sizeof(T));
  return out;
}
template <class T>
requires(std::is_arithmetic_v<T> && !std::same_as<T, bool>) GgufValue
    gguf_value(const std::vector<T>& values) {
  GgufValue out;
  out.type = GgufType::kArray;
  out.element_type = internal::gguf_type_of<T>();
  out.count = values.size();
  out.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return out;
}
GgufValue gguf_value(std::string_view text);
inline GgufValue gguf_value(const char* text) { return gguf_value(std::string_view(text)); }
inline GgufValue gguf_value(const std::string& text) { return gguf_value(std::string_view(text)); }
GgufValue gguf_value(const std::vector<std::string>& texts);
GgufValue gguf_value(const std::vector<bool>& values);

class GgufWriter {
 public:
  // Fills `out` with rows [first_row, first_row + rows) of the tensor, rows counted over all dims
  // above the first. Called in ascending order, each row once, with whole rows.
  using Generator =
      std::function<Status(uint64_t first_row, uint64_t rows, std::span<uint8_t> out)>;

  // `alignment`: a power of two from 8 to 65536; general.alignment is written if it is not 32.
  explicit GgufWriter(uint32_t alignment = 32);

  // A value, or one read from another file. The key must be new.
  void add_kv(std::string key, GgufValue value);
  template <class T>
  void add_kv(std::string key, const T& value) {
    add_kv(std::move(key), gguf_value(value));
  }

  // 1 to 4 dims, dims[0] the row length; the name must be new and at most 63 bytes.
  Status add_tensor(std::string name, TensorType type, std::vector<uint64_t> dims,
                    Generator generator);
  // From memory, which must stay valid until finish().
  Status add_tensor(std::string name, TensorType type, std::vector<uint64_t> dims,
                    std::span<const uint8_t> bytes);

  // Bytes the file will have, and those in front of the tensors' data.
  uint64_t file_bytes() const;
  std::string header() const;

  // Writes everything to a temporary file beside `path` and renames it; errors leave no file.
  Status finish(const std::string& path) const;
  // The same into memory, for tests.
  Result<std::vector<uint8_t>> finish_bytes() const;

 private:
  struct Tensor {
    std::string name;
    TensorType type;
    std::vector<uint64_t> dims;
    uint64_t rows;
    uint64_t bytes;
    uint64_t offset;  // in the data section
    Generator generator;
  };
  using Sink = std::function<Status(std::span<const uint8_t>)>;

  Status write_to(const Sink& sink) const;
  Status write_tensor(const Tensor& tensor, const Sink& sink) const;

  uint32_t alignment_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<Tensor> tensors_;
  uint64_t data_bytes_ = 0;  // padded sum
};

}  // namespace shoal

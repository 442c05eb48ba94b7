// The metadata of a GGUF file: typed values by key, with errors that name file, key and offset.
// Immutable once read; safe to use from several threads.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"

namespace shoal {

// Metadata value types; the values are the ids in the file.
enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};
inline constexpr uint32_t kGgufTypeIds = 13;
std::string_view gguf_type_name(GgufType type);
// Bytes of one value of a fixed-size type; 0 for strings and arrays.
uint32_t gguf_type_bytes(GgufType type);

// One metadata value. A scalar is an array of one element in `data`, so every type is stored the
// same way: fixed-size elements as little-endian bytes; strings back to back, string i being
// data[ends[i-1], ends[i]).
struct GgufValue {
  GgufType type = GgufType::kUint8;          // kArray for arrays
  GgufType element_type = GgufType::kUint8;  // of an array; equal to `type` for scalars
  uint64_t count = 1;                        // elements
  uint64_t offset = 0;                       // of the value in its file, for messages
  std::string data;
  std::vector<uint64_t> ends;  // of strings

  bool is_array() const { return type == GgufType::kArray; }
  // REQUIRES (all three): i < count and an element type of that class.
  std::string_view string_at(uint64_t i) const;
  // Integers and booleans. A u64 above int64's range wraps: see uint_at.
  int64_t int_at(uint64_t i) const;
  double float_at(uint64_t i) const;
  // "string", "array of 5 float32": for messages.
  std::string describe() const;
};

// String views from it live as long as the object; it can be moved but not copied.
class GgufMetadata {
 public:
  GgufMetadata() = default;
  explicit GgufMetadata(std::string file_name) : file_name_(std::move(file_name)) {}
  GgufMetadata(GgufMetadata&&) noexcept = default;
  GgufMetadata& operator=(GgufMetadata&&) noexcept = default;
  GgufMetadata(const GgufMetadata&) = delete;
  GgufMetadata& operator=(const GgufMetadata&) = delete;

  // get_*: the key must be there (not_found) and have the type (invalid_argument).
  // find_*: nothing if the key is absent, still an error if it has another type.
  bool has(std::string_view key) const { return find_value(key) != nullptr; }
  const GgufValue* find_value(std::string_view key) const;
  const std::vector<std::pair<std::string, GgufValue>>& metadata() const { return metadata_; }

  static constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();
  // Any integer width; the value must lie in [lo, hi].
  Result<uint64_t> get_uint(std::string_view key, uint64_t lo = 0, uint64_t hi = kAny) const;
  Result<int64_t> get_int(std::string_view key) const;
  // f32 or f64; must be finite.
  Result<double> get_float(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<std::string_view>> get_string_array(std::string_view key) const;
  Result<std::vector<float>> get_float_array(std::string_view key) const;  // as get_float
  // Integer elements of any width; a u64 beyond int64 is an error.
  Result<std::vector<int64_t>> get_int_array(std::string_view key) const;
  // A value per layer: a scalar (repeated n times) or an array of exactly n; integers in [lo, hi].
  Result<std::vector<uint64_t>> get_uint_per_layer(std::string_view key, uint64_t n,
                                                   uint64_t lo = 0, uint64_t hi = kAny) const;

  Result<std::optional<uint64_t>> find_uint(std::string_view key, uint64_t lo = 0,
                                            uint64_t hi = kAny) const;
  Result<std::optional<int64_t>> find_int(std::string_view key) const;
  Result<std::optional<double>> find_float(std::string_view key) const;
  Result<std::optional<bool>> find_bool(std::string_view key) const;
  Result<std::optional<std::string_view>> find_string(std::string_view key) const;
  Result<std::optional<std::vector<std::string_view>>> find_string_array(
      std::string_view key) const;
  Result<std::optional<std::vector<float>>> find_float_array(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> find_int_array(std::string_view key) const;
  Result<std::optional<std::vector<uint64_t>>> find_uint_per_layer(std::string_view key, uint64_t n,
                                                                   uint64_t lo = 0,
                                                                   uint64_t hi = kAny) const;

  // An error about a key's value, worded like the getters': file, key, offset, then `problem`.
  // For checks the caller makes ("must be even").
  Status key_error(std::string_view key, std::string_view problem) const;

  // For the reader: all values at once, in file order.
  // REQUIRES: no key twice.
  void assign(std::vector<std::pair<std::string, GgufValue>> entries);

 private:
  std::string file_name_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::unordered_map<std::string_view, size_t> index_;  // views into metadata_
};

}  // namespace shoal

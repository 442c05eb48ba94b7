// Reader of GGUF files, versions 2 and 3, little-endian (shared/facts/gguf.md section 1).
//
// Only the header is read: metadata and tensor infos. Tensor data is read later by (part, offset)
// and never mapped. Everything comes from outside and is not trusted: each length is checked
// against the rest of the file and a limit before memory is taken, and every refusal names the
// file, the key or tensor, and the byte offset.
//
// A GgufFile is immutable after open() and safe to use from several threads; it can be moved but
// not copied, and string views from it live as long as it does.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "model/tensor_type.h"

namespace shoal {

// Random-access bytes of a known size. Implementations are thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  virtual const std::string& name() const = 0;  // for messages: the path
  // Fills `out` from byte `offset`, or an error naming the source and the offset.
  virtual Status read_at(uint64_t offset, std::span<uint8_t> out) const = 0;
};

// A regular file, kept open: replacing the path later does not change what is read.
Result<std::shared_ptr<const ByteSource>> open_file_source(const std::string& path);
// A copy of `bytes`, for tests and fuzzing.
std::shared_ptr<const ByteSource> make_memory_source(std::string name, std::vector<uint8_t> bytes);

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

struct TensorInfo {
  std::string name;                    // 1..63 bytes, no control characters
  TensorType type = TensorType::kF32;  // a storable type
  std::array<uint64_t, 4> dims{1, 1, 1,
                               1};  // dims[0] varies fastest (the row length); unused ones are 1
  int n_dims = 0;                   // 1..4
  uint64_t bytes = 0;               // of the data: rows back to back
  uint32_t part = 0;                // index into parts()
  uint64_t file_offset = 0;         // absolute in that part
  uint64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  uint64_t rows() const { return dims[1] * dims[2] * dims[3]; }
};

// One file of a model.
struct GgufPart {
  std::string path;
  uint64_t size = 0;          // bytes
  uint64_t header_bytes = 0;  // from the start of the file to the end of the tensor infos
  uint64_t data_offset = 0;   // start of the data section
  uint32_t alignment = 32;
};

// The limits of the reader; a file beyond one is refused (shared/facts/gguf.md section 1.6).
struct GgufLimits {
  static constexpr uint64_t kMaxKeys = 1 << 16;
  static constexpr uint64_t kMaxTensors = 1 << 20;
  static constexpr uint64_t kMaxKeyBytes = 65535;
  static constexpr uint64_t kMaxTensorNameBytes = 63;
  static constexpr uint64_t kMaxStringBytes = 4 << 20;          // chat templates are the longest
  static constexpr uint64_t kMaxTokenizerJsonBytes = 64 << 20;  // tokenizer.huggingface.json
  static constexpr uint64_t kMaxArrayStringBytes = 1 << 20;
  static constexpr uint64_t kMaxArrayElements = 1 << 24;
  static constexpr uint64_t kMaxHeaderBytes = 1 << 30;
  static constexpr uint64_t kMaxDim = uint64_t{1} << 40;
  static constexpr uint64_t kMaxAlignment = 1 << 16;
  static constexpr uint64_t kMaxParts = 1024;
};

class GgufFile {
 public:
  // Reads the file and, if it is the first of a split model (PREFIX-00001-of-0000N.gguf), every
  // other part from the same folder. Another part than the first is refused.
  static Result<GgufFile> open(const std::string& path);
  // The same from sources, in order of their split number. A source's name must follow the
  // split naming rule if split.count > 1.
  static Result<GgufFile> parse(std::vector<std::shared_ptr<const ByteSource>> sources);
  static Result<GgufFile> parse(std::shared_ptr<const ByteSource> source);

  GgufFile(GgufFile&&) noexcept = default;
  GgufFile& operator=(GgufFile&&) noexcept = default;
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  // --- Metadata: that of the first part. ---
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
  Result<std::vector<float>> get_float_array(std::string_view key) const;  // f32 or f64 elements
  // Integer or bool elements of any width; a u64 beyond int64 is an error.
  Result<std::vector<int64_t>> get_int_array(std::string_view key) const;
  // A value per layer: a scalar (repeated n times) or an array of exactly n; integers or bools,
  // each in [lo, hi].
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

  // --- Tensors of all parts, in file order. ---
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find_tensor(std::string_view name) const;
  // An error about a tensor: file, name, offset, then `problem`.
  Status tensor_error(const TensorInfo& tensor, std::string_view problem) const;
  // Reads out.size() bytes of the tensor's data from byte `offset` of it.
  // REQUIRES: offset + out.size() <= tensor.bytes.
  Status read_tensor(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> out) const;

  // --- Files. ---
  const std::vector<GgufPart>& parts() const { return parts_; }
  const ByteSource& source(uint32_t part) const { return *sources_[part]; }
  uint32_t version() const { return version_; }
  // Header bytes over all parts.
  uint64_t header_bytes() const;
  // Sum of the tensors' bytes.
  uint64_t data_bytes() const;
  // XXH3-128 in hex over, for each part in order: its size and header length (u64 little-endian),
  // its header bytes, and kDigestPages pages of 4 KiB at equal distances over the rest, the first
  // and the last page included (all of it if it is smaller). Tells two files apart that differ in
  // metadata, shapes, types, sizes or almost any requantisation; it does not find one flipped byte
  // of data. Names and folders do not enter.
  const std::string& digest() const { return digest_; }
  static constexpr int kDigestPages = 64;

 private:
  friend class GgufReader;
  GgufFile() = default;

  uint32_t version_ = 0;
  std::vector<std::shared_ptr<const ByteSource>> sources_;
  std::vector<GgufPart> parts_;
  std::vector<std::pair<std::string, GgufValue>> metadata_;  // in file order
  std::unordered_map<std::string_view, size_t> key_index_;   // views into metadata_
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;  // views into tensors_
  std::string digest_;
};

}  // namespace shoal

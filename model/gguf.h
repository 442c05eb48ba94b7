// Reader of GGUF files, versions 2 and 3, little-endian (docs/formats.md).
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
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "model/gguf_metadata.h"
#include "model/tensor_type.h"

namespace shoal {

struct GgufHeader;  // gguf_reader.h

// Random-access bytes of a known size. Implementations are thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  virtual const std::string& name() const = 0;  // for messages: the path
  // Fills `out` from byte `offset`, or an error naming the source and the offset.
  virtual Status read_at(uint64_t offset, std::span<uint8_t> out) const = 0;
  // The same past the page cache where that can be, into `memory`: see File::read_past_cache().
  virtual Result<std::span<uint8_t>> read_past_cache(uint64_t offset, uint64_t bytes,
                                                     std::span<uint8_t> memory) const;
};

// A regular file, kept open: replacing the path later does not change what is read.
Result<std::shared_ptr<const ByteSource>> open_file_source(const std::string& path);
// A copy of `bytes`, for tests and fuzzing.
std::shared_ptr<const ByteSource> make_memory_source(std::string name, std::vector<uint8_t> bytes);

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

// The limits of the reader; a file beyond one is refused (docs/formats.md).
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

// The typed metadata getters are those of GgufMetadata and read the first part.
class GgufFile : public GgufMetadata {
 public:
  // Reads the file and, if it is the first of a split model (PREFIX-00001-of-0000N.gguf), every
  // other part from the same folder. Another part than the first is refused.
  static Result<GgufFile> open(const std::string& path);
  // The same from sources, in order of their split number. A source's name must follow the
  // split naming rule if split.count > 1.
  static Result<GgufFile> parse(std::vector<std::shared_ptr<const ByteSource>> sources);
  static Result<GgufFile> parse(std::shared_ptr<const ByteSource> source);

  // --- Tensors of all parts, in file order. ---
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find_tensor(std::string_view name) const;
  // An error about a tensor: file, name, offset, then `problem`.
  Status tensor_error(const TensorInfo& tensor, std::string_view problem) const;
  // Reads out.size() bytes of the tensor's data from byte `offset` of it.
  // REQUIRES: offset + out.size() <= tensor.bytes.
  Status read_tensor(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> out) const;
  // The same past the page cache, into `memory`: see File::read_past_cache().
  Result<std::span<uint8_t>> read_tensor_past_cache(const TensorInfo& tensor, uint64_t offset,
                                                    uint64_t bytes,
                                                    std::span<uint8_t> memory) const;

  // --- Files. ---
  const std::vector<GgufPart>& parts() const { return parts_; }
  const ByteSource& source(uint32_t part) const { return *sources_[part]; }
  uint32_t version() const { return version_; }
  // Header bytes over all parts.
  uint64_t header_bytes() const;
  // Sizes of all parts.
  uint64_t file_bytes() const;
  // Sum of the tensors' bytes.
  uint64_t data_bytes() const { return data_bytes_; }
  // XXH3-128 in hex over, for each part in order: its size and header length (u64 little-endian),
  // its header bytes, and kDigestPages pages of 4 KiB at equal distances over the rest, the first
  // and the last page included (all of it if it is smaller). Tells two files apart that differ in
  // metadata, shapes, types, sizes or almost any requantisation; it does not find one flipped byte
  // of data (full_digest() does). Names and folders do not enter.
  const std::string& digest() const { return digest_; }
  static constexpr int kDigestPages = 64;

 private:
  GgufFile() = default;
  static Result<GgufFile> assemble(std::vector<std::shared_ptr<const ByteSource>> sources,
                                   std::vector<GgufHeader> headers);

  uint32_t version_ = 0;
  std::vector<std::shared_ptr<const ByteSource>> sources_;
  std::vector<GgufPart> parts_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;  // views into tensors_
  uint64_t data_bytes_ = 0;
  std::string digest_;
};

}  // namespace shoal

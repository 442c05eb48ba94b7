// Putting the parts of a model together: split.no, split.count, split.tensors.count, and names of
// the form PREFIX-00001-of-0000N.gguf (docs/formats.md).
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "base/quote.h"
#include "model/gguf.h"
#include "model/gguf_reader.h"

namespace shoal {
namespace {

constexpr std::string_view kNo = "split.no";
constexpr std::string_view kCount = "split.count";
constexpr std::string_view kTensorsCount = "split.tensors.count";

std::string part_suffix(uint64_t no, uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", no + 1, count);
}

// The number of parts: 1 if the split keys are absent.
Result<uint64_t> part_count(const GgufMetadata& metadata) {
  SHOAL_ASSIGN(const auto count, metadata.find_uint(kCount, 0, GgufLimits::kMaxParts));
  return std::max<uint64_t>(count.value_or(1), 1);
}

// The path without its "-00001-of-0000N.gguf". The other parts' paths are made from it and the
// numbers alone, never from a string in the file.
Result<std::string> split_prefix(const GgufHeader& first, uint64_t count) {
  const std::string& path = first.part.path;
  SHOAL_ASSIGN(const uint64_t no, first.metadata.get_uint(kNo, 0, count - 1));
  const std::string suffix = part_suffix(no, count);
  if (!path.ends_with(suffix)) {
    return first.metadata.key_error(
        kCount, fmt::format("part {} of {} must be named PREFIX{}", no + 1, count, suffix));
  }
  const std::string prefix = path.substr(0, path.size() - suffix.size());
  if (no != 0) {
    return first.metadata.key_error(
        kNo, fmt::format("this is part {} of {}; open the first part, {}", no + 1, count,
                         excerpt(prefix + part_suffix(0, count))));
  }
  return prefix;
}

// Part `no` must say the same as the first part.
Status check_part(const GgufHeader& header, const GgufHeader& first, uint64_t no, uint64_t count,
                  const std::string& prefix) {
  SHOAL_ASSIGN(const uint64_t its_no, header.metadata.get_uint(kNo));
  if (its_no != no) {
    return header.metadata.key_error(kNo, fmt::format("expected {}, found {}", no, its_no));
  }
  SHOAL_ASSIGN(const uint64_t its_count, header.metadata.get_uint(kCount));
  if (its_count != count) {
    return header.metadata.key_error(
        kCount, fmt::format("found {}, but the first part says {}", its_count, count));
  }
  SHOAL_ASSIGN(const auto its_total, header.metadata.find_uint(kTensorsCount));
  SHOAL_ASSIGN(const uint64_t total, first.metadata.get_uint(kTensorsCount));
  if (its_total.value_or(total) != total) {
    return header.metadata.key_error(
        kTensorsCount, fmt::format("found {}, but the first part says {}", *its_total, total));
  }
  if (header.part.path != prefix + part_suffix(no, count)) {
    return header.metadata.key_error(kNo,
                                     fmt::format("part {} of {} must be named {}", no + 1, count,
                                                 excerpt(prefix + part_suffix(no, count))));
  }
  return Status::ok();
}

Status check_parts(const std::vector<GgufHeader>& headers) {
  const GgufHeader& first = headers[0];
  SHOAL_ASSIGN(const uint64_t count, part_count(first.metadata));
  if (count != headers.size()) {
    return first.metadata.key_error(
        kCount, fmt::format("{}the model has {} parts, {} were given",
                            first.metadata.has(kCount) ? "" : "the key is missing: ", count,
                            headers.size()));
  }
  if (count == 1) return Status::ok();
  SHOAL_ASSIGN(const std::string prefix, split_prefix(first, count));
  uint64_t tensors = 0;
  for (uint64_t no = 0; no < count; ++no) {
    SHOAL_TRY(check_part(headers[no], first, no, count, prefix));
    tensors += headers[no].tensors.size();
  }
  SHOAL_ASSIGN(const uint64_t total, first.metadata.get_uint(kTensorsCount));
  if (tensors != total) {
    return first.metadata.key_error(
        kTensorsCount, fmt::format("the parts hold {} tensors, not {}", tensors, total));
  }
  return Status::ok();
}

using HashState = std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)>;

// Reads [offset, offset + bytes) in pieces into the hash.
Status hash_range(const ByteSource& source, uint64_t offset, uint64_t bytes, XXH3_state_t* state) {
  std::vector<uint8_t> buffer(std::min<uint64_t>(bytes, 256 << 10));
  while (bytes > 0) {
    const uint64_t piece = std::min<uint64_t>(bytes, buffer.size());
    SHOAL_TRY(source.read_at(offset, std::span(buffer).first(piece)));
    XXH3_128bits_update(state, buffer.data(), piece);
    offset += piece;
    bytes -= piece;
  }
  return Status::ok();
}

Status hash_part(const ByteSource& source, const GgufPart& part, XXH3_state_t* state) {
  constexpr uint64_t kPage = 4096;
  constexpr uint64_t kPages = GgufFile::kDigestPages;
  const uint64_t sizes[2] = {part.size, part.header_bytes};
  XXH3_128bits_update(state, sizes, sizeof(sizes));
  SHOAL_TRY(hash_range(source, 0, part.header_bytes, state));
  const uint64_t rest = part.size - part.header_bytes;
  if (rest <= kPage * kPages) return hash_range(source, part.header_bytes, rest, state);
  // No file has the 2^58 bytes at which this product would overflow.
  for (uint64_t i = 0; i < kPages; ++i) {
    const uint64_t offset = part.header_bytes + (rest - kPage) * i / (kPages - 1);
    SHOAL_TRY(hash_range(source, offset, kPage, state));
  }
  return Status::ok();
}

}  // namespace

Result<GgufFile> GgufFile::open(const std::string& path) {
  std::vector<std::shared_ptr<const ByteSource>> sources;
  std::vector<GgufHeader> headers;
  SHOAL_ASSIGN(std::shared_ptr<const ByteSource> source, open_file_source(path));
  SHOAL_ASSIGN(GgufHeader header, read_gguf_header(*source));
  sources.push_back(std::move(source));
  headers.push_back(std::move(header));
  SHOAL_ASSIGN(const uint64_t count, part_count(headers[0].metadata));
  if (count > 1) {
    SHOAL_ASSIGN(const std::string prefix, split_prefix(headers[0], count));
    for (uint64_t no = 1; no < count; ++no) {
      auto part = open_file_source(prefix + part_suffix(no, count));
      if (!part.is_ok()) {
        const Status status = part.status();
        return Status(status.code(), fmt::format("{}: part {} of {} of the model: {}",
                                                 excerpt(path), no + 1, count, status.message()));
      }
      SHOAL_ASSIGN(GgufHeader part_header, read_gguf_header(**part));
      sources.push_back(std::move(*part));
      headers.push_back(std::move(part_header));
    }
  }
  return assemble(std::move(sources), std::move(headers));
}

Result<GgufFile> GgufFile::parse(std::vector<std::shared_ptr<const ByteSource>> sources) {
  SHOAL_CHECK(!sources.empty(), "parse needs a source");
  std::vector<GgufHeader> headers;
  for (const auto& source : sources) {
    SHOAL_ASSIGN(GgufHeader header, read_gguf_header(*source));
    headers.push_back(std::move(header));
  }
  return assemble(std::move(sources), std::move(headers));
}

Result<GgufFile> GgufFile::parse(std::shared_ptr<const ByteSource> source) {
  std::vector<std::shared_ptr<const ByteSource>> sources;
  sources.push_back(std::move(source));
  return parse(std::move(sources));
}

Result<GgufFile> GgufFile::assemble(std::vector<std::shared_ptr<const ByteSource>> sources,
                                    std::vector<GgufHeader> headers) {
  SHOAL_TRY(check_parts(headers));
  GgufFile file;
  file.version_ = headers[0].version;
  HashState state(XXH3_createState(), &XXH3_freeState);
  SHOAL_CHECK(state != nullptr, "no memory for a hash state");
  XXH3_128bits_reset(state.get());
  uint64_t data_bytes = 0;
  for (size_t p = 0; p < headers.size(); ++p) {
    SHOAL_TRY(hash_part(*sources[p], headers[p].part, state.get()));
    for (TensorInfo& tensor : headers[p].tensors) {
      tensor.part = static_cast<uint32_t>(p);
      data_bytes += tensor.bytes;  // each is within its file, so 1024 of them cannot overflow
      file.tensors_.push_back(std::move(tensor));
    }
    file.parts_.push_back(std::move(headers[p].part));
  }
  file.data_bytes_ = data_bytes;
  file.sources_ = std::move(sources);
  file.GgufMetadata::operator=(std::move(headers[0].metadata));
  file.tensor_index_.reserve(file.tensors_.size());
  for (size_t i = 0; i < file.tensors_.size(); ++i) {
    const TensorInfo& tensor = file.tensors_[i];
    const auto [other, added] = file.tensor_index_.emplace(tensor.name, i);
    if (!added) {
      return file.tensor_error(tensor, fmt::format("the name is also in part {}",
                                                   file.tensors_[other->second].part + 1));
    }
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  file.digest_ = fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  return file;
}

}  // namespace shoal

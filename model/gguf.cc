#include "model/gguf.h"

#include <fmt/format.h>

#include <cstring>

#include "base/file.h"
#include "base/quote.h"
#include "model/gguf_reader.h"

namespace shoal {
namespace {

class FileSource final : public ByteSource {
 public:
  explicit FileSource(File file) : file_(std::move(file)) {}
  uint64_t size() const override { return file_.size(); }
  const std::string& name() const override { return file_.path(); }
  Status read_at(uint64_t offset, std::span<uint8_t> out) const override {
    return file_.read_at(offset, out);
  }
  Result<std::span<uint8_t>> read_past_cache(uint64_t offset, uint64_t bytes,
                                             std::span<uint8_t> memory) const override {
    return file_.read_past_cache(offset, bytes, memory);
  }

 private:
  File file_;
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string name, std::vector<uint8_t> bytes)
      : name_(std::move(name)), bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  Status read_at(uint64_t offset, std::span<uint8_t> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      return data_loss(fmt::format("{}: read of {} bytes at offset {} runs past the end ({} bytes)",
                                   excerpt(name_), out.size(), offset, bytes_.size()));
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return Status::ok();
  }

 private:
  std::string name_;
  std::vector<uint8_t> bytes_;
};

}  // namespace

Result<std::span<uint8_t>> ByteSource::read_past_cache(uint64_t offset, uint64_t bytes,
                                                       std::span<uint8_t> memory) const {
  SHOAL_CHECK(bytes <= memory.size(), "memory too small for a read");
  SHOAL_TRY(read_at(offset, memory.first(bytes)));
  return memory.first(bytes);
}

Result<std::shared_ptr<const ByteSource>> open_file_source(const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    return invalid_argument(in_quotes(path) + " contains a zero byte");
  }
  SHOAL_ASSIGN(File file, File::open(path));
  return std::shared_ptr<const ByteSource>(std::make_shared<FileSource>(std::move(file)));
}

std::shared_ptr<const ByteSource> make_memory_source(std::string name, std::vector<uint8_t> bytes) {
  return std::make_shared<MemorySource>(std::move(name), std::move(bytes));
}

const TensorInfo* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Status GgufFile::tensor_error(const TensorInfo& tensor, std::string_view problem) const {
  return data_loss(fmt::format("{}: tensor {} (data at offset {}): {}",
                               excerpt(parts_[tensor.part].path), in_quotes(tensor.name),
                               tensor.file_offset, problem));
}

Status GgufFile::read_tensor(const TensorInfo& tensor, uint64_t offset,
                             std::span<uint8_t> out) const {
  SHOAL_CHECK(offset <= tensor.bytes && out.size() <= tensor.bytes - offset,
              "read past the end of tensor " + tensor.name);
  Status status = sources_[tensor.part]->read_at(tensor.file_offset + offset, out);
  return status ? status : status.annotate("tensor " + in_quotes(tensor.name));
}

Result<std::span<uint8_t>> GgufFile::read_tensor_past_cache(const TensorInfo& tensor,
                                                            uint64_t offset, uint64_t bytes,
                                                            std::span<uint8_t> memory) const {
  SHOAL_CHECK(offset <= tensor.bytes && bytes <= tensor.bytes - offset,
              "read past the end of tensor " + tensor.name);
  auto read = sources_[tensor.part]->read_past_cache(tensor.file_offset + offset, bytes, memory);
  if (!read.is_ok()) return read.status().annotate("tensor " + in_quotes(tensor.name));
  return read;
}

uint64_t GgufFile::file_bytes() const {
  uint64_t sum = 0;
  for (const GgufPart& part : parts_) sum += part.size;
  return sum;
}

uint64_t GgufFile::header_bytes() const {
  uint64_t sum = 0;
  for (const GgufPart& part : parts_) sum += part.header_bytes;
  return sum;
}

}  // namespace shoal

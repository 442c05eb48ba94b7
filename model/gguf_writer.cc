#include "model/gguf_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/quote.h"
#include "model/gguf.h"
#include "model/gguf_reader.h"

namespace shoal {
namespace {

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void put_string(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

void put_value(std::string& out, const GgufValue& value) {
  put(out, static_cast<uint32_t>(value.type));
  if (value.is_array()) {
    put(out, static_cast<uint32_t>(value.element_type));
    put(out, value.count);
  }
  if (value.element_type == GgufType::kString) {
    for (uint64_t i = 0; i < value.count; ++i) put_string(out, value.string_at(i));
  } else {
    out += value.data;
  }
}

Status errno_status(const std::string& what) {
  const int error = errno;
  const Code code =
      error == ENOSPC || error == EDQUOT ? Code::kResourceExhausted : Code::kUnavailable;
  return {code, what + ": " + std::strerror(error)};
}

Status write_all(int fd, const std::string& path, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno_status("cannot write " + excerpt(path));
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
  return Status::ok();
}

}  // namespace

GgufValue gguf_value(std::string_view text) {
  GgufValue out;
  out.type = out.element_type = GgufType::kString;
  out.data = text;
  out.ends = {text.size()};
  return out;
}

GgufValue gguf_value(const std::vector<std::string>& texts) {
  GgufValue out;
  out.type = GgufType::kArray;
  out.element_type = GgufType::kString;
  out.count = texts.size();
  for (const std::string& text : texts) {
    out.data += text;
    out.ends.push_back(out.data.size());
  }
  return out;
}

GgufValue gguf_value(const std::vector<bool>& values) {
  GgufValue out;
  out.type = GgufType::kArray;
  out.element_type = GgufType::kBool;
  out.count = values.size();
  for (const bool value : values) out.data += static_cast<char>(value ? 1 : 0);
  return out;
}

GgufWriter::GgufWriter(uint32_t alignment) : alignment_(alignment) {
  SHOAL_CHECK(
      std::has_single_bit(alignment) && alignment >= 8 && alignment <= GgufLimits::kMaxAlignment,
      fmt::format("alignment {}", alignment));
  if (alignment != 32) add_kv("general.alignment", alignment);
}

void GgufWriter::add_kv(std::string key, GgufValue value) {
  const bool taken =
      std::ranges::any_of(metadata_, [&](const auto& kv) { return kv.first == key; });
  SHOAL_CHECK(!taken, "key written twice: " + key);
  metadata_.emplace_back(std::move(key), std::move(value));
}

Status GgufWriter::add_tensor(std::string name, TensorType type, std::vector<uint64_t> dims,
                              Generator generator) {
  const std::string subject = "tensor " + in_quotes(name);
  if (name.empty() || name.size() > GgufLimits::kMaxTensorNameBytes) {
    return invalid_argument(subject + ": the name must have 1 to 63 bytes");
  }
  if (dims.empty() || dims.size() > 4)
    return invalid_argument(subject + ": 1 to 4 dimensions are valid");
  if (!traits(type).storable) {
    return invalid_argument(fmt::format("{}: {} cannot be stored", subject, traits(type).name));
  }
  const auto bytes = tensor_bytes(type, dims);
  if (!bytes.is_ok()) return invalid_argument(subject + ": " + bytes.status().message());
  if (*bytes > (uint64_t{1} << 62) - data_bytes_) {
    return invalid_argument(subject + ": the file would exceed 2^62 bytes");
  }
  uint64_t rows = 1;
  for (size_t d = 1; d < dims.size(); ++d) rows *= dims[d];
  tensors_.push_back(
      {std::move(name), type, std::move(dims), rows, *bytes, data_bytes_, std::move(generator)});
  data_bytes_ += (*bytes + alignment_ - 1) / alignment_ * alignment_;
  return Status::ok();
}

Status GgufWriter::add_tensor(std::string name, TensorType type, std::vector<uint64_t> dims,
                              std::span<const uint8_t> bytes) {
  const auto wanted = tensor_bytes(type, dims);
  if (wanted.is_ok() && *wanted != bytes.size()) {
    return invalid_argument(fmt::format("tensor {}: {} bytes given, {} needed", in_quotes(name),
                                        bytes.size(), *wanted));
  }
  const uint64_t stride = dims.empty() || !wanted.is_ok() ? 0 : row_bytes(type, dims[0]);
  return add_tensor(std::move(name), type, std::move(dims),
                    [bytes, stride](uint64_t first, uint64_t rows, std::span<uint8_t> out) {
                      std::memcpy(out.data(), bytes.data() + first * stride, rows * stride);
                      return Status::ok();
                    });
}

std::string GgufWriter::header() const {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, tensors_.size());
  put<uint64_t>(out, metadata_.size());
  for (const auto& [key, value] : metadata_) {
    put_string(out, key);
    put_value(out, value);
  }
  for (const Tensor& tensor : tensors_) {
    put_string(out, tensor.name);
    put(out, static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) put(out, dim);
    put(out, static_cast<uint32_t>(tensor.type));
    put(out, tensor.offset);
  }
  if (!tensors_.empty()) out.resize((out.size() + alignment_ - 1) / alignment_ * alignment_, '\0');
  return out;
}

uint64_t GgufWriter::file_bytes() const { return header().size() + data_bytes_; }

Status GgufWriter::write_tensor(const Tensor& tensor, const Sink& sink) const {
  constexpr uint64_t kPieceBytes = 4 << 20;
  const uint64_t stride = row_bytes(tensor.type, tensor.dims[0]);
  const uint64_t rows_at_once = std::max<uint64_t>(1, kPieceBytes / stride);
  std::vector<uint8_t> piece(std::min(rows_at_once, tensor.rows) * stride);
  for (uint64_t row = 0; row < tensor.rows;) {
    const uint64_t rows = std::min(rows_at_once, tensor.rows - row);
    const std::span<uint8_t> part(piece.data(), rows * stride);
    Status status = tensor.generator(row, rows, part);
    if (!status) return status.annotate("tensor " + in_quotes(tensor.name));
    SHOAL_TRY(sink(part));
    row += rows;
  }
  const std::vector<uint8_t> padding((alignment_ - tensor.bytes % alignment_) % alignment_);
  return sink(padding);
}

Status GgufWriter::write_to(const Sink& sink) const {
  std::vector<std::string_view> names;
  for (const Tensor& tensor : tensors_) names.push_back(tensor.name);
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end()) {
    return invalid_argument("tensor " + in_quotes(*twice) + " was added twice");
  }
  const std::string head = header();
  SHOAL_TRY(sink({reinterpret_cast<const uint8_t*>(head.data()), head.size()}));
  for (const Tensor& tensor : tensors_) SHOAL_TRY(write_tensor(tensor, sink));
  return Status::ok();
}

Status GgufWriter::finish(const std::string& path) const {
  std::string temporary = path + ".XXXXXX";
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return errno_status("cannot create a file beside " + excerpt(path));
  Status status =
      write_to([&](std::span<const uint8_t> bytes) { return write_all(fd, path, bytes); });
  if (status && ::fchmod(fd, 0644) != 0)
    status = errno_status("cannot set the mode of " + excerpt(path));
  if (::close(fd) != 0 && status) status = errno_status("cannot write " + excerpt(path));
  if (status && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = errno_status("cannot rename to " + excerpt(path));
  }
  if (!status) ::unlink(temporary.c_str());
  return status;
}

Result<std::vector<uint8_t>> GgufWriter::finish_bytes() const {
  std::vector<uint8_t> out;
  SHOAL_TRY(write_to([&](std::span<const uint8_t> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
    return Status::ok();
  }));
  return out;
}

}  // namespace shoal

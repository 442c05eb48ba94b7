// Fuzz target: any bytes either load or are refused; what loads can be read in full, decoded and
// written again. An input whose first byte is below 128 is one file; otherwise bytes 1..2 are the
// length of the first part of a model split in two.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "kernels/formats/decode.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace shoal {
namespace {

void read_metadata(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    (void)value.describe();
    (void)file.get_uint(key).is_ok();
    (void)file.get_int(key).is_ok();
    (void)file.get_float(key).is_ok();
    (void)file.get_bool(key).is_ok();
    (void)file.get_string(key).is_ok();
    (void)file.get_string_array(key).is_ok();
    (void)file.get_float_array(key).is_ok();
    (void)file.get_int_array(key).is_ok();
    (void)file.get_uint_per_layer(key, 3, 1, 100).is_ok();
  }
}

void read_tensors(const GgufFile& file) {
  for (const TensorInfo& tensor : file.tensors()) {
    std::vector<uint8_t> row(row_bytes(tensor.type, tensor.dims[0]));
    const Status status = file.read_tensor(tensor, tensor.bytes - row.size(), row);
    SHOAL_CHECK(status.is_ok(), status.message());
    std::vector<float> values(tensor.dims[0]);
    decode_row(tensor.type, row.data(), static_cast<int64_t>(tensor.dims[0]), values.data());
  }
}

// Rewrites metadata and reads it again: the values must be the same bytes.
void write_again(const GgufFile& file) {
  GgufWriter writer;
  for (const auto& [key, value] : file.metadata()) {
    if (key != "general.alignment" && !key.starts_with("split.")) writer.add_kv(key, value);
  }
  const auto bytes = writer.finish_bytes();
  SHOAL_CHECK(bytes.is_ok(), bytes.status().message());
  const auto again = GgufFile::parse(make_memory_source("again.gguf", *bytes));
  SHOAL_CHECK(again.is_ok(), again.status().message());
  for (const auto& [key, value] : again->metadata()) {
    const GgufValue* before = file.find_value(key);
    SHOAL_CHECK(before != nullptr && before->data == value.data && before->ends == value.ends,
                "key " + key + " changed");
  }
}

void run(const uint8_t* data, size_t size) {
  if (size < 3) return;
  std::vector<std::shared_ptr<const ByteSource>> sources;
  const std::vector<uint8_t> rest(data + 3, data + size);
  if (data[0] < 128) {
    sources = {make_memory_source("f.gguf", rest)};
  } else {
    const size_t cut = std::min<size_t>(rest.size(), data[1] + 256u * data[2]);
    const auto middle = rest.begin() + static_cast<std::ptrdiff_t>(cut);
    sources = {make_memory_source("f-00001-of-00002.gguf", {rest.begin(), middle}),
               make_memory_source("f-00002-of-00002.gguf", {middle, rest.end()})};
  }
  const auto file = GgufFile::parse(std::move(sources));
  if (!file.is_ok()) {
    SHOAL_CHECK(!file.status().message().empty(), "an error without a message");
    return;
  }
  read_metadata(*file);
  read_tensors(*file);
  write_again(*file);
}

}  // namespace
}  // namespace shoal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  shoal::run(data, size);
  return 0;
}

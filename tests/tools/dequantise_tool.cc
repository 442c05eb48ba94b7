// dequantise_tool IN OUT: the same model with every tensor as F32, for comparisons with engines
// whose quantised kernels round activations.
#include <cstdio>
#include <string>

#include "kernels/formats/decode.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace shoal {
namespace {

Status dequantise(const std::string& in, const std::string& out) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(in));
  GgufWriter writer;
  for (const auto& [key, value] : file.metadata()) {
    if (key != "general.alignment" && key != "general.file_type") writer.add_kv(key, value);
  }
  for (const TensorInfo& tensor : file.tensors()) {
    const uint64_t row = row_bytes(tensor.type, tensor.dims[0]);
    const std::vector<uint64_t> dims(tensor.dims.begin(), tensor.dims.begin() + tensor.n_dims);
    const auto generate = [&file, &tensor, row](uint64_t first, uint64_t rows,
                                                std::span<uint8_t> bytes) -> Status {
      std::vector<uint8_t> raw(rows * row);
      SHOAL_TRY(file.read_tensor(tensor, first * row, raw));
      decode_row(tensor.type, raw.data(), static_cast<int64_t>(rows * tensor.dims[0]),
                 reinterpret_cast<float*>(bytes.data()));
      return Status::ok();
    };
    SHOAL_TRY(writer.add_tensor(tensor.name, TensorType::kF32, dims, generate));
  }
  return writer.finish(out);
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: dequantise_tool IN OUT\n");
    return 2;
  }
  const shoal::Status status = shoal::dequantise(argv[1], argv[2]);
  if (!status.is_ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.is_ok() ? 0 : 1;
}

#include "tests/worker/overflow_model.h"

#include <fstream>

#include "base/check.h"
#include "bench/synth.h"
#include "kernels/body/half.h"
#include "model/gguf.h"

namespace shoal::testing {
namespace {

constexpr uint64_t kColumn = 5;  // of the embedding; no token but one has anything there

class Patch {
 public:
  explicit Patch(const std::string& path)
      : file_(GgufFile::open(path)), out_(path, std::ios::in | std::ios::out | std::ios::binary) {
    SHOAL_CHECK(file_.is_ok(), file_.status().message());
  }
  // Column kColumn of a row of an F16 tensor.
  void set(const std::string& tensor, uint64_t row, float value) {
    const TensorInfo* info = file_->find_tensor(tensor);
    SHOAL_CHECK(info != nullptr && info->type == TensorType::kF16, tensor);
    const uint16_t half = body::float_to_half(value);
    out_.seekp(
        static_cast<std::streamoff>(info->file_offset + (row * info->dims[0] + kColumn) * 2));
    out_.write(reinterpret_cast<const char*>(&half), sizeof(half));
    SHOAL_CHECK(out_.flush().good(), "write");
  }

 private:
  Result<GgufFile> file_;
  std::fstream out_;
};

}  // namespace

void write_overflow_model(const std::string& path) {
  SynthShape shape;
  shape.architecture = "llama";
  shape.layers = 2;
  shape.width = 192;
  shape.heads = 6;
  shape.kv_heads = 3;
  shape.head_dim = 32;
  shape.ffn = 192;
  shape.vocab = 320;
  shape.context = 256;
  const Status status = write_synth_model(shape, {.mix = "F16", .seed = 3}, path);
  SHOAL_CHECK(status.is_ok(), status.message());
  Patch patch(path);
  for (uint64_t row = 0; row < 320; ++row) patch.set("token_embd.weight", row, 0);
  patch.set("token_embd.weight", kOverflowToken, 100.0f);
  // In the first layer, where the column is still what the embedding says.
  for (uint64_t row = 0; row < 96; ++row) patch.set("blk.0.attn_v.weight", row, 60000.0f);
}

}  // namespace shoal::testing

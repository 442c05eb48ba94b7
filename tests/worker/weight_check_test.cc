// Weights that are no finite numbers are refused, by name: what is small before anybody serves the
// file, everything by the rank that loads it.
#include "kernels/formats/weight_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "bench/synth.h"
#include "kernels/body/half.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/support/support.h"
#include "tests/worker/moe_models.h"
#include "worker/model_shard.h"

namespace shoal::testing {
namespace {

// Overwrites `bytes` at `offset` of a tensor's data.
void patch(const std::string& path, const std::string& tensor, uint64_t offset,
           const std::string& bytes) {
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.is_ok()) << file.status().message();
  const TensorInfo* info = file->find_tensor(tensor);
  ASSERT_NE(info, nullptr) << tensor;
  ASSERT_LE(offset + bytes.size(), info->bytes) << tensor;
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(info->file_offset + offset));
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(out.flush().good());
}

std::string f32(float value) { return {reinterpret_cast<const char*>(&value), sizeof(value)}; }
std::string f16(float value) {
  const uint16_t half = body::float_to_half(value);
  return {reinterpret_cast<const char*>(&half), sizeof(half)};
}

Status load(const std::string& path, int rank, int world) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(path));
  SHOAL_ASSIGN(const ModelSpec spec, read_model_spec(file));
  const std::vector<double> shares(static_cast<size_t>(world), 1.0);
  SHOAL_ASSIGN(const RankShard shard, make_rank_shard(spec, {world, shares, {}}, rank));
  const auto device = make_cpu_device({.threads = 1}).value();
  return load_model_shard(file, spec, shard, *device, {.threads = 2, .context = 64}).status();
}

Status look(const std::string& path) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(path));
  SHOAL_ASSIGN(const ModelSpec spec, read_model_spec(file));
  return check_vectors(file, spec);
}

struct Damage {
  const char* architecture;
  bool mixture;
  const char* mix;
  const char* tensor;
  uint64_t offset;  // in the tensor's data
  std::string bytes;
  const char* says;  // behind the tensor's name
  bool seen_early;   // without reading matrices
};

TEST(WeightCheck, NamesWhatIsNoFiniteNumber) {
  const float inf = INFINITY;
  const Damage damages[] = {
      {"llama", false, "F32", "blk.1.attn_norm.weight", 17 * 4, f32(NAN), "element 17 is nan",
       true},
      {"llama", false, "F32", "output_norm.weight", 0, f32(-inf), "element 0 is -inf", true},
      {"llama", false, "F32", "blk.0.ffn_down.weight", 4 * (3 * 256 + 200), f32(inf),
       "element 968 (row 3, column 200) is inf", false},
      {"qwen2", false, "F16", "blk.0.attn_q.bias", 4 * 9, f32(NAN), "element 9 is nan", true},
      {"qwen2", false, "F16", "token_embd.weight", 2 * (7 * 256 + 255), f16(NAN),
       "element 2047 (row 7, column 255) is nan", false},
      {"qwen3", false, "Q8_0", "blk.1.ffn_up.weight", 34 * 9, f16(inf), "(row 1, column 32) is",
       false},
      {"qwen3", false, "Q4_K_M", "blk.0.attn_k.weight", 144 * 2 + 2, f16(NAN),
       "element 512 (row 2, column 0) is nan", false},
      {"glm4moe", true, "Q4_K_M", "blk.1.exp_probs_b.bias", 4 * 3, f32(NAN), "element 3 is nan",
       true},
      {"gpt-oss", true, "MXFP4_MOE", "blk.0.attn_sinks.weight", 4, f32(NAN), "element 1 is nan",
       true},
      {"gpt-oss", true, "MXFP4_MOE", "blk.2.ffn_down_exps.bias", 4 * 1000, f32(inf),
       "element 1000 is inf", true},
      {"deepseek2", true, "Q8_0", "blk.1.attn_k_b.weight", 34 * 5, f16(NAN), "is nan", false},
      {"deepseek2", true, "Q8_0", "blk.2.ffn_gate_exps.weight", 34 * 8 * 160 * 5, f16(NAN),
       "is nan", false},
  };
  for (const Damage& damage : damages) {
    SCOPED_TRACE(std::string(damage.architecture) + " " + damage.tensor);
    const TempDir dir;
    const std::string path = dir.path() + "/m.gguf";
    SynthShape shape = small_mixture(damage.architecture);
    if (!damage.mixture) shape.moe = {};
    ASSERT_TRUE(write_synth_model(shape, {.mix = damage.mix, .seed = 2}, path).is_ok());
    EXPECT_TRUE(look(path).is_ok()) << look(path).message();
    EXPECT_TRUE(load(path, 0, 1).is_ok());
    patch(path, damage.tensor, damage.offset, damage.bytes);
    if (HasFatalFailure()) return;
    const auto expect_named = [&](const Status& status) {
      EXPECT_EQ(status.code(), Code::kDataLoss);
      EXPECT_NE(status.message().find(path + ": tensor '" + damage.tensor + "'"), std::string::npos)
          << status.message();
      EXPECT_NE(status.message().find(damage.says), std::string::npos) << status.message();
    };
    if (damage.seen_early) {
      expect_named(look(path));
    } else {
      EXPECT_TRUE(look(path).is_ok());
    }
    expect_named(load(path, 0, 1));
  }
}

// A column slice names the element as the file counts, on the rank that holds it.
TEST(WeightCheck, ASliceNamesTheFilesElement) {
  const TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  SynthShape shape = small_mixture("llama");
  shape.moe = {};
  ASSERT_TRUE(write_synth_model(shape, {.mix = "Q8_0", .seed = 2}, path).is_ok());
  patch(path, "blk.1.ffn_down.weight", 34 * (8 * 2 + 7), f16(NAN));  // row 2, the last 32 columns
  EXPECT_TRUE(load(path, 0, 2).is_ok()) << "the other rank's columns";
  const Status status = load(path, 1, 2);
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_NE(status.message().find("element 736 (row 2, column 224) is nan"), std::string::npos)
      << status.message();
}

}  // namespace
}  // namespace shoal::testing

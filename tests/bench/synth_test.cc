// Synthetic models: shapes as published, types as llama.cpp's quantiser mixes them, and files that
// the architecture readers accept.
#include "bench/synth.h"

#include <gtest/gtest.h>

#include <map>

#include "model/gguf.h"
#include "model/model_spec.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

uint64_t elements(const SynthTensor& tensor) {
  uint64_t n = 1;
  for (const int64_t dim : tensor.dims) n *= static_cast<uint64_t>(dim);
  return n;
}

struct Published {
  const char* name;
  double billions;  // parameters of the text model, without MTP blocks
};

class PublishedShape : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedShape, ParametersAddUp) {
  const auto shape = synth_shape(GetParam().name);
  ASSERT_TRUE(shape.is_ok()) << shape.status().message();
  uint64_t total = 0;
  for (const SynthTensor& tensor : synth_tensors(*shape)) total += elements(tensor);
  EXPECT_NEAR(static_cast<double>(total) / 1e9, GetParam().billions, 0.01 * GetParam().billions);
}

INSTANTIATE_TEST_SUITE_P(
    Models, PublishedShape,
    ::testing::Values(Published{"llama-3.2-1b", 1.236}, Published{"llama-3.1-8b", 8.03},
                      Published{"llama-3.3-70b", 70.55}, Published{"qwen2.5-72b", 72.71},
                      Published{"qwen3-32b", 32.76}, Published{"qwen3-30b-a3b", 30.53},
                      Published{"qwen3-235b-a22b", 235.1}, Published{"mixtral-8x7b", 46.70},
                      Published{"gpt-oss-20b", 20.91}, Published{"gpt-oss-120b", 116.8},
                      Published{"glm-4.5-air", 106.9}, Published{"glm-4.7-flash", 29.9},
                      Published{"llama-4-scout", 107.8}),
    [](const auto& p) {
      std::string name = p.param.name;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

TensorType type_of(const SynthShape& shape, const std::string& mix, const std::string& name) {
  for (const SynthTensor& tensor : synth_tensors(shape)) {
    if (tensor.name != name) continue;
    const auto type = synth_tensor_type(mix, shape, tensor);
    EXPECT_TRUE(type.is_ok()) << type.status().message();
    return type.is_ok() ? *type : TensorType::kF32;
  }
  ADD_FAILURE() << "no tensor " << name;
  return TensorType::kF32;
}

struct Expected {
  const char* shape;
  const char* mix;
  const char* tensor;
  TensorType type;
};

TEST(SynthTypes, FollowTheMixesAndTheirFallbacks) {
  const Expected table[] = {
      // 1408 = 5.5 and 10944 = 42.75 super-blocks
      {"glm-4.5-air", "Q4_K_M", "blk.0.ffn_down.weight", TensorType::kQ8_0},
      {"glm-4.5-air", "Q4_K_M", "blk.1.ffn_down_exps.weight", TensorType::kQ8_0},
      {"glm-4.5-air", "Q4_K_M", "blk.6.ffn_down_exps.weight", TensorType::kQ5_0},
      {"glm-4.5-air", "Q4_K_M", "blk.6.ffn_down_shexp.weight", TensorType::kQ5_0},
      {"glm-4.5-air", "Q4_K_M", "blk.1.ffn_gate_exps.weight", TensorType::kQ4_K},
      {"glm-4.5-air", "Q4_K_M", "blk.1.attn_v.weight", TensorType::kQ6_K},
      {"glm-4.5-air", "Q4_K_M", "output.weight", TensorType::kQ6_K},
      {"glm-4.5-air", "Q5_K_M", "blk.6.ffn_down_exps.weight", TensorType::kQ5_1},
      {"glm-4.5-air", "Q3_K_S", "blk.6.ffn_down_exps.weight", TensorType::kQ4_0},
      {"glm-4.5-air", "IQ4_XS", "blk.6.ffn_down_exps.weight", TensorType::kIQ4_NL},
      // 2880 = 11.25 super-blocks
      {"gpt-oss-120b", "MXFP4_MOE", "blk.3.ffn_gate_exps.weight", TensorType::kMXFP4},
      {"gpt-oss-120b", "MXFP4_MOE", "blk.3.ffn_down_exps.weight", TensorType::kMXFP4},
      {"gpt-oss-120b", "MXFP4_MOE", "blk.3.attn_q.weight", TensorType::kQ8_0},
      {"gpt-oss-120b", "MXFP4_MOE", "token_embd.weight", TensorType::kQ8_0},
      {"gpt-oss-120b", "Q4_K_M", "blk.10.attn_q.weight", TensorType::kQ5_0},
      {"gpt-oss-120b", "Q4_K_M", "output.weight", TensorType::kQ8_0},
      // rows of 192
      {"glm-4.7-flash", "Q4_K_M", "blk.9.attn_k_b.weight", TensorType::kQ5_0},
      {"glm-4.7-flash", "Q4_K_M", "blk.9.attn_v_b.weight", TensorType::kQ4_K},
      {"mixtral-8x7b", "Q4_K_M", "blk.8.attn_v.weight", TensorType::kQ8_0},
      {"mixtral-8x7b", "Q4_K_M", "blk.8.attn_k.weight", TensorType::kQ8_0},
      {"mixtral-8x7b", "Q4_K_M", "blk.8.attn_output.weight", TensorType::kQ5_K},
      {"mixtral-8x7b", "Q5_K_M", "blk.8.attn_output.weight", TensorType::kQ5_K},
      {"llama-3.3-70b", "Q4_K_M", "blk.10.attn_v.weight", TensorType::kQ5_K},
      {"llama-3.3-70b", "Q4_K_M", "blk.0.attn_v.weight", TensorType::kQ6_K},
      {"llama-3.3-70b", "Q3_K_M", "blk.0.attn_v.weight", TensorType::kQ5_K},
      {"llama-3.3-70b", "Q4_K_S", "blk.9.ffn_down.weight", TensorType::kQ5_K},
      {"llama-3.3-70b", "Q4_K_S", "blk.10.ffn_down.weight", TensorType::kQ4_K},
      {"llama-3.2-1b", "Q4_K_M", "token_embd.weight", TensorType::kQ6_K},
  };
  for (const Expected& row : table) {
    EXPECT_EQ(tensor_type_name(type_of(*synth_shape(row.shape), row.mix, row.tensor)),
              tensor_type_name(row.type))
        << row.shape << " " << row.mix << " " << row.tensor;
  }
}

// Small relatives of the large shapes: the readers must find everything they need and nothing that
// no layer uses.
SynthShape shrink(SynthShape shape) {
  shape.layers = 2;
  shape.width = 64;
  shape.heads = 4;
  shape.kv_heads = shape.latent.kv_rank > 0 ? 1 : 2;
  shape.head_dim = 32;
  shape.ffn = 64;
  shape.vocab = 300;
  shape.context = 512;
  if (shape.rope_dims > 0) shape.rope_dims = 16;
  if (shape.latent.kv_rank > 0) {
    shape.latent = {.q_rank = 32, .kv_rank = 64, .nope = 32, .rope = 16, .value = 32};
  }
  if (shape.moe.experts > 0) {
    shape.moe.experts = std::min<int64_t>(shape.moe.experts, 8);
    shape.moe.features = 32;
    shape.moe.top_k = std::min<int64_t>(shape.moe.top_k, 4);
  }
  return shape;
}

TEST(SynthModel, EveryNamedShapeIsReadable) {
  const testing::TempDir dir;
  for (const std::string& name : synth_shape_names()) {
    SCOPED_TRACE(name);
    const SynthShape shape = shrink(*synth_shape(name));
    const std::string path = dir.path() + "/m.gguf";
    const Status written = write_synth_model(shape, {.mix = "Q8_0"}, path);
    ASSERT_TRUE(written.is_ok()) << written.message();
    const auto file = GgufFile::open(path);
    ASSERT_TRUE(file.is_ok()) << file.status().message();
    const auto spec = read_model_spec(*file);
    ASSERT_TRUE(spec.is_ok()) << spec.status().message();
    EXPECT_EQ(spec->layers, 2);
    EXPECT_EQ(spec->layer[1].ffn.moe.experts, shape.moe.experts);
    EXPECT_EQ(spec->layer[0].ffn.moe.experts == 0,
              shape.moe.experts == 0 || shape.moe.leading_dense > 0);
    EXPECT_EQ(spec->layer[1].ffn.moe.shared_features, shape.moe.shared * shape.moe.features);
    uint64_t in_file = 0;
    for (const TensorInfo& tensor : file->tensors()) in_file += tensor.elements();
    EXPECT_EQ(spec->parameters(), in_file) << "some tensor is not used, or used twice";
  }
}

// Without a file: the same metadata and tensors, the first rows of each the file's, then again.
TEST(SynthModel, SourceIsTheFileWithRowsThatRepeat) {
  const testing::TempDir dir;
  SynthShape shape = shrink(*synth_shape("llama-3.2-1b"));
  shape.layers = 1;
  const std::string path = dir.path() + "/m.gguf";
  ASSERT_TRUE(write_synth_model(shape, {}, path).is_ok());
  const auto file = GgufFile::open(path);
  const auto source = make_synth_source(shape, {});
  ASSERT_TRUE(file.is_ok() && source.is_ok());
  EXPECT_EQ((*source)->size(), file->source(0).size());
  const auto made = GgufFile::parse(*source);
  ASSERT_TRUE(made.is_ok()) << made.status().message();
  ASSERT_EQ(made->tensors().size(), file->tensors().size());
  uint64_t longest = 0;
  for (size_t t = 0; t < made->tensors().size(); ++t) {
    const TensorInfo& tensor = made->tensors()[t];
    longest = std::max(longest, tensor.rows());
    std::vector<uint8_t> got(tensor.bytes), want(tensor.bytes);
    ASSERT_TRUE(made->read_tensor(tensor, 0, got).is_ok());
    ASSERT_TRUE(file->read_tensor(file->tensors()[t], 0, want).is_ok());
    const uint64_t row = tensor.bytes / tensor.rows();
    for (uint64_t r = 0; r < tensor.rows(); ++r) {
      ASSERT_TRUE(std::equal(got.begin() + static_cast<long>(r * row),
                             got.begin() + static_cast<long>((r + 1) * row),
                             want.begin() + static_cast<long>(r % kSynthSourceRows * row)))
          << tensor.name << ", row " << r;
    }
    // From the middle of one row to the middle of another.
    const uint64_t from = row / 2, count = tensor.bytes - row / 2 - row / 3;
    std::vector<uint8_t> part(count);
    ASSERT_TRUE(made->read_tensor(tensor, from, part).is_ok());
    ASSERT_TRUE(std::equal(part.begin(), part.end(), got.begin() + static_cast<long>(from)))
        << tensor.name;
  }
  EXPECT_GT(longest, kSynthSourceRows) << "nothing repeats: this test shows nothing";
  std::vector<uint8_t> beyond(2);
  EXPECT_FALSE((*source)->read_at((*source)->size() - 1, beyond).is_ok());
}

TEST(SynthModel, RefusesByName) {
  const testing::TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  const auto refuse = [&](const std::function<void(SynthShape&)>& spoil, const std::string& why) {
    SynthShape shape = shrink(*synth_shape("qwen3-30b-a3b"));
    spoil(shape);
    const Status status = write_synth_model(shape, {}, path);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find(why), std::string::npos) << status.message();
  };
  refuse([](SynthShape& s) { s.architecture = "gpt5"; }, "qwen3moe");
  refuse([](SynthShape& s) { s.moe.top_k = 9; }, "top_k");
  refuse([](SynthShape& s) { s.latent.kv_rank = 64; }, "deepseek2");
  refuse([](SynthShape& s) { s.head_dim = 31; }, "head size");
  const Status mix = write_synth_model(shrink(*synth_shape("moe-64e")), {.mix = "Q4_K_XXL"}, path);
  EXPECT_NE(mix.message().find("MXFP4_MOE"), std::string::npos) << mix.message();
  EXPECT_FALSE(synth_shape("gpt-2").is_ok());
}

}  // namespace
}  // namespace shoal

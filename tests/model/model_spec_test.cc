// Metadata and tensors a model must not have: each refused by the key's or tensor's name.
#include "model/model_spec.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <map>

#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

struct Description {  // of a small llama
  std::map<std::string, GgufValue> keys;
  std::map<std::string, std::vector<uint64_t>> tensors;
  std::map<std::string, TensorType> types;  // others are F32

  Description() {
    const auto u32 = [](uint32_t value) { return gguf_value(value); };
    keys = {{"general.architecture", gguf_value("llama")},
            {"llama.block_count", u32(1)},
            {"llama.context_length", u32(64)},
            {"llama.embedding_length", u32(64)},
            {"llama.feed_forward_length", u32(96)},
            {"llama.attention.head_count", u32(4)},
            {"llama.attention.head_count_kv", u32(2)},
            {"llama.attention.layer_norm_rms_epsilon", gguf_value(1e-5f)}};
    tensors = {{"token_embd.weight", {64, 40}},        {"output_norm.weight", {64}},
               {"blk.0.attn_norm.weight", {64}},       {"blk.0.attn_q.weight", {64, 64}},
               {"blk.0.attn_k.weight", {64, 32}},      {"blk.0.attn_v.weight", {64, 32}},
               {"blk.0.attn_output.weight", {64, 64}}, {"blk.0.ffn_norm.weight", {64}},
               {"blk.0.ffn_gate.weight", {64, 96}},    {"blk.0.ffn_up.weight", {64, 96}},
               {"blk.0.ffn_down.weight", {96, 64}}};
  }

  Result<ModelSpec> read() const {
    GgufWriter writer;
    for (const auto& [key, value] : keys) writer.add_kv(key, value);
    for (const auto& [name, dims] : tensors) {
      const auto zeros = [](uint64_t, uint64_t, std::span<uint8_t>) { return Status::ok(); };
      const auto type = types.find(name);
      SHOAL_TRY(writer.add_tensor(name, type == types.end() ? TensorType::kF32 : type->second, dims,
                                  zeros));
    }
    SHOAL_ASSIGN(auto bytes, writer.finish_bytes());
    SHOAL_ASSIGN(const GgufFile file,
                 GgufFile::parse(make_memory_source("m.gguf", std::move(bytes))));
    return read_model_spec(file);
  }
};

TEST(ModelSpec, AGoodFileIsRead) {
  const auto spec = Description().read();
  ASSERT_TRUE(spec.is_ok()) << spec.status().message();
  EXPECT_EQ(spec->layers, 1);
  EXPECT_EQ(spec->vocab, 40);
  EXPECT_EQ(spec->layer[0].attention.head_dim, 16);
  EXPECT_TRUE(spec->tied_output);
}

TEST(ModelSpec, EveryMistakeIsNamed) {
  const auto u32 = [](uint32_t value) { return gguf_value(value); };
  const float infinity = std::numeric_limits<float>::infinity();
  const struct {
    const char* expected;
    std::function<void(Description&)> change;
  } cases[] = {
      {"general.architecture", [](auto& d) { d.keys.erase("general.architecture"); }},
      {"'mamba'", [](auto& d) { d.keys["general.architecture"] = gguf_value("mamba"); }},
      {"llama.block_count", [](auto& d) { d.keys.erase("llama.block_count"); }},
      {"llama.block_count", [&](auto& d) { d.keys["llama.block_count"] = u32(0); }},
      {"llama.block_count", [&](auto& d) { d.keys["llama.block_count"] = u32(1u << 30); }},
      {"blk.1.attn_norm.weight", [&](auto& d) { d.keys["llama.block_count"] = u32(2); }},
      {"llama.attention.head_count",
       [&](auto& d) { d.keys["llama.attention.head_count"] = u32(0); }},
      {"llama.attention.head_count_kv",
       [&](auto& d) { d.keys["llama.attention.head_count_kv"] = u32(3); }},
      {"llama.attention.head_count_kv",
       [&](auto& d) { d.keys["llama.attention.head_count_kv"] = u32(0); }},
      {"llama.attention.value_length",
       [&](auto& d) { d.keys["llama.attention.value_length"] = u32(8); }},
      {"llama.embedding_length",
       [](auto& d) { d.keys["llama.embedding_length"] = gguf_value("64"); }},
      {"llama.context_length", [&](auto& d) { d.keys["llama.context_length"] = u32(0); }},
      {"layer_norm_rms_epsilon",
       [&](auto& d) { d.keys["llama.attention.layer_norm_rms_epsilon"] = gguf_value(infinity); }},
      {"llama.rope.dimension_count",
       [&](auto& d) { d.keys["llama.rope.dimension_count"] = u32(7); }},
      {"llama.rope.dimension_count",
       [&](auto& d) { d.keys["llama.rope.dimension_count"] = u32(32); }},
      {"llama.rope.freq_base",
       [&](auto& d) { d.keys["llama.rope.freq_base"] = gguf_value(infinity); }},
      {"llama.rope.scaling.factor",
       [](auto& d) { d.keys["llama.rope.scaling.factor"] = gguf_value(1e-7f); }},
      {"llama.rope.scaling.factor",
       [](auto& d) { d.keys["llama.rope.scaling.factor"] = gguf_value(-1.0f); }},
      {"tensor 'blk.1.attn_q.weight' is of block 1, but key 'llama.block_count' is 1",
       [](auto& d) {
         d.tensors["blk.1.attn_q.weight"] = {64, 64};
       }},
      {"tensor 'blk.99999999999999999999.x' is of block",
       [](auto& d) { d.tensors["blk.99999999999999999999.x"] = {1}; }},
      {"llama.rope.scaling.type",
       [](auto& d) { d.keys["llama.rope.scaling.type"] = gguf_value("spiral"); }},
      {"llama.vocab_size", [&](auto& d) { d.keys["llama.vocab_size"] = u32(41); }},
      {"llama.expert_used_count", [&](auto& d) { d.keys["llama.expert_count"] = u32(8); }},
      {"token_embd.weight", [](auto& d) { d.tensors.erase("token_embd.weight"); }},
      {"blk.0.ffn_down.weight", [](auto& d) { d.tensors.erase("blk.0.ffn_down.weight"); }},
      {"blk.0.ffn_up.weight",
       [](auto& d) {
         d.tensors["blk.0.ffn_up.weight"] = {64, 95};
       }},
      {"blk.0.attn_norm.weight", [](auto& d) { d.tensors["blk.0.attn_norm.weight"] = {63}; }},
      {"blk.0.attn_k.weight",
       [](auto& d) {
         d.tensors["blk.0.attn_k.weight"] = {64, 32, 2};
       }},
      {"blk.0.attn_q.bias", [](auto& d) { d.tensors["blk.0.attn_q.bias"] = {65}; }},
      {"rope_freqs.weight", [](auto& d) { d.tensors["rope_freqs.weight"] = {7}; }},
      {"blk.0.ffn_gate.scale", [](auto& d) { d.tensors["blk.0.ffn_gate.scale"] = {2}; }},
      {"blk.0.ffn_gate.scale",
       [](auto& d) {
         d.tensors["blk.0.ffn_gate.scale"] = {1};
         d.types["blk.0.ffn_gate.scale"] = TensorType::kI32;
       }},
      {"token_embd.scale", [](auto& d) { d.tensors["token_embd.scale"] = {1}; }},
      {"rope_factors_short.weight", [](auto& d) { d.tensors["rope_factors_long.weight"] = {8}; }},
      {"rope_factors_long.weight", [](auto& d) { d.tensors["rope_factors_short.weight"] = {8}; }},
  };
  for (const auto& c : cases) {
    Description description;
    c.change(description);
    const auto spec = description.read();
    ASSERT_FALSE(spec.is_ok()) << c.expected;
    EXPECT_NE(spec.status().message().find(c.expected), std::string::npos)
        << spec.status().message();
  }
}

TEST(ModelSpec, IntegersHoldNoWeights) {
  const Description good;
  for (const auto& [name, dims] : good.tensors) {
    for (const TensorType type :
         {TensorType::kI8, TensorType::kI16, TensorType::kI32, TensorType::kI64}) {
      Description description;
      description.types[name] = type;
      const auto spec = description.read();
      ASSERT_FALSE(spec.is_ok()) << name;
      const std::string expected =
          "tensor '" + name + "' is of type " + std::string(tensor_type_name(type));
      EXPECT_NE(spec.status().message().find(expected), std::string::npos)
          << spec.status().message();
    }
    for (const TensorType type : {TensorType::kF16, TensorType::kBF16, TensorType::kF64}) {
      Description description;
      description.types[name] = type;
      const auto spec = description.read();
      EXPECT_TRUE(spec.is_ok()) << spec.status().message();
    }
  }
}

TEST(ModelSpec, DimensionsOfOneBehindTheOthersDoNotCount) {
  for (const auto& [name, dims] : Description().tensors) {
    Description description;
    description.tensors[name].push_back(1);
    const auto spec = description.read();
    EXPECT_TRUE(spec.is_ok()) << spec.status().message();
    description.tensors[name].back() = 2;
    EXPECT_FALSE(description.read().is_ok()) << name;
  }
}

TEST(ModelSpec, TensorsThatNobodyReadsAreNamed) {
  Description description;
  EXPECT_TRUE(description.read()->warnings.empty());
  description.tensors["blk.0.attn_q.bias"] = {64};  // read where it is there
  description.tensors["output.bias"] = {40};
  EXPECT_TRUE(description.read()->warnings.empty());
  description.tensors["blk.0.surplus.weight"] = {3};
  description.tensors["blk.x.weight"] = {3};
  description.tensors["cls.weight"] = {3};
  const auto spec = description.read();
  ASSERT_TRUE(spec.is_ok()) << spec.status().message();
  ASSERT_EQ(spec->warnings.size(), 1u);
  for (const char* part :
       {"does not read 3 tensor(s)", "'blk.0.surplus.weight'", "'blk.x.weight'", "'cls.weight'"}) {
    EXPECT_NE(spec->warnings[0].find(part), std::string::npos) << spec->warnings[0];
  }
  for (int i = 0; i < 20; ++i) description.tensors["more." + std::to_string(i)] = {1};
  const std::string many = description.read()->warnings.at(0);
  EXPECT_NE(many.find("23 tensor(s)"), std::string::npos) << many;
  EXPECT_NE(many.find("and 15 more"), std::string::npos) << many;
}

TEST(ModelSpec, IdsOfTheTokenizer) {
  Description description;
  EXPECT_EQ(description.read()->tokens, 40);  // no tokenizer: all rows
  for (const size_t count : {1u, 39u, 40u, 41u}) {
    description.keys["tokenizer.ggml.tokens"] = gguf_value(std::vector<std::string>(count, "x"));
    const auto spec = description.read();
    ASSERT_TRUE(spec.is_ok()) << spec.status().message();
    EXPECT_EQ(spec->vocab, 40);
    EXPECT_EQ(spec->tokens, static_cast<int64_t>(std::min<size_t>(count, 40)));
  }
}

// Converters write a factor of 0 where there is no scaling.
TEST(ModelSpec, AScalingFactorOfZeroIsOne) {
  for (const char* type : {"none", "linear", "yarn"}) {
    Description description;
    description.keys["llama.rope.scaling.type"] = gguf_value(type);
    description.keys["llama.rope.scaling.factor"] = gguf_value(1.0f);
    const auto one = description.read();
    description.keys["llama.rope.scaling.factor"] = gguf_value(0.0f);
    const auto zero = description.read();
    ASSERT_TRUE(one.is_ok() && zero.is_ok()) << type << zero.status().message();
    EXPECT_EQ(rope_inverse_frequencies(zero->layer[0].attention.rope, {}),
              rope_inverse_frequencies(one->layer[0].attention.rope, {}))
        << type;
  }
}

}  // namespace
}  // namespace shoal

// Mixtures and latent attention: what a good file means, and every mistake by the key's or tensor's
// name.
#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/model_spec.h"

namespace shoal {
namespace {

GgufValue u32(uint32_t value) { return gguf_value(value); }

struct Description {
  std::string arch;
  std::map<std::string, GgufValue> keys;  // without the architecture's prefix
  std::map<std::string, std::vector<uint64_t>> tensors;

  // Width 64, 4 heads of 16, 2 layers: the first dense, the second of 8 experts.
  static Description glm4moe() {
    Description d;
    d.arch = "glm4moe";
    d.keys = {{"block_count", u32(2)},
              {"context_length", u32(64)},
              {"embedding_length", u32(64)},
              {"feed_forward_length", u32(96)},
              {"attention.head_count", u32(4)},
              {"attention.head_count_kv", u32(2)},
              {"attention.layer_norm_rms_epsilon", gguf_value(1e-5f)},
              {"rope.dimension_count", u32(8)},
              {"leading_dense_block_count", u32(1)},
              {"expert_count", u32(8)},
              {"expert_used_count", u32(2)},
              {"expert_shared_count", u32(1)},
              {"expert_feed_forward_length", u32(32)},
              {"expert_weights_scale", gguf_value(1.5f)}};
    d.tensors = {{"token_embd.weight", {64, 40}}, {"output_norm.weight", {64}}};
    for (const std::string block : {"blk.0.", "blk.1."}) {
      d.tensors[block + "attn_norm.weight"] = {64};
      d.tensors[block + "attn_q.weight"] = {64, 64};
      d.tensors[block + "attn_k.weight"] = {64, 32};
      d.tensors[block + "attn_v.weight"] = {64, 32};
      d.tensors[block + "attn_output.weight"] = {64, 64};
      d.tensors[block + "post_attention_norm.weight"] = {64};
    }
    d.tensors["blk.0.ffn_gate.weight"] = {64, 96};
    d.tensors["blk.0.ffn_up.weight"] = {64, 96};
    d.tensors["blk.0.ffn_down.weight"] = {96, 64};
    d.add_experts("blk.1.");
    return d;
  }

  // The same with latent attention: rank 32, heads of 8 + 8 features, values of 16.
  static Description deepseek2() {
    Description d = glm4moe();
    d.arch = "deepseek2";
    d.keys["attention.kv_lora_rank"] = u32(32);
    d.keys["attention.q_lora_rank"] = u32(24);
    d.keys["attention.head_count_kv"] = u32(1);
    d.keys["attention.key_length"] = u32(40);
    d.keys["attention.value_length"] = u32(32);
    d.keys["attention.key_length_mla"] = u32(16);
    d.keys["attention.value_length_mla"] = u32(16);
    for (const std::string block : {"blk.0.", "blk.1."}) {
      for (const char* gone : {"attn_q", "attn_k", "attn_v", "post_attention_norm"}) {
        d.tensors.erase(block + gone + ".weight");
      }
      d.tensors[block + "ffn_norm.weight"] = {64};
      d.tensors[block + "attn_q_a.weight"] = {64, 24};
      d.tensors[block + "attn_q_a_norm.weight"] = {24};
      d.tensors[block + "attn_q_b.weight"] = {24, 64};
      d.tensors[block + "attn_kv_a_mqa.weight"] = {64, 40};
      d.tensors[block + "attn_kv_a_norm.weight"] = {32};
      d.tensors[block + "attn_k_b.weight"] = {8, 32, 4};
      d.tensors[block + "attn_v_b.weight"] = {32, 16, 4};
    }
    return d;
  }

  void add_experts(const std::string& block) {
    tensors[block + "ffn_gate_inp.weight"] = {64, 8};
    tensors[block + "exp_probs_b.bias"] = {8};
    tensors[block + "ffn_gate_exps.weight"] = {64, 32, 8};
    tensors[block + "ffn_up_exps.weight"] = {64, 32, 8};
    tensors[block + "ffn_down_exps.weight"] = {32, 64, 8};
    tensors[block + "ffn_gate_shexp.weight"] = {64, 32};
    tensors[block + "ffn_up_shexp.weight"] = {64, 32};
    tensors[block + "ffn_down_shexp.weight"] = {32, 64};
  }

  Result<ModelSpec> read() const {
    GgufWriter writer;
    writer.add_kv("general.architecture", gguf_value(arch.c_str()));
    for (const auto& [key, value] : keys) writer.add_kv(arch + "." + key, value);
    for (const auto& [name, dims] : tensors) {
      const auto zeros = [](uint64_t, uint64_t, std::span<uint8_t>) { return Status::ok(); };
      SHOAL_TRY(writer.add_tensor(name, TensorType::kF32, dims, zeros));
    }
    SHOAL_ASSIGN(auto bytes, writer.finish_bytes());
    SHOAL_ASSIGN(const GgufFile file,
                 GgufFile::parse(make_memory_source("m.gguf", std::move(bytes))));
    return read_model_spec(file);
  }
};

TEST(MixtureSpec, AGoodFileIsRead) {
  const auto spec = Description::glm4moe().read();
  ASSERT_TRUE(spec.is_ok()) << spec.status().message();
  EXPECT_EQ(spec->layer[0].ffn.features, 96);
  EXPECT_EQ(spec->layer[0].ffn.moe.experts, 0);
  const FfnLayer& ffn = spec->layer[1].ffn;
  EXPECT_EQ(ffn.features, 0);
  EXPECT_EQ(ffn.moe.experts, 8);
  EXPECT_EQ(ffn.moe.top_k, 2);
  EXPECT_EQ(ffn.moe.features, 32);
  EXPECT_EQ(ffn.moe.shared_features, 32);
  EXPECT_EQ(ffn.moe.gating, Gating::kSigmoid);
  EXPECT_TRUE(ffn.moe.normalise);
  EXPECT_FLOAT_EQ(ffn.moe.weight_scale, 1.5f);
  EXPECT_EQ(spec->parameters() - spec->active_parameters(), 6u * 3 * 32 * 64);
}

TEST(MixtureSpec, TrailingPredictionBlocksAreLeftOut) {
  Description d = Description::glm4moe();
  d.keys["block_count"] = u32(3);
  d.keys["nextn_predict_layers"] = u32(1);
  d.tensors["blk.2.nextn.eh_proj.weight"] = {128, 64};
  const auto spec = d.read();
  ASSERT_TRUE(spec.is_ok()) << spec.status().message();
  EXPECT_EQ(spec->layers, 2);
  EXPECT_EQ(spec->skipped_layers, 1);
  for (const TensorDecl& tensor : spec->tensors) EXPECT_LT(tensor.layer, 2) << tensor.name;
}

TEST(MixtureSpec, GateAndUpMayBeOneTensor) {
  Description d = Description::glm4moe();
  d.tensors.erase("blk.1.ffn_gate_exps.weight");
  d.tensors.erase("blk.1.ffn_up_exps.weight");
  d.tensors["blk.1.ffn_gate_up_exps.weight"] = {64, 64, 8};
  const auto spec = d.read();
  ASSERT_TRUE(spec.is_ok()) << spec.status().message();
  const TensorDecl* up = spec->find(Role::kExpertUp, 1);
  EXPECT_EQ(up->first_row, 32);
  EXPECT_EQ(up->expert_rows, 64);
  EXPECT_EQ(up->experts, 8);
}

TEST(LatentSpec, BothGenerationsMeanTheSame) {
  Description older = Description::deepseek2();
  older.keys["attention.head_count_kv"] = u32(4);
  older.keys["attention.key_length"] = u32(16);
  older.keys["attention.value_length"] = u32(16);
  older.keys.erase("attention.key_length_mla");
  older.keys.erase("attention.value_length_mla");
  for (const std::string block : {"blk.0.", "blk.1."}) {
    older.tensors.erase(block + "attn_k_b.weight");
    older.tensors.erase(block + "attn_v_b.weight");
    older.tensors[block + "attn_kv_b.weight"] = {32, 96};
  }
  for (const Description& d : {Description::deepseek2(), older}) {
    const auto spec = d.read();
    ASSERT_TRUE(spec.is_ok()) << spec.status().message();
    const AttentionLayer& a = spec->layer[0].attention;
    EXPECT_TRUE(a.is_latent());
    EXPECT_EQ(a.kv_heads, 1);
    EXPECT_EQ(a.head_dim, 40);
    EXPECT_EQ(a.query_dim(), 16);
    EXPECT_EQ(a.output_dim(), 16);
    EXPECT_FLOAT_EQ(a.scale, 0.25f);
    EXPECT_EQ(spec->find(Role::kLatentKB, 0)->rows, 128);
    EXPECT_EQ(spec->find(Role::kLatentVB, 0)->rows, 64);
  }
}

struct Mistake {
  const char* expected;
  std::function<void(Description&)> change;
};

void expect_refused(Description (*good)(), const Mistake& mistake) {
  Description d = good();
  mistake.change(d);
  const auto spec = d.read();
  ASSERT_FALSE(spec.is_ok()) << mistake.expected;
  EXPECT_NE(spec.status().message().find(mistake.expected), std::string::npos)
      << spec.status().message();
}

TEST(MixtureSpec, EveryMistakeIsNamed) {
  const auto key = [](const char* name, GgufValue value) {
    return [=](Description& d) { d.keys[name] = value; };
  };
  const auto no_key = [](const char* name) { return [=](Description& d) { d.keys.erase(name); }; };
  const auto shape = [](const char* name, std::vector<uint64_t> dims) {
    return [=](Description& d) { d.tensors[name] = dims; };
  };
  const auto gone = [](const char* name) { return [=](Description& d) { d.tensors.erase(name); }; };
  const Mistake mistakes[] = {
      {"glm4moe.expert_count", no_key("expert_count")},
      {"glm4moe.expert_count", key("expert_count", u32(0))},
      {"glm4moe.expert_count", key("expert_count", u32(100000))},
      {"blk.1.ffn_gate_inp.weight", key("expert_count", u32(7))},
      {"glm4moe.expert_used_count", no_key("expert_used_count")},
      {"glm4moe.expert_used_count", key("expert_used_count", u32(0))},
      {"glm4moe.expert_used_count", key("expert_used_count", u32(9))},
      {"glm4moe.expert_feed_forward_length", no_key("expert_feed_forward_length")},
      {"glm4moe.expert_feed_forward_length", key("expert_feed_forward_length", u32(0))},
      {"blk.1.ffn_gate_exps.weight", key("expert_feed_forward_length", u32(64))},
      {"glm4moe.expert_gating_func", key("expert_gating_func", u32(5))},
      {"glm4moe.expert_weights_scale", key("expert_weights_scale", gguf_value(-1.0f))},
      {"glm4moe.expert_weights_norm", key("expert_weights_norm", u32(1))},
      {"glm4moe.expert_group_count", key("expert_group_count", u32(3))},
      {"glm4moe.expert_group_count", key("expert_group_count", u32(9))},
      {"glm4moe.expert_group_used_count",
       [](Description& d) {
         d.keys["expert_group_count"] = u32(8);
         d.keys["expert_group_used_count"] = u32(1);
       }},
      {"glm4moe.leading_dense_block_count", key("leading_dense_block_count", u32(3))},
      {"glm4moe.expert_shared_count", key("expert_shared_count", u32(1000))},
      {"blk.1.ffn_gate_shexp.weight", key("expert_shared_count", u32(2))},
      {"glm4moe.expert_shared_count", no_key("expert_shared_count")},
      {"glm4moe.nextn_predict_layers", key("nextn_predict_layers", u32(2))},
      {"tensor 'blk.1.nextn.eh_proj.weight' is of a block that predicts further tokens",
       shape("blk.1.nextn.eh_proj.weight", {128, 64})},
      {"block 1 (tensor 'blk.1.attn_k.weight')", key("nextn_predict_layers", u32(1))},
      {"glm4moe.feed_forward_length", no_key("feed_forward_length")},
      {"blk.1.ffn_gate_exps.weight", shape("blk.1.ffn_gate_exps.weight", {64, 32, 7})},
      {"blk.1.ffn_gate_exps.weight", shape("blk.1.ffn_gate_exps.weight", {64, 32})},
      {"blk.1.ffn_up_exps.weight", gone("blk.1.ffn_up_exps.weight")},
      {"blk.1.ffn_down_exps.weight", shape("blk.1.ffn_down_exps.weight", {64, 32, 8})},
      {"blk.1.exp_probs_b.bias", shape("blk.1.exp_probs_b.bias", {9})},
      {"blk.1.ffn_gate_inp.weight", gone("blk.1.ffn_gate_inp.weight")},
      {"blk.1.ffn_gate_exps.bias", shape("blk.1.ffn_gate_exps.bias", {32, 9})},
      {"blk.1.ffn_gate_exps.scale", shape("blk.1.ffn_gate_exps.scale", {8})},
      {"blk.1.ffn_gate.0.weight", shape("blk.1.ffn_gate.0.weight", {64, 32})},
      {"blk.0.post_attention_norm.weight", gone("blk.0.post_attention_norm.weight")},
      {"blk.0.attn_q_norm.weight", shape("blk.0.attn_q_norm.weight", {8})},
  };
  for (const Mistake& mistake : mistakes) expect_refused(Description::glm4moe, mistake);
}

// What may be in a block or not is in all blocks of its kind or in none.
TEST(MixtureSpec, BlocksAreAlike) {
  const auto three_blocks = [] {
    Description d = Description::glm4moe();
    d.keys["block_count"] = u32(3);
    for (const auto& [name, dims] : std::map(d.tensors)) {
      if (name.starts_with("blk.1.")) d.tensors["blk.2." + name.substr(6)] = dims;
    }
    return d;
  };
  ASSERT_TRUE(three_blocks().read().is_ok()) << three_blocks().read().status().message();
  const struct {
    const char* tail;
    std::vector<uint64_t> dims;
    bool of_mixtures = false;  // else of every block
  } optional[] = {{"attn_q.bias", {64}},
                  {"attn_k.bias", {32}},
                  {"attn_output.bias", {64}},
                  {"attn_q_norm.weight", {16}},
                  {"exp_probs_b.bias", {8}, true},
                  {"ffn_gate_inp.bias", {8}, true},
                  {"ffn_up_exps.bias", {32, 8}, true},
                  {"ffn_gate_inp_shexp.weight", {64, 1}, true}};
  for (const auto& tensor : optional) {
    std::vector<std::string> blocks = {"blk.1.", "blk.2."};
    if (!tensor.of_mixtures) blocks.push_back("blk.0.");
    const bool norm = std::string(tensor.tail) == "attn_q_norm.weight";
    for (const std::string& odd : blocks) {
      for (const bool there : {false, true}) {
        Description d = three_blocks();
        for (const std::string& block : blocks) {
          d.tensors.erase(block + tensor.tail);
          if ((block == odd) == there) d.tensors[block + tensor.tail] = tensor.dims;
          if ((block == odd) == there && norm) d.tensors[block + "attn_k_norm.weight"] = {16};
        }
        const auto spec = d.read();
        ASSERT_FALSE(spec.is_ok()) << odd << tensor.tail;
        EXPECT_NE(spec.status().message().find("'" + odd + tensor.tail + "'"), std::string::npos)
            << spec.status().message();
      }
    }
    Description all = three_blocks();
    for (const std::string& block : blocks) {
      all.tensors[block + tensor.tail] = tensor.dims;
      if (norm) all.tensors[block + "attn_k_norm.weight"] = {16};
    }
    const auto spec = all.read();
    EXPECT_TRUE(spec.is_ok() && spec->warnings.empty()) << spec.status().message();
  }
}

TEST(LatentSpec, EveryMistakeIsNamed) {
  const auto key = [](const char* name, GgufValue value) {
    return [=](Description& d) { d.keys[name] = value; };
  };
  const auto shape = [](const char* name, std::vector<uint64_t> dims) {
    return [=](Description& d) { d.tensors[name] = dims; };
  };
  const Mistake mistakes[] = {
      {"deepseek2.attention.kv_lora_rank",
       [](Description& d) { d.keys.erase("attention.kv_lora_rank"); }},
      {"deepseek2.attention.kv_lora_rank", key("attention.kv_lora_rank", u32(0))},
      {"deepseek2.attention.q_lora_rank",
       [](Description& d) { d.keys.erase("attention.q_lora_rank"); }},
      {"deepseek2.attention.key_length_mla", key("attention.key_length_mla", u32(8))},
      {"blk.0.attn_v_b.weight", key("attention.value_length_mla", u32(8))},
      {"deepseek2.rope.dimension_count",
       [](Description& d) { d.keys.erase("rope.dimension_count"); }},
      {"blk.0.attn_kv_a_mqa.weight", shape("blk.0.attn_kv_a_mqa.weight", {64, 32})},
      {"blk.1.attn_k_b.weight", shape("blk.1.attn_k_b.weight", {8, 32, 5})},
      {"blk.1.attn_k_b.weight", [](Description& d) { d.tensors.erase("blk.1.attn_k_b.weight"); }},
      {"blk.1.attn_v_b.weight", [](Description& d) { d.tensors.erase("blk.1.attn_v_b.weight"); }},
      {"blk.1.attn_kv_b.weight",
       [](Description& d) {
         d.tensors.erase("blk.1.attn_k_b.weight");
         d.tensors.erase("blk.1.attn_v_b.weight");
       }},
      {"blk.1.attn_k_b.scale", shape("blk.1.attn_k_b.scale", {1})},
      {"blk.0.attn_q_b.weight", shape("blk.0.attn_q_b.weight", {24, 60})},
  };
  for (const Mistake& mistake : mistakes) expect_refused(Description::deepseek2, mistake);
}

}  // namespace
}  // namespace shoal

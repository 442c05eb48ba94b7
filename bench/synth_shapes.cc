// Named shapes: dimensions as published by the models' authors (docs/models.md).
#include "base/quote.h"
#include "bench/synth.h"

namespace shoal {
namespace {

struct NamedShape {
  const char* name;
  SynthShape shape;
};

// Columns: layers, width, heads, KV heads, head size, dense FFN, vocabulary, context, rope base.
SynthShape dense(const char* architecture, int64_t layers, int64_t width, int64_t heads,
                 int64_t kv_heads, int64_t head_dim, int64_t ffn, int64_t vocab, int64_t context,
                 float rope_base) {
  SynthShape shape;
  shape.architecture = architecture;
  shape.layers = layers;
  shape.width = width;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = head_dim;
  shape.ffn = ffn;
  shape.vocab = vocab;
  shape.context = context;
  shape.rope_base = rope_base;
  return shape;
}

SynthShape with_moe(SynthShape shape, const SynthMoe& moe) {
  shape.moe = moe;
  return shape;
}

SynthShape llama3(SynthShape shape, bool tied) {
  shape.llama3_rope_factors = true;
  shape.tied_output = tied;
  return shape;
}

SynthShape gpt_oss(int64_t layers, int64_t experts, int64_t width, int64_t heads, int64_t vocab) {
  SynthShape shape =
      dense("gpt-oss", layers, width, heads, heads / 8, 64, width, vocab, 131072, 150000.0f);
  shape.window = 128;
  shape.yarn_factor = 32;
  shape.moe = {.experts = experts, .top_k = 4, .features = width};
  return shape;
}

SynthShape glm_air() {
  SynthShape shape = dense("glm4moe", 46, 4096, 96, 8, 128, 10944, 151552, 131072, 1e6f);
  shape.rope_dims = 64;
  shape.moe = {.experts = 128, .top_k = 8, .features = 1408, .shared = 1, .leading_dense = 1};
  return shape;
}

SynthShape glm_flash() {
  SynthShape shape = dense("deepseek2", 47, 2048, 20, 1, 0, 10240, 154880, 202752, 1e6f);
  shape.latent = {.q_rank = 768, .kv_rank = 512, .nope = 192, .rope = 64, .value = 256};
  shape.moe = {.experts = 64,
               .top_k = 4,
               .features = 1536,
               .shared = 1,
               .leading_dense = 1,
               .weight_scale = 1.8f};
  return shape;
}

const std::vector<NamedShape>& shapes() {
  static const std::vector<NamedShape> all = {
      {"tiny", dense("llama", 2, 256, 4, 2, 64, 512, 512, 2048, 1e4f)},
      // 288 = 1⅛ super-blocks, as 2880 is 11¼
      {"tiny-gpt-oss", gpt_oss(4, 8, 288, 16, 1024)},
      {"llama-3.2-1b",
       llama3(dense("llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 5e5f), true)},
      {"llama-3.1-8b",
       llama3(dense("llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 5e5f), false)},
      {"llama-3.3-70b",
       llama3(dense("llama", 80, 8192, 64, 8, 128, 28672, 128256, 131072, 5e5f), false)},
      {"qwen2.5-72b", dense("qwen2", 80, 8192, 64, 8, 128, 29568, 152064, 32768, 1e6f)},
      {"qwen3-32b", dense("qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960, 1e6f)},
      {"qwen3-30b-a3b", with_moe(dense("qwen3moe", 48, 2048, 32, 4, 128, 6144, 151936, 40960, 1e6f),
                                 {.experts = 128, .top_k = 8, .features = 768})},
      {"qwen3-235b-a22b",
       with_moe(dense("qwen3moe", 94, 4096, 64, 4, 128, 12288, 151936, 40960, 1e6f),
                {.experts = 128, .top_k = 8, .features = 1536})},
      {"mixtral-8x7b", with_moe(dense("llama", 32, 4096, 32, 8, 128, 14336, 32000, 32768, 1e6f),
                                {.experts = 8, .top_k = 2, .features = 14336})},
      {"gpt-oss-20b", gpt_oss(24, 32, 2880, 64, 201088)},
      {"gpt-oss-120b", gpt_oss(36, 128, 2880, 64, 201088)},
      {"glm-4.5-air", glm_air()},
      {"glm-4.7-flash", glm_flash()},
      {"llama-4-scout",
       with_moe(dense("llama4", 48, 5120, 40, 8, 128, 16384, 202048, 10485760, 5e5f),
                {.experts = 16, .top_k = 1, .features = 8192, .shared = 1})},
      {"moe-64e", with_moe(dense("qwen3moe", 8, 1024, 16, 4, 64, 6144, 32000, 32768, 1e6f),
                           {.experts = 64, .top_k = 8, .features = 768})},
  };
  return all;
}

}  // namespace

std::vector<std::string> synth_shape_names() {
  std::vector<std::string> names;
  for (const NamedShape& shape : shapes()) names.push_back(shape.name);
  return names;
}

Result<SynthShape> synth_shape(const std::string& name) {
  std::string known;
  for (const NamedShape& shape : shapes()) {
    if (name == shape.name) return shape.shape;
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  return invalid_argument("unknown shape " + in_quotes(name) + "; there are: " + known);
}

}  // namespace shoal

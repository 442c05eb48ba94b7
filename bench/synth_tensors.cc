// The tensors of a synthetic model: names and shapes by architecture (docs/models.md).
#include <cmath>

#include <fmt/core.h>

#include "bench/synth.h"

namespace shoal {
namespace {

// How the architectures differ, apart from shapes.
struct Architecture {
  const char* name;
  const char* ffn_norm = "ffn_norm";
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;
  bool sinks = false;
  bool expert_bias = false;     // of the router, too
  bool selection_bias = false;  // exp_probs_b
};

const Architecture kArchitectures[] = {
    {.name = "llama"},
    {.name = "qwen2", .qkv_bias = true},
    {.name = "qwen3", .qk_norm = true},
    {.name = "qwen3moe", .qk_norm = true},
    {.name = "glm4moe",
     .ffn_norm = "post_attention_norm",
     .qkv_bias = true,
     .selection_bias = true},
    {.name = "gpt-oss",
     .ffn_norm = "post_attention_norm",
     .qkv_bias = true,
     .output_bias = true,
     .sinks = true,
     .expert_bias = true},
    {.name = "llama4"},
    {.name = "deepseek2", .selection_bias = true},
};

constexpr float kBiasScale = 0.1f;

class TensorList {
 public:
  TensorList(const SynthShape& shape, const Architecture& architecture)
      : shape_(shape), architecture_(architecture) {}

  std::vector<SynthTensor> make() {
    matrix("token_embd", {shape_.width, shape_.vocab});
    // Embeddings of unit scale, unless they are the output matrix, too.
    if (!shape_.tied_output) tensors_.back().scale = 1.0f;
    norm("output_norm", shape_.width);
    if (!shape_.tied_output) matrix("output", {shape_.width, shape_.vocab});
    for (layer_ = 0; layer_ < shape_.layers; ++layer_) {
      norm("attn_norm", shape_.width);
      if (shape_.latent.kv_rank > 0) {
        latent_attention();
      } else {
        attention();
      }
      norm(architecture_.ffn_norm, shape_.width);
      if (shape_.moe.experts > 0 && layer_ >= shape_.moe.leading_dense) {
        mixture();
      } else {
        network("", shape_.ffn);
      }
    }
    return std::move(tensors_);
  }

 private:
  void attention() {
    const int64_t q = shape_.heads * shape_.head_dim, kv = shape_.kv_heads * shape_.head_dim;
    projection("attn_q", shape_.width, q, architecture_.qkv_bias);
    projection("attn_k", shape_.width, kv, architecture_.qkv_bias);
    projection("attn_v", shape_.width, kv, architecture_.qkv_bias);
    projection("attn_output", q, shape_.width, architecture_.output_bias);
    if (architecture_.qk_norm) {
      norm("attn_q_norm", shape_.head_dim);
      norm("attn_k_norm", shape_.head_dim);
    }
    if (architecture_.sinks) noise("attn_sinks", ".weight", {shape_.heads}, 1.0f);
  }

  void latent_attention() {
    const SynthLatent& latent = shape_.latent;
    const int64_t q = shape_.heads * (latent.nope + latent.rope);
    if (latent.q_rank > 0) {
      matrix("attn_q_a", {shape_.width, latent.q_rank});
      norm("attn_q_a_norm", latent.q_rank);
      matrix("attn_q_b", {latent.q_rank, q});
    } else {
      matrix("attn_q", {shape_.width, q});
    }
    matrix("attn_kv_a_mqa", {shape_.width, latent.kv_rank + latent.rope});
    norm("attn_kv_a_norm", latent.kv_rank);
    matrix("attn_k_b", {latent.nope, latent.kv_rank, shape_.heads});
    matrix("attn_v_b", {latent.kv_rank, latent.value, shape_.heads});
    matrix("attn_output", {shape_.heads * latent.value, shape_.width});
  }

  void mixture() {
    const SynthMoe& moe = shape_.moe;
    matrix("ffn_gate_inp", {shape_.width, moe.experts});
    tensors_.back().fill = SynthFill::kRouter;
    if (architecture_.expert_bias) noise("ffn_gate_inp", ".bias", {moe.experts}, kBiasScale);
    if (architecture_.selection_bias) noise("exp_probs_b", ".bias", {moe.experts}, kBiasScale);
    const struct {
      const char* name;
      int64_t in, out;
    } parts[] = {{"ffn_gate_exps", shape_.width, moe.features},
                 {"ffn_up_exps", shape_.width, moe.features},
                 {"ffn_down_exps", moe.features, shape_.width}};
    for (const auto& part : parts) {
      matrix(part.name, {part.in, part.out, moe.experts});
      if (!architecture_.expert_bias) continue;
      noise(part.name, ".bias", {part.out, moe.experts}, kBiasScale);
    }
    if (moe.shared > 0) network("_shexp", moe.shared * moe.features);
  }

  void network(const std::string& suffix, int64_t features) {
    matrix("ffn_gate" + suffix, {shape_.width, features});
    matrix("ffn_up" + suffix, {shape_.width, features});
    matrix("ffn_down" + suffix, {features, shape_.width});
  }

  void projection(const std::string& role, int64_t in, int64_t out, bool bias) {
    matrix(role, {in, out});
    if (bias) noise(role, ".bias", {out}, kBiasScale);
  }

  // Projections that keep the variance of their input.
  void matrix(const std::string& role, std::vector<int64_t> dims) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(dims[0]));
    add(role, ".weight", std::move(dims), SynthFill::kMatrix, scale);
  }
  void norm(const std::string& role, int64_t n) {
    add(role, ".weight", {n}, SynthFill::kNorm, 0.1f);
  }
  void noise(const std::string& role, const char* suffix, std::vector<int64_t> dims, float scale) {
    add(role, suffix, std::move(dims), SynthFill::kNoise, scale);
  }
  void add(const std::string& role, const char* suffix, std::vector<int64_t> dims, SynthFill fill,
           float scale) {
    const std::string block = layer_ < 0 ? "" : fmt::format("blk.{}.", layer_);
    tensors_.push_back({block + role + suffix, role, layer_, std::move(dims), fill, scale});
  }

  const SynthShape& shape_;
  const Architecture& architecture_;
  int64_t layer_ = -1;
  std::vector<SynthTensor> tensors_;
};

}  // namespace

std::vector<std::string> synth_architectures() {
  std::vector<std::string> names;
  for (const Architecture& known : kArchitectures) names.push_back(known.name);
  return names;
}

std::vector<SynthTensor> synth_tensors(const SynthShape& shape) {
  for (const Architecture& known : kArchitectures) {
    if (shape.architecture == known.name) return TensorList(shape, known).make();
  }
  return {};
}

}  // namespace shoal

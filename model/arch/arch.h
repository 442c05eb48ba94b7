// What the per-architecture functions share. An architecture is one function here-about
// (llama.cc, qwen.cc, …) that turns metadata into a ModelSpec and declares its tensors, plus one
// row of the table in model_spec.cc.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/model_spec.h"

namespace shoal {

// Reads "{architecture}.key". Errors name the whole key.
class ArchMetadata {
 public:
  explicit ArchMetadata(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  const GgufFile& file() const { return file_; }
  const std::string& architecture() const { return architecture_; }
  std::string key(const std::string& name) const { return architecture_ + "." + name; }

  // An integer in [low, high]; missing → `fallback`, or an error if there is none.
  Result<int64_t> integer(const std::string& name, int64_t low, int64_t high,
                          std::optional<int64_t> fallback = std::nullopt) const;
  // The same, one per layer: a scalar applies to all, an array must have `layers` entries.
  Result<std::vector<int64_t>> per_layer(const std::string& name, int64_t layers, int64_t low,
                                         int64_t high,
                                         std::optional<int64_t> fallback = std::nullopt) const;
  // A finite number in [low, high].
  Result<float> number(const std::string& name, double low, double high,
                       std::optional<float> fallback = std::nullopt) const;
  Result<std::string> text(const std::string& name, const std::string& fallback) const;
  Result<bool> boolean(const std::string& name, bool fallback) const;
  bool has(const std::string& name) const { return file_.has(key(name)); }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

// Dimensions, heads, FFN width, epsilon and rope of a decoder whose layers are alike in kind;
// trailing NextN (MTP) blocks are left out. Leaves spec.tensors empty.
Result<ModelSpec> read_decoder(const ArchMetadata& meta, RopeStyle rope,
                               NormKind norm = NormKind::kRms);

// rope.* keys for heads of head_dim features.
Result<RopeSpec> read_rope(const ArchMetadata& meta, RopeStyle style, int64_t head_dim,
                           int64_t context);
// rope.scaling.yarn_log_multiplier, 0 if missing: the L of docs/models.md.
Result<float> read_yarn_log_multiplier(const ArchMetadata& meta);
// 1 + 0.1 · s · ln(factor): Peng et al. 2023, "YaRN", equation 22, with the multiplier of DeepSeek.
float yarn_magnitude(const RopeSpec& rope, float s);

// What an architecture says where the file's keys are silent.
struct MoeDefaults {
  Gating gating = Gating::kSoftmax;  // expert_gating_func missing or 0
  bool normalise = false;            // expert_weights_norm missing
  int64_t features = 0;              // expert_feed_forward_length missing; 0: it must be there
};
// expert_* keys but for the shared expert. REQUIRES expert_count ≥ 1 in the file, else an error.
Result<MoeLayer> read_moe(const ArchMetadata& meta, const MoeDefaults& defaults);
// feed_forward_length of each layer, or 0 where the key is missing (all layers are mixtures).
Result<std::vector<int64_t>> read_dense_features(const ArchMetadata& meta, const ModelSpec& spec);

// Collects declarations; the first missing or misshapen tensor becomes status(), and so does one
// that some blocks have and others lack where every block may have it or not: no model is made that
// way, and answers without it would be another model's.
class TensorDeclarer {
 public:
  TensorDeclarer(const GgufFile& file, ModelSpec& spec) : file_(file), spec_(spec) {}

  // A matrix [rows, cols] (file dims {cols, rows}).
  void matrix(Role role, int layer, const std::string& name, int64_t rows, int64_t cols,
              Split split);
  // `count` matrices [rows, cols] one behind the other (file dims {cols, rows, count}): attn_k_b.
  void stacked(Role role, int layer, const std::string& name, int64_t count, int64_t rows,
               int64_t cols, Split split);
  // A vector of n; `split` says how it is cut (rows of the output it belongs to).
  void vector(Role role, int layer, const std::string& name, int64_t n, Split split,
              bool bias = false);
  // The same where it may be missing: has_optional().
  void optional_vector(Role role, int layer, const std::string& name, int64_t n, Split split,
                       bool bias = false);
  // name.weight of the residual stream's width and, for a LayerNorm, name.bias if it is there.
  void norm(Role role, int layer, const std::string& name);
  bool has(const std::string& name) const;
  // Whether `name`, a tensor of block `layer` (−1: of none), is there, which all blocks that are
  // asked must answer alike.
  bool has_optional(int layer, const std::string& name);
  Status status() const;

  // Everything of a decoder with ordinary blocks: globals(), then attention() and ffn() of each
  // layer. `ffn_norm`: name of the norm before the FFN, or empty if there is none.
  void decoder(const std::string& ffn_norm = "ffn_norm");
  // token_embd, output_norm, output (or tied), rope_freqs.
  void globals();
  // attn_norm, q/k/v (or fused attn_qkv), attn_output, with whatever biases the file has, norms of
  // q and k as AttentionLayer::qk_norm says; the latent form where the layer is latent.
  void attention(int layer);
  // ffn_norm, then the dense network or the mixture, with whatever biases the file has.
  void ffn(int layer, const std::string& ffn_norm);

 private:
  // dims: what the file's tensor must have, fastest first.
  void declare(TensorDecl decl, const std::vector<int64_t>& dims);
  void projection(Role role, int layer, const std::string& name, int64_t rows, int64_t cols,
                  Split split, Split bias_split);
  void query_key_value(int layer);
  void latent_attention(int layer);
  void latent_up_projections(int layer);
  void dense_ffn(int layer);
  void mixture(int layer);
  void shared_expert(int layer);
  // One of gate, up, down of all experts; `part` of `parts` equal parts of each expert's rows.
  void expert(Role role, int layer, const std::string& name, int64_t rows, int64_t cols,
              Split split, Split bias_split, int64_t part = 0, int64_t parts = 1);

  const GgufFile& file_;
  ModelSpec& spec_;
  Status status_;
  struct Presence {
    std::string with, without;  // a tensor that is there, one that is not
  };
  // One of two forms must be there.
  void need_either(const std::string& name, const std::string& other);
  // Tensors of one `kind` are all there or none of them.
  void note_optional(const std::string& kind, const std::string& name, bool there);
  std::map<std::string, Presence> optional_;  // by kind: for most, what follows "blk.N."
};

// One function per row of the table in model_spec.cc.
Result<ModelSpec> read_llama(const ArchMetadata& meta);
Result<ModelSpec> read_llama4(const ArchMetadata& meta);
Result<ModelSpec> read_mistral3(const ArchMetadata& meta);
Result<ModelSpec> read_qwen2(const ArchMetadata& meta);
Result<ModelSpec> read_qwen2moe(const ArchMetadata& meta);
Result<ModelSpec> read_qwen3(const ArchMetadata& meta);
Result<ModelSpec> read_qwen3moe(const ArchMetadata& meta);
Result<ModelSpec> read_gpt_oss(const ArchMetadata& meta);
Result<ModelSpec> read_glm4moe(const ArchMetadata& meta);
Result<ModelSpec> read_deepseek2(const ArchMetadata& meta);
Result<ModelSpec> read_phi3(const ArchMetadata& meta);
Result<ModelSpec> read_gemma3(const ArchMetadata& meta);
Result<ModelSpec> read_falcon(const ArchMetadata& meta);
Result<ModelSpec> read_command_r(const ArchMetadata& meta);

}  // namespace shoal

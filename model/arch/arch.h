// What the per-architecture functions share. An architecture is one function here-about
// (llama.cc, qwen.cc, …) that turns metadata into a ModelSpec and declares its tensors, plus one
// row of the table in model_spec.cc.
#pragma once

#include <string>

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

 private:
  const GgufFile& file_;
  std::string architecture_;
};

// Dimensions, heads, FFN width, epsilon and rope of a decoder whose layers are alike in kind.
// Leaves spec.tensors empty.
Result<ModelSpec> read_decoder(const ArchMetadata& meta, RopeStyle rope);

// Collects declarations; the first missing or misshapen tensor becomes status().
class TensorDeclarer {
 public:
  TensorDeclarer(const GgufFile& file, ModelSpec& spec) : file_(file), spec_(spec) {}

  // A matrix [rows, cols] (file dims {cols, rows}).
  void matrix(Role role, int layer, const std::string& name, int64_t rows, int64_t cols,
              Split split);
  // A vector of n; `split` says how it is cut (rows of the output it belongs to).
  void vector(Role role, int layer, const std::string& name, int64_t n, Split split,
              bool bias = false);
  void optional_vector(Role role, int layer, const std::string& name, int64_t n, Split split,
                       bool bias = false);
  bool has(const std::string& name) const;
  const Status& status() const { return status_; }

  // token_embd, output_norm, output (or tied), rope_freqs.
  void globals();
  // attn_norm, q/k/v (or fused attn_qkv), attn_output, with whatever biases the file has.
  void attention(int layer);
  // ffn_norm, gate, up, down, with whatever biases the file has.
  void dense_ffn(int layer);

 private:
  void declare(TensorDecl decl, int64_t file_rows, bool is_vector);
  void projection(Role role, int layer, const std::string& name, int64_t rows, int64_t cols,
                  Split split, Split bias_split);

  const GgufFile& file_;
  ModelSpec& spec_;
  Status status_;
};

Result<ModelSpec> read_llama(const ArchMetadata& meta);
Result<ModelSpec> read_qwen2(const ArchMetadata& meta);
Result<ModelSpec> read_qwen3(const ArchMetadata& meta);

}  // namespace shoal

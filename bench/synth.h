// Random-weight GGUF files with real shapes and types, for benchmarks and layout tests. The numbers
// in such a model mean nothing, but every byte is a valid block, activations stay finite, and the
// tokenizer round-trips any text byte by byte.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/gguf.h"
#include "model/tensor_type.h"

namespace shoal {

// A mixture of experts; experts = 0: dense layers only.
struct SynthMoe {
  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t features = 0;       // hidden width of one expert
  int64_t shared = 0;         // shared experts of that width; llama4 always has one
  int64_t leading_dense = 0;  // layers before the first mixture: glm4moe, deepseek2
  float weight_scale = 1.0f;  // written where it is not 1
};

// Latent attention (deepseek2): see LatentAttention in model/model_spec.h.
struct SynthLatent {
  int64_t q_rank = 0;  // 0: one attn_q matrix
  int64_t kv_rank = 0;
  int64_t nope = 0;
  int64_t rope = 0;
  int64_t value = 0;
};

struct SynthShape {
  std::string architecture = "llama";  // one of synth_architectures()
  int64_t layers = 1;
  int64_t width = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // deepseek2: 1
  int64_t head_dim = 0;  // unused by deepseek2
  int64_t ffn = 0;       // of dense layers
  int64_t vocab = 0;
  int64_t context = 4096;
  float rope_base = 500000.0f;
  bool tied_output = false;
  bool llama3_rope_factors = false;  // writes rope_freqs.weight
  int64_t rope_dims = 0;             // features of a head that rotate; 0: all
  int64_t window = 0;                // gpt-oss: of every other layer
  float yarn_factor = 0;             // > 0: YaRN from 4096 positions on
  SynthMoe moe{};
  SynthLatent latent{};
};

// "llama-3.2-1b", "qwen3-30b-a3b", "gpt-oss-120b", …, with the dimensions their authors published;
// the error lists the names. "moe-64e" is small: 64 experts, 8 of them used, 0.8 GB as Q4_K_M.
Result<SynthShape> synth_shape(const std::string& name);
std::vector<std::string> synth_shape_names();
// llama, qwen2, qwen3, qwen3moe, glm4moe, gpt-oss, llama4, deepseek2.
std::vector<std::string> synth_architectures();

// The type of each matrix: a mix ("Q4_K_M", "Q3_K_L", "MXFP4_MOE" …) or one type for all ("Q3_K",
// "IQ4_XS" …). Rows that are not whole blocks fall back as llama.cpp's quantiser does.
struct SynthOptions {
  std::string mix = "Q4_K_M";
  uint64_t seed = 1;
  std::function<void(uint64_t bytes_done, uint64_t bytes_total)> progress;  // may be empty
};

// Writes the model to `path`. Errors name the dimension or type that does not work.
Status write_synth_model(const SynthShape& shape, const SynthOptions& options,
                         const std::string& path);

// The same model without a file, for measuring what no disk here holds: tensors repeat their first
// kSynthSourceRows rows again and again. Reads are thread-safe.
inline constexpr uint64_t kSynthSourceRows = 64;
Result<std::shared_ptr<const ByteSource>> make_synth_source(const SynthShape& shape,
                                                            const SynthOptions& options);

enum class SynthFill : uint8_t {
  kMatrix,  // of the mix's type, normal-like
  kRouter,  // the same, always F32
  kNorm,    // F32, 1 + 0.1 · normal
  kNoise,   // F32, scale · normal
};

// One tensor of a synthetic model.
struct SynthTensor {
  std::string name;  // in the file, with block and suffix
  std::string role;  // without them: what mixes go by
  int64_t layer = -1;
  std::vector<int64_t> dims{};  // as in the file, row length first
  SynthFill fill = SynthFill::kMatrix;
  float scale = 1.0f;
};

// Every tensor of the model but rope_freqs, in file order. REQUIRES a shape write_synth_model
// takes.
std::vector<SynthTensor> synth_tensors(const SynthShape& shape);

// The type a mix gives to a matrix (docs/formats.md).
Result<TensorType> synth_tensor_type(const std::string& mix, const SynthShape& shape,
                                     const SynthTensor& tensor);

}  // namespace shoal

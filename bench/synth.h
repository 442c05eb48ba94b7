// Random-weight GGUF files with real shapes and types, for benchmarks and layout tests. The numbers
// in such a model mean nothing, but every byte is a valid block, activations stay finite, and the
// tokenizer round-trips any text byte by byte.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/tensor_type.h"

namespace shoal {

struct SynthShape {
  std::string architecture = "llama";  // llama, qwen2, qwen3
  int64_t layers = 1;
  int64_t width = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn = 0;
  int64_t vocab = 0;
  int64_t context = 4096;
  float rope_base = 500000.0f;
  bool tied_output = false;
  bool llama3_rope_factors = false;  // writes rope_freqs.weight
};

// "llama-3.2-1b", "llama-3.1-8b", "llama-3.3-70b", "qwen2.5-72b", "qwen3-32b", "tiny"; the error
// lists the names.
Result<SynthShape> synth_shape(const std::string& name);
std::vector<std::string> synth_shape_names();

// The type of each matrix: a mix ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16" …) or one type for all
// ("Q3_K", "IQ4_XS" …). Rows that are not whole blocks fall back as llama.cpp's quantiser does.
struct SynthOptions {
  std::string mix = "Q4_K_M";
  uint64_t seed = 1;
  std::function<void(uint64_t bytes_done, uint64_t bytes_total)> progress;  // may be empty
};

// Writes the model to `path`. Errors name the dimension or type that does not work.
Status write_synth_model(const SynthShape& shape, const SynthOptions& options,
                         const std::string& path);

// The type a mix gives to a tensor; exposed for tests.
Result<TensorType> synth_tensor_type(const std::string& mix, const SynthShape& shape,
                                     const std::string& tensor, int64_t layer, int64_t row_length);

}  // namespace shoal

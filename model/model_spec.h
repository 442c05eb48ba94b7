// ModelSpec: a plain struct that fully describes a decoder, made from GGUF metadata by one function
// per architecture (model/arch/). The forward pass, the planner and the loader read only this.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoal {

class GgufFile;

enum class RopeStyle : uint8_t { kNone, kInterleaved, kHalves };  // NORM, NEOX in llama.cpp's words

// Angles are linear in the position, so scaling (linear, YaRN, per-pair factors) folds into one
// table of inverse frequencies: rope_inverse_frequencies().
struct RopeSpec {
  RopeStyle style = RopeStyle::kNone;
  int64_t dims = 0;  // features of a head that rotate; even
  float base = 10000.0f;
  float frequency_scale = 1.0f;  // 1 / factor, linear and YaRN
  bool yarn = false;
  float yarn_beta_fast = 32, yarn_beta_slow = 1;
  int64_t original_context = 0;
  float magnitude = 1.0f;  // multiplies cos and sin
};

// Radians per position of each pair, dims/2 of them. `factors` (rope_freqs.weight) divides, or is
// empty.
std::vector<float> rope_inverse_frequencies(const RopeSpec& rope, std::span<const float> factors);

enum class GateFunction : uint8_t { kSilu, kGeluTanh };

struct AttentionLayer {
  int64_t heads = 0;     // query heads
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;
  float scale = 0;
  RopeSpec rope;
  bool qk_norm = false;  // RMSNorm per head with a weight, before rope
  int64_t window = 0;    // 0: full
  int64_t chunk = 0;     // 0: none
  float softcap = 0;     // 0: none
};

struct FfnLayer {
  int64_t features = 0;  // hidden width
  GateFunction gate = GateFunction::kSilu;
};

struct LayerSpec {
  AttentionLayer attention;
  FfnLayer ffn;
};

// Where a tensor goes in the forward pass.
enum class Role : uint8_t {
  kTokenEmbedding,
  kOutputNorm,
  kOutput,
  kRopeFactors,
  kAttnNorm,
  kAttnQ,
  kAttnK,
  kAttnV,
  kAttnOut,
  kAttnQNorm,
  kAttnKNorm,
  kFfnNorm,
  kFfnGate,
  kFfnUp,
  kFfnDown,
};

// How tensor parallelism cuts it (docs/parallelism.md).
enum class Split : uint8_t {
  kReplicated,
  kVocabRows,   // rows by token id
  kHeadRows,    // rows by query head
  kKvHeadRows,  // rows by KV head, replicated when ranks outnumber heads
  kHeadCols,    // columns by query head: partial sums, reduced
  kFfnRows,     // rows by FFN feature
  kFfnCols,     // columns by FFN feature: partial sums, reduced
};

// One tensor the model uses. rows × cols is the logical matrix (vectors: rows = 1); a fused tensor
// (attn_qkv) is declared three times with the same name and different first_row.
struct TensorDecl {
  Role role{};
  int layer = -1;     // −1: global
  bool bias = false;  // the role's bias vector rather than its weight
  std::string name;   // in the file
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t first_row = 0;     // of the file's tensor
  std::string scale_name{};  // companion tensor of one float that multiplies the product, or empty
  Split split = Split::kReplicated;
};

struct ModelSpec {
  std::string architecture;  // general.architecture
  std::string name;          // general.name, or the file's name
  int64_t layers = 0;
  int64_t width = 0;  // n_embd
  int64_t vocab = 0;
  int64_t context_length = 0;  // trained
  float norm_eps = 0;
  bool tied_output = false;
  float embedding_scale = 1.0f;
  float final_softcap = 0;
  std::vector<LayerSpec> layer;  // [layers]
  std::vector<TensorDecl>
      tensors;  // everything the forward pass reads; optional ones only if present

  uint64_t parameters() const;  // sum over tensors
  const TensorDecl* find(Role role, int layer, bool bias = false) const;
};

// Builds the spec and checks every tensor's presence and shape against it. Errors name the key or
// tensor, what was found and what was expected.
Result<ModelSpec> read_model_spec(const GgufFile& file);

// general.architecture values read_model_spec accepts.
std::vector<std::string> supported_architectures();

}  // namespace shoal

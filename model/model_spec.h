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
#include "model/functions.h"

namespace shoal {

class GgufFile;

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

// LayerNorm: with a weight, perhaps a bias

// q is multiplied by scale · ln(⌊(position + offset) / length⌋ + 1) + 1; scale 0: by nothing.
struct QueryTemperature {
  float scale = 0;
  int64_t length = 0;
  int64_t offset = 0;
};

// Multi-head latent attention in absorbed form (DeepSeek-AI 2024, "DeepSeek-V2", §2.1): what is
// cached is one vector [c | k_pe] per token; keys are that vector, values its first kv_rank
// features. The layer then has one KV head and head_dim = kv_rank + rope.dims.
struct LatentAttention {
  int64_t q_rank = 0;   // width of the query's bottleneck; 0: one attn_q matrix
  int64_t kv_rank = 0;  // features of c; 0: the layer has ordinary attention
  int64_t nope = 0;     // features of a query head without rope
  int64_t value = 0;    // features of a head's output
};

struct AttentionLayer {
  int64_t heads = 0;     // query heads; 0: a layer without attention
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;  // of a cached key
  float scale = 0;
  RopeSpec rope;
  QkNorm qk_norm = QkNorm::kNone;
  int64_t window = 0;  // 0: full
  int64_t chunk = 0;   // 0: none
  float softcap = 0;   // 0: none
  QueryTemperature temperature;
  LatentAttention latent;
  int kv_group = 0;  // index into ModelSpec::kv_groups

  bool is_latent() const { return latent.kv_rank > 0; }
  // Features of one head in q and k as projected, and in attn_output's columns.
  int64_t query_dim() const { return is_latent() ? latent.nope + rope.dims : head_dim; }
  int64_t output_dim() const { return is_latent() ? latent.value : head_dim; }
};

// A mixture of experts. Selection: the top_k of gating(logits) + selection bias, ties to the lowest
// expert, after all but the groups_used best groups are out (a group's score: its two best,
// summed). Weights: the gating values without the bias.
struct MoeLayer {
  int64_t experts = 0;  // 0: a dense layer
  int64_t top_k = 0;
  int64_t features = 0;         // hidden width of one expert
  int64_t shared_features = 0;  // of the expert every token visits; 0: none
  Gating gating = Gating::kSoftmax;
  bool normalise = false;  // selected weights sum to 1
  float weight_scale = 1.0f;
  int64_t groups = 1, groups_used = 1;
  bool scale_input = false;  // the weight multiplies the expert's input instead of its output
};

struct FfnLayer {
  int64_t features = 0;  // hidden width of the dense network; 0: a mixture of experts
  GateFunction gate = GateFunction::kSilu;
  bool gated = true;  // false: down(gate(up x))
  MoeLayer moe;
};

struct LayerSpec {
  AttentionLayer attention;
  FfnLayer ffn;
  bool parallel = false;  // h += attention(norm h) + ffn(norm h), one reduce
};

// Layers whose rows see the same positions share block tables: a block freed in one is freed in
// all.
struct KvGroup {
  int64_t window = 0;  // as in AttentionLayer
  int64_t chunk = 0;
  std::vector<int> layers;

  // First position a row at `position` attends to.
  int64_t first_visible(int64_t position) const;
};

// Where a tensor goes in the forward pass.
enum class Role : uint8_t {
  kTokenEmbedding,
  kOutputNorm,
  kOutput,
  kRopeFactors,
  kRopeFactorsLong,   // LongRoPE: where the context exceeds rope.original_context
  kRopeFactorsShort,  // LongRoPE: elsewhere
  kAttnNorm,
  kAttnNorm2,  // parallel blocks: the attention's own norm
  kAttnQ,
  kAttnK,
  kAttnV,
  kAttnOut,
  kAttnQNorm,
  kAttnKNorm,
  kAttnSinks,
  kAttnPostNorm,  // of the attention's output, before the residual sum
  kLatentQA,      // [q_rank, width]
  kLatentQANorm,
  kLatentKvA,  // [kv_rank + rope.dims, width]
  kLatentKvANorm,
  kLatentKB,  // [heads × kv_rank, nope]
  kLatentVB,  // [heads × value, kv_rank]
  kFfnNorm,
  kFfnGate,
  kFfnUp,
  kFfnDown,
  kFfnPostNorm,  // of the FFN's output, before the residual sum
  kRouter,       // [experts, width]
  kRouterSelectionBias,
  kExpertGate,  // [experts × features, width]
  kExpertUp,
  kExpertDown,  // [experts × width, features]
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedRouter,  // [1, width]: σ(w·x) multiplies the shared expert's output
};

// How tensor and expert parallelism cut it (docs/parallelism.md).
enum class Split : uint8_t {
  kReplicated,
  kVocabRows,   // rows by token id
  kHeadRows,    // rows by query head
  kKvHeadRows,  // rows by KV head, replicated when ranks outnumber heads
  kHeadCols,    // columns by query head: partial sums, reduced
  kLatent,      // on every rank that has heads of the layer
  kFfnRows,     // rows by FFN feature
  kFfnCols,     // columns by FFN feature: partial sums, reduced
  kSharedRows,  // the same of the shared expert
  kSharedCols,
  kExpertRows,   // per held expert: rows by expert feature
  kExpertCols,   // per held expert: columns by expert feature: partial sums, reduced
  kExpertWhole,  // per held expert: everything (a down projection's bias: once per group)
};

// How the file's numbers become the matrix.
enum class TensorForm : uint8_t {
  kPlain,
  kKeysOfKvB,    // attn_kv_b {kv_rank, heads · (nope + value)}: its key rows, transposed per head
  kValuesOfKvB,  // its value rows
};

// One tensor the model uses. rows × cols is the logical matrix (vectors: cols = 1); a fused tensor
// (attn_qkv) is declared three times with the same name and different first_row.
struct TensorDecl {
  Role role{};
  int layer = -1;     // −1: global
  bool bias = false;  // the role's bias vector rather than its weight
  std::string name;   // in the file
  int64_t rows = 0;   // of one expert where experts > 0
  int64_t cols = 0;
  int64_t first_row = 0;     // of the file's tensor, of each expert's part of it
  std::string scale_name{};  // companion tensor of one float that multiplies the product, or empty
  Split split = Split::kReplicated;
  int64_t experts = 0;      // > 0: so many such matrices lie one behind the other in the file
  int64_t expert_rows = 0;  // rows of the file's tensor per expert; ≥ rows
  TensorForm form = TensorForm::kPlain;

  // Numbers in the file that the model uses.
  uint64_t elements() const;
};

struct ModelSpec {
  std::string architecture;  // general.architecture
  std::string name;          // general.name, or the file's name
  int64_t layers = 0;
  int64_t skipped_layers = 0;  // trailing blocks of the file that plain decoding does not run (MTP)
  int64_t width = 0;           // n_embd
  int64_t vocab = 0;           // rows of the embedding
  int64_t tokens = 0;          // ids that the tokenizer has, ≤ vocab: others are never drawn
  int64_t context_length = 0;  // trained
  NormKind norm = NormKind::kRms;
  float norm_eps = 0;
  bool tied_output = false;
  float embedding_scale = 1.0f;
  float logit_scale = 1.0f;        // multiplies logits
  float final_softcap = 0;         // > 0: logits = cap · tanh(logits / cap), after logit_scale
  std::vector<LayerSpec> layer;    // [layers]
  std::vector<KvGroup> kv_groups;  // at least one; layers in order of their group's first layer
  std::vector<TensorDecl>
      tensors;  // everything the forward pass reads; optional ones only if present
  std::vector<std::string> warnings;  // of what the file has and nobody reads

  uint64_t parameters() const;         // sum over tensors
  uint64_t active_parameters() const;  // that one token visits: top_k of the experts
  const TensorDecl* find(Role role, int layer, bool bias = false) const;
};

// Builds the spec and checks every tensor's presence and shape against it, and that no tensor of a
// block is left over. Errors name the key or tensor, what was found and what was expected.
Result<ModelSpec> read_model_spec(const GgufFile& file);

// general.architecture values read_model_spec accepts.
std::vector<std::string> supported_architectures();

}  // namespace shoal

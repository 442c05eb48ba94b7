#include "model/arch/arch.h"

namespace shoal {
namespace {

std::string shape_text(const TensorInfo& tensor) {
  std::string text = "{";
  for (int i = 0; i < tensor.n_dims; ++i) {
    text += (i ? ", " : "") + std::to_string(tensor.dims[static_cast<size_t>(i)]);
  }
  return text + "}";
}

}  // namespace

bool TensorDeclarer::has(const std::string& name) const {
  return file_.find_tensor(name) != nullptr;
}

void TensorDeclarer::declare(TensorDecl decl, int64_t file_rows, bool is_vector) {
  if (!status_.is_ok()) return;
  const TensorInfo* tensor = file_.find_tensor(decl.name);
  if (tensor == nullptr) {
    status_ = not_found("tensor '" + decl.name + "' is missing; architecture '" +
                        spec_.architecture + "' needs it");
    return;
  }
  // A vector may be stored with trailing dimensions of 1.
  bool fits = static_cast<int64_t>(tensor->dims[0]) == decl.cols;
  if (is_vector) {
    fits = static_cast<int64_t>(tensor->dims[0]) == file_rows;
    for (int i = 1; i < tensor->n_dims; ++i)
      fits = fits && tensor->dims[static_cast<size_t>(i)] == 1;
  } else {
    fits = fits && tensor->n_dims >= 2 && static_cast<int64_t>(tensor->dims[1]) == file_rows;
    for (int i = 2; i < tensor->n_dims; ++i)
      fits = fits && tensor->dims[static_cast<size_t>(i)] == 1;
  }
  if (!fits) {
    const std::string expected =
        is_vector ? "{" + std::to_string(file_rows) + "}"
                  : "{" + std::to_string(decl.cols) + ", " + std::to_string(file_rows) + "}";
    status_ = invalid_argument("tensor '" + decl.name + "' has shape " + shape_text(*tensor) +
                               " but the metadata asks for " + expected);
    return;
  }
  spec_.tensors.push_back(std::move(decl));
}

void TensorDeclarer::matrix(Role role, int layer, const std::string& name, int64_t rows,
                            int64_t cols, Split split) {
  TensorDecl decl{
      .role = role, .layer = layer, .name = name, .rows = rows, .cols = cols, .split = split};
  // NVFP4 files keep a per-tensor scale beside the blocks: X.scale for X.weight.
  const std::string scale = name.substr(0, name.rfind('.')) + ".scale";
  if (const TensorInfo* tensor = file_.find_tensor(scale); tensor != nullptr) {
    if (tensor->elements() != 1 && status_.is_ok()) {
      status_ =
          invalid_argument("tensor '" + scale + "' has " + std::to_string(tensor->elements()) +
                           " elements; one scale for '" + name + "' was expected");
    }
    decl.scale_name = scale;
  }
  declare(std::move(decl), rows, false);
}

void TensorDeclarer::vector(Role role, int layer, const std::string& name, int64_t n, Split split,
                            bool bias) {
  declare({.role = role,
           .layer = layer,
           .bias = bias,
           .name = name,
           .rows = n,
           .cols = 1,
           .split = split},
          n, true);
}

void TensorDeclarer::optional_vector(Role role, int layer, const std::string& name, int64_t n,
                                     Split split, bool bias) {
  if (has(name)) vector(role, layer, name, n, split, bias);
}

void TensorDeclarer::globals() {
  matrix(Role::kTokenEmbedding, -1, "token_embd.weight", spec_.vocab, spec_.width,
         Split::kVocabRows);
  vector(Role::kOutputNorm, -1, "output_norm.weight", spec_.width, Split::kReplicated);
  spec_.tied_output = !has("output.weight");
  matrix(Role::kOutput, -1, spec_.tied_output ? "token_embd.weight" : "output.weight", spec_.vocab,
         spec_.width, Split::kVocabRows);
  optional_vector(Role::kRopeFactors, -1, "rope_freqs.weight",
                  spec_.layer[0].attention.rope.dims / 2, Split::kReplicated);
}

void TensorDeclarer::projection(Role role, int layer, const std::string& name, int64_t rows,
                                int64_t cols, Split split, Split bias_split) {
  matrix(role, layer, name + ".weight", rows, cols, split);
  optional_vector(role, layer, name + ".bias", rows, bias_split, true);
}

void TensorDeclarer::attention(int layer) {
  const AttentionLayer& a = spec_.layer[static_cast<size_t>(layer)].attention;
  const std::string block = "blk." + std::to_string(layer) + ".";
  const int64_t q_rows = a.heads * a.head_dim;
  const int64_t kv_rows = a.kv_heads * a.head_dim;
  vector(Role::kAttnNorm, layer, block + "attn_norm.weight", spec_.width, Split::kReplicated);
  if (has(block + "attn_qkv.weight")) {  // rows: all q heads, all k heads, all v heads
    const struct {
      Role role;
      int64_t first, rows;
      Split split;
    } parts[] = {{Role::kAttnQ, 0, q_rows, Split::kHeadRows},
                 {Role::kAttnK, q_rows, kv_rows, Split::kKvHeadRows},
                 {Role::kAttnV, q_rows + kv_rows, kv_rows, Split::kKvHeadRows}};
    for (const auto& part : parts) {
      declare({.role = part.role,
               .layer = layer,
               .name = block + "attn_qkv.weight",
               .rows = part.rows,
               .cols = spec_.width,
               .first_row = part.first,
               .split = part.split},
              q_rows + 2 * kv_rows, false);
      if (!has(block + "attn_qkv.bias")) continue;
      declare({.role = part.role,
               .layer = layer,
               .bias = true,
               .name = block + "attn_qkv.bias",
               .rows = part.rows,
               .cols = 1,
               .first_row = part.first,
               .split = part.split},
              q_rows + 2 * kv_rows, true);
    }
  } else {
    projection(Role::kAttnQ, layer, block + "attn_q", q_rows, spec_.width, Split::kHeadRows,
               Split::kHeadRows);
    projection(Role::kAttnK, layer, block + "attn_k", kv_rows, spec_.width, Split::kKvHeadRows,
               Split::kKvHeadRows);
    projection(Role::kAttnV, layer, block + "attn_v", kv_rows, spec_.width, Split::kKvHeadRows,
               Split::kKvHeadRows);
  }
  // The output bias is added once, after the reduce: replicated.
  projection(Role::kAttnOut, layer, block + "attn_output", spec_.width, q_rows, Split::kHeadCols,
             Split::kReplicated);
}

void TensorDeclarer::dense_ffn(int layer) {
  const int64_t features = spec_.layer[static_cast<size_t>(layer)].ffn.features;
  const std::string block = "blk." + std::to_string(layer) + ".";
  vector(Role::kFfnNorm, layer, block + "ffn_norm.weight", spec_.width, Split::kReplicated);
  projection(Role::kFfnGate, layer, block + "ffn_gate", features, spec_.width, Split::kFfnRows,
             Split::kFfnRows);
  projection(Role::kFfnUp, layer, block + "ffn_up", features, spec_.width, Split::kFfnRows,
             Split::kFfnRows);
  projection(Role::kFfnDown, layer, block + "ffn_down", spec_.width, features, Split::kFfnCols,
             Split::kReplicated);
}

}  // namespace shoal

#include <cmath>

#include "model/arch/arch.h"

namespace shoal {
namespace {

constexpr int64_t kMaxLayers = 1024;    // the largest published decoders have 126
constexpr int64_t kMaxWidth = 1 << 20;  // features; bounds rows × cols below 2^63 with room
constexpr int64_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxContext = 1 << 28;  // tokens

// rope.* keys (facts of the format: docs/models.md).
Result<RopeSpec> read_rope(const ArchMetadata& meta, RopeStyle style, int64_t head_dim,
                           int64_t context) {
  RopeSpec rope;
  rope.style = style;
  SHOAL_ASSIGN(rope.dims, meta.integer("rope.dimension_count", 2, head_dim, head_dim));
  if (rope.dims % 2 != 0) {
    return invalid_argument("key '" + meta.key("rope.dimension_count") + "' is " +
                            std::to_string(rope.dims) + "; it must be even");
  }
  SHOAL_ASSIGN(rope.base, meta.number("rope.freq_base", 1.0, 1e12, 10000.0f));
  SHOAL_ASSIGN(const std::string scaling, meta.text("rope.scaling.type", "linear"));
  SHOAL_ASSIGN(const float legacy, meta.number("rope.scale_linear", 1e-6, 1e6, 1.0f));
  SHOAL_ASSIGN(const float factor, meta.number("rope.scaling.factor", 1e-6, 1e6, legacy));
  SHOAL_ASSIGN(rope.original_context,
               meta.integer("rope.scaling.original_context_length", 1, kMaxContext, context));
  SHOAL_ASSIGN(const float attention_factor,
               meta.number("rope.scaling.attn_factor", 1e-3, 1e3, 1.0f));
  rope.magnitude = attention_factor;
  if (scaling == "linear") {
    rope.frequency_scale = 1.0f / factor;
  } else if (scaling == "yarn") {
    rope.yarn = true;
    rope.frequency_scale = 1.0f / factor;
    SHOAL_ASSIGN(rope.yarn_beta_fast, meta.number("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32.0f));
    SHOAL_ASSIGN(rope.yarn_beta_slow, meta.number("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1.0f));
    rope.magnitude *= 1.0f + 0.1f * std::log(factor);
  } else if (scaling != "none") {
    return unsupported("key '" + meta.key("rope.scaling.type") + "' is '" + scaling +
                       "'; supported: none, linear, yarn");
  }
  return rope;
}

Status read_layer_dims(const ArchMetadata& meta, RopeStyle style, ModelSpec* spec) {
  SHOAL_ASSIGN(const auto heads,
               meta.per_layer("attention.head_count", spec->layers, 1, kMaxHeads));
  SHOAL_ASSIGN(const auto ffn, meta.per_layer("feed_forward_length", spec->layers, 1, kMaxWidth));
  for (int64_t i = 0; i < spec->layers; ++i) {
    AttentionLayer& attention = spec->layer[i].attention;
    attention.heads = heads[i];
    spec->layer[i].ffn.features = ffn[i];
  }
  std::vector<int64_t> kv_heads = heads;
  if (meta.file().has(meta.key("attention.head_count_kv"))) {
    SHOAL_ASSIGN(kv_heads, meta.per_layer("attention.head_count_kv", spec->layers, 1, kMaxHeads));
  }
  for (int64_t i = 0; i < spec->layers; ++i) {
    AttentionLayer& attention = spec->layer[i].attention;
    attention.kv_heads = kv_heads[i];
    if (heads[i] % kv_heads[i] != 0) {
      return invalid_argument("key '" + meta.key("attention.head_count_kv") + "' is " +
                              std::to_string(kv_heads[i]) + ", which does not divide head_count " +
                              std::to_string(heads[i]));
    }
    std::optional<int64_t> head_default;
    if (spec->width % heads[i] == 0) head_default = spec->width / heads[i];
    SHOAL_ASSIGN(attention.head_dim,
                 meta.integer("attention.key_length", 1, kMaxHeadDim, head_default));
    SHOAL_ASSIGN(const int64_t value_dim,
                 meta.integer("attention.value_length", 1, kMaxHeadDim, attention.head_dim));
    if (value_dim != attention.head_dim) {
      return unsupported("key '" + meta.key("attention.value_length") + "' is " +
                         std::to_string(value_dim) + " but key_length is " +
                         std::to_string(attention.head_dim) + "; they must be equal for '" +
                         meta.architecture() + "'");
    }
    SHOAL_ASSIGN(const float scale, meta.number("attention.scale", 0.0, 1e3, 0.0f));
    attention.scale = scale != 0 ? scale : 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
    SHOAL_ASSIGN(attention.rope, read_rope(meta, style, attention.head_dim, spec->context_length));
  }
  return Status::ok();
}

// The vocabulary's size: rows of token_embd, which every other source must agree with.
Status read_vocab_size(const ArchMetadata& meta, ModelSpec* spec) {
  const TensorInfo* embedding = meta.file().find_tensor("token_embd.weight");
  if (embedding == nullptr) return not_found("tensor 'token_embd.weight' is missing");
  if (embedding->n_dims != 2) return invalid_argument("tensor 'token_embd.weight' is not a matrix");
  spec->vocab = static_cast<int64_t>(embedding->dims[1]);
  SHOAL_ASSIGN(const int64_t declared, meta.integer("vocab_size", 1, 1 << 28, spec->vocab));
  if (declared != spec->vocab) {
    return invalid_argument("key '" + meta.key("vocab_size") + "' is " + std::to_string(declared) +
                            " but tensor 'token_embd.weight' has " + std::to_string(spec->vocab) +
                            " rows");
  }
  return Status::ok();
}

}  // namespace

Result<int64_t> ArchMetadata::integer(const std::string& name, int64_t low, int64_t high,
                                      std::optional<int64_t> fallback) const {
  const std::string full = key(name);
  if (!file_.has(full)) {
    if (fallback) return *fallback;
    return not_found("key '" + full + "' is missing");
  }
  SHOAL_ASSIGN(const uint64_t value,
               file_.get_uint(full, static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
  return static_cast<int64_t>(value);
}

Result<std::vector<int64_t>> ArchMetadata::per_layer(const std::string& name, int64_t layers,
                                                     int64_t low, int64_t high,
                                                     std::optional<int64_t> fallback) const {
  const std::string full = key(name);
  if (!file_.has(full) && fallback) return std::vector<int64_t>(layers, *fallback);
  if (!file_.has(full)) return not_found("key '" + full + "' is missing");
  SHOAL_ASSIGN(const std::vector<uint64_t> found,
               file_.get_uint_per_layer(full, static_cast<uint64_t>(layers),
                                        static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
  return std::vector<int64_t>(found.begin(), found.end());
}

Result<float> ArchMetadata::number(const std::string& name, double low, double high,
                                   std::optional<float> fallback) const {
  const std::string full = key(name);
  if (!file_.has(full)) {
    if (fallback) return *fallback;
    return not_found("key '" + full + "' is missing");
  }
  SHOAL_ASSIGN(const double value, file_.get_float(full));
  if (!std::isfinite(value) || value < low || value > high) {
    return out_of_range("key '" + full + "' is " + std::to_string(value) + "; it must be in " +
                        std::to_string(low) + ".." + std::to_string(high));
  }
  return static_cast<float>(value);
}

Result<std::string> ArchMetadata::text(const std::string& name, const std::string& fallback) const {
  if (!file_.has(key(name))) return fallback;
  SHOAL_ASSIGN(const std::string_view found, file_.get_string(key(name)));
  return std::string(found);
}

Result<ModelSpec> read_decoder(const ArchMetadata& meta, RopeStyle rope) {
  ModelSpec spec;
  spec.architecture = meta.architecture();
  spec.name = "unnamed";
  if (meta.file().has("general.name")) {
    SHOAL_ASSIGN(const std::string_view name, meta.file().get_string("general.name"));
    spec.name = std::string(name);
  }
  SHOAL_ASSIGN(spec.layers, meta.integer("block_count", 1, kMaxLayers));
  SHOAL_ASSIGN(spec.width, meta.integer("embedding_length", 1, kMaxWidth));
  SHOAL_ASSIGN(spec.context_length, meta.integer("context_length", 1, kMaxContext));
  SHOAL_ASSIGN(spec.norm_eps, meta.number("attention.layer_norm_rms_epsilon", 0.0, 1.0));
  SHOAL_TRY(read_vocab_size(meta, &spec));
  spec.layer.resize(static_cast<size_t>(spec.layers));
  SHOAL_TRY(read_layer_dims(meta, rope, &spec));
  return spec;
}

}  // namespace shoal

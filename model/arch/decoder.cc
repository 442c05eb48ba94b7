#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "base/quote.h"
#include "model/arch/arch.h"

namespace shoal {
namespace {

constexpr int64_t kMaxLayers = 1024;    // the largest published decoders have 126
constexpr int64_t kMaxWidth = 1 << 20;  // features; bounds rows × cols below 2^63 with room
constexpr int64_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxExperts = 4096;     // per layer; published models have up to 512
constexpr int64_t kMaxContext = 1 << 28;  // tokens

Status read_head_dims(const ArchMetadata& meta, int64_t width, AttentionLayer* attention) {
  if (attention->heads % attention->kv_heads != 0) {
    return invalid_argument(fmt::format("key '{}' is {}, which does not divide head_count {}",
                                        meta.key("attention.head_count_kv"), attention->kv_heads,
                                        attention->heads));
  }
  std::optional<int64_t> fallback;
  if (width % attention->heads == 0) fallback = width / attention->heads;
  SHOAL_ASSIGN(attention->head_dim, meta.integer("attention.key_length", 1, kMaxHeadDim, fallback));
  SHOAL_ASSIGN(const float scale, meta.number("attention.scale", 0.0, 1e3, 0.0f));
  attention->scale = scale != 0 ? scale : 1.0f / std::sqrt(static_cast<float>(attention->head_dim));
  // Latent attention caches no values of its own: read_deepseek2 checks its lengths.
  if (meta.has("attention.kv_lora_rank")) return Status::ok();
  SHOAL_ASSIGN(const int64_t value_dim,
               meta.integer("attention.value_length", 1, kMaxHeadDim, attention->head_dim));
  if (value_dim == attention->head_dim) return Status::ok();
  return unsupported(fmt::format("key '{}' is {} but key_length is {}; they must be equal for '{}'",
                                 meta.key("attention.value_length"), value_dim, attention->head_dim,
                                 meta.architecture()));
}

Status read_layer_dims(const ArchMetadata& meta, RopeStyle style, ModelSpec* spec) {
  const int64_t blocks = spec->layers + spec->skipped_layers;  // arrays have one entry per block
  SHOAL_ASSIGN(const auto heads, meta.per_layer("attention.head_count", blocks, 1, kMaxHeads));
  std::vector<int64_t> kv_heads = heads;
  if (meta.has("attention.head_count_kv")) {
    SHOAL_ASSIGN(kv_heads, meta.per_layer("attention.head_count_kv", blocks, 1, kMaxHeads));
  }
  SHOAL_ASSIGN(const auto features, read_dense_features(meta, *spec));
  for (size_t i = 0; i < spec->layer.size(); ++i) {
    AttentionLayer& attention = spec->layer[i].attention;
    attention.heads = heads[i];
    attention.kv_heads = kv_heads[i];
    SHOAL_TRY(read_head_dims(meta, spec->width, &attention));
    SHOAL_ASSIGN(attention.rope, read_rope(meta, style, attention.head_dim, spec->context_length));
    spec->layer[i].ffn.features = features[i];
  }
  return Status::ok();
}

// The vocabulary's size: rows of token_embd, which every other source must agree with.
Status read_vocab_size(const ArchMetadata& meta, ModelSpec* spec) {
  const TensorInfo* embedding = meta.file().find_tensor("token_embd.weight");
  if (embedding == nullptr) return not_found("tensor 'token_embd.weight' is missing");
  if (embedding->dims[2] * embedding->dims[3] != 1) {
    return invalid_argument("tensor 'token_embd.weight' is not a matrix");
  }
  spec->vocab = static_cast<int64_t>(embedding->dims[1]);
  SHOAL_ASSIGN(const int64_t declared, meta.integer("vocab_size", 1, 1 << 28, spec->vocab));
  if (declared != spec->vocab) {
    return invalid_argument("key '" + meta.key("vocab_size") + "' is " + std::to_string(declared) +
                            " but tensor 'token_embd.weight' has " + std::to_string(spec->vocab) +
                            " rows");
  }
  spec->tokens = spec->vocab;
  const GgufValue* tokens = meta.file().find_value("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->is_array()) {
    spec->tokens = std::min(spec->vocab, static_cast<int64_t>(tokens->count));
  }
  return Status::ok();
}

// Trailing blocks that predict further tokens; plain decoding does not run them.
Status read_layer_count(const ArchMetadata& meta, ModelSpec* spec) {
  SHOAL_ASSIGN(const int64_t blocks, meta.integer("block_count", 1, kMaxLayers));
  SHOAL_ASSIGN(spec->skipped_layers, meta.integer("nextn_predict_layers", 0, kMaxLayers, 0));
  spec->layers = blocks - spec->skipped_layers;
  if (spec->layers >= 1) return Status::ok();
  return invalid_argument(fmt::format("key '{}' is {} of {} blocks; at least one must remain",
                                      meta.key("nextn_predict_layers"), spec->skipped_layers,
                                      blocks));
}

Result<Gating> read_gating(const ArchMetadata& meta, Gating fallback) {
  SHOAL_ASSIGN(const int64_t number, meta.integer("expert_gating_func", 0, 4, 0));
  switch (number) {
    case 1:
      return Gating::kSoftmax;
    case 2:
      return Gating::kSigmoid;
    case 3:
      return Gating::kSoftmaxSelected;
    case 4:
      return Gating::kSqrtSoftplus;
    default:
      return fallback;
  }
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

Result<bool> ArchMetadata::boolean(const std::string& name, bool fallback) const {
  if (!has(name)) return fallback;
  return file_.get_bool(key(name));
}

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
  SHOAL_ASSIGN(float legacy, meta.number("rope.scale_linear", 0.0, 1e6, 1.0f));
  SHOAL_ASSIGN(float factor, meta.number("rope.scaling.factor", 0.0, 1e6, legacy));
  if (factor == 0) factor = 1;  // some converters write it for "none"
  if (factor < 1e-6f) {
    return out_of_range(fmt::format("key '{}' is {}; it must be 0 (for 1) or in 1e-6..1e6",
                                    meta.key("rope.scaling.factor"), factor));
  }
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
    rope.magnitude *= yarn_magnitude(rope, 1.0f);
  } else if (scaling != "none" && scaling != "longrope") {  // longrope: its factors say it all
    return unsupported("key '" + meta.key("rope.scaling.type") + "' is " + in_quotes(scaling) +
                       "; supported: none, linear, yarn, longrope");
  }
  return rope;
}

Result<float> read_yarn_log_multiplier(const ArchMetadata& meta) {
  return meta.number("rope.scaling.yarn_log_multiplier", 0.0, 1e3, 0.0f);
}

float yarn_magnitude(const RopeSpec& rope, float s) {
  return 1.0f - 0.1f * s * std::log(rope.frequency_scale);  // factor = 1 / frequency_scale
}

Result<std::vector<int64_t>> read_dense_features(const ArchMetadata& meta, const ModelSpec& spec) {
  return meta.per_layer("feed_forward_length", spec.layers + spec.skipped_layers, 0, kMaxWidth, 0);
}

Result<MoeLayer> read_moe(const ArchMetadata& meta, const MoeDefaults& defaults) {
  MoeLayer moe;
  SHOAL_ASSIGN(moe.experts, meta.integer("expert_count", 1, kMaxExperts));
  SHOAL_ASSIGN(moe.top_k, meta.integer("expert_used_count", 1, moe.experts));
  std::optional<int64_t> features;
  if (defaults.features > 0) features = defaults.features;
  SHOAL_ASSIGN(moe.features, meta.integer("expert_feed_forward_length", 0, kMaxWidth, features));
  if (moe.features == 0) moe.features = defaults.features;
  if (moe.features == 0) {
    return invalid_argument("key '" + meta.key("expert_feed_forward_length") + "' is 0");
  }
  SHOAL_ASSIGN(moe.gating, read_gating(meta, defaults.gating));
  SHOAL_ASSIGN(moe.normalise, meta.boolean("expert_weights_norm", defaults.normalise));
  SHOAL_ASSIGN(moe.weight_scale, meta.number("expert_weights_scale", 0.0, 1e6, 1.0f));
  if (moe.weight_scale == 0) moe.weight_scale = 1.0f;
  SHOAL_ASSIGN(moe.groups, meta.integer("expert_group_count", 0, moe.experts, 1));
  moe.groups = std::max<int64_t>(moe.groups, 1);
  SHOAL_ASSIGN(moe.groups_used, meta.integer("expert_group_used_count", 0, moe.groups, moe.groups));
  if (moe.groups_used == 0) moe.groups_used = moe.groups;
  if (moe.experts % moe.groups != 0 || moe.groups_used * (moe.experts / moe.groups) < moe.top_k) {
    return invalid_argument(
        fmt::format("keys '{0}.expert_group_count' {1} and '{0}.expert_group_used_count' {2} do "
                    "not go with {3} "
                    "experts, {4} of them used: groups must be of equal size and those used hold "
                    "enough experts",
                    meta.architecture(), moe.groups, moe.groups_used, moe.experts, moe.top_k));
  }
  return moe;
}

Result<ModelSpec> read_decoder(const ArchMetadata& meta, RopeStyle rope, NormKind norm) {
  ModelSpec spec;
  spec.norm = norm;
  spec.architecture = meta.architecture();
  spec.name = "unnamed";
  if (meta.file().has("general.name")) {
    SHOAL_ASSIGN(const std::string_view name, meta.file().get_string("general.name"));
    spec.name = std::string(name);
  }
  SHOAL_TRY(read_layer_count(meta, &spec));
  SHOAL_ASSIGN(spec.width, meta.integer("embedding_length", 1, kMaxWidth));
  SHOAL_ASSIGN(spec.context_length, meta.integer("context_length", 1, kMaxContext));
  SHOAL_ASSIGN(spec.norm_eps,
               meta.number(norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon"
                                                  : "attention.layer_norm_epsilon",
                           0.0, 1.0));
  SHOAL_TRY(read_vocab_size(meta, &spec));
  spec.layer.resize(static_cast<size_t>(spec.layers));
  SHOAL_TRY(read_layer_dims(meta, rope, &spec));
  return spec;
}

}  // namespace shoal

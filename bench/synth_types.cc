// Which type each matrix gets: llama.cpp's quantisation mixes as published models use them
// (docs/formats.md).
#include "base/quote.h"
#include "bench/synth.h"

namespace shoal {
namespace {

// Of `layers` layers, those that get more bits.
enum class Where : uint8_t {
  kNone,
  kFirst2,
  kFirst4,
  kFirstSixteenth,
  kFirstEighth,
  kSpread,  // the first and the last eighth, every third between
};

bool applies(Where where, int64_t layer, int64_t layers) {
  switch (where) {
    case Where::kNone:
      return false;
    case Where::kFirst2:
      return layer < 2;
    case Where::kFirst4:
      return layer < 4;
    case Where::kFirstSixteenth:
      return layer < layers / 16;
    case Where::kFirstEighth:
      return layer < layers / 8;
    case Where::kSpread:
      return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
  }
  return false;
}

struct Choice {
  TensorType usual;
  Where where = Where::kNone;
  TensorType there = TensorType::kF32;
};

struct Mix {
  const char* name;
  TensorType base;
  Choice value, down;
  TensorType attn_output;
};

constexpr auto kQ3 = TensorType::kQ3_K, kQ4 = TensorType::kQ4_K, kQ5 = TensorType::kQ5_K,
               kQ6 = TensorType::kQ6_K;
const Mix kMixes[] = {
    {"Q3_K_S", kQ3, {kQ3}, {kQ3}, kQ3},
    {"Q3_K_M", kQ3, {kQ4, Where::kFirst2, kQ5}, {kQ4, Where::kFirstSixteenth, kQ5}, kQ4},
    {"Q3_K_L", kQ3, {kQ5}, {kQ5}, kQ5},
    {"Q4_K_S", kQ4, {kQ4, Where::kFirst4, kQ5}, {kQ4, Where::kFirstEighth, kQ5}, kQ4},
    {"Q4_K_M", kQ4, {kQ4, Where::kSpread, kQ6}, {kQ4, Where::kSpread, kQ6}, kQ4},
    {"Q5_K_S", kQ5, {kQ5}, {kQ5}, kQ5},
    {"Q5_K_M", kQ5, {kQ5, Where::kSpread, kQ6}, {kQ5, Where::kSpread, kQ6}, kQ5},
};

// The mix of gpt-oss files: experts as the authors published them, all else Q8_0.
constexpr const char* kMxfp4Mix = "MXFP4_MOE";

// What a quantiser falls back to when a row is not whole super-blocks.
TensorType fallback(TensorType type, int64_t row_length) {
  if (row_length % traits(type).block_elems == 0) return type;
  TensorType other = TensorType::kF16;
  switch (type) {
    case TensorType::kQ4_K:
      other = TensorType::kQ5_0;
      break;
    case TensorType::kQ5_K:
      other = TensorType::kQ5_1;
      break;
    case TensorType::kQ6_K:
      other = TensorType::kQ8_0;
      break;
    case TensorType::kQ2_K:
    case TensorType::kQ3_K:
    case TensorType::kTQ1_0:
    case TensorType::kTQ2_0:
      other = TensorType::kQ4_0;
      break;
    case TensorType::kIQ1_S:
    case TensorType::kIQ1_M:
    case TensorType::kIQ2_XXS:
    case TensorType::kIQ2_XS:
    case TensorType::kIQ2_S:
    case TensorType::kIQ3_XXS:
    case TensorType::kIQ3_S:
    case TensorType::kIQ4_XS:
      other = TensorType::kIQ4_NL;
      break;
    default:
      break;
  }
  return row_length % traits(other).block_elems == 0 ? other : TensorType::kF16;
}

TensorType choose(const Mix& mix, const SynthShape& shape, const SynthTensor& tensor) {
  const std::string& role = tensor.role;
  const auto pick = [&](const Choice& choice) {
    return applies(choice.where, tensor.layer, shape.layers) ? choice.there : choice.usual;
  };
  if (role == "output" || (role == "token_embd" && shape.tied_output)) return kQ6;
  const bool mixtral = shape.moe.experts == 8;
  if (mixtral && (role == "attn_v" || role == "attn_k")) return TensorType::kQ8_0;
  if (mixtral && role == "attn_output" && mix.base != kQ5) return kQ5;
  if (role == "attn_v") {
    const TensorType type = pick(mix.value);
    const bool llama_70b = shape.architecture == "llama" && shape.layers == 80;
    return llama_70b && (type == kQ3 || type == kQ4) ? kQ5 : type;
  }
  if (role.starts_with("ffn_down")) return pick(mix.down);
  return role == "attn_output" ? mix.attn_output : mix.base;
}

}  // namespace

Result<TensorType> synth_tensor_type(const std::string& mix, const SynthShape& shape,
                                     const SynthTensor& tensor) {
  const int64_t row_length = tensor.dims[0];
  for (const Mix& known : kMixes) {
    if (mix == known.name) return fallback(choose(known, shape, tensor), row_length);
  }
  if (mix == kMxfp4Mix) {
    const bool stacked = tensor.dims.size() > 2 && tensor.dims[2] > 1;
    return fallback(stacked ? TensorType::kMXFP4 : TensorType::kQ8_0, row_length);
  }
  const auto type = tensor_type_from_name(mix);
  if (type) return fallback(*type, row_length);
  std::string names;
  for (const Mix& known : kMixes) names += std::string(known.name) + ", ";
  return invalid_argument(in_quotes(mix) + " is neither a mix (" + names + kMxfp4Mix +
                          ") nor a tensor type");
}

}  // namespace shoal

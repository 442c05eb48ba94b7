#include "bench/synth.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "base/utf8.h"
#include "kernels/encode.h"
#include "model/gguf_writer.h"

namespace shoal {
namespace {

struct NamedShape {
  const char* name;
  SynthShape shape;
};

// Dimensions as published by the models' authors.
const NamedShape kShapes[] = {
    {"tiny", {"llama", 2, 256, 4, 2, 64, 512, 512, 2048, 10000.0f, false, false}},
    {"llama-3.2-1b", {"llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 500000.0f, true, true}},
    {"llama-3.1-8b",
     {"llama", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 500000.0f, false, true}},
    {"llama-3.3-70b",
     {"llama", 80, 8192, 64, 8, 128, 28672, 128256, 131072, 500000.0f, false, true}},
    {"qwen2.5-72b",
     {"qwen2", 80, 8192, 64, 8, 128, 29568, 152064, 32768, 1000000.0f, false, false}},
    {"qwen3-32b", {"qwen3", 64, 5120, 64, 8, 128, 25600, 151936, 40960, 1000000.0f, false, false}},
};

// llama.cpp's mixes for dense models, as far as they differ from "one type for all".
struct Mix {
  const char* name;
  TensorType base, value_more, down_more, output;  // "more": where use_more_bits() says so
};
const Mix kMixes[] = {
    {"Q4_K_M", TensorType::kQ4_K, TensorType::kQ6_K, TensorType::kQ6_K, TensorType::kQ6_K},
    {"Q5_K_M", TensorType::kQ5_K, TensorType::kQ6_K, TensorType::kQ6_K, TensorType::kQ6_K},
    {"Q4_K_S", TensorType::kQ4_K, TensorType::kQ4_K, TensorType::kQ4_K, TensorType::kQ6_K},
    {"Q5_K_S", TensorType::kQ5_K, TensorType::kQ5_K, TensorType::kQ5_K, TensorType::kQ6_K},
};

bool use_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

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

// A byte-level vocabulary without merges: 256 bytes, then fillers, then the ChatML specials.
struct SynthVocab {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
};

constexpr int32_t kNormal = 1, kControl = 3;

SynthVocab make_vocab(int64_t size) {
  SynthVocab vocab;
  uint32_t next = 0x100;  // byte-to-unicode: printable bytes keep their code point
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    std::string text;
    append_utf8(printable ? byte : next++, &text);
    vocab.tokens.push_back(text);
  }
  for (int64_t id = 256; id < size - 2; ++id) vocab.tokens.push_back(fmt::format("Ġw{}", id));
  vocab.types.assign(vocab.tokens.size(), kNormal);
  vocab.tokens.insert(vocab.tokens.end(), {"<|im_start|>", "<|im_end|>"});
  vocab.types.insert(vocab.types.end(), {kControl, kControl});
  return vocab;
}

void add_metadata(GgufWriter& writer, const SynthShape& shape, const std::string& mix) {
  const std::string a = shape.architecture;
  const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
  writer.add_kv("general.architecture", a);
  writer.add_kv("general.name", "synth-" + a + "-" + mix);
  writer.add_kv(a + ".block_count", u32(shape.layers));
  writer.add_kv(a + ".context_length", u32(shape.context));
  writer.add_kv(a + ".embedding_length", u32(shape.width));
  writer.add_kv(a + ".feed_forward_length", u32(shape.ffn));
  writer.add_kv(a + ".attention.head_count", u32(shape.heads));
  writer.add_kv(a + ".attention.head_count_kv", u32(shape.kv_heads));
  writer.add_kv(a + ".attention.key_length", u32(shape.head_dim));
  writer.add_kv(a + ".attention.value_length", u32(shape.head_dim));
  writer.add_kv(a + ".attention.layer_norm_rms_epsilon", 1e-5f);
  writer.add_kv(a + ".rope.dimension_count", u32(shape.head_dim));
  writer.add_kv(a + ".rope.freq_base", shape.rope_base);
  writer.add_kv(a + ".vocab_size", u32(shape.vocab));
  const SynthVocab vocab = make_vocab(shape.vocab);
  writer.add_kv("tokenizer.ggml.model", "gpt2");
  writer.add_kv("tokenizer.ggml.pre", "qwen2");
  writer.add_kv("tokenizer.ggml.tokens", vocab.tokens);
  writer.add_kv("tokenizer.ggml.token_type", vocab.types);
  writer.add_kv("tokenizer.ggml.merges", std::vector<std::string>{"w 2"});
  writer.add_kv("tokenizer.ggml.bos_token_id", u32(shape.vocab - 2));
  writer.add_kv("tokenizer.ggml.eos_token_id", u32(shape.vocab - 1));
  writer.add_kv("tokenizer.ggml.add_bos_token", false);
  writer.add_kv("tokenizer.chat_template",
                "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + "
                "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
                "{{ '<|im_start|>assistant\n' }}{% endif %}");
}

// Llama 3.1's frequency divisors (factor 8 for 3.1; 32 for 3.2): gguf facts in docs/models.md.
std::vector<float> llama3_factors(const SynthShape& shape) {
  const double factor = shape.tied_output ? 32 : 8;
  std::vector<float> factors;
  for (int64_t p = 0; p < shape.head_dim / 2; ++p) {
    const double frequency =
        std::pow(static_cast<double>(shape.rope_base),
                 -2.0 * static_cast<double>(p) / static_cast<double>(shape.head_dim));
    const double wavelength = 2 * 3.14159265358979323846 / frequency;
    const double smooth = std::clamp((8192 / wavelength - 1) / (4 - 1), 0.0, 1.0);
    factors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
  }
  return factors;
}

class SynthWriter {
 public:
  SynthWriter(const SynthShape& shape, const SynthOptions& options)
      : shape_(shape), options_(options) {}

  Status write(const std::string& path) {
    add_metadata(writer_, shape_, options_.mix);
    SHOAL_TRY(matrix("token_embd", -1, shape_.vocab, shape_.width));
    SHOAL_TRY(ones("output_norm", shape_.width));
    if (!shape_.tied_output) SHOAL_TRY(matrix("output", -1, shape_.vocab, shape_.width));
    if (shape_.llama3_rope_factors) SHOAL_TRY(vector("rope_freqs", llama3_factors(shape_)));
    for (int64_t layer = 0; layer < shape_.layers; ++layer) SHOAL_TRY(add_layer(layer));
    total_ = writer_.file_bytes();
    return writer_.finish(path);
  }

 private:
  Status add_layer(int64_t layer) {
    const int64_t q = shape_.heads * shape_.head_dim, kv = shape_.kv_heads * shape_.head_dim;
    SHOAL_TRY(ones(block(layer, "attn_norm"), shape_.width));
    SHOAL_TRY(matrix("attn_q", layer, q, shape_.width));
    SHOAL_TRY(matrix("attn_k", layer, kv, shape_.width));
    SHOAL_TRY(matrix("attn_v", layer, kv, shape_.width));
    SHOAL_TRY(matrix("attn_output", layer, shape_.width, q));
    if (shape_.architecture == "qwen2") {
      const struct {
        const char* name;
        int64_t n;
      } biases[] = {{"attn_q", q}, {"attn_k", kv}, {"attn_v", kv}};
      for (const auto& bias : biases) {
        SHOAL_TRY(floats(block(layer, bias.name) + ".bias", noise(bias.n, 0.1f)));
      }
    }
    if (shape_.architecture == "qwen3") {
      SHOAL_TRY(ones(block(layer, "attn_q_norm"), shape_.head_dim));
      SHOAL_TRY(ones(block(layer, "attn_k_norm"), shape_.head_dim));
    }
    SHOAL_TRY(ones(block(layer, "ffn_norm"), shape_.width));
    SHOAL_TRY(matrix("ffn_gate", layer, shape_.ffn, shape_.width));
    SHOAL_TRY(matrix("ffn_up", layer, shape_.ffn, shape_.width));
    return matrix("ffn_down", layer, shape_.width, shape_.ffn);
  }

  static std::string block(int64_t layer, const std::string& name) {
    return fmt::format("blk.{}.{}", layer, name);
  }

  std::vector<float> noise(int64_t n, float scale) {
    Rng rng(mix64(options_.seed ^ ++counter_));
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = scale * static_cast<float>(rng.normal());
    return values;
  }

  Status floats(const std::string& name, std::vector<float> values) {
    const uint64_t n = values.size();
    return writer_.add_tensor(
        name, TensorType::kF32, {n},
        [values = std::move(values)](uint64_t, uint64_t, std::span<uint8_t> out) {
          std::copy_n(reinterpret_cast<const uint8_t*>(values.data()), out.size(), out.data());
          return Status::ok();
        });
  }
  Status vector(const std::string& name, std::vector<float> values) {
    return floats(name + ".weight", std::move(values));
  }
  // Norm weights around one, so that they are not a no-op.
  Status ones(const std::string& name, int64_t n) {
    std::vector<float> values = noise(n, 0.1f);
    for (float& value : values) value += 1.0f;
    return vector(name, std::move(values));
  }

  Status matrix(const std::string& name, int64_t layer, int64_t rows, int64_t cols) {
    SHOAL_ASSIGN(const TensorType type, synth_tensor_type(options_.mix, shape_, name, layer, cols));
    const std::string full = (layer < 0 ? name : block(layer, name)) + ".weight";
    const uint64_t seed = mix64(options_.seed ^ ++counter_);
    // Embeddings of unit scale; projections that keep the variance of their input.
    const float scale = name == "token_embd" && !shape_.tied_output
                            ? 1.0f
                            : 1.0f / std::sqrt(static_cast<float>(cols));
    const auto row = row_bytes(type, static_cast<uint64_t>(cols));
    return writer_.add_tensor(
        full, type, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)},
        [this, type, seed, scale, row](uint64_t first_row, uint64_t, std::span<uint8_t> out) {
          for (uint64_t at = 0; at < out.size(); at += row) {
            Rng rng(mix64(seed ^ (first_row + at / row)));
            for (uint64_t b = 0; b < row; b += traits(type).block_bytes) {
              random_block(type, rng, scale, out.data() + at + b);
            }
          }
          done_ += out.size();
          if (options_.progress) options_.progress(done_, total_);
          return Status::ok();
        });
  }

  const SynthShape& shape_;
  const SynthOptions& options_;
  GgufWriter writer_;
  uint64_t counter_ = 0, done_ = 0, total_ = 0;
};

}  // namespace

std::vector<std::string> synth_shape_names() {
  std::vector<std::string> names;
  for (const NamedShape& shape : kShapes) names.push_back(shape.name);
  return names;
}

Result<SynthShape> synth_shape(const std::string& name) {
  std::string known;
  for (const NamedShape& shape : kShapes) {
    if (name == shape.name) return shape.shape;
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  return invalid_argument("unknown shape '" + name + "'; there are: " + known);
}

Result<TensorType> synth_tensor_type(const std::string& mix, const SynthShape& shape,
                                     const std::string& tensor, int64_t layer, int64_t row_length) {
  for (const Mix& known : kMixes) {
    if (mix != known.name) continue;
    TensorType type = known.base;
    const bool more = layer >= 0 && use_more_bits(layer, shape.layers);
    if (tensor == "output" || (tensor == "token_embd" && shape.tied_output)) type = known.output;
    if (tensor == "attn_v" && more) type = known.value_more;
    if (tensor == "ffn_down" && more) type = known.down_more;
    return fallback(type, row_length);
  }
  auto type = tensor_type_from_name(mix);
  if (!type) {
    return invalid_argument(
        "'" + mix + "' is neither a mix (Q4_K_M, Q4_K_S, Q5_K_M, Q5_K_S) nor a tensor type");
  }
  return fallback(*type, row_length);
}

Status write_synth_model(const SynthShape& shape, const SynthOptions& options,
                         const std::string& path) {
  if (shape.layers < 1 || shape.width < 32 || shape.heads < 1 || shape.kv_heads < 1 ||
      shape.heads % shape.kv_heads != 0 || shape.head_dim < 2 || shape.head_dim % 2 != 0 ||
      shape.ffn < 1 || shape.vocab < 300 || shape.context < 1) {
    return invalid_argument(
        "the shape does not work: needs layers ≥ 1, width ≥ 32, heads a multiple of KV heads, an "
        "even "
        "head size, vocab ≥ 300, context ≥ 1");
  }
  return SynthWriter(shape, options).write(path);
}

}  // namespace shoal

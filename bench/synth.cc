#include "bench/synth.h"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/utf8.h"
#include "kernels/formats/encode.h"
#include "model/gguf_writer.h"

namespace shoal {
namespace {

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

void add_vocab(GgufWriter& writer, int64_t size) {
  const SynthVocab vocab = make_vocab(size);
  writer.add_kv("tokenizer.ggml.model", "gpt2");
  writer.add_kv("tokenizer.ggml.pre", "qwen2");
  writer.add_kv("tokenizer.ggml.tokens", vocab.tokens);
  writer.add_kv("tokenizer.ggml.token_type", vocab.types);
  writer.add_kv("tokenizer.ggml.merges", std::vector<std::string>{"w 2"});
  writer.add_kv("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(size - 2));
  writer.add_kv("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(size - 1));
  writer.add_kv("tokenizer.ggml.add_bos_token", false);
  writer.add_kv("tokenizer.chat_template",
                "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + "
                "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
                "{{ '<|im_start|>assistant\n' }}{% endif %}");
}

// "{architecture}." keys.
class ArchKeys {
 public:
  ArchKeys(GgufWriter& writer, const std::string& architecture)
      : writer_(writer), prefix_(architecture + ".") {}
  void integer(const char* name, int64_t value) {
    writer_.add_kv(prefix_ + name, static_cast<uint32_t>(value));
  }
  template <class T>
  void value(const char* name, const T& value) {
    writer_.add_kv(prefix_ + name, value);
  }

 private:
  GgufWriter& writer_;
  std::string prefix_;
};

void add_attention_keys(ArchKeys& keys, const SynthShape& shape) {
  const SynthLatent& latent = shape.latent;
  keys.integer("attention.head_count", shape.heads);
  keys.integer("attention.head_count_kv", shape.kv_heads);
  keys.value("attention.layer_norm_rms_epsilon", 1e-5f);
  keys.value("rope.freq_base", shape.rope_base);
  if (shape.window > 0) keys.integer("attention.sliding_window", shape.window);
  if (shape.yarn_factor > 0) {
    keys.value("rope.scaling.type", "yarn");
    keys.value("rope.scaling.factor", shape.yarn_factor);
    keys.integer("rope.scaling.original_context_length", 4096);
  }
  if (latent.kv_rank == 0) {
    keys.integer("attention.key_length", shape.head_dim);
    keys.integer("attention.value_length", shape.head_dim);
    keys.integer("rope.dimension_count", shape.rope_dims > 0 ? shape.rope_dims : shape.head_dim);
    return;
  }
  if (latent.q_rank > 0) keys.integer("attention.q_lora_rank", latent.q_rank);
  keys.integer("attention.kv_lora_rank", latent.kv_rank);
  keys.integer("attention.key_length", latent.kv_rank + latent.rope);
  keys.integer("attention.value_length", latent.kv_rank);
  keys.integer("attention.key_length_mla", latent.nope + latent.rope);
  keys.integer("attention.value_length_mla", latent.value);
  keys.integer("rope.dimension_count", latent.rope);
}

void add_moe_keys(ArchKeys& keys, const SynthShape& shape) {
  constexpr uint32_t kSigmoid = 2;
  const SynthMoe& moe = shape.moe;
  keys.integer("expert_count", moe.experts);
  keys.integer("expert_used_count", moe.top_k);
  keys.integer("expert_feed_forward_length", moe.features);
  if (moe.weight_scale != 1.0f) keys.value("expert_weights_scale", moe.weight_scale);
  if (shape.architecture == "llama4") keys.integer("interleave_moe_layer_step", 1);
  if (shape.architecture != "glm4moe" && shape.architecture != "deepseek2") return;
  keys.integer("expert_gating_func", kSigmoid);
  keys.value("expert_weights_norm", true);
  keys.integer("expert_shared_count", moe.shared);
  keys.integer("leading_dense_block_count", moe.leading_dense);
}

void add_metadata(GgufWriter& writer, const SynthShape& shape, const std::string& mix) {
  writer.add_kv("general.architecture", shape.architecture);
  writer.add_kv("general.name", "synth-" + shape.architecture + "-" + mix);
  ArchKeys keys(writer, shape.architecture);
  keys.integer("block_count", shape.layers);
  keys.integer("context_length", shape.context);
  keys.integer("embedding_length", shape.width);
  keys.integer("feed_forward_length", shape.ffn);
  keys.integer("vocab_size", shape.vocab);
  add_attention_keys(keys, shape);
  if (shape.moe.experts > 0) add_moe_keys(keys, shape);
  add_vocab(writer, shape.vocab);
}

// Llama 3.1's frequency divisors (factor 8 for 3.1; 32 for 3.2): docs/models.md.
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

// What a tensor without a file is: its first rows, over and over.
struct SynthPart {
  uint64_t begin = 0, end = 0;  // in the file
  std::vector<uint8_t> rows;
};

class SynthSource final : public ByteSource {
 public:
  SynthSource(std::string name, std::string header, uint64_t bytes)
      : name_(std::move(name)), header_(std::move(header)), bytes_(bytes) {}
  // In the order of the file.
  void set_parts(std::vector<SynthPart> parts) { parts_ = std::move(parts); }

  uint64_t size() const override { return bytes_; }
  const std::string& name() const override { return name_; }
  Status read_at(uint64_t offset, std::span<uint8_t> out) const override {
    if (offset > bytes_ || out.size() > bytes_ - offset) {
      return out_of_range(
          fmt::format("{}: {} bytes at {} are beyond its end", name_, out.size(), offset));
    }
    std::fill(out.begin(), out.end(), uint8_t{0});  // of the padding
    copy(0, header_.size(), header_.data(), header_.size(), offset, out);
    auto part = std::upper_bound(parts_.begin(), parts_.end(), offset,
                                 [](uint64_t at, const SynthPart& p) { return at < p.end; });
    for (; part != parts_.end() && part->begin < offset + out.size(); ++part) {
      copy(part->begin, part->end, part->rows.data(), part->rows.size(), offset, out);
    }
    return Status::ok();
  }

 private:
  // Bytes [begin, end) of the file are `pattern` repeated: those of them that `out`, which is from
  // `offset` on, covers.
  static void copy(uint64_t begin, uint64_t end, const void* pattern, uint64_t length,
                   uint64_t offset, std::span<uint8_t> out) {
    const auto* from = static_cast<const uint8_t*>(pattern);
    end = std::min<uint64_t>(end, offset + out.size());
    for (uint64_t at = std::max(begin, offset); at < end;) {
      const uint64_t place = (at - begin) % length;
      const uint64_t count = std::min(length - place, end - at);
      std::copy_n(from + place, count, out.data() + (at - offset));
      at += count;
    }
  }

  std::string name_, header_;
  uint64_t bytes_;
  std::vector<SynthPart> parts_;
};

class SynthWriter {
 public:
  SynthWriter(const SynthShape& shape, const SynthOptions& options)
      : shape_(shape), options_(options) {}

  Status write(const std::string& path) {
    SHOAL_TRY(add_all());
    total_ = writer_.file_bytes();
    return writer_.finish(path);
  }

  Result<std::shared_ptr<const ByteSource>> source() {
    keeps_rows_ = true;
    SHOAL_TRY(add_all());
    auto source = std::make_shared<SynthSource>("synthetic " + shape_.architecture,
                                                writer_.header(), writer_.file_bytes());
    SHOAL_ASSIGN(const GgufFile file, GgufFile::parse(source));
    SHOAL_CHECK(file.tensors().size() == parts_.size(), "tensors were lost");
    for (size_t i = 0; i < parts_.size(); ++i) {
      const TensorInfo& tensor = file.tensors()[i];
      parts_[i].begin = tensor.file_offset;
      parts_[i].end = tensor.file_offset + tensor.bytes;
    }
    source->set_parts(std::move(parts_));
    return std::shared_ptr<const ByteSource>(std::move(source));
  }

 private:
  Status add_all() {
    add_metadata(writer_, shape_, options_.mix);
    if (shape_.llama3_rope_factors) {
      const std::vector<float> factors = llama3_factors(shape_);
      SHOAL_TRY(add("rope_freqs.weight", TensorType::kF32, {shape_.head_dim / 2},
                    [factors](uint64_t first_row, Rng&, std::span<uint8_t> row) {
                      SHOAL_CHECK(first_row == 0, "rope_freqs has one row");
                      std::copy_n(reinterpret_cast<const uint8_t*>(factors.data()), row.size(),
                                  row.data());
                    }));
    }
    for (const SynthTensor& tensor : synth_tensors(shape_)) {
      if (tensor.fill == SynthFill::kMatrix) {
        SHOAL_TRY(matrix(tensor));
      } else {
        SHOAL_TRY(floats(tensor));
      }
    }
    return Status::ok();
  }

  using FillRow = std::function<void(uint64_t row, Rng& rng, std::span<uint8_t> out)>;

  Status matrix(const SynthTensor& tensor) {
    SHOAL_ASSIGN(const TensorType type, synth_tensor_type(options_.mix, shape_, tensor));
    const int64_t cols = tensor.dims[0];
    return add(tensor.name, type, tensor.dims,
               [type, cols, scale = tensor.scale](uint64_t, Rng& rng, std::span<uint8_t> out) {
                 random_row(type, rng, scale, cols, out.data());
               });
  }

  // Norm weights around one, so that they are not a no-op.
  Status floats(const SynthTensor& tensor) {
    const float mean = tensor.fill == SynthFill::kNorm ? 1.0f : 0.0f;
    return add(tensor.name, TensorType::kF32, tensor.dims,
               [mean, scale = tensor.scale](uint64_t, Rng& rng, std::span<uint8_t> out) {
                 auto* values = reinterpret_cast<float*>(out.data());
                 for (size_t i = 0; i < out.size() / sizeof(float); ++i) {
                   values[i] = mean + scale * static_cast<float>(rng.normal());
                 }
               });
  }

  // Every row has its own generator, so that files do not depend on the writer's chunks.
  Status add(const std::string& name, TensorType type, const std::vector<int64_t>& dims,
             FillRow fill) {
    const uint64_t seed = mix64(options_.seed ^ ++counter_);
    const uint64_t row = row_bytes(type, static_cast<uint64_t>(dims[0]));
    if (keeps_rows_) {
      uint64_t rows = 1;
      for (size_t d = 1; d < dims.size(); ++d) rows *= static_cast<uint64_t>(dims[d]);
      rows = std::min(rows, kSynthSourceRows);
      SynthPart part;
      part.rows.resize(rows * row);
      for (uint64_t r = 0; r < rows; ++r) {
        Rng rng(mix64(seed ^ r));
        fill(r, rng, std::span(part.rows).subspan(r * row, row));
      }
      parts_.push_back(std::move(part));
    }
    return writer_.add_tensor(name, type, {dims.begin(), dims.end()},
                              [this, seed, row, fill = std::move(fill)](
                                  uint64_t first_row, uint64_t rows, std::span<uint8_t> out) {
                                for (uint64_t r = 0; r < rows; ++r) {
                                  Rng rng(mix64(seed ^ (first_row + r)));
                                  fill(first_row + r, rng, out.subspan(r * row, row));
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
  bool keeps_rows_ = false;
  std::vector<SynthPart> parts_;  // in file order, without their places
};

Status check_shape(const SynthShape& shape) {
  const std::vector<std::string> known = synth_architectures();
  if (std::find(known.begin(), known.end(), shape.architecture) == known.end()) {
    return invalid_argument(fmt::format("no synthetic models of architecture '{}'; there are: {}",
                                        shape.architecture, fmt::join(known, ", ")));
  }
  const bool latent = shape.latent.kv_rank > 0;
  if (shape.layers < 1 || shape.width < 32 || shape.heads < 1 || shape.kv_heads < 1 ||
      shape.heads % shape.kv_heads != 0 || shape.ffn < 1 || shape.vocab < 300 ||
      shape.context < 1 || (!latent && (shape.head_dim < 2 || shape.head_dim % 2 != 0))) {
    return invalid_argument(
        "the shape does not work: needs layers ≥ 1, width ≥ 32, heads a multiple of KV heads, an "
        "even head size, FFN ≥ 1, vocab ≥ 300, context ≥ 1");
  }
  if (latent != (shape.architecture == "deepseek2")) {
    return invalid_argument("latent attention goes with deepseek2 and only with it");
  }
  const SynthLatent& l = shape.latent;
  if (latent && (l.nope < 1 || l.value < 1 || l.rope < 2 || l.rope % 2 != 0)) {
    return invalid_argument("latent attention needs nope ≥ 1, value ≥ 1 and an even rope ≥ 2");
  }
  const SynthMoe& moe = shape.moe;
  if (moe.experts > 0 && (moe.top_k < 1 || moe.top_k > moe.experts || moe.features < 1)) {
    return invalid_argument("the mixture needs 1 ≤ top_k ≤ experts and features ≥ 1");
  }
  return Status::ok();
}

}  // namespace

Status write_synth_model(const SynthShape& shape, const SynthOptions& options,
                         const std::string& path) {
  SHOAL_TRY(check_shape(shape));
  return SynthWriter(shape, options).write(path);
}

Result<std::shared_ptr<const ByteSource>> make_synth_source(const SynthShape& shape,
                                                            const SynthOptions& options) {
  SHOAL_TRY(check_shape(shape));
  return SynthWriter(shape, options).source();
}

}  // namespace shoal

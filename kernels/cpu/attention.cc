// Paged causal attention on the CPU. Per row and KV head, for all its query heads together:
//
//   s_j = scale · q·k_j,  m = max s,  o = Σ exp(s_j − m) v_j / Σ exp(s_j − m)
//
// computed in splits of kSplit positions, each with its own (m, Σ, o), merged in position order
// (Milakov & Gimelshein 2018, "Online normalizer calculation"). Splits start at multiples of kSplit
// whatever the batch, so a row's result does not depend on whether splits ran on one thread or
// several.
#include <algorithm>
#include <cmath>

#include "kernels/body/math.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_layout.h"

namespace shoal {
namespace {

constexpr int64_t kSplit = 512;  // positions

// (m, Σ, o[dim]) of one query head over one split or several.
struct Partial {
  float* data;
  float& max() const { return data[0]; }
  float& sum() const { return data[1]; }
  float* out() const { return data + 2; }
};

class Attention {
 public:
  Attention(const KernelSet& set, const float* q, int64_t q_stride, const AttentionSpec& spec,
            const StepView& step, const KvLayer& kv)
      : set_(set), q_(q), q_stride_(q_stride), spec_(spec), step_(step), kv_(kv) {}

  int64_t first(int64_t row) const {
    return body::first_visible(step_.positions[row], spec_.window, spec_.chunk);
  }
  int64_t first_split(int64_t row) const { return first(row) / kSplit; }
  int64_t split_end(int64_t row) const { return step_.positions[row] / kSplit + 1; }

  // The rank's query heads [begin, end) that read KV head `kv_head` (local index).
  std::pair<int64_t, int64_t> heads_of(int64_t kv_head) const {
    const int64_t global = (spec_.first_kv_head + kv_head) * spec_.group - spec_.first_q_head;
    return {std::clamp<int64_t>(global, 0, spec_.q_heads),
            std::clamp<int64_t>(global + spec_.group, 0, spec_.q_heads)};
  }

  int64_t partial_floats() const { return kv_.head_dim + 2; }

  // Fills partials[head − begin] for every query head of the KV head over one split.
  void run_split(int64_t row, int64_t kv_head, int64_t split, float* partials,
                 std::vector<float>& scratch) const;
  // into ⊕= from: `from` covers later positions.
  void merge(Partial into, Partial from) const;
  void finish(int64_t row, int64_t head, Partial total, float* out) const;

 private:
  const float* fetch(const uint8_t* bytes, float* buffer) const {
    if (kv_.type == KvType::kF32) return reinterpret_cast<const float*>(bytes);
    set_.half_to_float(reinterpret_cast<const uint16_t*>(bytes), kv_.head_dim, buffer);
    return buffer;
  }
  KvPlace place(int64_t row, int64_t kv_head, int64_t position) const {
    const int64_t block =
        step_.block_tables[step_.sequences[row] * step_.table_stride + position / kv_.block_tokens];
    return kv_place(kv_, block, kv_head, position % kv_.block_tokens);
  }

  const KernelSet& set_;
  const float* q_;
  int64_t q_stride_;
  const AttentionSpec& spec_;
  const StepView& step_;
  const KvLayer& kv_;
};

void Attention::run_split(int64_t row, int64_t kv_head, int64_t split, float* partials,
                          std::vector<float>& scratch) const {
  const auto [head_begin, head_end] = heads_of(kv_head);
  const int64_t heads = head_end - head_begin, dim = kv_.head_dim;
  const int64_t begin = std::max(first(row), split * kSplit);
  const int64_t end = std::min<int64_t>(step_.positions[row] + 1, (split + 1) * kSplit);
  const int64_t n = end - begin;
  scratch.resize(static_cast<size_t>(heads * kSplit + dim));
  float* scores = scratch.data();
  float* buffer = scores + heads * kSplit;
  const float* q = q_ + row * q_stride_ + head_begin * dim;

  for (int64_t j = 0; j < n; ++j) {
    const float* k = fetch(place(row, kv_head, begin + j).key, buffer);
    for (int64_t h = 0; h < heads; ++h) {
      const float* one = q + h * dim;
      float s;
      set_.dot_f32(reinterpret_cast<const uint8_t*>(k), &one, 1, dim, &s);
      s *= spec_.scale;
      if (spec_.softcap > 0) s = spec_.softcap * std::tanh(s / spec_.softcap);
      scores[h * kSplit + j] = s;
    }
  }
  for (int64_t h = 0; h < heads; ++h) {
    const Partial partial{partials + h * partial_floats()};
    float* s = scores + h * kSplit;
    partial.max() = set_.max(s, n);
    set_.exp_shift(s, partial.max(), n);
    float sum = 0;
    for (int64_t j = 0; j < n; ++j) sum += s[j];
    partial.sum() = sum;
    std::fill_n(partial.out(), dim, 0.0f);
  }
  for (int64_t j = 0; j < n; ++j) {
    const float* v = fetch(place(row, kv_head, begin + j).value, buffer);
    for (int64_t h = 0; h < heads; ++h) {
      set_.axpy(scores[h * kSplit + j], v, dim, partials + h * partial_floats() + 2);
    }
  }
}

void Attention::merge(Partial into, Partial from) const {
  const float peak = std::max(into.max(), from.max());
  const float a = std::exp(into.max() - peak), b = std::exp(from.max() - peak);
  into.max() = peak;
  into.sum() = into.sum() * a + from.sum() * b;
  set_.scale(a, kv_.head_dim, into.out());
  set_.axpy(b, from.out(), kv_.head_dim, into.out());
}

void Attention::finish(int64_t row, int64_t head, Partial total, float* out) const {
  (void)row;
  float sum = total.sum(), factor = 1.0f;
  if (spec_.sinks != nullptr) {  // one more logit in the denominator, without a value
    const float sink = spec_.sinks[head];
    const float peak = std::max(total.max(), sink);
    factor = std::exp(total.max() - peak);
    sum = sum * factor + std::exp(sink - peak);
  }
  const float inverse = factor / sum;
  for (int64_t i = 0; i < kv_.head_dim; ++i) out[i] = total.out()[i] * inverse;
}

}  // namespace

uint64_t CpuDevice::kv_layer_bytes(const KvLayer& kv) const {
  return static_cast<uint64_t>(kv.blocks) * static_cast<uint64_t>(kv.block_tokens) *
         static_cast<uint64_t>(kv.kv_heads) * static_cast<uint64_t>(kv.head_dim) * 2 *
         kv_element_bytes(kv);
}

void CpuDevice::attention(const float* q, int64_t q_stride, const AttentionSpec& spec,
                          const StepView& step, const KvLayer& kv, Activations& output) {
  auto& out = static_cast<CpuActivations&>(output);
  SHOAL_CHECK(spec.q_heads * kv.head_dim <= out.columns, "attention output too narrow");
  SHOAL_CHECK(step.rows <= out.rows, "attention output of too few rows");
  out.width = spec.q_heads * kv.head_dim;
  if (out.width == 0) return;
  const Attention attention(set_, q, q_stride, spec, step, kv);
  const int64_t items = step.rows * kv.kv_heads, stride = attention.partial_floats();
  int64_t max_splits = 1;
  for (int64_t r = 0; r < step.rows; ++r) {
    max_splits = std::max(max_splits, attention.split_end(r) - attention.first_split(r));
  }
  const auto merge_item = [&](int64_t item, float* partials, int64_t count) {
    const int64_t row = item / kv.kv_heads, kv_head = item % kv.kv_heads;
    const auto [begin, end] = attention.heads_of(kv_head);
    for (int64_t h = begin; h < end; ++h) {
      const Partial total{partials + (h - begin) * stride};
      for (int64_t s = 1; s < count; ++s) {
        attention.merge(total, Partial{partials + (s * spec.group + h - begin) * stride});
      }
      attention.finish(row, h, total, out.row(row) + h * kv.head_dim);
    }
  };
  // Few rows and long contexts: the splits of one row run on several threads.
  const bool spread = max_splits > 1 && items < 4 * pool_.threads() && pool_.threads() > 1;
  if (spread) {
    const int64_t item_floats = max_splits * spec.group * stride;
    partials_.resize(static_cast<size_t>(items * item_floats));
    pool_.parallel_for(items * max_splits, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t item = i / max_splits, row = item / kv.kv_heads;
        const int64_t split = attention.first_split(row) + i % max_splits;
        if (split >= attention.split_end(row)) continue;
        attention.run_split(
            row, item % kv.kv_heads, split,
            partials_.data() + item * item_floats + i % max_splits * spec.group * stride, scratch);
      }
    });
    pool_.parallel_for(items, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / kv.kv_heads;
        merge_item(i, partials_.data() + i * item_floats,
                   attention.split_end(row) - attention.first_split(row));
      }
    });
  } else {
    pool_.parallel_for(items, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch, partials(static_cast<size_t>(2 * spec.group * stride));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / kv.kv_heads, kv_head = i % kv.kv_heads;
        const auto [head_begin, head_end] = attention.heads_of(kv_head);
        for (int64_t s = attention.first_split(row); s < attention.split_end(row); ++s) {
          const bool is_first = s == attention.first_split(row);
          float* target = partials.data() + (is_first ? 0 : spec.group * stride);
          attention.run_split(row, kv_head, s, target, scratch);
          for (int64_t h = 0; !is_first && h < head_end - head_begin; ++h) {
            attention.merge(Partial{partials.data() + h * stride}, Partial{target + h * stride});
          }
        }
        merge_item(i, partials.data(), 1);
      }
    });
  }
  pool_.parallel_for(step.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) finish_row(out, r);
  });
}

}  // namespace shoal

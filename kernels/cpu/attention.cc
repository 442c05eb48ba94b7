// Paged causal attention on the CPU. For each row and query head:
//
//   s_j = scale · q·k_j,  m = max s,  o = Σ exp(s_j − m) v_j / Σ exp(s_j − m)
//
// computed in splits of kSplit positions, each with its own (m, Σ, o), merged in position order
// (Milakov & Gimelshein 2018, "Online normalizer calculation"). Splits start at multiples of kSplit
// whatever the batch, so a row's result does not depend on whether splits ran on one thread or
// several. Query heads of a KV head, and neighbouring rows of a prefill, pass over a block of K
// (then V) while it is in the nearest cache. With a latent cache v_j is the front of k_j.
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/body/math.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/kv_layout.h"

namespace shoal {

Attention::Attention(const KernelSet& set, const float* q, int64_t q_stride,
                     const AttentionSpec& spec, const StepView& step, const KvLayer& kv)
    : set_(set),
      q_(q),
      q_stride_(q_stride),
      spec_(spec),
      step_(step),
      kv_(kv),
      parts_((std::max<int64_t>(spec.group, 1) + kMaxHeads - 1) / kMaxHeads),
      lane_heads_((std::max<int64_t>(spec.group, 1) + parts_ - 1) / parts_) {
  constexpr int64_t kMaxTile = 8, kMaxScores = 32;  // rows; rows × heads: 64 KiB of scores
  const int64_t tile = std::clamp<int64_t>(kMaxScores / lane_heads_, 1, kMaxTile);
  for (int64_t r = 0; r < step.rows;) {
    int64_t end = r + 1;
    while (end < step.rows && end - r < tile && step.sequences[end] == step.sequences[r]) ++end;
    RowTile rows{r, end, first_split(r), split_end(r)};
    for (int64_t i = r; i < end; ++i) {
      rows.first_split = std::min(rows.first_split, first_split(i));
      rows.split_end = std::max(rows.split_end, split_end(i));
      rows.tokens += step.positions[i] + 1 - first(i);
    }
    tiles_.push_back(rows);
    r = end;
  }
}

int64_t Attention::first(int64_t row) const {
  return body::first_visible(step_.positions[row], spec_.window, spec_.chunk);
}

std::pair<int64_t, int64_t> Attention::heads_of(int64_t lane) const {
  const int64_t part = lane % parts_ * lane_heads_;
  const int64_t global = (spec_.first_kv_head + lane / parts_) * spec_.group - spec_.first_q_head;
  return {
      std::clamp<int64_t>(global + part, 0, spec_.q_heads),
      std::clamp<int64_t>(global + std::min(part + lane_heads_, spec_.group), 0, spec_.q_heads)};
}

template <class Visit>
void Attention::for_runs(const RowTile& tile, int64_t split, const Visit& visit) const {
  const int32_t* table = step_.block_tables + step_.sequences[tile.begin] * step_.table_stride;
  const int64_t begin = split * kSplit, end = begin + kSplit;
  for (int64_t at = begin; at < end;) {
    const int64_t block = at / kv_.block_tokens;
    const int64_t stop = std::min(end, (block + 1) * kv_.block_tokens);
    for (int64_t r = tile.begin; r < tile.end; ++r) {
      const int64_t from = std::max(at, first(r));
      const int64_t to = std::min<int64_t>(stop, step_.positions[r] + 1);
      if (from < to) visit(r, from, to, int64_t{table[block]});
    }
    at = stop;
  }
}

void Attention::run_split(const RowTile& tile, int64_t lane, int64_t split, float* partials,
                          std::vector<float>& scratch) const {
  const auto [head_begin, head_end] = heads_of(lane);
  const int64_t heads = head_end - head_begin, dim = kv_.head_dim, kv_head = lane / parts_;
  const auto count = static_cast<size_t>(heads);
  if (heads == 0) return;
  scratch.resize(static_cast<size_t>((tile.end - tile.begin) * heads * kSplit));
  std::vector<const float*> in(count);
  std::vector<float*> out(count);
  const auto scores = [&](int64_t r, int64_t h) {
    return scratch.data() + ((r - tile.begin) * heads + h) * kSplit;
  };
  const bool half = kv_.type == KvType::kF16;

  for_runs(tile, split, [&](int64_t r, int64_t from, int64_t to, int64_t block) {
    const int64_t begin = std::max(first(r), split * kSplit);
    for (int64_t h = 0; h < heads; ++h) {
      in[static_cast<size_t>(h)] = q_ + r * q_stride_ + (head_begin + h) * dim;
      out[static_cast<size_t>(h)] = scores(r, h) + from - begin;
    }
    const uint8_t* keys = kv_place(kv_, block, kv_head, from % kv_.block_tokens).key;
    (half ? set_.score_f16 : set_.score_f32)(keys, to - from, dim, in.data(),
                                             static_cast<int>(heads), out.data());
  });
  for (int64_t r = tile.begin; r < tile.end; ++r) {
    const int64_t begin = std::max(first(r), split * kSplit);
    const int64_t end = std::min<int64_t>(step_.positions[r] + 1, (split + 1) * kSplit);
    if (begin >= end) continue;
    for (int64_t h = 0; h < heads; ++h) {
      const Partial partial = this->partial(partials, r - tile.begin, h);
      float* s = scores(r, h);
      set_.scale(spec_.scale, end - begin, s);
      if (spec_.softcap > 0) set_.soft_cap(s, spec_.softcap, end - begin);
      partial.max() = set_.max(s, end - begin);
      partial.sum() = set_.exp_shift(s, partial.max(), end - begin);
      std::fill_n(partial.out(), kv_.value_dim(), 0.0f);
    }
  }
  for_runs(tile, split, [&](int64_t r, int64_t from, int64_t to, int64_t block) {
    const int64_t begin = std::max(first(r), split * kSplit);
    for (int64_t h = 0; h < heads; ++h) {
      in[static_cast<size_t>(h)] = scores(r, h) + from - begin;
      out[static_cast<size_t>(h)] = partial(partials, r - tile.begin, h).out();
    }
    const uint8_t* values = kv_place(kv_, block, kv_head, from % kv_.block_tokens).value;
    (half ? set_.weigh_f16 : set_.weigh_f32)(values, to - from, dim, kv_.value_dim(), in.data(),
                                             static_cast<int>(heads), out.data());
  });
}

void Attention::merge(const RowTile& tile, int64_t lane, int64_t split, float* into,
                      float* from) const {
  const auto [head_begin, head_end] = heads_of(lane);
  for (int64_t r = tile.begin; r < tile.end; ++r) {
    if (split < first_split(r) || split >= split_end(r)) continue;
    const bool is_first = split == first_split(r);
    for (int64_t h = 0; h < head_end - head_begin; ++h) {
      const Partial a = partial(into, r - tile.begin, h), b = partial(from, r - tile.begin, h);
      if (is_first) {
        std::copy_n(b.data, partial_floats(), a.data);
        continue;
      }
      const float peak = std::max(a.max(), b.max());
      const float x = std::exp(a.max() - peak), y = std::exp(b.max() - peak);
      a.max() = peak;
      a.sum() = a.sum() * x + b.sum() * y;
      set_.scale(x, kv_.value_dim(), a.out());
      set_.axpy(y, b.out(), kv_.value_dim(), a.out());
    }
  }
}

void Attention::finish(int64_t head, Partial total, float* out) const {
  float sum = total.sum(), factor = 1.0f;
  if (spec_.sinks != nullptr) {  // one more logit in the denominator, without a value
    const float sink = spec_.sinks[head];
    const float peak = std::max(total.max(), sink);
    factor = std::exp(total.max() - peak);
    sum = sum * factor + std::exp(sink - peak);
  }
  const float inverse = factor / sum;
  for (int64_t i = 0; i < kv_.value_dim(); ++i) out[i] = total.out()[i] * inverse;
}

uint64_t CpuDevice::kv_layer_bytes(const KvLayer& kv) const {
  return static_cast<uint64_t>(kv.blocks) * static_cast<uint64_t>(kv.kv_heads) * kv_head_bytes(kv);
}

namespace {

// One (row tile, lane): its splits in order, on one thread or, as parts, on several.
struct Item {
  const RowTile* tile;
  int64_t lane;
  int64_t parts;  // index of its first split among all items'
};

void finish_item(const Attention& attention, const Item& item, float* total, const KvLayer& kv,
                 CpuActivations& out) {
  const auto [begin, end] = attention.heads_of(item.lane);
  for (int64_t r = item.tile->begin; r < item.tile->end; ++r) {
    for (int64_t h = begin; h < end; ++h) {
      attention.finish(h, attention.partial(total, r - item.tile->begin, h - begin),
                       out.row(r) + h * kv.value_dim());
    }
  }
}

}  // namespace

void CpuDevice::attention(const float* q, int64_t q_stride, const AttentionSpec& spec,
                          const StepView& step, const KvLayer& kv, Activations& output) {
  auto& out = static_cast<CpuActivations&>(output);
  SHOAL_CHECK(spec.q_heads * kv.value_dim() <= out.columns, "attention output too narrow");
  SHOAL_CHECK(step.rows <= out.rows, "attention output of too few rows");
  out.width = spec.q_heads * kv.value_dim();
  if (out.width == 0) return;
  const Attention attention(set_, q, q_stride, spec, step, kv);
  std::vector<Item> items;
  std::vector<int64_t> cost;  // tokens to visit
  int64_t parts = 0;
  for (const RowTile& tile : attention.tiles()) {
    for (int64_t lane = 0; lane < attention.lanes(); ++lane) {
      items.push_back({&tile, lane, parts});
      cost.push_back(tile.tokens);
      parts += tile.split_end - tile.first_split;
    }
  }
  const auto count = static_cast<int64_t>(items.size());
  const size_t set_floats = attention.set_floats();
  // Few items and long contexts: the splits of one item run on several threads.
  if (parts > count && count < 4 * pool_.threads() && pool_.threads() > 1) {
    partials_.resize(static_cast<size_t>(parts + count) * set_floats);
    std::vector<std::pair<int64_t, int64_t>> jobs;  // item, split
    for (int64_t i = 0; i < count; ++i) {
      const RowTile& tile = *items[static_cast<size_t>(i)].tile;
      for (int64_t s = tile.first_split; s < tile.split_end; ++s) jobs.emplace_back(i, s);
    }
    const auto slot = [&](int64_t part) {
      return partials_.data() + static_cast<size_t>(part) * set_floats;
    };
    pool_.parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t j = begin; j < end; ++j) {
        const auto [i, split] = jobs[static_cast<size_t>(j)];
        const Item& item = items[static_cast<size_t>(i)];
        attention.run_split(*item.tile, item.lane, split, slot(j), scratch);
      }
    });
    pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Item& item = items[static_cast<size_t>(i)];
        const RowTile& tile = *item.tile;
        for (int64_t s = tile.first_split; s < tile.split_end; ++s) {
          attention.merge(tile, item.lane, s, slot(parts + i),
                          slot(item.parts + s - tile.first_split));
        }
        finish_item(attention, item, slot(parts + i), kv, out);
      }
    });
  } else {
    pool_.parallel_weighted(cost, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch, partials(2 * set_floats);
      for (int64_t i = begin; i < end; ++i) {
        const Item& item = items[static_cast<size_t>(i)];
        const RowTile& tile = *item.tile;
        for (int64_t s = tile.first_split; s < tile.split_end; ++s) {
          attention.run_split(tile, item.lane, s, partials.data() + set_floats, scratch);
          attention.merge(tile, item.lane, s, partials.data(), partials.data() + set_floats);
        }
        finish_item(attention, item, partials.data(), kv, out);
      }
    });
  }
  pool_.parallel_for(step.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) finish_row(out, r);
  });
}

}  // namespace shoal

// Attention of two devices on the same input: sequences in a paged cache with shuffled blocks.
#pragma once

#include <algorithm>

#include "tests/simt/gpu_support.h"

namespace shoal::testing {

inline std::unique_ptr<Device> make_reference() { return make_device("", false, 1); }

struct AttentionShape {
  int64_t q_heads, kv_heads, group, dim, block_tokens, tokens;
  KvType type = KvType::kF16;
  int64_t latent = 0;
  int64_t first_q_head = 0, first_kv_head = 0;
  int64_t value_dim() const { return latent > 0 ? latent : dim; }
};

struct AttentionRow {
  int32_t sequence, position;
};

// K and V of some sequences, the same on every device that makes one from the same seed.
class PagedCache {
 public:
  static constexpr int64_t kSpoilt = 19;
  // `spoilt`: the value that token kSpoilt of sequence 0 has everywhere; 0: its own.
  PagedCache(Device& device, const AttentionShape& shape, int64_t sequences, uint64_t seed,
             float spoilt = 0)
      : device_(device),
        shape_(shape),
        stride_((shape.tokens + shape.block_tokens - 1) / shape.block_tokens),
        tables_(device, shuffled(sequences * stride_, seed)) {
    kv_ = {nullptr,   shape.type,  sequences * stride_ + 1, shape.block_tokens, shape.kv_heads,
           shape.dim, shape.latent};
    auto made = device.allocate(device.kv_layer_bytes(kv_), "kv");
    SHOAL_CHECK(made.is_ok(), made.status().to_string());
    data_ = std::move(made).value();
    kv_.data = data_->data();
    Rng rng(seed);
    const int64_t width = shape.kv_heads * shape.dim;
    const auto table = shuffled(sequences * stride_, seed);
    for (int64_t s = 0; s < sequences; ++s) {
      std::vector<int64_t> slots;
      std::vector<int32_t> positions;
      for (int64_t t = 0; t < shape.tokens; ++t) {
        const auto block = table[static_cast<size_t>(s * stride_ + t / shape.block_tokens)];
        slots.push_back(int64_t{block} * shape.block_tokens + t % shape.block_tokens);
        positions.push_back(static_cast<int32_t>(t));
      }
      DeviceArray<float> k(device, random_values(rng, shape.tokens * width));
      auto values = random_values(rng, shape.tokens * width);
      if (s == 0 && spoilt != 0) std::fill_n(values.begin() + kSpoilt * width, width, spoilt);
      DeviceArray<float> v(device, values);
      DeviceArray<int64_t> slots_d(device, slots);
      DeviceArray<int32_t> positions_d(device, positions);
      AttentionInput in;
      in.k = k.data(), in.v = shape.latent > 0 ? nullptr : v.data(), in.kv_stride = width;
      device.store_kv(in, {shape.tokens, positions_d.data(), slots_d.data(), nullptr, nullptr, 0},
                      kv_);
      expect_clean(device);
    }
  }

  // [rows × q_heads × value_dim]
  std::vector<float> attend(AttentionSpec spec, const std::vector<AttentionRow>& rows,
                            const std::vector<float>& q, const std::vector<float>& sinks) {
    std::vector<int32_t> sequences, positions;
    for (const AttentionRow& row : rows) {
      sequences.push_back(row.sequence);
      positions.push_back(row.position);
    }
    DeviceArray<int32_t> sequences_d(device_, sequences), positions_d(device_, positions);
    DeviceArray<float> q_d(device_, q), sinks_d(device_, sinks);
    spec.sinks = sinks.empty() ? nullptr : sinks_d.data();
    const auto count = static_cast<int64_t>(rows.size());
    const int64_t width = shape_.q_heads * shape_.value_dim();
    auto made = device_.create_activations(count, width);
    SHOAL_CHECK(made.is_ok(), made.status().to_string());
    Activations& out = **made;
    device_.attention(
        q_d.data(), shape_.q_heads * shape_.dim, spec,
        {count, positions_d.data(), nullptr, sequences_d.data(), tables_.data(), stride_}, kv_,
        out);
    expect_clean(device_);
    return read_values(device_, out, count);
  }

 private:
  static std::vector<int32_t> shuffled(int64_t n, uint64_t seed) {
    Rng rng(seed + 1);
    std::vector<int32_t> blocks;
    for (int64_t i = 0; i < n; ++i) blocks.push_back(static_cast<int32_t>(i + 1));
    for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[rng.below(i)]);
    return blocks;
  }

  Device& device_;
  AttentionShape shape_;
  int64_t stride_;
  DeviceArray<int32_t> tables_;
  KvLayer kv_;
  std::unique_ptr<Buffer> data_;
};

}  // namespace shoal::testing

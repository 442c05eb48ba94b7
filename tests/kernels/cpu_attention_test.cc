// CPU attention against a direct double-precision evaluation, and its batch invariance.
#include <algorithm>
#include <optional>

#include "kernels/body/half.h"
#include "tests/kernels/cpu_support.h"

namespace shoal {
namespace {

using namespace testing;

// Sanitizers make these loops slow: there, the set that runs in production.
std::vector<std::string> attention_sets() {
  std::vector<std::string> sets = usable_sets();
#if defined(SHOAL_SANITIZED)
  sets = {sets.back()};
#endif
  return sets;
}

struct Shape {
  int64_t q_heads, kv_heads, group, dim, block_tokens, tokens;
  int64_t first_q_head = 0, first_kv_head = 0;
  KvType type = KvType::kF16;
  int64_t latent = 0;
  int64_t value_dim() const { return latent > 0 ? latent : dim; }
};

// Sequences whose K and V are in a paged cache with shuffled blocks.
class Cache {
 public:
  Cache(Device& device, const Shape& shape, int64_t sequences, Rng& rng) : shape_(shape) {
    table_stride_ = (shape.tokens + shape.block_tokens - 1) / shape.block_tokens;
    const int64_t blocks = sequences * table_stride_ + 1;
    for (int64_t i = 0; i < sequences * table_stride_; ++i)
      tables_.push_back(static_cast<int32_t>(i + 1));
    for (size_t i = tables_.size(); i > 1; --i) std::swap(tables_[i - 1], tables_[rng.below(i)]);
    kv_ = {nullptr,        shape.type, blocks,      shape.block_tokens,
           shape.kv_heads, shape.dim,  shape.latent};
    auto made = device.allocate(device.kv_layer_bytes(kv_), "kv");
    SHOAL_CHECK(made.is_ok(), made.status().to_string());
    data_ = std::move(made).value();
    kv_.data = data_->data();
    const int64_t width = shape.kv_heads * shape.dim;
    for (int64_t s = 0; s < sequences; ++s) {
      keys_.push_back(random_values(rng, shape.tokens * width));
      values_.push_back(random_values(rng, shape.tokens * width));
      std::vector<int64_t> slots;
      std::vector<int32_t> positions;
      for (int64_t t = 0; t < shape.tokens; ++t) {
        slots.push_back(int64_t{table(s)[t / shape.block_tokens]} * shape.block_tokens +
                        t % shape.block_tokens);
        positions.push_back(static_cast<int32_t>(t));
      }
      AttentionInput in;
      auto k = keys_.back(), v = values_.back();
      in.k = k.data(), in.v = shape.latent > 0 ? nullptr : v.data(), in.kv_stride = width;
      device.store_kv(in, {shape.tokens, positions.data(), slots.data(), nullptr, nullptr, 0}, kv_);
      if (shape.type == KvType::kF16) {
        for (auto* list : {&keys_.back(), &values_.back()}) {
          for (float& x : *list) x = body::half_to_float(body::float_to_half(x));
        }
      }
    }
  }
  const int32_t* table(int64_t s) const { return tables_.data() + s * table_stride_; }
  const KvLayer& kv() const { return kv_; }
  int64_t table_stride() const { return table_stride_; }
  double key(int64_t s, int64_t t, int64_t h, int64_t i) const {
    return keys_[static_cast<size_t>(s)]
                [static_cast<size_t>((t * shape_.kv_heads + h) * shape_.dim + i)];
  }
  double value(int64_t s, int64_t t, int64_t h, int64_t i) const {
    if (shape_.latent > 0) return key(s, t, h, i);
    return values_[static_cast<size_t>(s)]
                  [static_cast<size_t>((t * shape_.kv_heads + h) * shape_.dim + i)];
  }

 private:
  Shape shape_;
  int64_t table_stride_ = 0;
  std::vector<int32_t> tables_;
  KvLayer kv_;
  std::unique_ptr<Buffer> data_;
  std::vector<std::vector<float>> keys_, values_;
};

struct Row {
  int32_t sequence, position;
};

std::vector<float> attend(Device& device, const Shape& shape, const AttentionSpec& spec,
                          const Cache& cache, const std::vector<Row>& rows,
                          const std::vector<float>& q) {
  std::vector<int32_t> sequences, positions;
  for (const Row& row : rows) {
    sequences.push_back(row.sequence);
    positions.push_back(row.position);
  }
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t width = shape.q_heads * shape.dim;
  const auto out = activations(device, count, shape.q_heads * shape.value_dim());
  device.attention(
      q.data(), width, spec,
      {count, positions.data(), nullptr, sequences.data(), cache.table(0), cache.table_stride()},
      cache.kv(), *out);
  return read_back(*out, count);
}

std::vector<double> reference(const Shape& shape, const AttentionSpec& spec, const Cache& cache,
                              Row row, const float* q) {
  std::vector<double> out;
  for (int64_t h = 0; h < shape.q_heads; ++h) {
    const int64_t kv_head = (shape.first_q_head + h) / shape.group - shape.first_kv_head;
    int64_t first = 0;
    if (spec.window > 0) first = std::max<int64_t>(first, row.position - spec.window + 1);
    if (spec.chunk > 0) first = std::max<int64_t>(first, row.position / spec.chunk * spec.chunk);
    std::vector<double> scores;
    double peak = spec.sinks != nullptr ? static_cast<double>(spec.sinks[h]) : -INFINITY;
    for (int64_t t = first; t <= row.position; ++t) {
      double s = 0;
      for (int64_t i = 0; i < shape.dim; ++i)
        s += static_cast<double>(q[h * shape.dim + i]) * cache.key(row.sequence, t, kv_head, i);
      s *= static_cast<double>(spec.scale);
      const auto cap = static_cast<double>(spec.softcap);
      if (cap > 0) s = cap * std::tanh(s / cap);
      scores.push_back(s);
      peak = std::max(peak, s);
    }
    double total = spec.sinks != nullptr ? std::exp(static_cast<double>(spec.sinks[h]) - peak) : 0;
    for (double& s : scores) total += s = std::exp(s - peak);
    for (int64_t i = 0; i < shape.value_dim(); ++i) {
      double sum = 0;
      for (size_t j = 0; j < scores.size(); ++j) {
        sum += scores[j] * cache.value(row.sequence, first + static_cast<int64_t>(j), kv_head, i);
      }
      out.push_back(sum / total);
    }
  }
  return out;
}

struct Case {
  const char* name;
  Shape shape;
  int64_t window = 0, chunk = 0;
  float softcap = 0;
  bool sinks = false;
};

const Case kCases[] = {
    {"one head", {1, 1, 1, 64, 16, 40}},
    {"gqa over three splits", {8, 2, 4, 64, 16, 1300}},
    {"f32 cache, odd block", {6, 2, 3, 40, 7, 600, 0, 0, KvType::kF32}},
    {"a rank with part of a group", {3, 2, 4, 128, 32, 530, 6, 1}},
    {"window", {4, 2, 2, 64, 16, 1200}, 300},
    {"window of one token", {4, 2, 2, 64, 16, 100}, 1},
    {"chunk", {4, 1, 4, 48, 13, 1100}, 0, 384},
    {"softcap and sinks", {4, 2, 2, 64, 16, 700}, 0, 0, 5.0f, true},
    {"window with sinks", {4, 4, 1, 96, 16, 700, 0, 0, KvType::kF32}, 128, 0, 0, true},
    {"wide head, large group", {10, 1, 10, 256, 16, 90}},
    {"latent", {20, 1, 20, 576, 16, 540, 0, 0, KvType::kF16, 512}},
    {"latent, a rank's heads of 128", {40, 1, 128, 96, 16, 70, 64, 0, KvType::kF16, 64}},
    {"latent f32, odd widths, softcap", {5, 1, 5, 75, 7, 600, 0, 0, KvType::kF32, 43}, 0, 0, 4.0f},
    {"group of 37 over two KV heads", {74, 2, 37, 32, 16, 60}},
};

AttentionSpec spec_of(const Case& c, const std::vector<float>& sinks) {
  AttentionSpec spec;
  spec.q_heads = c.shape.q_heads;
  spec.first_q_head = c.shape.first_q_head;
  spec.first_kv_head = c.shape.first_kv_head;
  spec.group = c.shape.group;
  spec.scale = 1.7f / std::sqrt(static_cast<float>(c.shape.dim));
  spec.window = c.window;
  spec.chunk = c.chunk;
  spec.softcap = c.softcap;
  spec.sinks = c.sinks ? sinks.data() : nullptr;
  return spec;
}

TEST(CpuAttention, MatchesTheDefinition) {
  for (const std::string& isa : usable_sets()) {
    for (const Case& c : kCases) {
      Rng rng(31);
      const auto device = make_device(isa, false, 2);
      const Cache cache(*device, c.shape, 2, rng);
      const auto last = static_cast<int32_t>(c.shape.tokens - 1);
      std::vector<Row> rows = {{0, 0},  {1, last}, {0, last / 2}, {0, last / 2 + 1},
                               {1, 31}, {1, 0}};
      for (const int32_t p : {511, 512, 513, 1023, 1024}) {
        if (p <= last) rows.push_back({p % 2, p});
      }
      const int64_t width = c.shape.q_heads * c.shape.dim;
      const auto q = random_values(rng, static_cast<int64_t>(rows.size()) * width);
      const auto sinks = random_values(rng, c.shape.q_heads, 2.0);
      const AttentionSpec spec = spec_of(c, sinks);
      const auto got = attend(*device, c.shape, spec, cache, rows, q);
      for (size_t r = 0; r < rows.size(); ++r) {
        const auto want =
            reference(c.shape, spec, cache, rows[r], q.data() + static_cast<int64_t>(r) * width);
        for (size_t i = 0; i < want.size(); ++i) {
          ASSERT_NEAR(got[r * want.size() + i], want[i], 1e-5)
              << isa << ", " << c.name << ", position " << rows[r].position << ", feature " << i;
        }
      }
    }
  }
}

// A row alone, among others in any order, in chunks, on 1, 2 or 3 threads, with other blocks.
TEST(CpuAttention, RowsDoNotDependOnTheirCompany) {
  for (const std::string& isa : attention_sets()) {
    for (const Case& c : kCases) {
      const auto last = static_cast<int32_t>(c.shape.tokens - 1);
      std::vector<Row> rows;
      for (int32_t i = 0; i < 11; ++i) rows.push_back({0, std::max(last - 10 + i, 0)});
      for (int32_t i = 0; i < 6; ++i) rows.push_back({1, last * i / 5});
      Rng rng(32);
      const int64_t width = c.shape.q_heads * c.shape.dim;
      const int64_t out_width = c.shape.q_heads * c.shape.value_dim();
      const auto q = random_values(rng, static_cast<int64_t>(rows.size()) * width);
      const auto sinks = random_values(rng, c.shape.q_heads, 2.0);
      const AttentionSpec spec = spec_of(c, sinks);
      std::vector<float> first;
      for (const int threads : {1, 2, 3}) {
        const auto device = make_device(isa, false, threads);
        Rng same(33);
        const Cache cache(*device, c.shape, 2, same);
        const auto all = attend(*device, c.shape, spec, cache, rows, q);
        if (first.empty()) first = all;
        ASSERT_EQ(std::memcmp(all.data(), first.data(), all.size() * 4), 0)
            << isa << " " << c.name << " " << threads;
        for (const size_t chunk : {1, 3, 7}) {
          if (threads == 1) continue;  // the slower half of the combinations
          for (size_t from = 0; from < rows.size(); from += chunk) {
            const size_t to = std::min(from + chunk, rows.size());
            std::vector<Row> part(rows.begin() + static_cast<long>(from),
                                  rows.begin() + static_cast<long>(to));
            const std::vector<float> part_q(q.begin() + static_cast<int64_t>(from) * width,
                                            q.begin() + static_cast<int64_t>(to) * width);
            const auto got = attend(*device, c.shape, spec, cache, part, part_q);
            ASSERT_EQ(std::memcmp(got.data(), first.data() + static_cast<int64_t>(from) * out_width,
                                  got.size() * 4),
                      0)
                << isa << ", " << c.name << ", rows " << from << "+" << chunk << ", threads "
                << threads;
          }
        }
      }
    }
  }
}

TEST(CpuAttention, NoHeadsHere) {
  const auto device = make_device("", true);
  Rng rng(34);
  const Shape shape{0, 1, 1, 32, 16, 20};
  const Cache cache(*device, shape, 1, rng);
  AttentionSpec spec;
  const auto got = attend(*device, shape, spec, cache, {{0, 3}}, {});
  EXPECT_TRUE(got.empty());
}

}  // namespace
}  // namespace shoal

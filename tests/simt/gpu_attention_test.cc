// Attention of the GPU's kernels on the emulator against the CPU device, and its batch invariance.
#include "tests/simt/gpu_attention_support.h"

namespace shoal {
namespace {

using namespace testing;
constexpr auto kF16 = KvType::kF16;
constexpr auto kF32 = KvType::kF32;

struct Case {
  const char* name;
  AttentionShape shape;
  int64_t window = 0, chunk = 0;
  float softcap = 0;
  bool sinks = false;
};

AttentionSpec spec_of(const Case& c) {
  AttentionSpec spec;
  spec.q_heads = c.shape.q_heads;
  spec.first_q_head = c.shape.first_q_head;
  spec.first_kv_head = c.shape.first_kv_head;
  spec.group = c.shape.group;
  spec.scale = 1.7f / std::sqrt(static_cast<float>(c.shape.dim));
  spec.window = c.window;
  spec.chunk = c.chunk;
  spec.softcap = c.softcap;
  return spec;
}

bool on_tensor_cores(const Case& c) {
  const auto& s = c.shape;
  return s.type == kF16 && s.latent == 0 &&
         (s.dim == 64 || s.dim == 80 || s.dim == 96 || s.dim == 128);
}

// Both keep K and V in the same precision. Tensor cores have P in f16: half an ulp of 2^-11 of each
// weight, against values of up to about 2; elsewhere only the order of sums differs.
float tolerance(const Case& c) { return on_tensor_cores(c) ? 5e-4f : 1e-5f; }

// {q_heads, kv_heads, group, dim, block_tokens, tokens, …}
const Case kLarge[] = {
    {"64, a group of 4", {8, 2, 4, 64, 64, 3000}},
    {"128, a group of 8", {8, 1, 8, 128, 64, 2100}},
    {"128 f32, a group of 5", {5, 1, 5, 128, 16, 1100, kF32}},
    {"80, no groups", {2, 2, 1, 80, 32, 1030}},
    {"96 f32, window and sinks", {4, 2, 2, 96, 32, 2100, kF32}, 1100, 0, 0, true},
    {"64, chunk", {4, 1, 4, 64, 13, 2600}, 0, 1200},
    {"64, window within a split", {4, 1, 4, 64, 16, 1500}, 128},
    {"128, softcap and sinks", {4, 2, 2, 128, 64, 1200}, 0, 0, 5.0f, true},
    {"latent 576 of 512, 16 heads", {16, 1, 16, 576, 64, 1050, kF16, 512}},
    {"latent f32, odd widths, softcap", {5, 1, 5, 75, 7, 1100, kF32, 43}, 0, 0, 4.0f},
};

const Case kSmall[] = {
    {"64", {4, 2, 2, 64, 16, 70}},
    {"128 f32", {4, 1, 4, 128, 16, 40, kF32}},
    {"a rank with part of a group", {3, 2, 4, 128, 32, 50, kF16, 0, 6, 1}},
    {"group of 16", {16, 1, 16, 64, 8, 40}},
    {"group of 5, window, sinks", {5, 1, 5, 80, 16, 60}, 17, 0, 0, true},
    {"window of one token", {4, 2, 2, 64, 16, 40}, 1},
    {"chunk, softcap", {2, 1, 2, 48, 13, 60}, 0, 24, 3.0f},
    {"odd f16", {3, 3, 1, 37, 16, 40}},
    {"latent", {20, 1, 20, 96, 16, 40, kF16, 64}},
    {"latent beyond a block's threads", {2, 1, 2, 1056, 16, 20, kF32, 1040}},
};

const Case kMixed[] = {
    {"64", {4, 2, 2, 64, 64, 1100}},
    {"64, window, sinks", {4, 1, 4, 64, 16, 1200}, 150, 0, 0, true},
    {"128", {5, 1, 5, 128, 32, 1060}},
    {"128, chunk, softcap", {2, 1, 2, 128, 64, 1060}, 0, 500, 0, true},
    {"96 f32, window", {2, 1, 2, 96, 32, 1300, kF32}, 1100},
    {"latent", {20, 1, 20, 96, 16, 40, kF16, 64}},
};

std::vector<AttentionRow> rows_of(const Case& c) {
  const auto last = static_cast<int32_t>(c.shape.tokens - 1);
  std::vector<AttentionRow> rows = {{0, 0}, {1, last}, {0, last / 2}, {0, last / 2 + 1}};
  for (const int32_t p : {1, 15, 16, 63, 127, 1022, 1023, 1024, 2047, 2048}) {
    if (p <= last) rows.push_back({p % 2, p});
  }
  return rows;
}

// Rows next to each other, as a prefill has them.
std::vector<AttentionRow> prefill_of(const Case& c, int32_t count) {
  std::vector<AttentionRow> rows;
  const auto last = static_cast<int32_t>(c.shape.tokens - 1);
  for (int32_t p = std::max(last - count + 1, 0); p <= last; ++p) rows.push_back({0, p});
  return rows;
}

void expect_as_the_cpu(const Case& c, const std::vector<AttentionRow>& rows, uint64_t seed,
                       bool checked, bool alone = false) {
  SCOPED_TRACE(std::string(c.name) + ", seed " + std::to_string(seed));
  Rng rng(seed);
  const auto q =
      random_values(rng, static_cast<int64_t>(rows.size()) * c.shape.q_heads * c.shape.dim);
  const auto sinks = c.sinks ? random_values(rng, c.shape.q_heads, 2.0) : std::vector<float>();
  const auto cpu = make_reference();
  PagedCache expected(*cpu, c.shape, 2, seed);
  const auto want = expected.attend(spec_of(c), rows, q, sinks);
  const auto device = make_emulated_device(seed, checked);
  if (alone) limit_attention_memory(*device, 0);
  PagedCache cache(*device, c.shape, 2, seed);
  const auto got = cache.attend(spec_of(c), rows, q, sinks);
  ASSERT_EQ(got.size(), want.size());
  const size_t width = got.size() / rows.size();
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance(c))
        << "position " << rows[i / width].position << ", feature " << i % width;
  }
}

TEST(GpuAttention, MatchesTheCpuOverSplits) {
  for (const Case& c : kLarge) expect_as_the_cpu(c, rows_of(c), 41, false);
}

TEST(GpuAttention, MatchesTheCpuOnTheCheckedEmulator) {
  for (const Case& c : kSmall) {
    for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed)
      expect_as_the_cpu(c, rows_of(c), seed, true);
  }
}

// Blocks that share a row's splits, and a block that walks them all because their results have no
// room; several rows of a prefill per tile.
TEST(GpuAttention, SplitsMeetOnTheCheckedEmulator) {
  const std::pair<Case, std::vector<AttentionRow>> cases[] = {
      {{"three splits", {2, 1, 2, 16, 64, 2100}}, {{0, 1024}, {1, 2099}, {0, 3}}},
      {{"64", {2, 1, 2, 64, 64, 1100}}, {{0, 1024}, {1, 1099}, {0, 3}}},
      {{"64, rows together", {16, 1, 16, 64, 64, 1060}, 60},
       {{0, 1023}, {0, 1024}, {0, 1025}, {1, 1059}}},
  };
  for (const auto& [c, rows] : cases) {
    for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed) {
      expect_as_the_cpu(c, rows, seed, true, seed % 2 == 0);
    }
  }
}

// More items than blocks: a block's next queries come into the memory of the values of the item
// before, if that ended with them.
TEST(GpuAttention, ItemAfterItemOnTheCheckedEmulator) {
  const Case c{"64", {4, 2, 2, 64, 16, 128}};
  std::vector<AttentionRow> rows;
  for (int32_t r = 0; r < 24; ++r) rows.push_back({r % 2, 66 + 2 * r});
  for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed) expect_as_the_cpu(c, rows, seed, true);
}

// More rows than a warp has lanes, more items than blocks: a block takes several.
TEST(GpuAttention, ManyRowsOnTheCheckedEmulator) {
  const Case cases[] = {{"16", {4, 4, 1, 16, 16, 40}},
                        {"16 f32", {4, 4, 1, 16, 16, 40, kF32}},
                        {"96", {8, 4, 2, 96, 16, 40}}};
  for (const Case& c : cases) {
    std::vector<AttentionRow> rows = prefill_of(c, 35);
    for (int32_t position : {20, 3, 39}) rows.push_back({1, position});
    for (uint64_t seed = 1; seed <= kEmulatorSeeds; ++seed) expect_as_the_cpu(c, rows, seed, true);
  }
}

TEST(GpuAttention, MoreRowsThanALaunchPlans) {
  const Case c{"300 rows", {1, 1, 1, 16, 16, 300}};
  expect_as_the_cpu(c, prefill_of(c, 300), 42, false);
}

// A row alone, among others in any order, in chunks, with its splits on one block or on several.
TEST(GpuAttention, RowsDoNotDependOnTheirCompany) {
  for (const Case& c : kMixed) {
    SCOPED_TRACE(c.name);
    std::vector<AttentionRow> rows = prefill_of(c, 64);
    for (const AttentionRow& row : rows_of(c)) rows.push_back(row);
    Rng rng(43);
    const int64_t width = c.shape.q_heads * c.shape.dim;
    const auto out_width = static_cast<size_t>(c.shape.q_heads * c.shape.value_dim());
    const auto q = random_values(rng, static_cast<int64_t>(rows.size()) * width);
    const auto sinks = c.sinks ? random_values(rng, c.shape.q_heads, 2.0) : std::vector<float>();
    const auto device = make_emulated_device(1, false);
    PagedCache cache(*device, c.shape, 2, 44);
    const auto all = cache.attend(spec_of(c), rows, q, sinks);
    const auto expect_part = [&](size_t from, size_t to) {
      const std::vector<AttentionRow> part(rows.begin() + static_cast<long>(from),
                                           rows.begin() + static_cast<long>(to));
      const std::vector<float> part_q(q.begin() + static_cast<int64_t>(from) * width,
                                      q.begin() + static_cast<int64_t>(to) * width);
      const auto got = cache.attend(spec_of(c), part, part_q, sinks);
      ASSERT_EQ(std::memcmp(got.data(), all.data() + from * out_width, got.size() * 4), 0)
          << "rows " << from << " … " << to;
    };
    for (const size_t chunk : {1, 7, 64}) {
      for (size_t from = 0; from < rows.size(); from += chunk) {
        // Alone: the ends of the prefill and the rows of other sequences.
        if (chunk == 1 && from > 3 && from < 60) continue;
        expect_part(from, std::min(from + chunk, rows.size()));
      }
    }
    limit_attention_memory(*device, 0);
    expect_part(0, rows.size());
    expect_part(rows.size() - 1, rows.size());
  }
}

// A row that sees no position at all is 0, and does not disturb its neighbours.
// A value that is no finite number breaks the rows that see it and no others: not the rows before
// it in the same tile, not those it has left the window of, not other sequences. On both devices.
TEST(GpuAttention, ABrokenValueBreaksWhoSeesIt) {
  for (const Case& c : kSmall) {
    if (c.shape.latent > 0 || c.shape.tokens < 40) continue;
    std::vector<AttentionRow> rows;
    for (int32_t t = 0; t < 40; ++t) rows.push_back({0, t});
    for (int32_t t = 0; t < 24; ++t) rows.push_back({1, t});
    Rng rng(21);
    const int64_t width = c.shape.q_heads * c.shape.value_dim();
    const auto q =
        random_values(rng, static_cast<int64_t>(rows.size()) * c.shape.q_heads * c.shape.dim);
    const auto sinks = c.sinks ? random_values(rng, c.shape.q_heads) : std::vector<float>{};
    const auto gpu = make_emulated_device(3), cpu = make_reference();
    for (Device* device : {gpu.get(), cpu.get()}) {
      const auto sane = PagedCache(*device, c.shape, 2, 5).attend(spec_of(c), rows, q, sinks);
      for (const float bad : {NAN, INFINITY, c.shape.type == kF16 ? 1e6f : NAN}) {
        const auto got = PagedCache(*device, c.shape, 2, 5, bad).attend(spec_of(c), rows, q, sinks);
        for (size_t r = 0; r < rows.size(); ++r) {
          const int64_t first = body::first_visible(rows[r].position, c.window, c.chunk);
          const bool sees = rows[r].sequence == 0 && first <= PagedCache::kSpoilt &&
                            rows[r].position >= PagedCache::kSpoilt;
          for (int64_t i = 0; i < width; ++i) {
            const size_t at = r * static_cast<size_t>(width) + static_cast<size_t>(i);
            ASSERT_TRUE(sees ? !std::isfinite(got[at]) : got[at] == sane[at])
                << c.name << " on " << device->describe() << ", " << bad << ", row " << r
                << " feature " << i << ": " << got[at] << ", without it " << sane[at];
          }
        }
      }
    }
  }
}

TEST(GpuAttention, RowsThatSeeNothingAreZero) {
  const Case cases[] = {{"64", {4, 2, 2, 64, 16, 40}},
                        {"64, sinks", {4, 2, 2, 64, 16, 40}, 0, 0, 0, true},
                        {"128, window", {8, 1, 8, 128, 16, 40}, 5},
                        {"48", {4, 2, 2, 48, 16, 40}},
                        {"32 f32, softcap", {2, 1, 2, 32, 16, 40, kF32}, 0, 0, 5.0f}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Rng rng(45);
    const auto width = static_cast<size_t>(c.shape.q_heads * c.shape.dim);
    const auto q = random_values(rng, static_cast<int64_t>(3 * width));
    const auto sinks = c.sinks ? random_values(rng, c.shape.q_heads, 2.0) : std::vector<float>();
    const auto device = make_emulated_device(2);
    PagedCache cache(*device, c.shape, 1, 46);
    const auto got = cache.attend(spec_of(c), {{0, 20}, {0, -1}, {0, 21}}, q, sinks);
    for (size_t i = width; i < 2 * width; ++i) ASSERT_EQ(got[i], 0.0f) << "feature " << i;
    for (const size_t row : {size_t{0}, size_t{2}}) {
      const std::vector<float> own(q.begin() + static_cast<int64_t>(row * width),
                                   q.begin() + static_cast<int64_t>((row + 1) * width));
      const auto alone = cache.attend(spec_of(c), {{0, row == 0 ? 20 : 21}}, own, sinks);
      EXPECT_EQ(std::memcmp(alone.data(), got.data() + row * width, width * 4), 0) << row;
    }
  }
}

TEST(GpuAttention, NoHeadsHere) {
  const auto device = make_emulated_device(1);
  const AttentionShape shape{0, 1, 1, 32, 16, 20};
  PagedCache cache(*device, shape, 1, 1);
  EXPECT_TRUE(cache.attend({}, {{0, 3}}, {}, {}).empty());
}

}  // namespace
}  // namespace shoal

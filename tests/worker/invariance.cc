#include "tests/worker/invariance.h"

#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace shoal::testing {

std::vector<int32_t> random_tokens(Rng& rng, int64_t n, int64_t vocab) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) {
    tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab))));
  }
  return tokens;
}

std::vector<float> expect_batch_invariant(const std::string& path, const MiniGroupOptions& base) {
  Rng rng(test_seed(23));
  MiniGroupOptions options = base;
  options.sequences = 33;
  options.max_tokens = 100;
  MiniGroup group(path, options);
  const auto tokens = random_tokens(rng, 80, group.spec().vocab);
  auto alone = group.prefill(0, tokens, 100);
  for (const int64_t chunk : {1, 7, 64}) {
    EXPECT_TRUE(bit_equal(alone, group.prefill(0, tokens, chunk))) << "chunks of " << chunk;
  }
  // 32 others of different lengths; then everybody decodes one token in one step.
  std::vector<Piece> others;
  for (int i = 1; i <= 32; ++i) {
    const auto prompt =
        random_tokens(rng, 1 + static_cast<int64_t>(rng.below(90)), group.spec().vocab);
    group.prefill(i, prompt, 64);
    others.push_back(
        {i, static_cast<int64_t>(prompt.size()), random_tokens(rng, 1, group.spec().vocab)});
  }
  group.prefill(0, {tokens.begin(), tokens.end() - 1}, 33);
  const Piece last{0, static_cast<int64_t>(tokens.size()) - 1, {tokens.back()}};
  for (const size_t place : {size_t{0}, size_t{13}, others.size()}) {
    std::vector<Piece> mixed = others;
    mixed.insert(mixed.begin() + static_cast<std::ptrdiff_t>(place), last);
    EXPECT_TRUE(bit_equal(alone, group.step(mixed)[place])) << "row " << place << " of 33";
  }
  return alone;
}

}  // namespace shoal::testing

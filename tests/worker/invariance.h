// Batch invariance: a sequence's logits are the same bits alone, in company, and in any chunks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tests/worker/mini_group.h"

namespace shoal::testing {

std::vector<int32_t> random_tokens(Rng& rng, int64_t n, int64_t vocab);

// Alone, among 32 others, and in chunks of 1, 7 and 64: the same bits. Returns them.
std::vector<float> expect_batch_invariant(const std::string& path, const MiniGroupOptions& base);

}  // namespace shoal::testing

// A model in which one token overflows the half-precision KV cache: sequences that hold it have no
// finite logit, all others are as good as in any model. Every weight of it is finite.
#pragma once

#include <cstdint>
#include <string>

namespace shoal::testing {

inline constexpr int32_t kOverflowToken = 77;

// Writes it to `path`: a llama of three KV heads, two layers and 320 tokens, F16.
void write_overflow_model(const std::string& path);

}  // namespace shoal::testing

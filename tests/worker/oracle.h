// Reference distributions and greedy tokens (shared/oracle) against a MiniGroup.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "tests/worker/mini_group.h"

namespace shoal::testing {

inline constexpr double kOracleTolerance = 5e-4;  // of a log-probability, f32 KV
// Below this margin of the best token the reference itself may go either way.
inline constexpr double kGreedyMargin = 2e-3;

// The parsed reference of a model; its file is gunzip_shared("oracle/NAME-f32.gguf.gz").
nlohmann::json read_oracle(const std::string& name);
// Tokens the longest case needs room for.
int64_t oracle_tokens(const nlohmann::json& oracle);

// Worst difference of a log-probability in one case, from an empty sequence 0; expects its greedy
// tokens, the first `greedy` of them.
double compare_with_oracle(MiniGroup& group, const nlohmann::json& reference,
                           size_t greedy = SIZE_MAX);

}  // namespace shoal::testing

#include "tests/worker/oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "tests/support/support.h"

namespace shoal::testing {
namespace {

double log_sum_exp(const std::vector<float>& logits) {
  double peak = -INFINITY, sum = 0;
  for (const float x : logits) peak = std::max(peak, static_cast<double>(x));
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - peak);
  return peak + std::log(sum);
}

int32_t argmax(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Logits after the last of tokens [from, to), the earlier ones being in the cache.
std::vector<float> run(MiniGroup& group, const std::vector<int32_t>& tokens, size_t from,
                       size_t to) {
  constexpr size_t kChunk = 512;
  std::vector<float> last;
  for (size_t at = from; at < to; at += kChunk) {
    const size_t end = std::min(to, at + kChunk);
    last = group.step({{0,
                        static_cast<int64_t>(at),
                        {tokens.begin() + static_cast<std::ptrdiff_t>(at),
                         tokens.begin() + static_cast<std::ptrdiff_t>(end)}}})[0];
  }
  return last;
}

}  // namespace

nlohmann::json read_oracle(const std::string& name) {
  std::ifstream in(*shared_path("oracle/" + name + "-f32.json"));
  return nlohmann::json::parse(in);
}

int64_t oracle_tokens(const nlohmann::json& oracle) {
  size_t longest = 0;
  for (const auto& c : oracle["cases"]) {
    longest = std::max(longest, c["tokens"].size() + c["greedy"].size());
  }
  return static_cast<int64_t>(longest);
}

double compare_with_oracle(MiniGroup& group, const nlohmann::json& reference, size_t greedy) {
  const auto tokens = reference["tokens"].get<std::vector<int32_t>>();
  std::map<size_t, nlohmann::json> at;
  for (const auto& [key, value] : reference["logprobs_at"].items()) at[std::stoul(key)] = value;
  double worst = 0;
  size_t done = 0;
  std::vector<float> logits;
  for (const auto& [position, expected] : at) {
    logits = run(group, tokens, done, position + 1);
    done = position + 1;
    const double total = log_sum_exp(logits);
    for (const auto& entry : expected) {
      const double found = static_cast<double>(logits[entry[0].get<size_t>()]) - total;
      worst = std::max(worst, std::abs(found - entry[1].get<double>()));
    }
  }
  if (done < tokens.size()) logits = run(group, tokens, done, tokens.size());
  if (reference["greedy_min_margin"].get<double>() < kGreedyMargin) return worst;
  int64_t length = static_cast<int64_t>(tokens.size());
  for (const auto& expected : reference["greedy"]) {
    if (greedy-- == 0) break;
    const int32_t token = argmax(logits);
    EXPECT_EQ(token, expected.get<int32_t>()) << reference["name"] << " at " << length;
    logits = group.step({{0, length++, {token}}})[0];
  }
  return worst;
}

}  // namespace shoal::testing

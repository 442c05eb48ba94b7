// A cluster of two ranks and what tests of membership ask of it.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/coordinator/fake_cluster.h"

namespace shoal::testing {

using namespace std::chrono_literals;

inline std::vector<int32_t> prompt_of(size_t tokens) {
  std::vector<int32_t> out(tokens);
  std::iota(out.begin(), out.end(), 10);
  return out;
}

struct TwoRanks : FakeCluster {
  explicit TwoRanks(CoreOptions options = small_core_options(2)) : FakeCluster(options, {}, 1) {}
  void form() {
    add_worker("w0");
    add_worker("w1");
    ASSERT_TRUE(run_until_ready());
  }
  uint64_t epoch() { return core.state(clock.now()).epoch; }
  WorkerState worker_state(const std::string& name) {
    for (const WorkerState& w : core.state(clock.now()).workers) {
      if (w.name == name) return w;
    }
    return {};
  }
  std::string reason() { return core.state(clock.now()).not_ready_reason; }
  // A request that is in the middle of its decode.
  RequestId running_request(uint32_t max_tokens = 50) {
    for (auto& name : {"w0", "w1"}) worker(name).set_step_time(20ms, 20ms);
    const RequestId id = submit(prompt_of(5), max_tokens);
    EXPECT_TRUE(run_until([&] { return streams[id].tokens.size() >= 3; }));
    return id;
  }
  void expect_lost(RequestId id, const std::string& part) {
    EXPECT_EQ(streams[id].finish.reason, FinishReason::kError);
    EXPECT_EQ(streams[id].finish.error.code(), Code::kUnavailable);
    EXPECT_NE(streams[id].finish.error.message().find(part), std::string::npos)
        << streams[id].finish.error.message();
  }
  void expect_serves() {
    const RequestId id = submit(prompt_of(5), 8, 99);
    ASSERT_TRUE(run_until_finished(id));
    EXPECT_EQ(streams[id].finish.reason, FinishReason::kLength);
    check_streams();
  }
};

}  // namespace shoal::testing

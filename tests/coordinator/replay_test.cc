// Requests outlive the group that computes them: through the whole core, on a fake clock.
#include <gtest/gtest.h>

#include "tests/coordinator/two_ranks.h"

namespace shoal::testing {
namespace {

CoreOptions replaying(Duration recovery = 30s) {
  CoreOptions options = small_core_options(2);
  options.recovery = recovery;
  return options;
}

struct Replaying : TwoRanks {
  explicit Replaying(const CoreOptions& options = replaying()) : TwoRanks(options) {}
  void expect_whole(RequestId id) {
    ASSERT_TRUE(run_until_finished(id));
    const Stream& stream = streams[id];
    EXPECT_NE(stream.finish.reason, FinishReason::kError) << stream.finish.error.message();
    EXPECT_EQ(stream.tokens, model.expected(stream.request.prompt, stream.request.seed,
                                            stream.request.max_tokens, false));
    check_streams();
  }
};

TEST(Replay, AStreamGoesOnWhereItStopped) {
  for (const char* name : {"w0", "w1"}) {
    Replaying cluster;
    cluster.form();
    const RequestId id = cluster.running_request();
    const size_t emitted = cluster.streams[id].tokens.size();
    cluster.kill(name);
    cluster.run_for(2s);
    EXPECT_EQ(cluster.streams[id].finishes, 0) << "it waits";
    EXPECT_GE(cluster.streams[id].tokens.size(), emitted);
    EXPECT_FALSE(cluster.core.admission().ready) << "and the truth is told to others";
    cluster.add_worker(name);
    cluster.expect_whole(id);
    EXPECT_EQ(cluster.observer.replays, 1u);
    EXPECT_EQ(cluster.epoch(), 2u);
  }
}

TEST(Replay, WhatWaitsOrIsInItsPromptDoesToo) {
  CoreOptions options = replaying();
  options.scheduler.max_sequences = 1;
  Replaying cluster(options);
  cluster.form();
  for (auto& name : {"w0", "w1"}) cluster.worker(name).set_step_time(50ms, 50ms);
  const RequestId in_prompt = cluster.submit(prompt_of(30), 8, 3);  // chunks of 4
  const RequestId waiting = cluster.submit(prompt_of(10), 8, 4);
  cluster.run_for(120ms);
  ASSERT_TRUE(cluster.streams[in_prompt].tokens.empty());
  cluster.kill("w1");
  cluster.add_worker("w1");
  cluster.expect_whole(in_prompt);
  cluster.expect_whole(waiting);
  EXPECT_EQ(cluster.observer.replays, 1u) << "the other had not begun";
}

TEST(Replay, EveryLossOfAGroupCounts) {
  struct Case {
    const char* what;
    std::function<void(Replaying&)> happens;
  };
  const Case cases[] = {
      {"the supervisor's word",
       [](Replaying& c) {
         const int64_t pid = c.worker_state("w1").pid;
         c.kill("w1");
         c.handle(WorkerDiedEvent{"w1", pid, "killed by signal 9"});
         c.add_worker("w1");
       }},
      {"a step that fails", [](Replaying& c) { c.worker("w0").fail_next_step("a cut cable"); }},
      {"a hung rank",
       [](Replaying& c) {
         c.worker("w1").set_hung(true);
         c.run_until([&] { return c.worker("w1").exited(); });
         c.kill("w1");
         c.add_worker("w1");
       }},
      {"a stopped process",
       [](Replaying& c) {
         c.worker("w1").set_frozen(true);
         c.run_for(5s);
         c.worker("w1").set_frozen(false);
       }},
  };
  for (const Case& c : cases) {
    Replaying cluster;
    cluster.form();
    const RequestId id = cluster.running_request();
    c.happens(cluster);
    cluster.expect_whole(id);
    EXPECT_EQ(cluster.observer.replays, 1u) << c.what;
  }
}

TEST(Replay, WaitingHasABound) {
  Replaying cluster(replaying(5s));
  cluster.form();
  const RequestId id = cluster.running_request();
  cluster.kill("w1");
  const TimePoint killed = cluster.clock.now();
  ASSERT_TRUE(cluster.run_until_finished(id));
  EXPECT_GE(cluster.streams[id].finished_at - killed, 5s);
  EXPECT_LE(cluster.streams[id].finished_at - killed, 6s);
  cluster.expect_lost(id, "worker 'w1' (rank 1) was lost");
  cluster.expect_lost(id, "no group of workers took over within 5 s");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  cluster.expect_serves();
}

TEST(Replay, ALossDuringRecoveryIsAnotherOne) {
  Replaying cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  cluster.kill("w1");
  cluster.run_for(500ms);
  cluster.add_worker("w1");
  cluster.run_for(50ms);  // it loads
  cluster.kill("w1");
  cluster.run_for(500ms);
  cluster.kill("w0");
  cluster.add_worker("w0");
  cluster.add_worker("w1");
  cluster.expect_whole(id);
  EXPECT_EQ(cluster.observer.replays, 1u) << "it ran in one of the groups only";
}

TEST(Replay, WhoRanInTwoLostGroupsIsNotTriedAgain) {
  Replaying cluster;
  cluster.form();
  const RequestId suspect = cluster.running_request();
  cluster.kill("w1");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  for (auto& name : {"w0", "w1"}) cluster.worker(name).set_step_time(20ms, 20ms);
  const RequestId innocent = cluster.submit(prompt_of(9), 40, 7);
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.streams[innocent].tokens.empty(); }));
  ASSERT_EQ(cluster.streams[suspect].finishes, 0);
  cluster.kill("w1");
  ASSERT_TRUE(cluster.run_until_finished(suspect, 5s));
  EXPECT_EQ(cluster.streams[suspect].finish.reason, FinishReason::kError);
  EXPECT_NE(cluster.streams[suspect].finish.error.message().find("2 groups of workers were lost"),
            std::string::npos)
      << cluster.streams[suspect].finish.error.message();
  cluster.add_worker("w1");
  cluster.expect_whole(innocent);
}

TEST(Replay, GoodbyesAreNoDeaths) {
  Replaying cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  for (int i = 0; i < 4; ++i) {
    cluster.worker("w1").stop();
    ASSERT_TRUE(cluster.run_until([&] { return !cluster.core.admission().ready; }, 2s));
    cluster.kill("w1");
    cluster.add_worker("w1").set_step_time(20ms, 20ms);
    ASSERT_TRUE(cluster.run_until_ready());
    cluster.run_for(100ms);
  }
  cluster.expect_whole(id);
}

TEST(Replay, AClientMayLeaveMeanwhile) {
  Replaying cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  cluster.kill("w1");
  cluster.run_for(1s);
  cluster.cancel(id);
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kCancelled);
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  cluster.expect_serves();
  EXPECT_TRUE(cluster.run_until([&] { return cluster.core.idle(); }, 2s));
}

TEST(Replay, AStopEndsWhatWaits) {
  Replaying cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  cluster.kill("w1");
  cluster.run_for(1s);
  cluster.handle(StopEvent{"the server stops"});
  cluster.expect_lost(id, "the server stops");
}

}  // namespace
}  // namespace shoal::testing

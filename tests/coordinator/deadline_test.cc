// Deadlines through the whole core: steps that hang, a coordinator that stood still, a model file
// that is repaired.
#include <gtest/gtest.h>

#include "tests/coordinator/two_ranks.h"

namespace shoal::testing {
namespace {

bool is_ready(TwoRanks& cluster) { return cluster.core.state(cluster.clock.now()).ready; }

TEST(Deadline, AHungStepShowsInASecondAndEndsTheGroupInTwo) {
  CoreOptions options = small_core_options(2);
  options.membership.terms.step_timeout_seconds = 20;
  TwoRanks cluster(options);
  cluster.form();
  const RequestId warm = cluster.running_request(40);
  ASSERT_TRUE(cluster.run_until_finished(warm));
  const RequestId id = cluster.running_request();
  const TimePoint hung = cluster.clock.now();
  cluster.worker("w1").set_hung(true);  // its heartbeats go on
  cluster.worker("w0").set_step_time(1h, 1h);
  ASSERT_TRUE(cluster.run_until([&] { return !is_ready(cluster); }, 3s));
  EXPECT_LE(cluster.clock.now() - hung, 1200ms);
  EXPECT_EQ(cluster.streams[id].finishes, 0) << "it may still come";
  EXPECT_NE(cluster.reason().find("degraded: step"), std::string::npos) << cluster.reason();
  EXPECT_TRUE(cluster.core.admission().ready) << "what comes now waits";
  ASSERT_TRUE(cluster.run_until_finished(id, 3s));
  EXPECT_LE(cluster.clock.now() - hung, 2300ms);
  cluster.expect_lost(id, "did not return within 2.0 s");
  EXPECT_EQ(cluster.observer.overdue, 1u);
}

TEST(Deadline, AStepThatComesBackLateCostsNothing) {
  TwoRanks cluster;
  cluster.form();
  ASSERT_TRUE(cluster.run_until_finished(cluster.running_request(40)));
  for (auto& name : {"w0", "w1"}) cluster.worker(name).set_step_time(1500ms, 1500ms);
  const RequestId id = cluster.submit(prompt_of(5), 3);
  ASSERT_TRUE(cluster.run_until([&] { return !is_ready(cluster); }, 3s));
  ASSERT_TRUE(cluster.run_until_finished(id, 20s));
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
  EXPECT_TRUE(is_ready(cluster));
  EXPECT_EQ(cluster.epoch(), 1u);
  cluster.check_streams();
}

TEST(Deadline, SlowStepsFromTheStartAreNoHang) {
  CoreOptions options = small_core_options(2);
  options.membership.terms.step_timeout_seconds = 20;
  TwoRanks cluster(options);
  cluster.form();
  for (auto& name : {"w0", "w1"}) cluster.worker(name).set_step_time(1s, 3s);
  const RequestId id = cluster.submit(prompt_of(20), 20);
  ASSERT_TRUE(cluster.run_until_finished(id, 200s));
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
  EXPECT_EQ(cluster.epoch(), 1u);
  EXPECT_EQ(cluster.observer.overdue, 0u);
}

TEST(Deadline, ACoordinatorThatStoodStillBlamesNobody) {
  for (const Duration pause : {2s, 3s, 60s, 3600s}) {
    TwoRanks cluster;
    cluster.form();
    const RequestId id = cluster.running_request();
    // Nothing is handled meanwhile; the workers' clocks stand still, so what they said is old too.
    cluster.clock.advance(pause);
    cluster.handle(TickEvent{});
    EXPECT_EQ(cluster.streams[id].finishes, 0) << cluster.reason();
    EXPECT_TRUE(is_ready(cluster)) << cluster.reason();
    // Workers have seen the time pass and may have given the epoch up, but they stay.
    cluster.run_for(5s);
    EXPECT_TRUE(cluster.lost.empty());
    ASSERT_TRUE(cluster.run_until_ready());
    EXPECT_EQ(cluster.worker("w0").loads(), 1u);
    EXPECT_EQ(cluster.worker("w1").loads(), 1u);
    if (pause < 5s) {  // their patience with a silent coordinator
      ASSERT_TRUE(cluster.run_until_finished(id));
      EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
      EXPECT_EQ(cluster.epoch(), 1u);
    }
    cluster.expect_serves();
  }
}

TEST(Deadline, ConnectionsThatBrokeDuringAStandstillEndNoProcess) {
  TwoRanks cluster;
  cluster.form();
  const wire::PeerId peer = cluster.network.peer_of("w1");
  cluster.network.disconnect(peer);
  cluster.clock.advance(20s);
  cluster.run_for(200ms);
  EXPECT_FALSE(is_ready(cluster));
  cluster.network.reconnect(peer);
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_TRUE(cluster.lost.empty()) << "nobody asked for it to be ended";
  EXPECT_EQ(cluster.worker("w1").loads(), 1u);
  cluster.expect_serves();
}

TEST(Deadline, ADeadWorkerIsStillNoticedAfterAStandstill) {
  TwoRanks cluster;
  cluster.form();
  cluster.worker("w1").set_frozen(true);
  cluster.clock.advance(30s);
  const TimePoint awake = cluster.clock.now();
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.lost.empty(); }, 5s));
  EXPECT_LE(cluster.clock.now() - awake, 2300ms);
  EXPECT_EQ(cluster.lost[0].name, "w1");
}

TEST(Deadline, ARepairedModelFileIsTriedAtOnce) {
  TwoRanks cluster;
  cluster.add_worker("w0");
  FakeWorkerOptions options;
  options.name = "w1";
  options.fail_load = "blk.0.attn_q.weight is cut short";
  options.fail_kind = wire::FailureKind::kFile;
  cluster.add_worker(options);
  cluster.run_for(20s);
  EXPECT_EQ(cluster.epoch(), 1u) << "nothing has changed";
  // Not repaired: one more try, which fails, and no more than that.
  for (int i = 0; i < 5; ++i) cluster.worker("w1").say_model_changed();
  cluster.run_for(5s);
  EXPECT_EQ(cluster.epoch(), 2u);
  cluster.worker("w0").say_model_changed();
  cluster.worker("w1").set_fail_load("");
  const TimePoint repaired = cluster.clock.now();
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_LE(cluster.clock.now() - repaired, 1s);
  cluster.expect_serves();
}

TEST(Deadline, APlanThatFailedForWantOfMemoryIsNotTriedForAFile) {
  TwoRanks cluster;
  cluster.add_worker("w0");
  FakeWorkerOptions options;
  options.name = "w1";
  options.fail_load = "3.0 GiB are needed";
  options.fail_kind = wire::FailureKind::kMemory;
  cluster.add_worker(options);
  cluster.run_for(5s);
  cluster.worker("w1").say_model_changed();
  cluster.run_for(40s);
  EXPECT_EQ(cluster.epoch(), 1u);
}

}  // namespace
}  // namespace shoal::testing

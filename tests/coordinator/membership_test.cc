// Epochs, losses and refusals through the whole core, on a fake clock.
#include <gtest/gtest.h>

#include "tests/coordinator/two_ranks.h"
#include "tests/support/support.h"

namespace shoal::testing {
namespace {

Planning planning_of(const std::string& model, const std::vector<double>& shares,
                     const std::vector<double>& expert_factors = {}) {
  auto file = std::make_shared<GgufFile>(GgufFile::open(model_path(model)).value());
  PlanWishes wishes;
  wishes.split = {static_cast<int>(shares.size()), shares};
  wishes.expert_factors = expert_factors;
  if (!expert_factors.empty()) wishes.layout = ExpertLayout::kPlaced;
  wishes.memory.context_tokens = 64;
  return {std::make_shared<PlannedModel>(
              PlannedModel{read_model_spec(*file).value(), tensor_types(file)}),
          wishes};
}

TEST(Membership, FormsWhenEnoughWorkersAreThere) {
  TwoRanks cluster;
  EXPECT_NE(cluster.reason().find("0 of 2 workers"), std::string::npos);
  cluster.add_worker("w1");
  cluster.run_for(1s);
  EXPECT_NE(cluster.reason().find("1 of 2 workers"), std::string::npos);
  cluster.add_worker("w0");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.worker("w0").plan().rank, 0u);
  EXPECT_EQ(cluster.worker("w1").plan().rank, 1u);
  EXPECT_EQ(cluster.worker("w0").plan().engine, wire::CollectiveEngine::kShm);
  EXPECT_EQ(cluster.worker("w0").plan().segment, cluster.worker("w1").plan().segment);
  EXPECT_EQ(cluster.worker("w0").plan().shares, std::vector<double>({1, 1}));
  EXPECT_EQ(cluster.worker_state("w1").state, "ready");
  cluster.expect_serves();
}

TEST(Membership, WorkersOnSeveralHostsUseGlooAndNeedAnAddress) {
  TwoRanks cluster;
  FakeWorkerOptions options;
  options.name = "a";
  cluster.add_worker(options);
  options.name = "b";
  options.host = "host1";
  options.data_address = "";
  cluster.add_worker(options);
  cluster.run_for(2s);
  EXPECT_FALSE(cluster.core.admission().ready);
  EXPECT_NE(cluster.reason().find("'b'"), std::string::npos) << cluster.reason();
  EXPECT_NE(cluster.reason().find("--data-address"), std::string::npos);
  cluster.kill("b");
  options.data_address = "10.0.0.2";
  cluster.add_worker(options);
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.worker("b").plan().engine, wire::CollectiveEngine::kGloo);
}

TEST(Membership, DataAddressesAreOfOneFamily) {
  TwoRanks cluster;
  FakeWorkerOptions options;
  options.name = "a";
  options.data_address = "10.0.0.1";
  cluster.add_worker(options);
  options.name = "b";
  options.host = "host1";
  options.data_address = "fd00::2";
  cluster.add_worker(options);
  cluster.run_for(2s);
  EXPECT_FALSE(cluster.core.admission().ready);
  for (const char* part : {"addresses of one family", "'a'", "10.0.0.1", "'b'", "fd00::2"}) {
    EXPECT_NE(cluster.reason().find(part), std::string::npos) << cluster.reason();
  }
}

TEST(Membership, AWorkerGoesByTheConfigurationBeforeItCounts) {
  MembershipOptions options;
  options.names = {"a"};
  options.settings["a"] = {.threads = 3, .cores = {1, 2}, .device = "cuda:1"};
  Membership membership(options);
  wire::Hello hello;
  hello.name = "a";
  hello.incarnation = 7;
  hello.device_kind = "cpu";
  const auto answer = [&]() -> wire::ToWorker {
    Actions actions;
    membership.on_message({"a#7", hello, "key"}, TimePoint(1s), actions);
    for (const auto& action : actions) {
      if (const auto* send = std::get_if<SendAction>(&action)) return send->message;
    }
    return wire::Shutdown{"nothing was sent"};
  };
  const wire::ToWorker first = answer();
  ASSERT_TRUE(std::holds_alternative<wire::Settings>(first));
  EXPECT_EQ(std::get<wire::Settings>(first), options.settings["a"]);
  hello.settings_id = wire::settings_id(std::get<wire::Settings>(first));
  EXPECT_FALSE(std::holds_alternative<wire::Settings>(answer()));
  hello.settings_id ^= 2;  // of another coordinator's file
  EXPECT_TRUE(std::holds_alternative<wire::Settings>(answer()));
}

TEST(Membership, AKilledWorkerEndsItsStreamsWithinASecondAndTheGroupFormsAgain) {
  TwoRanks cluster;
  cluster.form();
  const uint64_t before = cluster.epoch();
  const RequestId id = cluster.running_request();
  const RequestId queued = cluster.submit(prompt_of(5), 8);
  const TimePoint killed = cluster.clock.now();
  cluster.kill("w1");
  ASSERT_TRUE(cluster.run_until_finished(id, 1s));
  EXPECT_LE(cluster.streams[id].finished_at - killed, 1s);
  cluster.expect_lost(id, "worker 'w1' (rank 1) was lost");
  cluster.expect_lost(queued, "worker 'w1'");
  EXPECT_FALSE(cluster.core.admission().ready);
  EXPECT_EQ(cluster.worker_state("w1").state, "lost");
  ASSERT_EQ(cluster.lost.size(), 1u);
  EXPECT_EQ(cluster.lost[0].name, "w1");
  ASSERT_EQ(cluster.aborts.size(), 1u);
  EXPECT_EQ(cluster.aborts[0].epoch, before);
  cluster.run_for(3s);
  EXPECT_NE(cluster.reason().find("1 of 2"), std::string::npos);

  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_GT(cluster.epoch(), before);
  EXPECT_EQ(cluster.worker("w1").plan().rank, 1u);
  EXPECT_EQ(cluster.worker("w0").loads(), 1u) << "the survivor keeps its weights";
  cluster.expect_serves();
}

TEST(Membership, AStoppedProcessIsLostBySilence) {
  TwoRanks cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  const TimePoint stopped = cluster.clock.now();
  cluster.worker("w1").set_frozen(true);
  ASSERT_TRUE(cluster.run_until_finished(id, 3s));
  EXPECT_GE(cluster.streams[id].finished_at - stopped, 1700ms);
  EXPECT_LE(cluster.streams[id].finished_at - stopped, 2300ms);
  cluster.expect_lost(id, "no sign of life");
  const std::vector<int32_t> seen = cluster.streams[id].tokens;

  // A spare takes its place; when it wakes up, what it still sends changes nothing, and it
  // introduces itself again.
  cluster.add_worker("w2");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.worker("w2").plan().rank, 1u);
  const uint64_t epoch = cluster.epoch();
  cluster.worker("w1").set_frozen(false);
  cluster.run_for(7s);
  EXPECT_EQ(cluster.epoch(), epoch);
  EXPECT_EQ(cluster.streams[id].tokens, seen);
  EXPECT_EQ(cluster.worker_state("w1").state, "connected");
  cluster.expect_serves();
}

TEST(Membership, TheSupervisorsWordIsTakenAtOnce) {
  TwoRanks cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  const int64_t pid = cluster.worker_state("w1").pid;
  cluster.handle(WorkerDiedEvent{"w1", pid + 1, "an older process"});
  EXPECT_EQ(cluster.streams[id].finishes, 0);
  cluster.handle(WorkerDiedEvent{"w1", pid, "killed by signal 9"});
  EXPECT_EQ(cluster.streams[id].finishes, 1);
  cluster.expect_lost(id, "worker 'w1' (rank 1) was lost: killed by signal 9");
}

TEST(Membership, AHungStepIsNoticedAndTheRankThatStaysBusyIsLost) {
  TwoRanks cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  const TimePoint hung = cluster.clock.now();
  cluster.worker("w1").set_hung(true);
  ASSERT_TRUE(cluster.run_until_finished(id, 10s));
  // The plan's step timeout of 3 s and 2 s of grace.
  EXPECT_LE(cluster.streams[id].finished_at - hung, 5500ms);
  cluster.expect_lost(id, "did not return");
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.lost.empty(); }, 5s));
  EXPECT_EQ(cluster.lost[0].name, "w1");
  EXPECT_TRUE(cluster.run_until([&] { return cluster.worker("w1").exited(); }, 1s));
  EXPECT_FALSE(cluster.worker("w0").exited());
}

// As when the data path is cut behind a peer that has what it needs: the step ends when withdrawn.
TEST(Membership, ALateRankThatStopsWhenItsPlanIsWithdrawnIsKept) {
  TwoRanks cluster;
  cluster.form();
  cluster.worker("w1").set_step_time(1h, 1h);  // waits
  const RequestId id = cluster.submit(prompt_of(5), 8);
  ASSERT_TRUE(cluster.run_until_finished(id, 10s));
  cluster.expect_lost(id, "on rank(s) 1");
  cluster.worker("w1").set_step_time(1ms, 1ms);
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_TRUE(cluster.lost.empty());
  for (auto& name : {"w0", "w1"}) EXPECT_FALSE(cluster.worker(name).exited());
  cluster.expect_serves();
}

TEST(Membership, WhenAllRanksOweAStepTheOneThatStaysBusyIsLost) {
  TwoRanks cluster;
  cluster.form();
  for (auto& name : {"w0", "w1"}) cluster.worker(name).set_step_time(20ms, 20ms);
  cluster.worker("w1").set_hung(true);
  cluster.worker("w0").set_step_time(1h, 1h);  // waits for its peer
  const RequestId id = cluster.submit(prompt_of(5), 8);
  ASSERT_TRUE(cluster.run_until_finished(id, 10s));
  cluster.expect_lost(id, "on any rank");
  EXPECT_TRUE(cluster.lost.empty());
  cluster.worker("w0").set_step_time(1ms, 1ms);
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.lost.empty(); }, 5s));
  EXPECT_EQ(cluster.lost[0].name, "w1");
  EXPECT_NE(cluster.lost[0].reason.find("hangs"), std::string::npos);
  cluster.add_worker("w2");
  ASSERT_TRUE(cluster.run_until_ready());
  cluster.expect_serves();
}

TEST(Membership, AFailedStepEndsTheEpochAndTheNextOneServes) {
  TwoRanks cluster;
  cluster.form();
  const uint64_t before = cluster.epoch();
  const RequestId id = cluster.running_request();
  cluster.worker("w0").fail_next_step("the collective timed out");
  ASSERT_TRUE(cluster.run_until_finished(id, 1s));
  cluster.expect_lost(id, "worker 'w0' (rank 0) failed: the collective timed out");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.epoch(), before + 1);
  EXPECT_TRUE(cluster.lost.empty());
  cluster.expect_serves();
}

TEST(Membership, APermanentFailureIsShownAndNotTriedInALoop) {
  TwoRanks cluster;
  cluster.add_worker("w0");
  FakeWorkerOptions options;
  options.name = "w1";
  options.fail_load = "blk.0.attn_q.weight is cut short";
  cluster.add_worker(options);
  cluster.run_for(50s);
  EXPECT_NE(cluster.reason().find("blk.0.attn_q.weight is cut short"), std::string::npos);
  const auto permanent = [&] { return cluster.core.state(cluster.clock.now()).permanent_failure; };
  EXPECT_NE(permanent().find("blk.0.attn_q.weight is cut short"), std::string::npos);
  EXPECT_EQ(cluster.epoch(), 1u);
  cluster.run_for(20s);  // once a minute
  EXPECT_EQ(cluster.epoch(), 2u);
  // Another worker is reason enough to try at once.
  cluster.kill("w1");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  cluster.expect_serves();
  EXPECT_EQ(permanent(), "");
  // What has served once may serve again.
  cluster.kill("w1");
  cluster.add_worker(options);
  cluster.run_for(5s);
  EXPECT_NE(cluster.reason().find("blk.0.attn_q.weight is cut short"), std::string::npos);
  EXPECT_EQ(permanent(), "");
}

TEST(Membership, AFailureThatMayPassIsNotPermanent) {
  TwoRanks cluster;
  cluster.add_worker("w0");
  cluster.add_worker("w1");
  cluster.run_for(100ms);
  cluster.kill("w1");
  cluster.run_for(5s);
  EXPECT_EQ(cluster.core.state(cluster.clock.now()).permanent_failure, "");
}

TEST(Membership, APlanThatDoesNotFitIsRefusedBeforeLoading) {
  CoreOptions options = small_core_options(2);
  options.membership.planning = planning_of("shoal-tiny-dense-q8_0.gguf", {1, 1});
  FakeCluster cluster(options, {}, 1);
  for (const char* name : {"w0", "w1"})
    cluster.add_worker(FakeWorkerOptions{.name = name, .memory_bytes = 1 << 20});
  cluster.run_for(3s);
  const auto reason = [&] { return cluster.core.state(cluster.clock.now()).not_ready_reason; };
  EXPECT_NE(reason().find("rank 0 (worker 'w0' on "), std::string::npos) << reason();
  EXPECT_EQ(cluster.worker("w0").epoch(), 0u);  // no plan was sent
  EXPECT_NE(cluster.core.state(cluster.clock.now()).permanent_failure.find("does not fit"),
            std::string::npos);
}

TEST(Membership, WorkersOfExpertsGetTheLastRanks) {
  CoreOptions options = small_core_options(3);
  options.membership.names = {"b", "c", "d"};  // d is a spare
  options.membership.expert_names = {"a"};
  FakeCluster cluster(options, {}, 1);
  for (const char* name : {"b", "c", "d"}) cluster.add_worker(name);
  cluster.run_for(2s);
  const auto reason = [&] { return cluster.core.state(cluster.clock.now()).not_ready_reason; };
  EXPECT_NE(reason().find("missing: a"), std::string::npos) << reason();
  cluster.add_worker("a");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.worker("a").plan().rank, 2u);
  EXPECT_EQ(cluster.worker("b").plan().rank, 0u);
  cluster.kill("b");
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.core.admission().ready; }));
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.worker("a").plan().rank, 2u);
  EXPECT_EQ(cluster.worker("d").plan().rank, 0u);
}

TEST(Membership, APlanKeepsTheExpertsOfTheOneThatServed) {
  CoreOptions options = small_core_options(2);
  options.membership.names = {"w0"};
  options.membership.expert_names = {"x"};
  options.membership.planning = planning_of("shoal-tiny-moe-q8_0.gguf", {1, 0}, {1.0});
  const auto experts = [&](std::initializer_list<uint64_t> memory) {
    FakeCluster cluster(options, {}, 1);
    cluster.add_worker(FakeWorkerOptions{.name = "w0", .host = "h0", .memory_bytes = 64ull << 30});
    std::vector<std::vector<uint64_t>> plans;
    for (const uint64_t bytes : memory) {
      if (!plans.empty()) cluster.kill("x");
      cluster.run_for(1s);
      cluster.add_worker(FakeWorkerOptions{.name = "x", .host = "h1", .memory_bytes = bytes});
      EXPECT_TRUE(cluster.run_until_ready());
      plans.push_back(cluster.worker("w0").plan().experts.ranks);
    }
    return plans;
  };
  const auto much = experts({128ull << 30})[0], little = experts({8ull << 30})[0];
  ASSERT_NE(much, little);
  EXPECT_EQ(experts({128ull << 30, 8ull << 30})[1], much) << "what is loaded stays";
}

TEST(Membership, RepeatedFailuresBackOff) {
  TwoRanks cluster;
  cluster.form();
  std::vector<double> gaps;
  for (int i = 0; i < 6; ++i) {
    cluster.worker("w1").fail_next_step("flaky");
    const RequestId id = cluster.submit(prompt_of(5), 8);
    ASSERT_TRUE(cluster.run_until_finished(id, 5s));
    const TimePoint failed = cluster.clock.now();
    ASSERT_TRUE(cluster.run_until_ready());
    gaps.push_back(to_seconds(cluster.clock.now() - failed));
  }
  EXPECT_LT(gaps[0], 0.6);
  EXPECT_GT(gaps[5], 6.0) << "0.25 s, doubled five times";
  cluster.run_for(10s);  // stable: forgotten
  cluster.worker("w1").fail_next_step("flaky");
  const RequestId id = cluster.submit(prompt_of(5), 8);
  ASSERT_TRUE(cluster.run_until_finished(id, 5s));
  const TimePoint failed = cluster.clock.now();
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_LT(to_seconds(cluster.clock.now() - failed), 0.6);
}

TEST(Membership, AControlPlaneCutIsALossAndHealsIntoANewEpoch) {
  TwoRanks cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  const wire::PeerId peer = cluster.network.peer_of("w1");
  wire::LinkFaults cut;
  cut.cut = true;
  cluster.network.set_faults(peer, wire::MemoryNetwork::Direction::kToCoordinator, cut);
  ASSERT_TRUE(cluster.run_until_finished(id, 3s));
  cluster.run_for(4s);
  EXPECT_FALSE(cluster.core.admission().ready);
  cluster.network.set_faults(peer, {});
  // It says hello again once the coordinator has been silent to it for 5 s.
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.worker("w1").loads(), 1u);
  cluster.expect_serves();
}

TEST(Membership, AProtocolViolationEndsTheEpoch) {
  TwoRanks cluster;
  cluster.form();
  const uint64_t epoch = cluster.epoch();
  const RequestId id = cluster.running_request();
  wire::StepResult wrong;
  wrong.epoch = epoch;
  wrong.step = 1000;
  cluster.handle(wire::Incoming{cluster.network.peer_of("w0"), wrong, ""});
  cluster.expect_lost(id, "broke the protocol");
  wrong.epoch = epoch - 1;  // an older epoch changes nothing
  ASSERT_TRUE(cluster.run_until_ready());
  const uint64_t next = cluster.epoch();
  cluster.handle(wire::Incoming{cluster.network.peer_of("w0"), wrong, ""});
  EXPECT_TRUE(cluster.core.admission().ready);
  EXPECT_EQ(cluster.epoch(), next);
}

TEST(Membership, LoadingThatStallsIsGivenUp) {
  TwoRanks cluster;
  cluster.add_worker("w0");
  cluster.add_worker("w1").set_hung(true);
  cluster.run_for(29s);
  EXPECT_NE(cluster.reason().find("loading: worker 'w1' (rank 1)"), std::string::npos)
      << cluster.reason();
  // 10 s to form and 2 s to become idle.
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.lost.empty(); }, 15s));
  EXPECT_EQ(cluster.lost[0].name, "w1");
  EXPECT_NE(cluster.reason().find("no progress"), std::string::npos) << cluster.reason();
}

TEST(Membership, StopEndsEverything) {
  TwoRanks cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  cluster.handle(StopEvent{"shutting down"});
  cluster.expect_lost(id, "shutting down");
  cluster.run_for(100ms);
  EXPECT_TRUE(cluster.worker("w0").exited());
  EXPECT_TRUE(cluster.worker("w1").exited());
  EXPECT_FALSE(cluster.core.admission().ready);
}

TEST(Membership, TheRendezvousStoreAnswersAndFencesEpochs) {
  TwoRanks cluster;
  FakeWorkerOptions options;
  options.name = "a";
  cluster.add_worker(options);
  options.name = "b";
  options.host = "host1";
  options.load_time = 1h;  // forming
  cluster.add_worker(options);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.worker("b").epoch() > 0; }));
  const uint64_t epoch = cluster.epoch();
  const auto answers = [&](const wire::Incoming& incoming) {
    std::vector<std::string> out;
    for (const Action& action : cluster.core.handle(Event(incoming), cluster.clock.now())) {
      const auto* sent = std::get_if<SendAction>(&action);
      const auto* set = sent ? std::get_if<wire::StoreSet>(&sent->message) : nullptr;
      if (set == nullptr) continue;
      for (const wire::PeerId& peer : sent->peers) {
        out.push_back(peer + " " + set->key + "=" + set->value);
      }
    }
    return out;
  };
  using Answers = std::vector<std::string>;
  const wire::PeerId a = cluster.network.peer_of("a"), b = cluster.network.peer_of("b");
  EXPECT_EQ(answers({a, wire::StoreGet{epoch, "k"}, ""}), Answers());
  EXPECT_EQ(answers({b, wire::StoreSet{epoch + 1, "k", "other epoch"}, ""}), Answers());
  EXPECT_EQ(answers({b, wire::StoreSet{epoch, "k", "v"}, ""}), Answers({a + " k=v"}));
  EXPECT_EQ(answers({b, wire::StoreGet{epoch, "k"}, ""}), Answers({b + " k=v"}));
  // Another value for the same key is a broken rendezvous.
  answers({a, wire::StoreSet{epoch, "k", "w"}, ""});
  EXPECT_NE(cluster.reason().find("rendezvous key 'k' is set twice"), std::string::npos);
}

}  // namespace
}  // namespace shoal::testing

// Who a worker is and what it has seen: names, keys, processes and epochs, through the whole core.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/coordinator/two_ranks.h"

namespace shoal::testing {
namespace {

TEST(Identity, AnotherProtocolVersionIsRefusedWithTheReason) {
  TwoRanks cluster;
  FakeWorkerOptions options;
  options.name = "w0";
  options.protocol_version = wire::kProtocolVersion + 1;
  FakeWorker& worker = cluster.add_worker(options);
  cluster.run_for(1s);
  EXPECT_TRUE(worker.exited());
  EXPECT_NE(worker.exit_reason().find("protocol version"), std::string::npos);
}

TEST(Identity, UnknownAndUnprintableNamesAreRefused) {
  CoreOptions core_options = small_core_options(1);
  core_options.membership.names = {"w0", "spare"};
  FakeCluster cluster(core_options, {}, 1);
  FakeWorker& stranger = cluster.add_worker("w7");
  FakeWorker& unprintable = cluster.add_worker("w 0");
  cluster.add_worker("spare");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_NE(stranger.exit_reason().find("not in the configuration"), std::string::npos);
  EXPECT_TRUE(unprintable.exited());
}

TEST(Identity, ALiveWorkerKeepsItsNameWhereverTheSecondProcessRuns) {
  TwoRanks cluster;
  cluster.form();
  const uint64_t epoch = cluster.epoch();
  const RequestId id = cluster.running_request();
  FakeWorkerOptions options;
  options.name = "w1";
  for (const char* host : {"host0", "elsewhere"}) {
    options.host = host;
    FakeWorker& duplicate = cluster.add_worker(options);
    ASSERT_TRUE(cluster.run_until([&] { return duplicate.exited(); }, 2s));
    EXPECT_NE(duplicate.exit_reason().find("there is a live worker 'w1', pid 1002 on host0, heard"),
              std::string::npos)
        << duplicate.exit_reason();
  }
  EXPECT_EQ(cluster.epoch(), epoch);
  EXPECT_TRUE(cluster.lost.empty());
  ASSERT_TRUE(cluster.run_until_finished(id));
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
  cluster.expect_serves();
}

TEST(Identity, TheReplacementOfACrashedProcessJoinsAtOnce) {
  TwoRanks cluster;
  cluster.form();
  cluster.kill("w1");
  FakeWorker& replacement = cluster.add_worker("w1");  // before anybody has noticed
  const TimePoint killed = cluster.clock.now();
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_LE(cluster.clock.now() - killed, 1s);
  EXPECT_EQ(replacement.plan().rank, 1u);
  cluster.expect_serves();
}

TEST(Identity, ASilentWorkersNameIsFree) {
  TwoRanks cluster;
  cluster.form();
  cluster.worker("w1").set_frozen(true);
  cluster.run_for(1s);
  FakeWorker& early = cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until([&] { return early.exited(); }, 500ms)) << "not yet";
  cluster.run_for(1100ms);
  FakeWorker& late = cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_FALSE(late.exited());
  // The first wakes up and finds its name taken.
  cluster.worker("w1").set_frozen(false);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.worker("w1").exited(); }, 10s));
  EXPECT_TRUE(cluster.core.admission().ready);
  EXPECT_FALSE(late.exited());
  cluster.expect_serves();
}

TEST(Identity, AWorkerThatSaidGoodbyeIsReplacedAtOnce) {
  TwoRanks cluster;
  cluster.form();
  cluster.handle(wire::Incoming{cluster.network.peer_of("w1"), wire::Goodbye{"stopped"}, ""});
  cluster.worker("w1").set_frozen(true);
  FakeWorker& next = cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_FALSE(next.exited());
}

TEST(Identity, ABrokenConnectionThatComesBackCostsNothing) {
  TwoRanks cluster;
  cluster.form();
  const uint64_t epoch = cluster.epoch();
  cluster.handle(DisconnectedEvent{cluster.network.peer_of("w1")});
  cluster.run_for(1s);
  EXPECT_EQ(cluster.epoch(), epoch);
  FakeWorker& duplicate = cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until([&] { return duplicate.exited(); }, 1s));
  EXPECT_TRUE(cluster.core.admission().ready);
}

TEST(Identity, ANameBelongsToTheKeyThatBroughtIt) {
  Membership membership([] {
    MembershipOptions options = small_core_options(2).membership;
    options.keys = {{"w9", "the right key"}};
    return options;
  }());
  wire::Hello hello;
  hello.name = "w0";
  hello.incarnation = 1;
  hello.host_id = "h";
  const TimePoint now{1h};
  Actions actions;
  membership.on_message({"peer1", hello, "key A"}, now, actions);
  ASSERT_EQ(std::get<AcceptAction>(actions[0]).peer, "peer1");
  ASSERT_TRUE(
      std::holds_alternative<wire::CoordinatorHeartbeat>(std::get<SendAction>(actions[1]).message));
  const auto refused = [&](const wire::PeerId& peer, const std::string& key) {
    actions.clear();
    membership.on_message({peer, hello, key}, now, actions);
    const auto* sent = std::get_if<SendAction>(&actions[0]);
    return sent != nullptr && std::holds_alternative<wire::Refused>(sent->message);
  };
  hello.incarnation = 2;
  EXPECT_TRUE(refused("peer2", "key B"));
  EXPECT_TRUE(refused("peer2", "key A")) << "the first one lives";
  actions.clear();
  membership.on_disconnected("peer1", now);
  membership.on_message({"peer2", hello, "key A"}, now, actions);  // its own restart
  EXPECT_EQ(membership.epoch(), 0u);
  EXPECT_TRUE(std::any_of(actions.begin(), actions.end(), [](const Action& action) {
    const auto* accepted = std::get_if<AcceptAction>(&action);
    return accepted != nullptr && accepted->peer == "peer2";
  }));
  EXPECT_EQ(membership.worker_states(now).size(), 1u);
  membership.check_invariants();
  hello.name = "w9";
  EXPECT_TRUE(refused("peer3", "key B"));
  EXPECT_FALSE(refused("peer3", "the right key"));
}

TEST(Identity, ManyHellosBeforeTheFirstAnswerAreOneWorker) {
  wire::LinkFaults slow{600ms, 600ms, 0, false, false};  // round trip 1.2 s: five hellos
  FakeCluster cluster(small_core_options(2), {}, 1, slow);
  cluster.add_worker("w0");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  cluster.run_for(5s);
  EXPECT_TRUE(cluster.core.admission().ready);
  EXPECT_EQ(cluster.core.state(cluster.clock.now()).epoch, 1u);
}

TEST(Identity, ANewCoordinatorStartsAboveWhatItsWorkersHaveSeen) {
  // Started twice at the same moment, or with its clock back: nothing but the workers' word counts.
  TwoRanks cluster;
  FakeWorkerOptions options;
  options.name = "w0";
  options.seen_epoch = 41;
  cluster.add_worker(options);
  options.name = "w1";
  options.seen_epoch = uint64_t{1} << 52;
  cluster.add_worker(options);
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.epoch(), (uint64_t{1} << 52) + 1) << "the first plan is taken by both";
  cluster.expect_serves();
}

TEST(Identity, ANewerEpochThatTurnsUpLaterIsOvertakenAtOnce) {
  TwoRanks cluster;
  cluster.form();
  const RequestId id = cluster.running_request();
  cluster.worker("w1").see_epoch(1000);  // it was with another coordinator for a moment
  const TimePoint seen = cluster.clock.now();
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.core.admission().ready; }, 1s));
  cluster.expect_lost(id, "has seen plan epoch 1000");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_LE(cluster.clock.now() - seen, 1s);
  EXPECT_EQ(cluster.epoch(), 1001u);
  EXPECT_EQ(cluster.worker("w1").loads(), 1u) << "the weights stay";
  cluster.expect_serves();
}

TEST(Identity, ASpareThatHasSeenANewerEpochDisturbsNobody) {
  TwoRanks cluster;
  cluster.form();
  FakeWorkerOptions options;
  options.name = "w2";
  options.seen_epoch = 500;
  cluster.add_worker(options);
  cluster.run_for(2s);
  EXPECT_EQ(cluster.epoch(), 1u);
  cluster.kill("w1");
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.core.admission().ready; }));
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.epoch(), 501u) << "it takes part in the next plan";
  EXPECT_EQ(cluster.worker("w2").plan().epoch, 501u);
  cluster.expect_serves();
}

TEST(Identity, AWorkerThatClaimsNewerEpochsForEverDoesNotSpin) {
  TwoRanks cluster;
  cluster.form();
  uint64_t plans = 0;
  for (int i = 0; i < 40; ++i) {
    const uint64_t before = cluster.epoch();
    cluster.worker("w1").see_epoch(before + 1);
    cluster.run_for(250ms);
    plans += cluster.epoch() > before ? 1 : 0;
  }
  EXPECT_LE(plans, 10u) << "in 10 s: at once, then with a growing pause";
}

TEST(Identity, AnImpossibleEpochIsRefusedWithTheReason) {
  TwoRanks cluster;
  cluster.form();
  FakeWorkerOptions options;
  options.name = "w2";
  options.seen_epoch = wire::kMaxEpoch + 1;
  FakeWorker& broken = cluster.add_worker(options);
  ASSERT_TRUE(cluster.run_until([&] { return broken.exited(); }, 2s));
  EXPECT_NE(broken.exit_reason().find("no coordinator can have made"), std::string::npos);
  EXPECT_TRUE(cluster.core.admission().ready);
  // A member that says so in a heartbeat goes too, and its replacement serves.
  cluster.worker("w1").see_epoch(~uint64_t{0});
  ASSERT_TRUE(cluster.run_until([&] { return cluster.worker("w1").exited(); }, 2s));
  cluster.kill("w1");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  EXPECT_EQ(cluster.epoch(), 2u);
  cluster.expect_serves();
}

}  // namespace
}  // namespace shoal::testing

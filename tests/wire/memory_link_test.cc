#include "wire/memory_link.h"

#include <thread>

#include <gtest/gtest.h>

#include "tests/wire/sample_messages.h"
#include "wire/codec.h"
#include "wire/validate.h"

namespace shoal::wire {
namespace {

using std::chrono::milliseconds;
using Direction = MemoryNetwork::Direction;

uint64_t epoch_of(const ToCoordinator& message) { return std::get<WorkerHeartbeat>(message).epoch; }
uint64_t epoch_of(const ToWorker& message) { return std::get<CoordinatorHeartbeat>(message).epoch; }

TEST(MemoryLink, CarriesEveryMessageBothWays) {
  FakeClock clock;
  MemoryNetwork network(clock, {});
  auto worker = network.connect("w");
  for (const ToCoordinator& message : testing::messages_of_workers()) {
    ASSERT_TRUE(worker->send(message).is_ok());
    const auto got = network.coordinator().receive({});
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(got->peer, "w#1");
    EXPECT_EQ(encode(got->message, {}), encode(message, {}));
  }
  for (const ToWorker& message : testing::messages_of_coordinators()) {
    ASSERT_TRUE(network.coordinator().send("w#1", message).is_ok());
    const auto got = worker->receive({});
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ(encode(*got, {}), encode(message, {}));
  }
  EXPECT_EQ(network.in_flight(), 0u);
}

TEST(MemoryLink, RefusesWhatTheOtherEndWouldRefuse) {
  FakeClock clock;
  MemoryNetwork network(clock, {});
  auto worker = network.connect("w");
  EXPECT_EQ(worker->send(StoreGet{1, ""}).code(), Code::kInvalidArgument);
  EXPECT_EQ(network.coordinator().send("w#1", CoordinatorHeartbeat{1}).code(), Code::kUnavailable)
      << "nobody has heard of it yet";
  network.inject("w#1", "garbage");
  network.inject("w#1", encode(ToWorker(testing::sample_step()), {kProtocolVersion, "c", 1, 1, 0}));
  EXPECT_FALSE(network.coordinator().receive({}).has_value());
  EXPECT_EQ(network.coordinator().counters().rejected_messages, 2u);
}

TEST(MemoryLink, DelayKeepsOrderAndFollowsTheClock) {
  FakeClock clock;
  MemoryNetwork::Options options;
  options.faults = {milliseconds(10), milliseconds(50)};
  MemoryNetwork network(clock, options);
  auto worker = network.connect("w");
  for (uint64_t i = 1; i <= 50; ++i) ASSERT_TRUE(worker->send(WorkerHeartbeat{i, 0, 0, false}));
  EXPECT_FALSE(network.coordinator().receive(milliseconds(100)).has_value()) << "nothing is due";
  uint64_t expected = 1;
  while (const auto due = network.next_delivery()) {
    EXPECT_GE(*due - clock.now(), milliseconds(0));
    clock.advance(*due - clock.now());
    while (const auto got = network.coordinator().receive({})) {
      EXPECT_EQ(epoch_of(got->message), expected++);
    }
  }
  EXPECT_EQ(expected, 51u);
}

std::vector<uint64_t> lossy_run(uint64_t seed) {
  FakeClock clock;
  MemoryNetwork::Options options;
  options.seed = seed;
  options.faults.drop = 0.3;
  MemoryNetwork network(clock, options);
  auto a = network.connect("a"), b = network.connect("b");
  std::vector<uint64_t> arrived;
  for (uint64_t i = 1; i <= 200; ++i) {
    EXPECT_TRUE((i % 2 ? a : b)->send(WorkerHeartbeat{i, 0, 0, false}).is_ok());
    while (const auto got = network.coordinator().receive({})) {
      arrived.push_back(epoch_of(got->message));
    }
  }
  EXPECT_EQ(network.dropped() + arrived.size(), 200u);
  return arrived;
}

TEST(MemoryLink, LossIsRepeatable) {
  const auto first = lossy_run(7);
  EXPECT_EQ(first, lossy_run(7));
  EXPECT_NE(first, lossy_run(8));
  EXPECT_GT(first.size(), 100u);
  EXPECT_LT(first.size(), 180u);
}

TEST(MemoryLink, PartitionsAreOneWay) {
  FakeClock clock;
  MemoryNetwork network(clock, {});
  auto worker = network.connect("w");
  ASSERT_TRUE(worker->send(WorkerHeartbeat{1, 0, 0, false}));
  ASSERT_TRUE(network.coordinator().receive({}).has_value());

  LinkFaults hold;
  hold.hold = true;
  network.set_faults("w#1", Direction::kToWorker, hold);
  ASSERT_TRUE(network.coordinator().send("w#1", CoordinatorHeartbeat{2}));
  EXPECT_FALSE(worker->receive({}).has_value());
  EXPECT_FALSE(network.next_delivery().has_value());
  ASSERT_TRUE(worker->send(WorkerHeartbeat{3, 0, 0, false}));
  EXPECT_EQ(epoch_of(network.coordinator().receive({})->message), 3u) << "the other way is open";
  network.set_faults("w#1", Direction::kToWorker, {});
  EXPECT_EQ(epoch_of(worker->receive({}).value()), 2u) << "held, not lost";

  LinkFaults cut;
  cut.cut = true;
  network.set_faults("w#1", cut);
  ASSERT_TRUE(worker->send(WorkerHeartbeat{4, 0, 0, false}));
  network.set_faults("w#1", LinkFaults{});
  EXPECT_FALSE(network.coordinator().receive({}).has_value()) << "lost for good";
}

TEST(MemoryLink, DisconnectAndReconnect) {
  FakeClock clock;
  MemoryNetwork network(clock, {});
  auto worker = network.connect("w");
  ASSERT_TRUE(worker->send(WorkerHeartbeat{1, 0, 0, false}));
  ASSERT_TRUE(network.coordinator().receive({}).has_value());
  ASSERT_TRUE(network.coordinator().send("w#1", CoordinatorHeartbeat{1}));
  network.disconnect("w#1");
  EXPECT_EQ(network.dropped(), 1u);
  EXPECT_FALSE(worker->receive({}).has_value());
  EXPECT_EQ(worker->send(WorkerHeartbeat{1, 0, 0, false}).code(), Code::kUnavailable);
  EXPECT_EQ(network.coordinator().send("w#1", CoordinatorHeartbeat{1}).code(), Code::kUnavailable);
  network.reconnect("w#1");
  ASSERT_TRUE(worker->send(WorkerHeartbeat{2, 0, 0, false}));
  EXPECT_EQ(network.coordinator().receive({})->peer, "w#1");
  EXPECT_TRUE(network.coordinator().send("w#1", CoordinatorHeartbeat{2}).is_ok());

  worker.reset();
  EXPECT_EQ(network.coordinator().send("w#1", CoordinatorHeartbeat{3}).code(), Code::kUnavailable);
  worker = network.connect("w");
  EXPECT_EQ(network.peer_of("w"), "w#2") << "a restarted worker is a new peer";
}

TEST(MemoryLink, APeerThatDoesNotReadFillsUp) {
  FakeClock clock;
  MemoryNetwork::Options options;
  options.max_queued = 10;
  MemoryNetwork network(clock, options);
  auto slow = network.connect("slow"), good = network.connect("good");
  for (auto* worker : {slow.get(), good.get()}) {
    ASSERT_TRUE(worker->send(WorkerHeartbeat{1, 0, 0, false}));
    ASSERT_TRUE(network.coordinator().receive({}).has_value());
  }
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(network.coordinator().send("slow#1", CoordinatorHeartbeat{1}));
  }
  EXPECT_EQ(network.coordinator().send("slow#1", CoordinatorHeartbeat{1}).code(),
            Code::kResourceExhausted);
  EXPECT_TRUE(network.coordinator().send("good#1", CoordinatorHeartbeat{1}).is_ok());
  EXPECT_TRUE(slow->receive({}).has_value());
  EXPECT_TRUE(network.coordinator().send("slow#1", CoordinatorHeartbeat{1}).is_ok());
}

TEST(MemoryLink, ChattyPeersDoNotStarveOthers) {
  FakeClock clock;
  MemoryNetwork network(clock, {});
  auto chatty = network.connect("a"), quiet = network.connect("b");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(chatty->send(WorkerHeartbeat{1, 0, 0, false}));
  ASSERT_TRUE(quiet->send(WorkerHeartbeat{2, 0, 0, false}));
  const auto first = network.coordinator().receive({}), second = network.coordinator().receive({});
  EXPECT_TRUE(first->peer == "b#1" || second->peer == "b#1");
}

TEST(MemoryLink, BlockingReceiveWaitsAndWakes) {
  SteadyClock clock;
  MemoryNetwork::Options options;
  options.blocking = true;
  MemoryNetwork network(clock, options);
  auto worker = network.connect("w");
  std::thread sender([&] {
    std::this_thread::sleep_for(milliseconds(20));
    EXPECT_TRUE(worker->send(WorkerHeartbeat{1, 0, 0, false}).is_ok());
  });
  EXPECT_TRUE(network.coordinator().receive(std::chrono::seconds(10)).has_value());
  sender.join();
  std::thread waker([&] {
    std::this_thread::sleep_for(milliseconds(20));
    network.coordinator().wake();
    worker->wake();
  });
  const TimePoint start = clock.now();
  EXPECT_FALSE(network.coordinator().receive(std::chrono::seconds(10)).has_value());
  EXPECT_FALSE(worker->receive(std::chrono::seconds(10)).has_value());
  EXPECT_LT(clock.now() - start, std::chrono::seconds(5));
  waker.join();
}

}  // namespace
}  // namespace shoal::wire

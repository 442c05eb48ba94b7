// The links among friends: everything arrives, restarts and slow readers are survived.
#include "wire/zmq_link.h"

#include <dirent.h>

#include <algorithm>
#include <atomic>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/wire/sample_messages.h"
#include "tests/wire/zmq_fixture.h"
#include "wire/codec.h"
#include "wire/validate.h"

namespace shoal::wire::testing {
namespace {

size_t open_descriptors() {
  size_t count = 0;
  DIR* dir = ::opendir("/proc/self/fd");
  while (dir != nullptr && ::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

size_t threads() {
  size_t count = 0;
  DIR* dir = ::opendir("/proc/self/task");
  while (dir != nullptr && ::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

TEST_F(ZmqTest, CarriesEveryMessageBothWays) {
  auto server = coordinator();
  EXPECT_TRUE(server->endpoint().starts_with("tcp://127.0.0.1:"));
  EXPECT_NE(port_of(*server), 0);
  auto client = worker(server->endpoint(), a_, 0x77);
  const PeerId peer = introduce(*server, *client);
  EXPECT_EQ(peer, "a#0000000000000077");
  for (ToCoordinator message : testing::messages_of_workers()) {
    if (auto* hello = std::get_if<Hello>(&message)) hello->name = "a";
    ASSERT_TRUE(client->send(message).is_ok());
    const auto got = server->receive(kPatience);
    ASSERT_TRUE(got.has_value()) << message_name(message);
    EXPECT_EQ(got->peer, peer);
    EXPECT_EQ(encode(got->message, {}), encode(message, {}));
  }
  for (const ToWorker& message : testing::messages_of_coordinators()) {
    ASSERT_TRUE(server->send(peer, message).is_ok());
    const auto got = client->receive(kPatience);
    ASSERT_TRUE(got.has_value()) << message_name(message);
    EXPECT_EQ(encode(*got, {}), encode(message, {}));
  }
  EXPECT_EQ(server->counters().rejected_messages, 0u);
  EXPECT_EQ(client->rejected_messages(), 0u);
}

TEST_F(ZmqTest, SendRefusesWhatIsInvalidHere) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  const PeerId peer = introduce(*server, *client);
  EXPECT_EQ(client->send(StoreGet{1, ""}).message(), "StoreGet.key: is empty");
  EXPECT_EQ(server->send(peer, Abort{1, std::string("\xff")}).code(), Code::kOk) << "free text";
  EXPECT_EQ(server->send(peer, StoreSet{0, "k", ""}).code(), Code::kInvalidArgument);
  EXPECT_EQ(server->send("a#unknown", CoordinatorHeartbeat{1}).code(), Code::kUnavailable);
}

TEST_F(ZmqTest, LargeMessagesFit) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  const PeerId peer = introduce(*server, *client);
  Step step = sample_step();
  step.started[0].tokens.assign(kMaxSequenceTokens, 200000);  // 12 MiB
  ASSERT_TRUE(server->send(peer, step).is_ok());
  const auto got = client->receive(kPatience);
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(std::get<Step>(*got).started[0].tokens.size(), kMaxSequenceTokens);
  // Two such sequences are within every single bound, but not within a frame.
  step.started.push_back(step.started[0]);
  step.started[1].slot = 7;
  EXPECT_EQ(server->send(peer, step).code(), Code::kInvalidArgument);
}

TEST_F(ZmqTest, BothEndsWakeFromOtherThreads) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  introduce(*server, *client);
  const auto timed = [](const std::function<void()>& wake, const std::function<bool()>& receive) {
    std::thread waker([&] {
      std::this_thread::sleep_for(milliseconds(20));
      wake();
    });
    const TimePoint start = std::chrono::steady_clock::now();
    const bool got = receive();
    const Duration took = std::chrono::steady_clock::now() - start;
    waker.join();
    return !got && took < seconds(10);
  };
  EXPECT_TRUE(
      timed([&] { server->wake(); }, [&] { return server->receive(kPatience).has_value(); }));
  EXPECT_TRUE(
      timed([&] { client->wake(); }, [&] { return client->receive(kPatience).has_value(); }));
  EXPECT_FALSE(server->receive(milliseconds(5)).has_value()) << "a wake-up counts once";
}

TEST_F(ZmqTest, WorkersSendFromManyThreadsWhileOneReceives) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  const PeerId peer = introduce(*server, *client);
  constexpr int kThreads = 4;
  constexpr uint64_t kEach = 500;
  std::atomic<uint64_t> received{0};
  std::atomic<bool> stop{false};
  std::thread receiver([&] {
    while (!stop.load()) received += client->receive(milliseconds(200)).has_value();
  });
  std::vector<std::thread> senders;
  for (uint64_t t = 0; t < kThreads; ++t) {
    senders.emplace_back([&, t] {
      for (uint64_t i = 1; i <= kEach; ++i) {
        while (!client->send(WorkerHeartbeat{t + 1, i, 0, false})) std::this_thread::yield();
      }
    });
  }
  std::vector<uint64_t> last(kThreads + 1, 0);
  uint64_t sent_back = 0;
  for (uint64_t total = 0; total < kThreads * kEach; ++total) {
    const auto incoming = server->receive(kPatience);
    ASSERT_TRUE(incoming.has_value()) << "after " << total;
    const auto& beat = std::get<WorkerHeartbeat>(incoming->message);
    ASSERT_EQ(beat.last_step, last[beat.epoch] + 1) << "order within a thread";
    last[beat.epoch] = beat.last_step;
    if (total % 4 == 0) {
      ASSERT_TRUE(server->send(peer, CoordinatorHeartbeat{total}).is_ok());
      ++sent_back;
    }
  }
  for (auto& thread : senders) thread.join();
  EXPECT_TRUE(eventually([&] { return received.load() == sent_back; }));
  stop.store(true);
  client->wake();
  receiver.join();
  EXPECT_EQ(server->counters().rejected_messages, 0u);
}

TEST_F(ZmqTest, RoundTripsAreFast) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  const PeerId peer = introduce(*server, *client);
  std::atomic<bool> stop{false};
  std::thread echo([&] {
    while (!stop.load()) {
      const auto message = client->receive(seconds(1));
      if (message) {
        EXPECT_TRUE(client->send(StepResult{1, 1, {}, {}}).is_ok());
      }
    }
  });
  std::vector<double> micros;
  const Step step = decode_step(64);
  for (int i = 0; i < 300; ++i) {
    const TimePoint start = std::chrono::steady_clock::now();
    ASSERT_TRUE(server->send(peer, step).is_ok());
    ASSERT_TRUE(server->receive(kPatience).has_value());
    micros.push_back(to_seconds(std::chrono::steady_clock::now() - start) * 1e6);
  }
  stop.store(true);
  client->wake();
  echo.join();
  std::sort(micros.begin(), micros.end());
  RecordProperty("median_us", static_cast<int>(micros[150]));
  RecordProperty("p99_us", static_cast<int>(micros[297]));
  // A missed wake-up would cost a timeout of a second; a busy machine costs milliseconds.
  EXPECT_LT(micros[150], 50e3);
}

TEST_F(ZmqTest, WorkersReconnectToARestartedCoordinator) {
  auto server = coordinator();
  const uint16_t port = port_of(*server);
  auto client = worker(server->endpoint(), a_, 5);
  const PeerId peer = introduce(*server, *client);
  ASSERT_TRUE(server->send(peer, CoordinatorHeartbeat{1}).is_ok());
  ASSERT_TRUE(client->receive(kPatience).has_value());
  EXPECT_TRUE(client->connected());
  server.reset();
  EXPECT_TRUE(eventually([&] {
    (void)client->receive(milliseconds(10));
    return !client->connected();
  })) << "the worker sees the end";
  EXPECT_EQ(client->send(WorkerHeartbeat{}).code(), Code::kUnavailable);
  server = coordinator(port);
  ASSERT_TRUE(send_soon(*client, WorkerHeartbeat{2, 0, 0, false}));
  const auto incoming = server->receive(kPatience);
  ASSERT_TRUE(incoming.has_value());
  EXPECT_EQ(incoming->peer, peer) << "the same process";
  ASSERT_TRUE(server->send(peer, CoordinatorHeartbeat{2}).is_ok());
  const auto beat = client->receive(kPatience);
  ASSERT_TRUE(beat.has_value());
  EXPECT_EQ(std::get<CoordinatorHeartbeat>(*beat).epoch, 2u);
}

TEST_F(ZmqTest, ADisconnectedPeerIsReportedAtOnce) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_), other = worker(server->endpoint(), b_);
  const PeerId peer = introduce(*server, *client), other_peer = introduce(*server, *other);
  ASSERT_TRUE(client->send(Goodbye{"the last words"}).is_ok());
  ASSERT_TRUE(server->receive(kPatience).has_value());
  const TimePoint start = std::chrono::steady_clock::now();
  client.reset();
  EXPECT_FALSE(server->receive(kPatience).has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(10)) << "it wakes receive()";
  EXPECT_EQ(server->next_disconnected(), peer);
  EXPECT_EQ(server->next_disconnected(), std::nullopt);
  EXPECT_EQ(server->send(peer, CoordinatorHeartbeat{1}).code(), Code::kUnavailable);
  EXPECT_TRUE(server->send(other_peer, CoordinatorHeartbeat{1}).is_ok());
}

TEST_F(ZmqTest, APeerThatDoesNotReadGetsNoMore) {
  ZmqCoordinatorOptions options = coordinator_options();
  options.max_outstanding_bytes = 1u << 20;
  options.max_outstanding_frames = 100;
  auto server = ZmqCoordinatorLink::bind(options).value();
  auto slow = worker(server->endpoint(), a_), good = worker(server->endpoint(), b_);
  const PeerId slow_peer = introduce(*server, *slow), good_peer = introduce(*server, *good);

  const StoreSet blob{1, "k", std::string(200'000, 'x')};
  Status status;
  int sent = 0;
  for (; sent < 1000 && status; ++sent) status = server->send(slow_peer, blob);
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << "bytes: " << status.to_string();
  EXPECT_EQ(sent - 1, 5) << "1 MiB of 200 kB";
  EXPECT_TRUE(server->send(good_peer, blob).is_ok()) << "nobody else is affected";

  // Reading gives no credit by itself; what the worker says next does.
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(slow->receive(kPatience).has_value());
  EXPECT_FALSE(server->send(slow_peer, blob).is_ok());
  introduce(*server, *slow);
  EXPECT_TRUE(server->send(slow_peer, blob).is_ok());

  for (sent = 0, status = Status::ok(); sent < 1000 && status; ++sent) {
    status = server->send(good_peer, CoordinatorHeartbeat{1});
  }
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << "frames";
  EXPECT_EQ(sent - 1, 99) << "the blob is one of the hundred";
}

TEST_F(ZmqTest, ASecondProcessOfAKeyDisturbsNobody) {
  auto server = coordinator();
  auto first = worker(server->endpoint(), a_, 1);
  const PeerId first_peer = introduce(*server, *first);
  EXPECT_EQ(first_peer, "a#0000000000000001");
  server->accept(first_peer);
  for (uint64_t process = 2; process < 12; ++process) {
    auto second = worker(server->endpoint(), a_, process);
    const PeerId second_peer = introduce(*server, *second);
    EXPECT_EQ(second_peer, fmt::format("a#{:016x}", process));
    ASSERT_TRUE(server->send(second_peer, Refused{"there is one"}).is_ok());
    const auto told = second->receive(kPatience);
    ASSERT_TRUE(told && std::holds_alternative<Refused>(*told));
    // What it says on its way out does not cost the first its connection either.
    ASSERT_TRUE(second->send(Goodbye{"refused"}).is_ok());
    ASSERT_TRUE(server->receive(kPatience).has_value());
    ASSERT_TRUE(server->send(first_peer, CoordinatorHeartbeat{process}).is_ok());
    const auto beat = first->receive(kPatience);
    ASSERT_TRUE(beat && std::holds_alternative<CoordinatorHeartbeat>(*beat));
    second.reset();
    EXPECT_FALSE(server->receive(kPatience).has_value());
    EXPECT_EQ(server->next_disconnected(), second_peer);
  }
  ASSERT_TRUE(first->send(WorkerHeartbeat{1, 0, 0, false}).is_ok());
  const auto incoming = server->receive(kPatience);
  ASSERT_TRUE(incoming.has_value());
  EXPECT_EQ(incoming->peer, first_peer);
}

TEST_F(ZmqTest, TooManyProcessesOfAKeyMakeRoomForEachOther) {
  auto server = coordinator();
  std::vector<std::unique_ptr<ZmqWorkerLink>> links;
  for (uint64_t process = 1; process <= 6; ++process) {
    links.push_back(worker(server->endpoint(), a_, process));
    const PeerId peer = introduce(*server, *links.back());
    if (process == 1) server->accept(peer);
  }
  const auto told = links[1]->receive(kPatience);
  ASSERT_TRUE(told && std::holds_alternative<Refused>(*told)) << "the second was quiet longest";
  EXPECT_EQ(server->counters().refused_processes, 1u);
  EXPECT_TRUE(server->send("a#0000000000000001", CoordinatorHeartbeat{1}).is_ok());
  EXPECT_TRUE(links[0]->receive(kPatience).has_value());
}

TEST_F(ZmqTest, AHelloUnderAnotherNameIsRefused) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  Hello hello = testing::sample_hello();
  hello.name = "b";
  ASSERT_TRUE(send_soon(*client, hello));
  EXPECT_TRUE(eventually([&] {
    EXPECT_FALSE(server->receive(milliseconds(5)).has_value());
    return server->counters().rejected_messages == 1;
  }));
  const auto told = client->receive(kPatience);
  ASSERT_TRUE(told && std::holds_alternative<Refused>(*told));
  EXPECT_EQ(std::get<Refused>(*told).reason, "this key belongs to worker 'a', not to 'b'");
}

TEST_F(ZmqTest, DescriptorsAndThreadsStayFlat) {
  auto server = coordinator();
  const auto cycle = [&] {
    auto client = worker(server->endpoint(), a_);
    introduce(*server, *client);
    client.reset();
    EXPECT_FALSE(server->receive(kPatience).has_value());
    EXPECT_TRUE(server->next_disconnected().has_value());
  };
  for (int i = 0; i < 3; ++i) cycle();
  const size_t descriptors = open_descriptors(), running = threads();
  for (int i = 0; i < 100; ++i) cycle();
  // The server closes its end of the last connection in its own time.
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors + 1; }))
      << open_descriptors() << " against " << descriptors;
  EXPECT_EQ(threads(), running);
}

}  // namespace
}  // namespace shoal::wire::testing

// The core over the real control plane: ZeroMQ, CURVE and whoever comes with a key.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/core_loop.h"
#include "coordinator/metrics.h"
#include "tests/coordinator/fake_cluster.h"
#include "wire/zmq_link.h"

namespace shoal::testing {
namespace {

using namespace std::chrono_literals;

constexpr Duration kPatience = 30s;  // only a failing test waits that long

class ControlPlane : public ::testing::Test {
 protected:
  void SetUp() override {
    wire::ZmqCoordinatorOptions options;
    options.keys = coordinator_keys_;
    options.allowed = {{a_.public_key, "a"}, {b_.public_key, "b"}};
    auto bound = wire::ZmqCoordinatorLink::bind(options);
    ASSERT_TRUE(bound.is_ok()) << bound.status().message();
    link_ = std::move(bound).value();
    CoreLoopOptions loop;
    loop.core = small_core_options(1);
    loop.core.membership.names = {"a"};
    loop.core.membership.lost_after = 10s;  // the machine may be busy
    service_ = std::make_unique<CoreLoop>(std::move(loop), *link_, metrics_, clock_);
    service_->start();
  }
  void TearDown() override {
    if (service_) service_->stop("the test ends");
  }

  // A worker process until it exits, `done` says so or patience ends. Returns why it exited.
  std::string run_worker(FakeWorkerOptions options, const wire::CurveKeyPair& keys,
                         const std::function<bool()>& done) {
    options.incarnation = ++incarnations_ | uint64_t{1} << 32;
    options.pid = static_cast<int64_t>(1000 + (options.incarnation & 0xffff));
    options.heartbeat = 20ms;
    options.load_time = 1ms;
    auto link = wire::ZmqWorkerLink::connect(
        {link_->endpoint(), coordinator_keys_.public_key, keys, options.incarnation});
    if (!link) return link.status().message();
    FakeWorker worker(options, {}, **link, clock_, options.incarnation);
    const TimePoint deadline = clock_.now() + kPatience;
    while (!worker.exited() && !done() && clock_.now() < deadline) {
      worker.turn();
      std::this_thread::sleep_for(1ms);
    }
    // A real one says so on its way out.
    if (worker.exited()) (void)(*link)->send(wire::Goodbye{worker.exit_reason()});
    return worker.exit_reason();
  }
  bool wait(const std::function<bool()>& condition) {
    const TimePoint deadline = clock_.now() + kPatience;
    while (!condition()) {
      if (clock_.now() > deadline) return false;
      std::this_thread::sleep_for(1ms);
    }
    return true;
  }

  const wire::CurveKeyPair coordinator_keys_ = wire::make_curve_keys().value();
  const wire::CurveKeyPair a_ = wire::make_curve_keys().value();
  const wire::CurveKeyPair b_ = wire::make_curve_keys().value();
  SteadyClock clock_;
  Metrics metrics_{{.version = "test", .world = 1}};
  std::unique_ptr<wire::ZmqCoordinatorLink> link_;
  std::unique_ptr<CoreLoop> service_;
  std::atomic<uint64_t> incarnations_{0};
};

TEST_F(ControlPlane, RefusedWorkersInALoopDoNotDisturbTheLiveOne) {
  std::atomic<bool> stop{false};
  FakeWorkerOptions steady;
  steady.name = "a";
  std::thread live([&] { run_worker(steady, a_, [&] { return stop.load(); }); });
  ASSERT_TRUE(wait([&] { return service_->state().ready; }));
  const ServiceState before = service_->state();

  struct Intruder {
    const char* expected;  // part of what it is told
    FakeWorkerOptions options;
    const wire::CurveKeyPair* keys;
    std::string odd_answer;
    int rounds = 0;
  };
  std::vector<Intruder> intruders{{"there is a live worker 'a', pid ", steady, &a_, {}},
                                  {"there is a live worker 'a', pid ", steady, &a_, {}},
                                  {"belongs to worker 'a', not to 'b'", steady, &a_, {}},
                                  {"protocol version", steady, &a_, {}},
                                  {"no coordinator can have made", steady, &a_, {}},
                                  {"not in the configuration", steady, &b_, {}}};
  intruders[1].options.host = "elsewhere";
  intruders[2].options.name = "b";
  intruders[3].options.protocol_version = wire::kProtocolVersion + 1;
  intruders[4].options.seen_epoch = ~uint64_t{0};
  intruders[5].options.name = "b";
  std::vector<std::thread> threads;
  for (Intruder& intruder : intruders) {
    threads.emplace_back([&] {
      for (; intruder.rounds < 15 && intruder.odd_answer.empty(); ++intruder.rounds) {
        const std::string told = run_worker(intruder.options, *intruder.keys, [] { return false; });
        // Six loops at once: now and then more of one key are connected than are kept.
        if (told.find(intruder.expected) == std::string::npos &&
            told.find("too many processes") == std::string::npos) {
          intruder.odd_answer = told.empty() ? "nothing" : told;
        }
      }
    });
  }
  std::atomic<int> left{static_cast<int>(threads.size())};
  std::thread waiter([&] {
    for (std::thread& thread : threads) thread.join();
    left.store(0);
  });
  uint64_t samples = 0, not_ready = 0;
  for (; left.load() > 0; ++samples) {
    not_ready += service_->state().ready ? 0 : 1;
    std::this_thread::sleep_for(1ms);
  }
  waiter.join();
  for (const Intruder& intruder : intruders) {
    EXPECT_EQ(intruder.odd_answer, "") << "instead of: " << intruder.expected;
    EXPECT_EQ(intruder.rounds, 15);
  }
  EXPECT_GT(samples, 100u);
  EXPECT_EQ(not_ready, 0u) << "of " << samples;
  const ServiceState after = service_->state();
  EXPECT_EQ(after.epoch, before.epoch);
  EXPECT_EQ(after.workers.at(0).pid, before.workers.at(0).pid);
  // Everyone that was turned away is counted: five loops by hello or process, one by the link.
  EXPECT_GE(after.control.refused_names, 1u);
  EXPECT_GE(after.refused_hellos + after.control.refused_processes, 5 * 15u);
  EXPECT_EQ(after.control.refused_keys, 0u);
  const std::string text = metrics_.serialize(after);
  for (const std::string& line : std::vector<std::string>{
           "shoal_control_refused_total{reason=\"hello\"} " + std::to_string(after.refused_hellos),
           "shoal_control_refused_total{reason=\"name\"} " +
               std::to_string(after.control.refused_names),
           "shoal_control_refused_total{reason=\"key\"} 0",
           "shoal_control_refused_total{reason=\"handshake\"} 0",
           "shoal_control_rejected_messages_total " +
               std::to_string(after.control.rejected_messages)}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
  EXPECT_EQ(metrics_.serialize(after), text) << "asking twice counts once";
  stop.store(true);
  live.join();
}

TEST_F(ControlPlane, TheReplacementOfAKilledWorkerJoinsWithoutWaiting) {
  // lost_after is 10 s: only the broken connection tells that the name is free.
  FakeWorkerOptions options;
  options.name = "a";
  for (int round = 0; round < 5; ++round) {
    std::atomic<bool> stop{false};
    std::string told;
    std::thread worker([&] { told = run_worker(options, a_, [&] { return stop.load(); }); });
    const TimePoint started = clock_.now();
    const uint64_t epoch = service_->state().epoch;
    EXPECT_TRUE(wait([&] {
      const ServiceState state = service_->state();
      return state.ready && (round == 0 || state.epoch > epoch);
    })) << told;
    EXPECT_LT(to_seconds(clock_.now() - started), 8.0);
    stop.store(true);
    worker.join();  // the connection closes without a goodbye
    EXPECT_EQ(told, "");
  }
}

}  // namespace
}  // namespace shoal::testing

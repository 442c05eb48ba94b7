// Thousands of random events per seed: requests, cancels, slow and dying workers, delays. Whatever
// happens, invariants hold after every event, every accepted request ends exactly once with tokens
// the model would give, and in the end nothing is left. SHOAL_TEST_SEED repeats one run.
#include <gtest/gtest.h>

#include "tests/coordinator/fake_cluster.h"
#include "tests/support/support.h"

namespace shoal::testing {
namespace {

using namespace std::chrono_literals;

struct Simulation {
  explicit Simulation(uint64_t seed)
      : rng(seed),
        world(1 + static_cast<uint32_t>(rng.below(3))),
        cluster(options(), fake_model(), rng(),
                {0us, from_seconds(rng.uniform() * 0.02), 0, false, false}) {}

  CoreOptions options() {
    CoreOptions out = small_core_options(world);
    out.scheduler.max_rows = 1 + static_cast<uint32_t>(rng.below(16));
    out.scheduler.max_sequences = 1 + static_cast<uint32_t>(rng.below(8));
    out.scheduler.max_slots = out.scheduler.max_sequences + static_cast<uint32_t>(rng.below(8));
    out.scheduler.prefill_chunk = 1 + static_cast<uint32_t>(rng.below(20));
    out.scheduler.depth = 1 + static_cast<uint32_t>(rng.below(3));
    out.scheduler.block_tokens = 1 + static_cast<uint32_t>(rng.below(8));
    const uint64_t least = 64 / out.scheduler.block_tokens + 1;  // one full context
    out.membership.plan.kv_blocks = {static_cast<uint32_t>(least + rng.below(2 * least))};
    return out;
  }
  FakeModel fake_model() {
    FakeModel fake;
    fake.end_odds = static_cast<uint32_t>(rng.below(2) * (5 + rng.below(40)));
    return fake;
  }

  void spawn(const std::string& name) {
    FakeWorker& worker = cluster.add_worker(name);
    worker.set_step_time(0us, from_seconds(rng.uniform() * 0.01));
  }
  std::string random_name() { return "w" + std::to_string(rng.below(world + 1)); }

  void submit() {
    GenerationRequest request;
    request.prompt.resize(1 + rng.below(40));
    for (int32_t& token : request.prompt) token = static_cast<int32_t>(rng.below(1000));
    request.max_tokens = 1 + static_cast<uint32_t>(rng.below(64 - request.prompt.size()));
    request.seed = rng();
    request.ignore_eos = rng.below(4) == 0;
    const bool admitted = check_admission(cluster.core.admission(), request).is_ok();
    const RequestId id = cluster.submit(std::move(request));
    if (admitted) accepted.push_back(id);
  }

  void random_event() {
    const uint64_t dice = rng.below(1000);
    if (dice < 500) {
      submit();
    } else if (dice < 600 && !accepted.empty()) {
      cluster.cancel(accepted[rng.below(accepted.size())]);
    } else if (dice < 604 && crashes) {
      const std::string name = random_name();
      if (cluster.alive(name)) cluster.kill(name);
      ++faults;
    } else if (dice < 608 && crashes) {
      const std::string name = random_name();
      if (cluster.alive(name)) cluster.worker(name).set_hung(true);
      ++faults;
    } else if (dice < 612 && crashes) {
      const std::string name = random_name();
      if (cluster.alive(name)) cluster.worker(name).set_frozen(rng.below(2) == 0);
      ++faults;
    } else if (dice < 616 && crashes) {
      const std::string name = random_name();
      if (cluster.alive(name)) cluster.worker(name).fail_next_step("a random failure");
      ++faults;
    } else if (dice < 640) {
      const std::string name = random_name();
      if (!cluster.alive(name)) {
        spawn(name);
      } else if (cluster.worker(name).exited()) {
        cluster.kill(name);
      }
    }
    cluster.run_for(from_seconds(rng.uniform() * (rng.below(50) == 0 ? 2.0 : 0.01)));
  }

  void run(int events) {
    for (uint32_t i = 0; i < world; ++i) spawn("w" + std::to_string(i));
    for (int i = 0; i < events && !::testing::Test::HasFailure(); ++i) random_event();
    settle();
  }

  // Everything that was broken is replaced; then everything must come to an end.
  void settle() {
    for (uint32_t i = 0; i <= world; ++i) {
      const std::string name = "w" + std::to_string(i);
      if (cluster.alive(name)) cluster.kill(name);
      spawn(name);
    }
    ASSERT_TRUE(cluster.run_until_ready())
        << cluster.core.state(cluster.clock.now()).not_ready_reason;
    ASSERT_TRUE(cluster.run_until([&] { return cluster.core.idle(); }, 60s));
    cluster.run_for(200ms);
    cluster.core.check_invariants();
    cluster.check_streams();
    for (const RequestId id : accepted) {
      EXPECT_EQ(cluster.streams[id].finishes, 1) << "request " << id;
    }
    for (uint32_t i = 0; i <= world; ++i) {
      EXPECT_EQ(cluster.worker("w" + std::to_string(i)).slots_used(), 0u);
    }
  }

  Rng rng;
  uint32_t world;
  FakeCluster cluster;
  std::vector<RequestId> accepted;
  bool crashes = true;
  int faults = 0;
};

void report(const Simulation& s, uint64_t seed) {
  size_t by_reason[4] = {};
  for (const auto& [id, stream] : s.cluster.streams) {
    if (stream.finishes > 0) ++by_reason[static_cast<int>(stream.finish.reason)];
  }
  std::fprintf(stderr,
               "seed %llu: world %u, %zu accepted: %zu stop, %zu length, %zu cancelled, %zu error; "
               "%zu steps, %llu preemptions, %llu surplus, %d faults, %llu groups lost\n",
               static_cast<unsigned long long>(seed), s.world, s.accepted.size(), by_reason[0],
               by_reason[1], by_reason[2], by_reason[3], s.cluster.steps.size(),
               static_cast<unsigned long long>(s.cluster.observer.preemptions),
               static_cast<unsigned long long>(s.cluster.observer.surplus), s.faults,
               static_cast<unsigned long long>(s.cluster.observer.failures));
}

TEST(Simulation, WithCrashes) {
  const uint64_t base = test_seed(20240);
  for (uint64_t seed = base; seed < base + 12 && !HasFailure(); ++seed) {
    SCOPED_TRACE("SHOAL_TEST_SEED=" + std::to_string(seed));
    Simulation simulation(seed);
    simulation.run(2000);
    report(simulation, seed);
  }
}

TEST(Simulation, WithoutCrashesEveryRequestIsServed) {
  const uint64_t base = test_seed(777);
  for (uint64_t seed = base; seed < base + 12 && !HasFailure(); ++seed) {
    SCOPED_TRACE("SHOAL_TEST_SEED=" + std::to_string(seed));
    Simulation simulation(seed);
    simulation.crashes = false;
    for (uint32_t i = 0; i < simulation.world; ++i) simulation.spawn("w" + std::to_string(i));
    ASSERT_TRUE(simulation.cluster.run_until_ready());
    for (int i = 0; i < 1500; ++i) simulation.random_event();
    ASSERT_TRUE(simulation.cluster.run_until([&] { return simulation.cluster.core.idle(); }, 120s));
    simulation.cluster.check_streams();
    for (const RequestId id : simulation.accepted) {
      const Stream& stream = simulation.cluster.streams[id];
      ASSERT_EQ(stream.finishes, 1);
      EXPECT_NE(stream.finish.reason, FinishReason::kError) << stream.finish.error.message();
    }
    report(simulation, seed);
  }
}

}  // namespace
}  // namespace shoal::testing

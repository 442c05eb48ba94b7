// Thousands of random events per seed: requests and second turns, cancels, slow and dying workers,
// delays, over models of random KV groups. Whatever happens, invariants hold after every event, no
// row reads K/V that is not its own sequence's, every accepted request ends exactly once with
// tokens the model would give, and in the end nothing is left. SHOAL_TEST_SEED repeats one run.
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
        rules(random_rules()),
        cluster(options(), fake_model(), rng(),
                {0us, from_seconds(rng.uniform() * 0.02), 0, false, false}) {}

  std::vector<KvRule> random_rules() {
    std::vector<KvRule> out(1 + rng.below(3));
    for (KvRule& rule : out) {
      const auto span = [&] { return static_cast<uint32_t>(1 + rng.below(24)); };
      const uint64_t kind = rng.below(8);  // full: 3 of 8
      if (kind < 3 || kind == 5) rule.window = span();
      if (kind >= 3 && kind < 6) rule.chunk = span();
    }
    return out;
  }

  CoreOptions options() {
    CoreOptions out = small_core_options(world);
    out.scheduler.max_rows = 1 + static_cast<uint32_t>(rng.below(16));
    out.scheduler.max_sequences = 1 + static_cast<uint32_t>(rng.below(8));
    out.scheduler.max_slots = out.scheduler.max_sequences + static_cast<uint32_t>(rng.below(8));
    out.scheduler.prefill_chunk = 1 + static_cast<uint32_t>(rng.below(20));
    out.scheduler.depth = 1 + static_cast<uint32_t>(rng.below(3));
    if (rng.below(3) > 0) out.recovery = 20s;
    out.scheduler.draw = rng.below(2) == 0 ? 1 : 1 + static_cast<uint32_t>(rng.below(6));
    out.scheduler.block_tokens = 1 + static_cast<uint32_t>(rng.below(8));
    out.scheduler.kv_rules = rules;
    out.scheduler.prefix_cache = rng.below(8) > 0;
    out.membership.terms.kv_blocks.clear();
    for (const KvRule& rule : rules) {
      const uint64_t least = peak_blocks(rule, 64, 1, out.scheduler.block_tokens);  // one context
      out.membership.terms.kv_blocks.push_back(static_cast<uint32_t>(
          least + rng.below(3 * 64 / out.scheduler.block_tokens) * (rng.below(2) == 0 ? 4 : 1)));
    }
    return out;
  }
  FakeModel fake_model() {
    FakeModel fake;
    fake.rules = rules;
    fake.end_odds = static_cast<uint32_t>(rng.below(2) * (5 + rng.below(40)));
    return fake;
  }

  void spawn(const std::string& name) {
    FakeWorker& worker = cluster.add_worker(name);
    worker.set_step_time(0us, from_seconds(rng.uniform() * 0.01));
  }
  std::string random_name() { return "w" + std::to_string(rng.below(world + 1)); }

  // Something new, or how an earlier conversation goes on, perhaps from somewhere in its middle.
  std::vector<int32_t> random_prompt() {
    std::vector<int32_t> prompt;
    if (!cluster.streams.empty() && rng.below(3) > 0) {
      const uint64_t newest = cluster.streams.size();
      const Stream& earlier = cluster.streams[newest - rng.below(std::min<uint64_t>(newest, 12))];
      prompt = earlier.request.prompt;
      prompt.insert(prompt.end(), earlier.tokens.begin(), earlier.tokens.end());
      prompt.resize(std::min<size_t>(prompt.size(), 60));
      if (rng.below(2) == 0) prompt.resize(1 + rng.below(prompt.size()));
      if (rng.below(4) == 0) return prompt;
    }
    const size_t more =
        1 + rng.below(std::max<size_t>(2, 40 - std::min<size_t>(40, prompt.size())));
    for (size_t i = 0; i < more; ++i) prompt.push_back(static_cast<int32_t>(rng.below(1000)));
    return prompt;
  }

  void submit() {
    GenerationRequest request;
    request.prompt = random_prompt();
    request.cache_scope = rng.below(4) == 0 ? "a" : "b";
    request.max_tokens = 1 + static_cast<uint32_t>(rng.below(64 - request.prompt.size()));
    request.seed = rng();
    scopes[request.seed] = request.cache_scope;
    request.ignore_eos = rng.below(4) == 0;
    request.score_prompt = rng.below(4) == 0;
    request.sampling.top_logprobs = request.score_prompt ? 1 : -1;
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
    check_sharing();
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
    check_sharing();
    for (const RequestId id : accepted) {
      EXPECT_EQ(cluster.streams[id].finishes, 1) << "request " << id;
    }
    for (uint32_t i = 0; i <= world; ++i) {
      EXPECT_EQ(cluster.worker("w" + std::to_string(i)).slots_used(), 0u);
    }
  }

  void check_sharing() {
    for (uint32_t i = 0; i <= world; ++i) {
      const std::string name = "w" + std::to_string(i);
      if (!cluster.alive(name)) continue;
      for (const auto& [writer, reader] : cluster.worker(name).shared()) {
        EXPECT_EQ(scopes.at(writer), scopes.at(reader)) << "two API keys share a block";
        ++sharings;
      }
    }
  }

  Rng rng;
  uint32_t world;
  std::vector<KvRule> rules;
  FakeCluster cluster;
  std::map<uint64_t, std::string> scopes;  // by seed
  size_t sharings = 0;                     // sequences that read what another one wrote
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
               "%zu steps, %llu preemptions, %llu surplus, %d faults, %llu groups lost; %zu KV "
               "groups, %llu of %llu prompt tokens found, %zu sharings, %llu blocks evicted\n",
               static_cast<unsigned long long>(seed), s.world, s.accepted.size(), by_reason[0],
               by_reason[1], by_reason[2], by_reason[3], s.cluster.steps.size(),
               static_cast<unsigned long long>(s.cluster.observer.preemptions),
               static_cast<unsigned long long>(s.cluster.observer.surplus), s.faults,
               static_cast<unsigned long long>(s.cluster.observer.failures), s.rules.size(),
               static_cast<unsigned long long>(s.cluster.observer.hit_tokens),
               static_cast<unsigned long long>(s.cluster.observer.lookup_tokens), s.sharings,
               static_cast<unsigned long long>(s.cluster.observer.evicted));
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
    simulation.check_sharing();
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

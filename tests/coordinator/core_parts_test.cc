// The small parts of the core on their own: placement, block pool, step window, rendezvous bounds.
#include <gtest/gtest.h>

#include <algorithm>

#include "coordinator/core/block_pool.h"
#include "coordinator/core/membership.h"
#include "coordinator/core/placement.h"
#include "coordinator/core/rendezvous.h"
#include "coordinator/core/step_window.h"

namespace shoal {
namespace {

using namespace std::chrono_literals;

struct Worker {
  std::string name, host;
  int last_rank = -1;
  bool holds_weights = false;
};

// The names by rank, whatever the order of the candidates.
std::vector<std::string> place(std::vector<Worker> workers, uint32_t world,
                               const std::vector<std::string>& configured = {},
                               const std::vector<std::string>& experts_only = {}) {
  std::vector<std::string> first;
  std::sort(workers.begin(), workers.end(),
            [](const Worker& a, const Worker& b) { return a.name < b.name; });
  do {
    std::vector<wire::Hello> hellos(workers.size());
    std::vector<WorkerOffer> candidates;
    for (size_t i = 0; i < workers.size(); ++i) {
      hellos[i].name = workers[i].name;
      hellos[i].host_id = workers[i].host;
      candidates.push_back({&hellos[i], workers[i].last_rank, workers[i].holds_weights});
    }
    const auto ranks = place_ranks_by_role(candidates, world, configured, experts_only);
    std::vector<std::string> names;
    if (ranks) {
      for (const size_t index : *ranks) names.push_back(workers[index].name);
    }
    if (first.empty()) first = names;
    EXPECT_EQ(names, first) << "the order of the candidates matters";
  } while (std::next_permutation(workers.begin(), workers.end(),
                                 [](const Worker& a, const Worker& b) { return a.name < b.name; }));
  return first;
}

using Names = std::vector<std::string>;

TEST(Placement, NaturalOrder) {
  const Names ordered = {"",    "a", "a0",   "a1",    "a01",  "a2",  "a2b",
                         "a10", "b", "b1c2", "b1c10", "b2c1", "w-1", "w10"};
  for (size_t i = 0; i < ordered.size(); ++i) {
    for (size_t j = 0; j < ordered.size(); ++j) {
      if (ordered[i] == "a1" && ordered[j] == "a01") continue;  // equal numbers: by bytes
      if (ordered[i] == "a01" && ordered[j] == "a1") continue;
      EXPECT_EQ(natural_less(ordered[i], ordered[j]), i < j) << ordered[i] << " " << ordered[j];
    }
  }
  EXPECT_NE(natural_less("a1", "a01"), natural_less("a01", "a1"));
  EXPECT_TRUE(natural_less("w9", "w18446744073709551616999"));
}

TEST(Placement, Table) {
  EXPECT_EQ(place({{"a", "h"}}, 2), Names());
  EXPECT_EQ(place({{"w10", "h"}, {"w2", "h"}, {"w1", "h"}}, 3), Names({"w1", "w2", "w10"}));
  // Hosts stay together, in the order of their first name.
  EXPECT_EQ(place({{"a", "x"}, {"b", "y"}, {"c", "x"}, {"d", "y"}}, 4),
            Names({"a", "c", "b", "d"}));
  // The configuration's order counts first.
  EXPECT_EQ(place({{"a", "x"}, {"b", "y"}, {"c", "x"}}, 3, {"c", "b", "a"}),
            Names({"c", "b", "a"}));
  EXPECT_EQ(place({{"a", "x"}, {"b", "y"}, {"c", "x"}}, 2, {"c", "b", "a"}), Names({"c", "b"}));
  // Whoever had a rank keeps it; a newcomer fills the gap.
  EXPECT_EQ(place({{"a", "x"}, {"b", "x", 0, true}, {"c", "x", 2, true}}, 3),
            Names({"b", "a", "c"}));
  EXPECT_EQ(place({{"a", "x"}, {"b", "x", 1}}, 2), Names({"a", "b"}));
  // Weights decide who takes part when there are spares.
  EXPECT_EQ(place({{"a", "x"}, {"b", "x", 1, true}, {"c", "x", 0, true}}, 2), Names({"c", "b"}));
  // Two that had the same rank: the one with weights keeps it.
  EXPECT_EQ(place({{"a", "x", 1}, {"b", "x", 1, true}}, 2), Names({"a", "b"}));
  // A rank beyond the world counts for nothing.
  EXPECT_EQ(place({{"a", "x", 5, true}, {"b", "x"}}, 2), Names({"a", "b"}));
}

TEST(Placement, RanksOfExpertsGoToWhoeverIsForThem) {
  // "a" comes first by name but holds experts only.
  const std::vector<Worker> all{{"a", "x"}, {"b", "x"}, {"c", "y"}};
  EXPECT_EQ(place(all, 3, {"b", "c"}, {"a"}), Names({"b", "c", "a"}));
  EXPECT_EQ(place(all, 3, {"c", "b"}, {"a"}), Names({"c", "b", "a"}));
  EXPECT_EQ(place(all, 3, {"c"}, {"b", "a"}), Names({"c", "b", "a"}));
  // Neither kind fills in for the other.
  EXPECT_EQ(place({{"a", "x"}, {"b", "x"}}, 2, {"b", "c"}, {"a"}), Names({"b", "a"}));
  EXPECT_EQ(place({{"b", "x"}, {"c", "x"}}, 2, {"b", "c"}, {"a"}), Names());
  EXPECT_EQ(place({{"a", "x"}, {"b", "x"}}, 3, {"b", "c"}, {"a"}), Names());
  // Ranks are kept, and spares take those of their kind.
  EXPECT_EQ(
      place({{"a", "x", 2, true}, {"b", "x", 1, true}, {"d", "x"}}, 3, {"b", "c", "d"}, {"a"}),
      Names({"d", "b", "a"}));
  EXPECT_EQ(place({{"a", "x", 3, true}, {"b", "x", 2}, {"c", "x"}, {"d", "x"}}, 4, {"c", "d"},
                  {"a", "b"}),
            Names({"c", "d", "b", "a"}));
  // A rank of the other kind (the plan was another one) counts for nothing.
  EXPECT_EQ(place({{"a", "x", 0, true}, {"b", "x", 2, true}, {"c", "x"}}, 3, {"b", "c"}, {"a"}),
            Names({"b", "c", "a"}));
}

TEST(Placement, EngineFromHosts) {
  wire::Hello a, b, unknown;
  a.host_id = "x";
  b.host_id = "y";
  EXPECT_EQ(choose_engine({&a}), wire::CollectiveEngine::kNone);
  EXPECT_EQ(choose_engine({&a, &a}), wire::CollectiveEngine::kShm);
  EXPECT_EQ(choose_engine({&a, &b}), wire::CollectiveEngine::kGloo);
  EXPECT_EQ(choose_engine({&unknown, &unknown}), wire::CollectiveEngine::kGloo);
}

TEST(BlockPool, CountsReferences) {
  BlockPool pool(3);
  EXPECT_EQ(pool.allocate(), 0u);
  EXPECT_EQ(pool.allocate(), 1u);
  pool.add_reference(1);
  pool.check_invariants(3);
  pool.release(1);
  EXPECT_EQ(pool.available(), 1u);
  pool.release(1);
  EXPECT_EQ(pool.available(), 2u);
  EXPECT_EQ(pool.allocate(), 1u);  // most recently freed first
  EXPECT_EQ(pool.allocate(), 2u);
  EXPECT_EQ(pool.allocate(), std::nullopt);
  EXPECT_EQ(pool.used(), 3u);
  pool.check_invariants(3);
}

TEST(BlockPoolDeathTest, MistakesAbort) {
  BlockPool pool(2);
  const uint32_t block = pool.allocate().value();
  pool.release(block);
  EXPECT_DEATH(pool.release(block), "freed twice");
  EXPECT_DEATH(pool.add_reference(block), "free KV block");
  EXPECT_DEATH(pool.check_invariants(1), "do not add up");
}

TEST(StepWindow, RetiresWhatEveryRankHasReturned) {
  StepWindow window;
  window.begin(2);
  const TimePoint start{1h};
  window.sent({1, start, {{7, 0, 1}}, {}});
  window.sent({2, start + 1s, {}, {5}});
  EXPECT_EQ(window.ended_in_flight(), std::vector<uint32_t>({5}));
  EXPECT_EQ((*window.acknowledge(0, 1))->expected[0].request, 7u);
  EXPECT_TRUE(window.retire().empty());
  EXPECT_EQ(window.late_ranks(), std::vector<uint32_t>({1}));
  ASSERT_TRUE(window.acknowledge(0, 2).is_ok());
  ASSERT_TRUE(window.acknowledge(1, 1).is_ok());
  EXPECT_EQ(window.retire().size(), 1u);
  EXPECT_EQ(window.completed(), 1u);
  // Gaps, repetitions, and steps never sent.
  EXPECT_FALSE(window.acknowledge(0, 2).is_ok());
  EXPECT_FALSE(window.acknowledge(0, 3).is_ok());
  EXPECT_FALSE(window.acknowledge(1, 1).is_ok());
  ASSERT_TRUE(window.acknowledge(1, 2).is_ok());
  EXPECT_EQ(window.retire().size(), 1u);
  EXPECT_EQ(window.in_flight(), 0u);
  EXPECT_EQ(window.next_step(), 3u);
}

TEST(Rendezvous, IsBounded) {
  Rendezvous store;
  store.begin(3);
  Actions actions;
  const std::string value(1u << 20, 'x');
  Status status;
  size_t stored = 0;
  while (status.is_ok() && stored < 1000) {
    status = store.set({3, "key" + std::to_string(stored++), value}, actions);
  }
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(stored, 64u);  // 64 MiB
  store.begin(4);
  status = Status::ok();
  uint64_t waiting = 0;
  while (status.is_ok() && waiting <= Rendezvous::kMaxWaiting) {
    status = store.get("p", {4, "key" + std::to_string(waiting++)}, actions);
  }
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(waiting, Rendezvous::kMaxWaiting + 1);
  EXPECT_TRUE(actions.empty());
}

TEST(Membership, AFloodOfNamesIsBounded) {
  MembershipOptions options;
  options.world = 1;
  options.terms.kv_blocks = {1};
  Membership membership(options);
  const TimePoint now{1h};
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    wire::Hello hello;
    hello.name = "flood" + std::to_string(i);
    hello.incarnation = 1;
    Actions actions;
    membership.on_message({hello.name, hello, ""}, now, actions);
    for (const Action& action : actions) {
      const auto* sent = std::get_if<SendAction>(&action);
      refused += sent && std::holds_alternative<wire::Refused>(sent->message) ? 1 : 0;
    }
  }
  EXPECT_EQ(refused, 1000 - 256);
  EXPECT_EQ(membership.worker_states(now).size(), 256u);
  membership.check_invariants();
}

}  // namespace
}  // namespace shoal

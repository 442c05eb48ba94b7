// From configuration and offers to the plan, on the shipped tiny mixture.
#include "coordinator/server/group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "base/file.h"
#include "coordinator/server/served_model.h"
#include "parallel/plan/expert_placement.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using config::Config;
using config::WorkerRole;

constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr int64_t kContext = 1024;

const ServedModel& mixture() {
  static const ServedModel model =
      read_served_model(testing::model_path("shoal-tiny-moe-q8_0.gguf")).value();
  return model;
}
const ServedModel& dense() {
  static const ServedModel model =
      read_served_model(testing::model_path("shoal-tiny-dense-q8_0.gguf")).value();
  return model;
}

// "a b" full, "x" of experts: named in this order.
Config config_of(const std::vector<config::Worker>& workers) {
  Config config;
  config.model.path = mixture().path;
  config.workers = workers;
  return config;
}
config::Worker full(const std::string& name, double share = 1) {
  return {.name = name, .share = share};
}
config::Worker experts_only(const std::string& name, double share = 1) {
  return {.name = name, .role = WorkerRole::kExperts, .share = share};
}

Result<GroupWishes> wishes_of(const Config& config, const ServedModel& model = mixture()) {
  std::vector<std::string> names;
  for (const config::Worker& worker : config.workers) names.push_back(worker.name);
  return make_group_wishes(config, model.spec, names, kContext);
}

Offer offer(const std::string& name, uint64_t memory, const std::string& host = "h",
            const std::string& kind = "cpu") {
  return {name, host, host, kind, kind + " same", memory};
}

Result<Plan> try_plan(const Config& config, const std::vector<Offer>& offers,
                      const ServedModel& model = mixture(), const ExpertPlan& previous = {}) {
  SHOAL_ASSIGN(const GroupWishes wishes, wishes_of(config, model));
  return make_plan({model.spec, tensor_types(model.file)}, wishes.plan, offers, previous);
}

Plan planned(const Config& config, const std::vector<Offer>& offers,
             const ExpertPlan& previous = {}) {
  auto plan = try_plan(config, offers, mixture(), previous);
  EXPECT_TRUE(plan.is_ok()) << plan.status().message();
  return plan ? *plan : Plan{};
}

TEST(GroupWishes, RanksAreFullWorkersThenThoseOfExperts) {
  Config config = config_of({experts_only("x", 3), full("a", 2), full("b"), full("c", 5)});
  config.parallel.tensor = 2;
  const auto wishes = wishes_of(config);
  ASSERT_TRUE(wishes.is_ok()) << wishes.status().message();
  EXPECT_EQ(wishes->plan.split.world, 3);
  EXPECT_EQ(wishes->plan.split.shares, (std::vector<double>{2, 1, 0}));
  EXPECT_EQ(wishes->names, (std::vector<std::string>{"a", "b", "c"})) << "c is a spare";
  EXPECT_EQ(wishes->expert_names, (std::vector<std::string>{"x"}));
  EXPECT_EQ(wishes->plan.expert_factors, (std::vector<double>{3}));
  EXPECT_EQ(wishes->plan.layout, ExpertLayout::kPlaced);
  // Listing more workers than ranks is no reason to complain of shares.
  config.workers = {full("a", 2), full("b"), full("c", 5)};
  EXPECT_EQ(wishes_of(config)->plan.split.shares, (std::vector<double>{2, 1}));
  config.workers = {full("a"), full("b"), full("c")};
  config.parallel.shares = {1, 4};
  EXPECT_EQ(wishes_of(config)->plan.split.shares, (std::vector<double>{1, 4}));
  EXPECT_EQ(wishes_of(config)->plan.layout, ExpertLayout::kSliced);
}

TEST(GroupWishes, LayoutsAsAskedFor) {
  Config config = config_of({full("a"), full("b"), experts_only("x")});
  config.parallel.experts = config::Experts::kSliced;
  EXPECT_EQ(wishes_of(config)->plan.layout, ExpertLayout::kSliced);
  config.workers.pop_back();
  config.parallel.experts = config::Experts::kPlaced;
  EXPECT_EQ(wishes_of(config)->plan.layout, ExpertLayout::kPlaced);
  const testing::TempDir folder;
  config.parallel.experts = config::Experts::kAuto;
  config.parallel.placement = folder.path() + "/p.yaml";
  ASSERT_TRUE(write_file_atomically(config.parallel.placement,
                                    "placement: [{layers: all, experts: 0, ranks: 1}]", 0600)
                  .is_ok());
  const auto wishes = wishes_of(config);
  ASSERT_TRUE(wishes.is_ok()) << wishes.status().message();
  EXPECT_EQ(wishes->plan.layout, ExpertLayout::kPlaced);
  EXPECT_EQ(wishes->plan.pins[0], 2u);
  const Plan plan = planned(config, {offer("a", 64 * kGib), offer("b", 64 * kGib)});
  EXPECT_EQ(plan.split.experts.ranks[0], 2u);
}

TEST(GroupWishes, Refusals) {
  const auto expect = [](const Config& config, const std::string& part,
                         const ServedModel& model = mixture()) {
    const auto wishes = wishes_of(config, model);
    ASSERT_FALSE(wishes.is_ok()) << part;
    EXPECT_NE(wishes.status().message().find(part), std::string::npos) << wishes.status().message();
  };
  expect(config_of({}), "no workers are configured");
  expect(config_of({experts_only("x")}), "no workers are configured");
  expect(config_of({full("a"), experts_only("x")}), "worker 'x' is to hold experts only", dense());
  Config config = config_of({full("a"), full("b")});
  config.parallel.tensor = 3;
  expect(config, "parallel.tensor is 3 but 2 workers are configured");
  config.parallel.tensor = 0;
  config.parallel.shares = {1, 1, 1};
  expect(config, "parallel.shares has 3 entries for 2 ranks");
  config.parallel.shares.clear();
  config.parallel.placement = "/no/such/file.yaml";
  expect(config, "/no/such/file.yaml");
  expect(config, "parallel.placement is set, but the model has no experts", dense());
  const testing::TempDir folder;
  config.parallel.placement = folder.path() + "/p.yaml";
  ASSERT_TRUE(write_file_atomically(config.parallel.placement,
                                    "placement: [{layers: all, experts: 0, ranks: 2}]", 0600)
                  .is_ok());
  expect(config, "p.yaml:1:46: rank 2: the group has 2 ranks");
}

TEST(ExpertShares, FollowMemory) {
  const GroupWishes wishes =
      wishes_of(config_of({full("a", 2), full("b", 4), experts_only("x"), experts_only("y", 2)}))
          .value();
  const auto shares = [&](const std::vector<uint64_t>& memory, const std::string& kind) {
    const std::vector<Offer> offers{offer("a", 0), offer("b", 0), offer("x", 0),
                                    offer("y", 0, "h", kind)};
    return expert_shares(wishes.plan, memory, offers);
  };
  // The mean of the others: share 3, 200 bytes.
  EXPECT_EQ(shares({100, 300, 200, 100}, "cpu"), (std::vector<double>{2, 4, 3, 3}));
  const std::vector<double> spill = shares({100, 300, 200, 100}, "ram");
  EXPECT_EQ(spill[2], 3);
  EXPECT_LT(spill[3], 1e-4) << "only what does not fit elsewhere";
  EXPECT_GT(spill[3], 0);
  EXPECT_EQ(shares({0, 0, 0, 0}, "cpu")[2], 3.0 / 1000) << "whatever the figures";
  EXPECT_TRUE(expert_shares(wishes_of(config_of({full("a")})).value().plan, {1},
                            std::vector<Offer>{offer("a", 1)})
                  .empty());
}

TEST(GroupPlan, WhoRoutes) {
  const Config config = config_of({full("a"), full("b")});
  std::vector<Offer> workers{offer("a", 64 * kGib), offer("b", 64 * kGib)};
  EXPECT_EQ(planned(config, workers).routing_rank, -1);
  workers[1].arithmetic = "cpu other";
  EXPECT_EQ(planned(config, workers).routing_rank, 0);
  workers[0].arithmetic = workers[1].arithmetic = "";
  EXPECT_EQ(planned(config, workers).routing_rank, 0) << "unknown is not equal";
  EXPECT_EQ(planned(config_of({full("a")}), {workers[0]}).routing_rank, -1);
  Config plain = config;
  plain.model.path = dense().path;
  EXPECT_EQ(try_plan(plain, workers, dense()).value().routing_rank, -1) << "nothing to route";
}

TEST(GroupPlan, EveryExpertIsSomewhereAndThePlanIsStable) {
  const Config config = config_of({full("a"), full("b"), experts_only("x")});
  std::vector<Offer> workers{offer("a", 64 * kGib), offer("b", 64 * kGib), offer("x", 128 * kGib)};
  const Plan plan = planned(config, workers);
  const std::vector<int64_t> counts = mixture_experts(mixture().spec);
  std::vector<int> held(3);
  for (const uint64_t mask : plan.split.experts.ranks) {
    ASSERT_EQ(std::popcount(mask), 1);
    ++held[static_cast<size_t>(std::countr_zero(mask))];
  }
  EXPECT_EQ(held[0] + held[1] + held[2], static_cast<int>(counts.size()) * counts[0]);
  EXPECT_GT(held[2], held[0]) << "twice the memory";
  EXPECT_EQ(plan.kv_blocks.size(), mixture().spec.kv_groups.size());
  EXPECT_EQ(plan.kv_blocks[0], 1024 * 16 / 32);
  // The next epoch's workers report other figures: nothing moves.
  workers[2].memory_bytes = 60 * kGib;
  EXPECT_EQ(planned(config, workers, plan.split.experts).split.experts.ranks,
            plan.split.experts.ranks);
  EXPECT_NE(planned(config, workers).split.experts.ranks, plan.split.experts.ranks);
}

TEST(GroupPlan, MemoryOfAHostIsShared) {
  Config config = config_of({full("a"), full("b"), experts_only("x")});
  // All on one host: a third each; on its own host the third has three times as much.
  const auto held_by_x = [&](const std::string& host) {
    const Plan plan = planned(
        config, {offer("a", 60 * kGib), offer("b", 60 * kGib), offer("x", 60 * kGib, host)});
    return std::count(plan.split.experts.ranks.begin(), plan.split.experts.ranks.end(), 4u);
  };
  EXPECT_GT(held_by_x("other"), held_by_x("h"));
}

TEST(GroupPlan, RefusalsHaveTheFigures) {
  Config config = config_of({full("a"), full("b")});
  Status status = try_plan(config, {offer("a", 1 << 20), offer("b", 64 * kGib, "i")}).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_NE(status.message().find("rank 0 (worker 'a' on h"), std::string::npos)
      << status.message();
  config.kv.blocks = 5;
  status = try_plan(config, {offer("a", 64 * kGib), offer("b", 64 * kGib)}).status();
  EXPECT_NE(status.message().find("kv.blocks is 5, but one sequence of 1024 tokens takes 32"),
            std::string::npos)
      << status.message();
}

TEST(BytesPerToken, CountsOnlyVisitedExperts) {
  const ServedModel& model = mixture();
  const MoeLayer& moe = model.spec.layer.back().ffn.moe;
  ASSERT_LT(moe.top_k, moe.experts);
  const uint64_t bytes = bytes_read_per_token(*model.file, model.spec);
  ModelSpec all = model.spec;
  for (LayerSpec& layer : all.layer) layer.ffn.moe.top_k = layer.ffn.moe.experts;
  uint64_t experts = 0;
  const auto sizes = expert_bytes(model.spec, tensor_types(*model.file));
  ASSERT_TRUE(sizes.is_ok()) << sizes.status().message();
  for (const uint64_t one : *sizes) experts += one;
  EXPECT_EQ(bytes_read_per_token(*model.file, all) - bytes,
            experts * static_cast<uint64_t>(moe.experts - moe.top_k));
  EXPECT_GT(model.spec.parameters(), model.spec.active_parameters());
}

}  // namespace
}  // namespace shoal

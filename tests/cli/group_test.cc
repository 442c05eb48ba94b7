// From configuration and workers to the plan that is sent, on the shipped tiny mixture.
#include "cli/group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "base/file.h"
#include "parallel/expert_placement.h"
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

Result<GroupLayout> layout_of(const Config& config, const ServedModel& model = mixture()) {
  std::vector<std::string> names;
  for (const config::Worker& worker : config.workers) names.push_back(worker.name);
  return make_group_layout(config, model.spec, names);
}

wire::Hello hello(const std::string& name, uint64_t memory, const std::string& host = "h",
                  const std::string& kind = "cpu") {
  wire::Hello out;
  out.name = name;
  out.host_id = host;
  out.device_kind = kind;
  out.arithmetic = kind + " same";
  out.memory_bytes = memory;
  return out;
}

wire::Assign completed(const Config& config, const std::vector<wire::Hello>& workers,
                       const wire::Assign& previous = {}) {
  const auto layout = layout_of(config);
  EXPECT_TRUE(layout.is_ok()) << layout.status().message();
  wire::Assign assign = previous;
  const Status status = complete_group_plan(config, mixture(), *layout, kContext, workers, &assign);
  EXPECT_TRUE(status.is_ok()) << status.message();
  return assign;
}

TEST(GroupLayout, RanksAreFullWorkersThenThoseOfExperts) {
  Config config = config_of({experts_only("x", 3), full("a", 2), full("b"), full("c", 5)});
  config.parallel.tensor = 2;
  const auto layout = layout_of(config);
  ASSERT_TRUE(layout.is_ok()) << layout.status().message();
  EXPECT_EQ(layout->plan.world, 3);
  EXPECT_EQ(layout->plan.shares, (std::vector<double>{2, 1, 0}));
  EXPECT_EQ(layout->names, (std::vector<std::string>{"a", "b", "c"})) << "c is a spare";
  EXPECT_EQ(layout->expert_names, (std::vector<std::string>{"x"}));
  EXPECT_EQ(layout->expert_factors, (std::vector<double>{3}));
  EXPECT_EQ(layout->experts, ExpertLayout::kPlaced);
  // Listing more workers than ranks is no reason to complain of shares.
  config.workers = {full("a", 2), full("b"), full("c", 5)};
  EXPECT_EQ(layout_of(config)->plan.shares, (std::vector<double>{2, 1}));
  config.workers = {full("a"), full("b"), full("c")};
  config.parallel.shares = {1, 4};
  EXPECT_EQ(layout_of(config)->plan.shares, (std::vector<double>{1, 4}));
  EXPECT_EQ(layout_of(config)->experts, ExpertLayout::kSliced);
}

TEST(GroupLayout, LayoutsAsAskedFor) {
  Config config = config_of({full("a"), full("b"), experts_only("x")});
  config.parallel.experts = config::Experts::kSliced;
  EXPECT_EQ(layout_of(config)->experts, ExpertLayout::kSliced);
  config.workers.pop_back();
  config.parallel.experts = config::Experts::kPlaced;
  EXPECT_EQ(layout_of(config)->experts, ExpertLayout::kPlaced);
  const testing::TempDir folder;
  config.parallel.experts = config::Experts::kAuto;
  config.parallel.placement = folder.path() + "/p.yaml";
  ASSERT_TRUE(write_file_atomically(config.parallel.placement,
                                    "placement: [{layers: all, experts: 0, ranks: 1}]", 0600)
                  .is_ok());
  const auto layout = layout_of(config);
  ASSERT_TRUE(layout.is_ok()) << layout.status().message();
  EXPECT_EQ(layout->experts, ExpertLayout::kPlaced);
  EXPECT_EQ(layout->pins[0], 2u);
  const wire::Assign assign = completed(config, {hello("a", 64 * kGib), hello("b", 64 * kGib)});
  EXPECT_EQ(assign.experts.ranks[0], 2u);
}

TEST(GroupLayout, Refusals) {
  const auto expect = [](const Config& config, const std::string& part,
                         const ServedModel& model = mixture()) {
    const auto layout = layout_of(config, model);
    ASSERT_FALSE(layout.is_ok()) << part;
    EXPECT_NE(layout.status().message().find(part), std::string::npos) << layout.status().message();
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
  const GroupLayout layout =
      layout_of(config_of({full("a", 2), full("b", 4), experts_only("x"), experts_only("y", 2)}))
          .value();
  const auto shares = [&](const std::vector<uint64_t>& memory, const std::string& kind) {
    return expert_shares(layout, memory,
                         {hello("a", 0), hello("b", 0), hello("x", 0), hello("y", 0, "h", kind)});
  };
  // The mean of the others: share 3, 200 bytes.
  EXPECT_EQ(shares({100, 300, 200, 100}, "cpu"), (std::vector<double>{2, 4, 3, 3}));
  const std::vector<double> spill = shares({100, 300, 200, 100}, "ram");
  EXPECT_EQ(spill[2], 3);
  EXPECT_LT(spill[3], 1e-4) << "only what does not fit elsewhere";
  EXPECT_GT(spill[3], 0);
  EXPECT_EQ(shares({0, 0, 0, 0}, "cpu")[2], 3.0 / 1000) << "whatever the figures";
  EXPECT_TRUE(
      expert_shares(layout_of(config_of({full("a")})).value(), {1}, {hello("a", 1)}).empty());
}

TEST(GroupPlan, WhoRoutes) {
  const Config config = config_of({full("a"), full("b")});
  std::vector<wire::Hello> workers{hello("a", 64 * kGib), hello("b", 64 * kGib)};
  EXPECT_EQ(completed(config, workers).routing_rank, -1);
  workers[1].arithmetic = "cpu other";
  EXPECT_EQ(completed(config, workers).routing_rank, 0);
  workers[0].arithmetic = workers[1].arithmetic = "";
  EXPECT_EQ(completed(config, workers).routing_rank, 0) << "unknown is not equal";
  EXPECT_EQ(completed(config_of({full("a")}), {workers[0]}).routing_rank, -1);
  Config plain = config;
  plain.model.path = dense().path;
  wire::Assign assign;
  ASSERT_TRUE(complete_group_plan(plain, dense(), layout_of(plain, dense()).value(), kContext,
                                  workers, &assign)
                  .is_ok());
  EXPECT_EQ(assign.routing_rank, -1) << "nothing to route";
}

TEST(GroupPlan, EveryExpertIsSomewhereAndThePlanIsStable) {
  const Config config = config_of({full("a"), full("b"), experts_only("x")});
  std::vector<wire::Hello> workers{hello("a", 64 * kGib), hello("b", 64 * kGib),
                                   hello("x", 128 * kGib)};
  const wire::Assign assign = completed(config, workers);
  const std::vector<int64_t> counts = mixture_experts(mixture().spec);
  std::vector<int> held(3);
  for (const uint64_t mask : assign.experts.ranks) {
    ASSERT_EQ(std::popcount(mask), 1);
    ++held[static_cast<size_t>(std::countr_zero(mask))];
  }
  EXPECT_EQ(held[0] + held[1] + held[2], static_cast<int>(counts.size()) * counts[0]);
  EXPECT_GT(held[2], held[0]) << "twice the memory";
  EXPECT_EQ(assign.kv_blocks.size(), mixture().spec.kv_groups.size());
  EXPECT_EQ(assign.kv_blocks[0], 1024 * 16 / 32);
  // The next epoch's workers report other figures: nothing moves.
  workers[2].memory_bytes = 60 * kGib;
  EXPECT_EQ(completed(config, workers, assign).experts.ranks, assign.experts.ranks);
  EXPECT_NE(completed(config, workers).experts.ranks, assign.experts.ranks);
}

TEST(GroupPlan, MemoryOfAHostIsShared) {
  Config config = config_of({full("a"), full("b"), experts_only("x")});
  // All on one host: a third each; on its own host the third has three times as much.
  const auto held_by_x = [&](const std::string& host) {
    const wire::Assign assign = completed(
        config, {hello("a", 60 * kGib), hello("b", 60 * kGib), hello("x", 60 * kGib, host)});
    return std::count(assign.experts.ranks.begin(), assign.experts.ranks.end(), 4u);
  };
  EXPECT_GT(held_by_x("other"), held_by_x("h"));
}

TEST(GroupPlan, RefusalsHaveTheFigures) {
  Config config = config_of({full("a"), full("b")});
  const GroupLayout layout = layout_of(config).value();
  wire::Assign assign;
  Status status = complete_group_plan(config, mixture(), layout, kContext,
                                      {hello("a", 1 << 20), hello("b", 64 * kGib, "i")}, &assign);
  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_NE(status.message().find("rank 0 (worker 'a' on "), std::string::npos) << status.message();
  config.kv.blocks = 5;
  status = complete_group_plan(config, mixture(), layout, kContext,
                               {hello("a", 64 * kGib), hello("b", 64 * kGib)}, &assign);
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

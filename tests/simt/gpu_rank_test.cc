// A worker's rank on an emulated card: it loads, warms up and serves steps as one on the CPU does.
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_device.h"
#include "model/gguf.h"
#include "tests/simt/gpu_support.h"
#include "tests/support/support.h"
#include "worker/rank.h"

namespace shoal::testing {
namespace {

constexpr uint32_t kBlockTokens = 16, kSlots = 3, kTokens = 96;

wire::Assign plan_for(const std::string& path) {
  wire::Assign plan;
  plan.epoch = 1;
  plan.shares = {1.0};
  plan.model_path = path;
  const auto file = GgufFile::open(path);
  plan.model_digest = file->digest();
  plan.kv = wire::KvPrecision::kF32;
  const auto spec = read_model_spec(*file);
  plan.kv_blocks.assign(spec->kv_groups.size(), kSlots * kTokens / kBlockTokens);
  plan.block_tokens = kBlockTokens;
  plan.max_rows = 48;
  plan.max_slots = kSlots;
  plan.max_sequence_tokens = kTokens;
  plan.int8_activations = false;
  plan.step_timeout_seconds = plan.form_timeout_seconds = 120;
  return plan;
}

// Greedy and seeded answers of kSlots prompts, decoded together: [slot] tokens.
std::vector<std::vector<int32_t>> answers(Rank& rank, const wire::Assign& plan, uint32_t length) {
  std::vector<std::vector<int32_t>> tokens(kSlots);
  wire::Step step;
  step.epoch = 1;
  for (uint64_t number = 1; number <= length; ++number) {
    step.step = number;
    for (uint32_t slot = 0; slot < kSlots && number == 1; ++slot) {
      wire::NewSequence sequence;
      sequence.slot = slot;
      sequence.generation = 1;
      for (uint32_t i = 0; i < 7 + 5 * slot; ++i) {
        sequence.tokens.push_back(static_cast<int32_t>(20 + 13 * slot + 7 * i));
      }
      sequence.prompt_tokens = static_cast<uint32_t>(sequence.tokens.size());
      sequence.seed = 5 + slot;
      sequence.sampling.temperature = slot == 2 ? 0.7f : 0.0f;
      sequence.sampling.top_k = slot == 2 ? 20 : 0;
      for (uint32_t g = 0; g < plan.kv_blocks.size(); ++g) {
        wire::BlockAppend blocks{.slot = slot, .group = g};
        for (uint32_t b = 0; b < kTokens / kBlockTokens; ++b)
          blocks.blocks.push_back(b * kSlots + slot);
        step.appended.push_back(blocks);
      }
      step.rows.push_back({slot, 0, sequence.prompt_tokens, 1});
      step.started.push_back(std::move(sequence));
    }
    const auto result = rank.run(step);
    EXPECT_TRUE(result.is_ok()) << result.status().to_string();
    if (!result.is_ok()) return tokens;
    for (const wire::RowResult& row : result->rows) tokens[row.slot].push_back(row.token);
    step.started.clear();
    step.appended.clear();
    for (wire::RowGroup& row : step.rows) row = {row.slot, row.position + row.count, 1, 1};
  }
  return tokens;
}

class GpuRankTest : public ::testing::TestWithParam<const char*> {};

TEST_P(GpuRankTest, ServesStepsAsTheCpuDoes) {
  const std::string packed = std::string("oracle/") + GetParam() + "-f32.gguf.gz";
  SHOAL_SKIP_WITHOUT_SHARED(packed);
  const wire::Assign plan = plan_for(gunzip_shared(packed));
  const auto cpu_device = make_cpu_device({.threads = 1});
  ASSERT_TRUE(cpu_device.is_ok());
  Rank cpu(**cpu_device);
  ASSERT_TRUE(cpu.form(plan, {}).is_ok());
  const auto expected = answers(cpu, plan, 8);

  const auto device = make_emulated_device(test_seed(31), false);
  Rank gpu(*device);
  const auto ready = gpu.form(plan, {});
  ASSERT_TRUE(ready.is_ok()) << ready.status().to_string();
  // Warm: nothing grows any more.
  limit_allocations(*device, 0);
  EXPECT_EQ(answers(gpu, plan, 8), expected);
  EXPECT_GE(graphs_started(*device), on_card() ? 0u : 6u)
      << "steps 3 … 8 are the recording of step 3";
  const auto cpu_load = cpu.expert_load(), gpu_load = gpu.expert_load();
  ASSERT_EQ(cpu_load.has_value(), gpu_load.has_value());
  if (cpu_load) {
    EXPECT_EQ(cpu_load->tokens, gpu_load->tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GpuRankTest, ::testing::Values("llama", "gptoss", "deepseek2"),
                         [](const auto& test) { return std::string(test.param); });

TEST(GpuRank, SaysWhatDoesNotFit) {
  if (on_card()) GTEST_SKIP() << "a card has what it has";
  const auto device = make_emulated_device(test_seed(31), false);
  const wire::Assign plan = plan_for(model_path("shoal-tiny-dense-q8_0.gguf"));
  limit_allocations(*device, 1000);
  Rank rank(*device);
  const auto weights = rank.form(plan, {});
  ASSERT_FALSE(weights.is_ok());
  EXPECT_EQ(weights.status().code(), Code::kResourceExhausted);
  EXPECT_NE(weights.status().message().find("cannot allocate"), std::string::npos);
}

// Memory that an op lacks ends the step, not the process.
TEST(GpuRank, AnOpWithoutMemoryIsAnError) {
  if (on_card()) GTEST_SKIP() << "a card has what it has";
  const auto device = make_emulated_device(test_seed(31));
  constexpr int64_t kVocab = 5000;
  auto logits = device->allocate(kVocab * sizeof(float), "logits").value();
  const SampleRow row{.top_logprobs = 2};
  LocalSample sample;
  const auto try_it = [&] {
    device->sample_local(logits->f32(), kVocab, kVocab, 0, {&row, 1}, {&sample, 1});
    return device->synchronize(SteadyClock().now() + std::chrono::seconds(10));
  };
  limit_allocations(*device, 100);
  const Status refused = try_it();
  EXPECT_EQ(refused.code(), Code::kResourceExhausted) << refused.to_string();
  limit_allocations(*device, uint64_t{1} << 30);
  EXPECT_TRUE(try_it().is_ok());
  EXPECT_EQ(sample.raw_top.size(), 2u);
}

}  // namespace
}  // namespace shoal::testing

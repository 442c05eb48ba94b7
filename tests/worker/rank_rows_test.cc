// What ranks find for a step's rows, on every layout. Log-probabilities of a prompt are those of the
// same tokens drawn. A sequence whose logits are not finite says so, whatever sampling it asks for;
// the others of the step are what they are without it, and so is whoever gets its KV blocks.
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "kernels/cpu/cpu_device.h"
#include "model/gguf.h"
#include "tests/support/support.h"
#include "tests/worker/overflow_model.h"
#include "worker/rank.h"

namespace shoal::testing {
namespace {

constexpr uint32_t kBlockTokens = 16, kSlots = 3, kTokens = 64, kBad = 1, kLength = 6;

// Ranks as threads of one process.
class Ranks {
 public:
  Ranks(const std::string& path, uint32_t world) {
    const auto file = GgufFile::open(path);
    plan_.epoch = 1;
    plan_.world = world;
    plan_.shares.assign(world, 1.0);
    plan_.model_path = path;
    plan_.model_digest = file->digest();
    plan_.kv_blocks = {kSlots * kTokens / kBlockTokens};
    plan_.block_tokens = kBlockTokens;
    plan_.max_rows = 48;
    plan_.max_slots = kSlots;
    plan_.max_sequence_tokens = kTokens;
    plan_.step_timeout_seconds = plan_.form_timeout_seconds = 120;
    if (world > 1) plan_.engine = wire::CollectiveEngine::kShm;
    plan_.segment = "/shoal-test-broken." + std::to_string(::getpid());
    for (uint32_t r = 0; r < world; ++r) {
      devices_.push_back(make_cpu_device({.threads = 1}).value());
      ranks_.push_back(std::make_unique<Rank>(*devices_.back()));
    }
    on_all([&](uint32_t r) {
      wire::Assign plan = plan_;
      plan.rank = r;
      const auto ready = ranks_[r]->form(plan, {});
      EXPECT_TRUE(ready.is_ok()) << ready.status().to_string();
    });
  }

  wire::StepResult run(const wire::Step& step) {
    wire::StepResult out;
    on_all([&](uint32_t r) {
      auto result = ranks_[r]->run(step);
      ASSERT_TRUE(result.is_ok()) << result.status().to_string();
      if (r == 0) {
        out = *std::move(result);
      } else {
        EXPECT_TRUE(result->rows.empty() && result->scores.empty());
      }
    });
    return out;
  }

 private:
  void on_all(const std::function<void(uint32_t)>& work) {
    std::vector<std::thread> threads;
    for (uint32_t r = 0; r < plan_.world; ++r) threads.emplace_back([&, r] { work(r); });
    for (std::thread& thread : threads) thread.join();
  }

  wire::Assign plan_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

wire::SamplingParams sampling_of(int kind) {
  wire::SamplingParams sampling;
  sampling.temperature = kind == 0 ? 0.0f : 0.8f;
  if (kind == 2) sampling.top_k = 20, sampling.top_p = 0.9f;
  if (kind == 3) {
    sampling.top_logprobs = 4;
    sampling.presence = 0.5f, sampling.repetition = 1.2f;
    sampling.logit_bias = {{3, 5.0f}, {kOverflowToken, -100.0f}};
  }
  return sampling;
}

wire::NewSequence sequence(uint32_t slot, uint32_t generation, bool bad, int kind) {
  wire::NewSequence out;
  out.slot = slot;
  out.generation = generation;
  for (uint32_t i = 0; i < 9 + 2 * slot; ++i) {
    out.tokens.push_back(static_cast<int32_t>(100 + 13 * slot + 7 * i + generation));
  }
  if (bad) out.tokens[4] = kOverflowToken;
  out.prompt_tokens = static_cast<uint32_t>(out.tokens.size());
  out.seed = 5 + slot;
  out.sampling = sampling_of(kind);
  return out;
}

wire::BlockAppend all_blocks(uint32_t slot) {
  wire::BlockAppend blocks{.slot = slot, .group = 0};
  for (uint32_t b = 0; b < kTokens / kBlockTokens; ++b) {
    blocks.blocks.push_back(slot * kTokens / kBlockTokens + b);
  }
  return blocks;
}

struct Outcome {
  std::vector<std::vector<int32_t>> tokens{kSlots};
  std::vector<std::vector<bool>> broken{kSlots};
  std::vector<float> logprobs;  // of the good slots
  std::vector<int32_t> next;    // of the sequence that takes over the blocks of slot kBad
};

Outcome generate(Ranks& ranks, bool bad, int kind) {
  Outcome out;
  wire::Step step;
  step.epoch = 1;
  const auto start = [&](uint32_t slot, uint32_t generation, bool broken) {
    step.started.push_back(sequence(slot, generation, broken, kind));
    step.rows.push_back({slot, 0, step.started.back().prompt_tokens, 1});
    step.appended.push_back(all_blocks(slot));
  };
  const auto run = [&](uint32_t number) {
    step.step = number;
    const auto rows = ranks.run(step).rows;
    step.ended.clear(), step.started.clear(), step.appended.clear();
    for (wire::RowGroup& row : step.rows) row = {row.slot, row.position + row.count, 1, 1};
    return rows;
  };
  for (uint32_t slot = 0; slot < kSlots; ++slot) start(slot, 1, bad && slot == kBad);
  for (uint32_t number = 1; number <= kLength; ++number) {
    for (const wire::RowResult& row : run(number)) {
      out.tokens[row.slot].push_back(row.token);
      out.broken[row.slot].push_back(row.broken);
      if (row.slot == kBad) continue;
      out.logprobs.push_back(row.logprob);
      for (const wire::TokenLogprob& top : row.top) out.logprobs.push_back(top.logprob);
    }
  }
  step.rows.clear();
  step.ended = {0, 1, 2};
  start(kBad, 2, false);
  for (uint32_t number = kLength + 1; number <= 2 * kLength; ++number) {
    for (const wire::RowResult& row : run(number)) {
      EXPECT_FALSE(row.broken);
      out.next.push_back(row.token);
    }
  }
  return out;
}

class BrokenRows : public ::testing::TestWithParam<uint32_t> {};

TEST_P(BrokenRows, AreSaidAndDoNoHarm) {
  const TempDir dir;
  const std::string path = dir.path() + "/overflow.gguf";
  write_overflow_model(path);
  for (int kind = 0; kind < 4; ++kind) {
    SCOPED_TRACE(kind);
    Ranks undisturbed(path, GetParam());
    const Outcome want = generate(undisturbed, false, kind);
    Ranks disturbed(path, GetParam());
    const Outcome got = generate(disturbed, true, kind);
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      EXPECT_EQ(want.broken[slot], std::vector<bool>(kLength, false));
      EXPECT_EQ(got.broken[slot], std::vector<bool>(kLength, slot == kBad)) << "slot " << slot;
      if (slot != kBad) {
        EXPECT_EQ(got.tokens[slot], want.tokens[slot]);
      }
    }
    EXPECT_EQ(got.logprobs, want.logprobs);
    EXPECT_EQ(got.next, want.next) << "what lay in the blocks before had an influence";
  }
}

class Scores : public ::testing::TestWithParam<uint32_t> {};

// What was drawn token by token has, as a prompt, the same log-probabilities in the same bits,
// however the prompt is cut, and whatever the sequence asks of its own samples.
TEST_P(Scores, AreThoseOfTheSameTokensDrawn) {
  const TempDir dir;
  const std::string path = dir.path() + "/overflow.gguf";
  write_overflow_model(path);
  Ranks ranks(path, GetParam());
  wire::Step step;
  step.epoch = 1;
  step.step = 1;
  wire::NewSequence drawn = sequence(0, 1, false, 0);
  drawn.sampling.temperature = 1.5f;
  drawn.sampling.top_logprobs = 3;
  const uint32_t prompt = drawn.prompt_tokens;
  step.started = {drawn};
  step.appended = {all_blocks(0)};
  step.rows = {{0, 0, prompt, 1}};
  std::vector<wire::ScoredToken> want;
  for (; want.size() < 20; ++step.step) {
    const std::vector<wire::RowResult> rows = ranks.run(step).rows;
    ASSERT_EQ(rows.size(), 1u);
    drawn.tokens.push_back(rows[0].token);
    want.push_back({rows[0].logprob, rows[0].top});
    step.started.clear(), step.appended.clear();
    step.rows = {{0, static_cast<uint32_t>(drawn.tokens.size()) - 1, 1, 1}};
  }
  drawn.prompt_tokens = static_cast<uint32_t>(drawn.tokens.size());
  drawn.sampling.logit_bias = {{5, 50.0f}};
  drawn.sampling.repetition = 1.5f;
  drawn.sampling.top_k = 7;
  for (const uint32_t chunk : {40u, 17u, 1u}) {  // sampled rows are looked at 16 at a time
    std::vector<wire::ScoredToken> got;
    step.ended = {0};
    step.started = {drawn};
    step.appended = {all_blocks(0)};
    const auto end = drawn.prompt_tokens;
    for (uint32_t at = 0; at < end; at += chunk, ++step.step) {
      const uint32_t count = std::min(chunk, end - at);
      step.rows = {{0, at, count, at + count == end, at + 1 < end}};
      const wire::StepResult result = ranks.run(step);
      EXPECT_EQ(result.rows.size(), at + count == end ? 1u : 0u);
      ASSERT_EQ(result.scores.size(), at + 1 < end ? 1u : 0u);
      for (const wire::PromptScores& scores : result.scores) {
        EXPECT_EQ(scores.position, at + 1);
        EXPECT_FALSE(scores.broken);
        got.insert(got.end(), scores.tokens.begin(), scores.tokens.end());
      }
      step.ended.clear(), step.started.clear(), step.appended.clear();
    }
    ASSERT_EQ(got.size(), end - 1u);
    for (size_t i = 0; i < want.size(); ++i) {
      const wire::ScoredToken& token = got[prompt - 1 + i];
      EXPECT_EQ(token.logprob, want[i].logprob) << "chunk " << chunk << ", token " << i;
      ASSERT_EQ(token.top.size(), want[i].top.size());
      for (size_t t = 0; t < token.top.size(); ++t) {
        EXPECT_EQ(token.top[t].id, want[i].top[t].id);
        EXPECT_EQ(token.top[t].logprob, want[i].top[t].logprob);
      }
    }
  }
}

TEST_P(Scores, SayWhereTheLogitsAreNoNumbers) {
  const TempDir dir;
  const std::string path = dir.path() + "/overflow.gguf";
  write_overflow_model(path);
  Ranks ranks(path, GetParam());
  wire::Step step;
  step.epoch = 1;
  step.step = 1;
  for (const uint32_t slot : {0u, kBad}) {
    step.started.push_back(sequence(slot, 1, slot == kBad, 0));
    step.started.back().sampling.top_logprobs = 0;
    step.appended.push_back(all_blocks(slot));
    step.rows.push_back({slot, 0, 8, 0, true});
  }
  const auto scores = ranks.run(step).scores;
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_TRUE(!scores[0].broken && scores[1].broken);
  EXPECT_EQ(scores[0].tokens.size(), 8u);
  EXPECT_EQ(scores[1].tokens.size(), 8u);
}

INSTANTIATE_TEST_SUITE_P(Worlds, Scores, ::testing::Values(1u, 2u, 3u));
INSTANTIATE_TEST_SUITE_P(Worlds, BrokenRows, ::testing::Values(1u, 2u, 3u));

}  // namespace
}  // namespace shoal::testing

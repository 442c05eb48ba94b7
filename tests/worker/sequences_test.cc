#include "worker/sequences.h"

#include <gtest/gtest.h>

#include <functional>

namespace shoal {
namespace {

const SequenceLimits kLimits{
    .max_slots = 4, .max_tokens = 32, .kv_blocks = {8}, .block_tokens = 4, .vocab = 100};
constexpr Range kSlice{0, 50};

wire::NewSequence sequence(uint32_t slot, std::vector<int32_t> tokens) {
  wire::NewSequence start;
  start.slot = slot;
  start.prompt_tokens = static_cast<uint32_t>(tokens.size());
  start.tokens = std::move(tokens);
  return start;
}

// A step that starts slot 1 with six tokens in two blocks and runs them.
wire::Step good_step() {
  wire::Step step;
  step.started = {sequence(1, {5, 6, 7, 8, 9, 10})};
  step.appended = {{1, 0, {0, 3}}};
  step.rows = {{.slot = 1, .position = 0, .count = 6, .draw = 1}};
  return step;
}

TEST(SequenceTable, AppliesDeltasInOrder) {
  SequenceTable table(kLimits, kSlice);
  ASSERT_TRUE(table.apply(good_step()).is_ok());
  table.at(1).append_token(42);
  wire::Step next;
  next.rows = {{.slot = 1, .position = 6, .count = 1, .draw = 1}};
  EXPECT_TRUE(table.apply(next).is_ok());
  // Ended and started again in one step: the slot is free in between.
  wire::Step again = good_step();
  again.ended = {1};
  EXPECT_TRUE(table.apply(again).is_ok());
  EXPECT_EQ(table.used(), 1u);
}

TEST(SequenceTable, EveryMistakeIsNamed) {
  const struct {
    const char* expected;
    std::function<void(wire::Step&)> change;
  } cases[] = {
      {"slot 4", [](auto& s) { s.started[0].slot = 4; }},
      {"slot 1 is in use", [](auto& s) { s.started.push_back(s.started[0]); }},
      {"token 100", [](auto& s) { s.started[0].tokens[2] = 100; }},
      {"token -1", [](auto& s) { s.started[0].tokens[2] = -1; }},
      {"33 tokens", [](auto& s) { s.started[0].tokens.assign(33, 1); }},
      {"KV block 8",
       [](auto& s) {
         s.appended[0].blocks = {0, 8};
       }},
      {"blocks for slot 2", [](auto& s) { s.appended[0].slot = 2; }},
      {"blocks for slot 9", [](auto& s) { s.appended[0].slot = 9; }},
      {"whose 1 KV blocks hold 4", [](auto& s) { s.appended[0].blocks = {0}; }},
      {"rows for slot 3", [](auto& s) { s.rows[0].slot = 3; }},
      {"which has 6 tokens", [](auto& s) { s.rows[0].position = 1; }},
      {"which has 6 tokens", [](auto& s) { s.rows[0].count = 0; }},
      {"rows 4294967295", [](auto& s) { s.rows[0].position = 0xffffffffu; }},
      {"a token drawn after row 4", [](auto& s) { s.rows[0].count = 5; }},
      {"log-probabilities of what follows row 0 of slot 1, whose prompt has 6 tokens and which "
       "wants no",
       [](auto& s) { s.rows[0].score = true; }},
      {"log-probabilities of what follows row 0 of slot 1, whose prompt has 1 tokens",
       [](auto& s) {
         s.rows[0].score = true;
         s.started[0].sampling.top_logprobs = 0;
         s.started[0].prompt_tokens = 1;
       }},
      {"end of slot 0", [](auto& s) { s.ended = {0}; }},
  };
  for (const auto& c : cases) {
    SequenceTable table(kLimits, kSlice);
    wire::Step step = good_step();
    c.change(step);
    const Status status = table.apply(step);
    EXPECT_FALSE(status.is_ok()) << c.expected;
    EXPECT_NE(status.message().find(c.expected), std::string::npos) << status.message();
  }
}

TEST(Sequence, CountsOnlyWhatPenaltiesNeedAndOnlyThisSlice) {
  wire::NewSequence start = sequence(0, {5, 60, 5, 7});
  start.prompt_tokens = 3;  // 7 was generated before a preemption
  EXPECT_TRUE(Sequence(start, 1, kSlice).biases().empty());
  start.sampling.presence = 0.5f;
  start.sampling.logit_bias = {{9, 2.0f}, {99, 1.0f}, {5, -1.0f}};
  Sequence penalised(start, 1, kSlice);
  penalised.append_token(5);
  penalised.append_token(60);  // another rank's
  int checked = 0;
  for (const TokenBias& entry : penalised.biases()) {
    if (entry.id == 5) {
      EXPECT_EQ(entry.output_count, 1);
      EXPECT_TRUE(entry.seen);
      EXPECT_EQ(entry.bias, -1.0f);
      ++checked;
    } else if (entry.id == 7) {
      EXPECT_EQ(entry.output_count, 1);
      ++checked;
    } else if (entry.id == 9) {
      EXPECT_FALSE(entry.seen);
      EXPECT_EQ(entry.bias, 2.0f);
      ++checked;
    }
  }
  EXPECT_EQ(checked, 3);
  EXPECT_EQ(penalised.biases().size(), 3u);
}

}  // namespace
}  // namespace shoal

// Every bound of wire/messages.h: the error names the field, and the nearest valid value passes.
#include "wire/validate.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "tests/wire/sample_messages.h"
#include "wire/codec.h"

namespace shoal::wire {
namespace {

using testing::as_sent;
using testing::sample_assign;
using testing::sample_hello;
using testing::sample_step;
using testing::sample_step_result;

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

template <class M>
struct Case {
  std::function<void(M&)> change;
  std::string expected;  // the whole message; empty: valid
};

template <class M>
void run(const M& valid, const std::vector<Case<M>>& cases) {
  ASSERT_TRUE(validate(as_sent(valid)).is_ok());
  for (size_t i = 0; i < cases.size(); ++i) {
    M message = valid;
    cases[i].change(message);
    const Status status = validate(as_sent(message));
    EXPECT_EQ(status.message(), cases[i].expected) << "case " << i;
    if (!cases[i].expected.empty()) {
      EXPECT_EQ(status.code(), Code::kInvalidArgument);
    }
  }
}

TEST(Validate, SamplesPass) {
  testing::for_each_message(
      [](const auto& message) { EXPECT_TRUE(validate(message).is_ok()) << message_name(message); });
}

TEST(Validate, HelloFields) {
  const Hello valid = sample_hello();
  run<Hello>(
      valid,
      {
          {[](Hello& m) { m.protocol_version = 7; }, ""},
          {[](Hello& m) { m.name = ""; }, "Hello.name: is empty"},
          {[](Hello& m) { m.name = "a\xc0"; }, "Hello.name: is not valid UTF-8"},
          {[](Hello& m) { m.name = std::string("a\0b", 3); }, "Hello.name: contains a NUL byte"},
          {[](Hello& m) { m.name = std::string(kMaxLabel, 'n'); }, ""},
          {[](Hello& m) { m.name = std::string(kMaxLabel + 1, 'n'); },
           "Hello.name: 257 bytes; must be at most 256"},
          {[](Hello& m) { m.name = "w0\x1b[2J"; }, "Hello.name: contains a control character"},
          {[](Hello& m) { m.host_name = "a\nb"; }, "Hello.host_name: contains a control character"},
          {[](Hello& m) { m.device = std::string(kMaxString + 1, 'n'); },
           "Hello.device: 4097 bytes; must be at most 256"},
          {[](Hello& m) { m.incarnation = 0; }, "Hello.incarnation: 0; must be a random number"},
          {[](Hello& m) { m.device_kind = ""; }, "Hello.device_kind: is empty"},
          {[](Hello& m) { m.build = "\xed\xa0\x80"; }, "Hello.build: is not valid UTF-8"},
          {[](Hello& m) { m.host_id = "\xff"; }, "Hello.host_id: is not valid UTF-8"},
          {[](Hello& m) { m.host_name = "\xff"; }, "Hello.host_name: is not valid UTF-8"},
          {[](Hello& m) { m.data_address = "\xff"; }, "Hello.data_address: is not valid UTF-8"},
          {[](Hello& m) { m.data_address = "10.0.0.2:80"; },
           "Hello.data_address: is not an address"},
          {[](Hello& m) { m.model_digest = "\xff"; }, "Hello.model_digest: is not valid UTF-8"},
          {[](Hello& m) { m.arithmetic = ""; }, ""},
          {[](Hello& m) { m.arithmetic = "\xff"; }, "Hello.arithmetic: is not valid UTF-8"},
          {[](Hello& m) { m.threads = 70000; }, "Hello.threads: 70000; must be at most 65536"},
          {[](Hello& m) { m.pid = -1; }, "Hello.pid: -1; must be at least 0"},
      });
}

TEST(Validate, SmallMessages) {
  run<LoadProgress>({1, 5, 5}, {
                                   {[](LoadProgress& m) { m.epoch = 0; },
                                    "LoadProgress.epoch: 0; must be at least 1"},
                                   {[](LoadProgress& m) { m.bytes_done = 6; },
                                    "LoadProgress.bytes_done: 6; must be at most 5"},
                                   {[](LoadProgress& m) { m.bytes_total = 0; }, ""},
                               });
  run<Ready>(
      {1, 2, 3, 4, 0.5},
      {
          {[](Ready& m) { m.epoch = 0; }, "Ready.epoch: 0; must be at least 1"},
          {[](Ready& m) { m.load_seconds = -1; }, "Ready.load_seconds: -1; must be at least 0"},
          {[](Ready& m) { m.load_seconds = kNan; }, "Ready.load_seconds: nan; must be finite"},
          {[](Ready& m) { m.load_seconds = kInfinity; }, "Ready.load_seconds: inf; must be finite"},
      });
  run<ExpertLoad>(
      {1, 2, {0, UINT64_MAX, 3, 4}},
      {
          {[](ExpertLoad& m) { m.epoch = 0; }, "ExpertLoad.epoch: 0; must be at least 1"},
          {[](ExpertLoad& m) { m.experts = 0; }, "ExpertLoad.experts: 0; must be at least 1"},
          {[](ExpertLoad& m) { m.tokens.resize(1); },
           "ExpertLoad.tokens: 1 entries; must be at least 2"},
          {[](ExpertLoad& m) { m.tokens.resize(3); },
           "ExpertLoad.tokens: 3 entries; must be a multiple of experts = 2"},
          {[](ExpertLoad& m) { m.tokens.resize(kMaxExpertEntries); }, ""},
          {[](ExpertLoad& m) { m.tokens.resize(kMaxExpertEntries + 2); },
           "ExpertLoad.tokens: 1048578 entries; must be at most 1048576"},
      });
  run<StoreSet>({1, "k", "v"},
                {
                    {[](StoreSet& m) { m.epoch = 0; }, "StoreSet.epoch: 0; must be at least 1"},
                    {[](StoreSet& m) { m.key = ""; }, "StoreSet.key: is empty"},
                    {[](StoreSet& m) { m.key.assign(kMaxString + 1, 'k'); },
                     "StoreSet.key: 4097 bytes; must be at most 4096"},
                    {[](StoreSet& m) { m.value = ""; }, ""},
                    {[](StoreSet& m) { m.value.assign(kMaxStoreValue, '\xff'); }, ""},
                    {[](StoreSet& m) { m.value.assign(kMaxStoreValue + 1, 'v'); },
                     "StoreSet.value: 1048577 bytes; must be at most 1048576"},
                });
  run<StoreGet>({1, "k"},
                {
                    {[](StoreGet& m) { m.epoch = 0; }, "StoreGet.epoch: 0; must be at least 1"},
                    {[](StoreGet& m) { m.key = "\xff"; }, "StoreGet.key: is not valid UTF-8"},
                });
  const std::string long_text(kMaxString + 1, 'x');
  const std::string too_long = "4097 bytes; must be at most 4096";
  EXPECT_EQ(validate(Failed{1, false, long_text}).message(), "Failed.message: " + too_long);
  EXPECT_EQ(validate(Goodbye{long_text}).message(), "Goodbye.reason: " + too_long);
  EXPECT_EQ(validate(Abort{1, long_text}).message(), "Abort.reason: " + too_long);
  EXPECT_EQ(validate(Refused{long_text}).message(), "Refused.reason: " + too_long);
  EXPECT_EQ(validate(Shutdown{long_text}).message(), "Shutdown.reason: " + too_long);
  EXPECT_TRUE(validate(Settings{1, {0, 4095}, "cpu"}).is_ok());
  EXPECT_FALSE(validate(Settings{1u << 20, {}, ""}).is_ok());
  EXPECT_FALSE(validate(Settings{1, {1, 1}, ""}).is_ok());
  EXPECT_FALSE(validate(Settings{1, {4096}, ""}).is_ok());
  EXPECT_FALSE(validate(Settings{1, {}, "a\nb"}).is_ok());
}

TEST(Validate, FreeTextIsMadeSendable) {
  EXPECT_FALSE(with_clean_text(Failed{1, true, "größe"}).has_value()) << "nothing to do";
  EXPECT_FALSE(with_clean_text(StoreGet{0, "\xff"}).has_value()) << "not free text";
  const std::string odd(
      "a\xff"
      "b\0c",
      5);
  EXPECT_EQ(std::get<Failed>(*with_clean_text(Failed{7, true, odd})).message, "a\\xffb\\x00c");
  EXPECT_EQ(std::get<Failed>(*with_clean_text(Failed{7, true, odd})).epoch, 7u);
  std::string umlauts;
  for (uint32_t i = 0; i < kMaxString; ++i) umlauts += "ü";
  const std::string texts[] = {odd, umlauts, "x" + umlauts, std::string(kMaxString, '\xff'),
                               std::string(100000, 'x')};
  for (const std::string& text : texts) {
    const auto expect_sendable = [](const auto& message) {
      const auto clean = with_clean_text(message);
      ASSERT_TRUE(clean.has_value());
      EXPECT_TRUE(validate(*clean).is_ok()) << validate(*clean).message();
      EXPECT_LE(encode(*clean, {kProtocolVersion, "c", 1, 1, 0}).size(), 1100u);
    };
    expect_sendable(ToCoordinator(Failed{1, true, text}));
    expect_sendable(ToCoordinator(Goodbye{text}));
    expect_sendable(ToWorker(Abort{1, text}));
    expect_sendable(ToWorker(Refused{text}));
    expect_sendable(ToWorker(Shutdown{text}));
  }
}

TEST(Validate, AssignMayAskForAllBytes) {
  run<Assign>(sample_assign(), {
                                   {[](Assign& m) { m.model_full_digest = ""; }, ""},
                                   {[](Assign& m) { m.model_full_digest = "\xff"; },
                                    "Assign.model_full_digest: is not valid UTF-8"},
                               });
}

TEST(Validate, AssignFields) {
  run<Assign>(
      sample_assign(),
      {
          {[](Assign& m) { m.epoch = 0; }, "Assign.epoch: 0; must be at least 1"},
          {[](Assign& m) { m.world = 0; }, "Assign.world: 0; must be at least 1"},
          {[](Assign& m) { m.world = 65; }, "Assign.world: 65; must be at most 64"},
          {[](Assign& m) { m.rank = 3; }, "Assign.rank: 3; must be below world = 3"},
          {[](Assign& m) { m.shares.pop_back(); }, "Assign.shares: 2 entries; must be world = 3"},
          {[](Assign& m) { m.shares.push_back(1); }, "Assign.shares: 4 entries; must be world = 3"},
          {[](Assign& m) { m.shares[1] = 0; }, ""},
          {[](Assign& m) {
             m.shares = {0, 0, 0};
           },
           "Assign.shares: all are 0; some rank must hold the model"},
          {[](Assign& m) { m.experts.shares.clear(); }, ""},
          {[](Assign& m) { m.experts.shares.pop_back(); },
           "Assign.experts.shares: 2 entries; must be world = 3 or none"},
          {[](Assign& m) { m.experts.shares[1] = -1; },
           "Assign.experts.shares[1]: -1; must be at least 0"},
          {[](Assign& m) { m.experts.shares[2] = kNan; },
           "Assign.experts.shares[2]: nan; must be finite"},
          {[](Assign& m) {
             m.experts.shares = {0, 0, 0};
           },
           "Assign.experts.shares: all are 0; some rank must hold the model"},
          {[](Assign& m) { m.experts.ranks.clear(); }, ""},
          {[](Assign& m) { m.experts.ranks[1] = 7; }, ""},
          {[](Assign& m) { m.experts.ranks[1] = 0; },
           "Assign.experts.ranks[1]: 0x0; must name ranks below world = 3"},
          {[](Assign& m) { m.experts.ranks[2] = 9; },
           "Assign.experts.ranks[2]: 0x9; must name ranks below world = 3"},
          {[](Assign& m) { m.experts.ranks.assign(kMaxExpertEntries, 1); }, ""},
          {[](Assign& m) { m.experts.ranks.assign(kMaxExpertEntries + 1, 1); },
           "Assign.experts.ranks: 1048577 entries; must be at most 1048576"},
          {[](Assign& m) { m.routing_rank = -1; }, ""},
          {[](Assign& m) { m.routing_rank = -2; }, "Assign.routing_rank: -2; must be at least -1"},
          {[](Assign& m) { m.routing_rank = 3; }, "Assign.routing_rank: 3; must be at most 2"},
          {[](Assign& m) { m.shares[1] = -1; }, "Assign.shares[1]: -1; must be at least 0"},
          {[](Assign& m) { m.shares[2] = kNan; }, "Assign.shares[2]: nan; must be finite"},
          {[](Assign& m) { m.shares[2] = kInfinity; }, "Assign.shares[2]: inf; must be finite"},
          {[](Assign& m) { m.model_path = ""; }, "Assign.model_path: is empty"},
          {[](Assign& m) { m.model_digest = "\xff"; }, "Assign.model_digest: is not valid UTF-8"},
          {[](Assign& m) { m.kv = static_cast<KvPrecision>(2); },
           "Assign.kv: 2; must be at most 1"},
          {[](Assign& m) { m.kv_blocks.clear(); },
           "Assign.kv_blocks: 0 entries; must be at least 1"},
          {[](Assign& m) { m.kv_blocks.assign(kMaxKvGroups, 1); }, ""},
          {[](Assign& m) { m.kv_blocks.assign(kMaxKvGroups + 1, 1); },
           "Assign.kv_blocks: 17 entries; must be at most 16"},
          {[](Assign& m) { m.kv_blocks[1] = 0; }, "Assign.kv_blocks[1]: 0; must be at least 1"},
          {[](Assign& m) { m.block_tokens = 0; }, "Assign.block_tokens: 0; must be at least 1"},
          {[](Assign& m) { m.block_tokens = 4097; },
           "Assign.block_tokens: 4097; must be at most 4096"},
          {[](Assign& m) { m.max_rows = 0; }, "Assign.max_rows: 0; must be at least 1"},
          {[](Assign& m) { m.max_rows = 8193; }, "Assign.max_rows: 8193; must be at most 8192"},
          {[](Assign& m) { m.max_slots = 0; }, "Assign.max_slots: 0; must be at least 1"},
          {[](Assign& m) { m.max_slots = 4097; }, "Assign.max_slots: 4097; must be at most 4096"},
          {[](Assign& m) { m.max_sequence_tokens = 0; },
           "Assign.max_sequence_tokens: 0; must be at least 1"},
          {[](Assign& m) { m.max_sequence_tokens = kMaxSequenceTokens + 1; },
           "Assign.max_sequence_tokens: 4194305; must be at most 4194304"},
          {[](Assign& m) { m.engine = CollectiveEngine::kNone; },
           "Assign.engine: none; 3 ranks need one"},
          {[](Assign& m) { m.engine = static_cast<CollectiveEngine>(3); },
           "Assign.engine: 3; must be at most 2"},
          {[](Assign& m) { m.segment = ""; }, "Assign.segment: is empty"},
          {[](Assign& m) { m.engine = CollectiveEngine::kGloo, m.segment = ""; }, ""},
          {[](Assign& m) {
             m.rank = 0, m.world = 1, m.shares = {1}, m.segment = "";
             m.engine = CollectiveEngine::kNone;
             m.experts = {}, m.routing_rank = 0;
           },
           ""},
          {[](Assign& m) { m.step_timeout_seconds = 0; },
           "Assign.step_timeout_seconds: 0; must be above 0"},
          {[](Assign& m) { m.form_timeout_seconds = kNan; },
           "Assign.form_timeout_seconds: nan; must be finite"},
      });
}

TEST(Validate, StepFields) {
  run<Step>(
      sample_step(),
      {
          {[](Step& m) { m.epoch = 0; }, "Step.epoch: 0; must be at least 1"},
          {[](Step& m) { m.step = 0; }, "Step.step: 0; must be at least 1"},
          {[](Step& m) { m = {1, 1, {}, {}, {}, {}}; }, ""},
          {[](Step& m) { m.ended[1] = kMaxSlots; }, "Step.ended[1]: 4096; must be at most 4095"},
          {[](Step& m) { m.ended[1] = 3; }, "Step.ended[1]: slot 3 appears twice"},
          {[](Step& m) { m.ended.assign(kMaxSlots + 1, 0); },
           "Step.ended: 4097 entries; must be at most 4096"},
          {[](Step& m) { m.started[0].slot = kMaxSlots; },
           "Step.started[0].slot: 4096; must be at most 4095"},
          {[](Step& m) { m.started.push_back(m.started[0]); },
           "Step.started[1].slot: slot 5 appears twice"},
          {[](Step& m) { m.started[0].tokens.clear(); },
           "Step.started[0].tokens: 0 entries; must be at least 1"},
          {[](Step& m) { m.started[0].tokens.assign(kMaxSequenceTokens + 1, 0); },
           "Step.started[0].tokens: 4194305 entries; must be at most 4194304"},
          {[](Step& m) { m.started[0].tokens[2] = -1; },
           "Step.started[0].tokens[2]: -1; must be at least 0"},
          {[](Step& m) { m.started[0].prompt_tokens = 0; },
           "Step.started[0].prompt_tokens: 0; must be at least 1"},
          {[](Step& m) { m.started[0].prompt_tokens = 5; },
           "Step.started[0].prompt_tokens: 5; must be at most 4"},
          {[](Step& m) { m.appended[0].slot = kMaxSlots; },
           "Step.appended[0].slot: 4096; must be at most 4095"},
          {[](Step& m) { m.appended.push_back(m.appended[0]); },
           "Step.appended[2].slot: slot 5 appears twice"},
          {[](Step& m) { m.appended[0].blocks.clear(); },
           "Step.appended[0].blocks: 0 entries; must be at least 1"},
          {[](Step& m) { m.appended[0].blocks[2] = 1u << 30; },
           "Step.appended[0].blocks[2]: 1073741824; must be at most 1073741823"},
          {[](Step& m) { m.rows[1].slot = kMaxSlots; },
           "Step.rows[1].slot: 4096; must be at most 4095"},
          {[](Step& m) { m.rows[1].slot = 5; }, "Step.rows[1].slot: slot 5 appears twice"},
          {[](Step& m) { m.rows[1].count = 0; }, "Step.rows[1].count: 0; must be at least 1"},
          {[](Step& m) { m.rows[1].count = kMaxRowsPerStep + 1; },
           "Step.rows[1].count: 8193; must be at most 8192"},
          {[](Step& m) { m.rows[1].count = kMaxRowsPerStep; },
           "Step.rows: 8195 tokens in all; must be at most 8192"},
          {[](Step& m) { m.rows[0].count = 1, m.rows[1].count = kMaxRowsPerStep - 1; }, ""},
          {[](Step& m) { m.rows[1].position = kMaxSequenceTokens; },
           "Step.rows[1].position: 4194304; must be at most 4194303"},
          {[](Step& m) { m.rows[1].position = kMaxSequenceTokens - 1, m.rows[1].count = 2; },
           "Step.rows[1]: ends at token 4194305; must be at most 4194304"},
          {[](Step& m) { m.rows[1].position = kMaxSequenceTokens - 1; }, ""},
          {[](Step& m) { m.rows[1].draw = kMaxDraw; }, ""},
          {[](Step& m) { m.rows[1].draw = kMaxDraw + 1; },
           "Step.rows[1].draw: 65; must be at most 64"},
      });
}

Case<Step> sampling(std::function<void(SamplingParams&)> change, const std::string& expected) {
  return {[change = std::move(change)](Step& m) { change(m.started[0].sampling); },
          expected.empty() ? "" : "Step.started[0].sampling." + expected};
}

TEST(Validate, SamplingFields) {
  using P = SamplingParams;
  run<Step>(
      sample_step(),
      {
          sampling([](P& p) { p = {}; }, ""),
          sampling([](P& p) { p.temperature = 0; }, ""),
          sampling([](P& p) { p.temperature = -0.5f; }, "temperature: -0.5; must be at least 0"),
          sampling([](P& p) { p.temperature = kNan; }, "temperature: nan; must be finite"),
          sampling([](P& p) { p.temperature = 101; }, "temperature: 101; must be at most 100"),
          sampling([](P& p) { p.top_p = 1.5f; }, "top_p: 1.5; must be at most 1"),
          sampling([](P& p) { p.top_p = kInfinity; }, "top_p: inf; must be finite"),
          sampling([](P& p) { p.min_p = -1; }, "min_p: -1; must be at least 0"),
          sampling([](P& p) { p.top_k = -1; }, "top_k: -1; must be at least 0"),
          sampling([](P& p) { p.presence = kNan; }, "presence: nan; must be finite"),
          sampling([](P& p) { p.frequency = -kInfinity; }, "frequency: -inf; must be finite"),
          sampling([](P& p) { p.repetition = 0; }, "repetition: 0; must be above 0"),
          sampling([](P& p) { p.top_logprobs = -2; }, "top_logprobs: -2; must be at least -1"),
          sampling([](P& p) { p.top_logprobs = 65; }, "top_logprobs: 65; must be at most 64"),
          sampling([](P& p) { p.logit_bias[1].first = -1; },
                   "logit_bias[1].id: -1; must be at least 0"),
          sampling([](P& p) { p.logit_bias[0].second = kNan; },
                   "logit_bias[0].bias: nan; must be finite"),
          sampling(
              [](P& p) {
                p.logit_bias.assign(kMaxLogitBias, {1, 1});
              },
              ""),
          sampling(
              [](P& p) {
                p.logit_bias.assign(kMaxLogitBias + 1, {1, 1});
              },
              "logit_bias: 1025 entries; must be at most 1024"),
      });
}

TEST(Validate, StepResultFields) {
  run<StepResult>(
      sample_step_result(),
      {
          {[](StepResult& m) { m.epoch = 0; }, "StepResult.epoch: 0; must be at least 1"},
          {[](StepResult& m) { m.step = 0; }, "StepResult.step: 0; must be at least 1"},
          {[](StepResult& m) { m.rows.clear(); }, ""},
          {[](StepResult& m) { m.scores.clear(); }, ""},
          {[](StepResult& m) { m.scores[1].slot = 5; },
           "StepResult.scores[1].slot: slot 5 appears twice"},
          {[](StepResult& m) { m.scores[0].position = 0; },
           "StepResult.scores[0].position: 0; must be at least 1"},
          {[](StepResult& m) { m.scores[1].position = kMaxSequenceTokens; },
           "StepResult.scores[1].position: 4194304; must be at most 4194303"},
          {[](StepResult& m) { m.scores[1].tokens.clear(); },
           "StepResult.scores[1].tokens: 0 entries; must be at least 1"},
          {[](StepResult& m) { m.scores[1].tokens.resize(kMaxRowsPerStep - 3); }, ""},
          {[](StepResult& m) { m.scores[1].tokens.resize(kMaxRowsPerStep - 2); },
           "StepResult.scores[1].tokens: 8190 entries; must be at most 8189"},
          {[](StepResult& m) { m.scores[0].tokens[1].logprob = NAN; },
           "StepResult.scores.tokens[1].logprob: nan; must be finite"},
          {[](StepResult& m) { m.rows[1].slot = kMaxSlots; },
           "StepResult.rows[1].slot: 4096; must be at most 4095"},
          {[](StepResult& m) { m.rows.push_back(m.rows[0]); },
           "StepResult.rows[3].slot: slot 5 appears twice"},
          {[](StepResult& m) { m.rows.assign(kMaxDraw, m.rows[0]); }, ""},
          {[](StepResult& m) { m.rows.assign(kMaxDraw + 1, m.rows[0]); },
           "StepResult.rows[64].tokens of the slot: 65; must be at most 64"},
          {[](StepResult& m) { m.rows.assign(kMaxRowsPerStep + 1, m.rows[0]); },
           "StepResult.rows: 8193 entries; must be at most 8192"},
          {[](StepResult& m) { m.rows[0].token = -1; },
           "StepResult.rows[0].token: -1; must be at least 0"},
          {[](StepResult& m) { m.rows[0].logprob = kNan; },
           "StepResult.rows[0].logprob: nan; must be finite"},
          {[](StepResult& m) { m.rows[0].logprob = -kInfinity; },
           "StepResult.rows[0].logprob: -inf; must be finite"},
          {[](StepResult& m) { m.rows[0].logprob = 2; },
           "StepResult.rows[0].logprob: 2; must be at most 1"},
          {[](StepResult& m) { m.rows[0].top[1].id = -3; },
           "StepResult.rows[0].top[1].id: -3; must be at least 0"},
          {[](StepResult& m) { m.rows[0].top[1].logprob = 0; },
           "StepResult.rows[0].top[1].logprob: must not exceed the one before it"},
          {[](StepResult& m) {
             m.rows[0].top.assign(kMaxTopLogprobs + 1, {1, -1});
           },
           "StepResult.rows[0].top: 65 entries; must be at most 64"},
          {[](StepResult& m) { m.stats.forward_seconds = -1; },
           "StepResult.stats.forward_seconds: -1; must be at least 0"},
          {[](StepResult& m) { m.stats.collective_seconds = kNan; },
           "StepResult.stats.collective_seconds: nan; must be finite"},
          {[](StepResult& m) { m.stats.wait_seconds = kInfinity; },
           "StepResult.stats.wait_seconds: inf; must be finite"},
          {[](StepResult& m) { m.stats.sample_seconds = -0.5; },
           "StepResult.stats.sample_seconds: -0.5; must be at least 0"},
      });
}

}  // namespace
}  // namespace shoal::wire

#include "wire/codec.h"

#include <functional>
#include <type_traits>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "tests/support/support.h"
#include "tests/wire/sample_messages.h"
#include "wire/validate.h"

namespace shoal::wire {
namespace {

using testing::messages_of_coordinators;
using testing::messages_of_workers;
using testing::sample_assign;
using testing::sample_step;
using testing::sample_step_result;

EnvelopeInfo envelope() { return {kProtocolVersion, "lab", 0xabcdef0123456789ull, 42, 41}; }

template <class M>
void expect_survival(const std::vector<M>& messages) {
  ASSERT_EQ(messages.size(), std::variant_size_v<M>);
  for (size_t i = 0; i < messages.size(); ++i) {
    ASSERT_EQ(messages[i].index(), i) << "one sample of each kind, in order";
    const std::string frame = encode(messages[i], envelope());
    const auto decoded = decode<M>(frame);
    ASSERT_TRUE(decoded.is_ok()) << message_name(messages[i]) << ": "
                                 << decoded.status().to_string();
    EXPECT_EQ(decoded->message.index(), i);
    EXPECT_EQ(decoded->envelope.cluster, "lab");
    EXPECT_EQ(decoded->envelope.incarnation, 0xabcdef0123456789ull);
    EXPECT_EQ(decoded->envelope.sequence, 42u);
    EXPECT_EQ(decoded->envelope.acknowledged, 41u);
    EXPECT_EQ(encode(decoded->message, decoded->envelope), frame) << message_name(messages[i]);
  }
}

TEST(Codec, EveryMessageSurvives) {
  expect_survival(messages_of_workers());
  expect_survival(messages_of_coordinators());
}

TEST(Codec, MessagesForTheOtherSideAreRefused) {
  for (const ToCoordinator& message : messages_of_workers()) {
    if (std::holds_alternative<StoreSet>(message)) continue;  // goes both ways
    EXPECT_EQ(decode<ToWorker>(encode(message, envelope())).status().message(),
              fmt::format("{}: not a message a coordinator sends", message_name(message)));
  }
  for (const ToWorker& message : messages_of_coordinators()) {
    if (std::holds_alternative<StoreSet>(message)) continue;
    EXPECT_EQ(decode<ToCoordinator>(encode(message, envelope())).status().message(),
              fmt::format("{}: not a message a worker sends", message_name(message)));
  }
}

TEST(Codec, OneBodyServesManyEnvelopes) {
  const ToWorker step = sample_step();
  const std::string body = encode_body(step);
  EnvelopeInfo longest{UINT32_MAX, std::string(kMaxClusterId, 'c'), UINT64_MAX, UINT64_MAX,
                       UINT64_MAX};
  for (const EnvelopeInfo& e : {envelope(), longest}) {
    EXPECT_EQ(encode_frame(e, body), encode(step, e));
    EXPECT_LE(encode_frame(e, body).size(), body.size() + kMaxEnvelopeBytes);
  }
}

TEST(Codec, FieldsArriveWhereTheyBelong) {
  const auto step = decode<ToWorker>(encode(sample_step(), envelope()));
  ASSERT_TRUE(step.is_ok());
  const Step& s = std::get<Step>(step->message);
  EXPECT_EQ(s.ended, (std::vector<uint32_t>{3, 4095}));
  ASSERT_EQ(s.started.size(), 1u);
  EXPECT_EQ(s.started[0].tokens, (std::vector<int32_t>{1, 128000, 0, 2147483647}));
  EXPECT_EQ(s.started[0].seed, 0xfedcba9876543210ull);
  EXPECT_EQ(s.started[0].prompt_tokens, 3u);
  EXPECT_FLOAT_EQ(s.started[0].sampling.min_p, 0.05f);
  EXPECT_EQ(s.started[0].sampling.top_logprobs, 5);
  EXPECT_EQ(s.started[0].sampling.logit_bias[1], (std::pair<int32_t, float>{99, 2.5f}));
  EXPECT_EQ(s.appended[0].blocks, (std::vector<uint32_t>{0, 12, 13}));
  EXPECT_EQ(s.appended[1].group, 1u);
  EXPECT_EQ(s.appended[1].blocks, (std::vector<uint32_t>{kNoBlock, 7}));
  EXPECT_EQ(s.rows[1].position, 99u);
  EXPECT_EQ(s.rows[0].count, 3u);
  EXPECT_EQ(s.rows[0].draw, 3u);
  EXPECT_EQ(s.rows[1].draw, 1u);
  EXPECT_TRUE(s.rows[0].score && !s.rows[1].score);

  const auto result = decode<ToCoordinator>(encode(testing::sample_step_result(), envelope()));
  ASSERT_TRUE(result.is_ok());
  const auto& scores = std::get<StepResult>(result->message).scores;
  ASSERT_EQ(scores.size(), 2u);
  ASSERT_EQ(scores[0].tokens.size(), 3u);
  EXPECT_EQ(scores[0].position, 1u);
  EXPECT_EQ(scores[0].tokens[1].logprob, -2.0f);
  EXPECT_TRUE(scores[0].tokens[1].top.empty());
  ASSERT_EQ(scores[0].tokens[2].top.size(), 1u);
  EXPECT_EQ(scores[0].tokens[2].top[0].id, 9);
  EXPECT_TRUE(scores[1].broken && !scores[0].broken);

  const auto plan = decode<ToWorker>(encode(sample_assign(), envelope()));
  ASSERT_TRUE(plan.is_ok());
  const Assign& a = std::get<Assign>(plan->message);
  EXPECT_EQ(a.shares, (std::vector<double>{1.0, 2.5, 0.125}));
  EXPECT_EQ(a.engine, CollectiveEngine::kShm);
  EXPECT_EQ(a.kv, KvPrecision::kF32);
  EXPECT_FALSE(a.int8_activations);
  EXPECT_EQ(a.form_timeout_seconds, 30.25);
  EXPECT_EQ(a.kv_blocks, (std::vector<uint32_t>{4096, 64}));
  EXPECT_EQ(a.experts.shares, (std::vector<double>{0, 2, 1}));
  EXPECT_EQ(a.experts.ranks, (std::vector<uint64_t>{1, 2, 4, 3}));
  EXPECT_EQ(a.routing_rank, 2);
}

TEST(Codec, NoLogprobsIsNotZeroLogprobs) {
  Step step = sample_step();
  for (const int32_t top : {-1, 0, 1}) {
    step.started[0].sampling.top_logprobs = top;
    const auto decoded = decode<ToWorker>(encode(step, envelope()));
    ASSERT_TRUE(decoded.is_ok());
    EXPECT_EQ(std::get<Step>(decoded->message).started[0].sampling.top_logprobs, top);
  }
}

TEST(Codec, UnchangedDecodeRowsAreSmall) {
  for (const uint32_t rows : {1u, 8u, 64u, 4096u}) {
    const size_t bytes = encode(testing::decode_step(rows), envelope()).size();
    EXPECT_LE(bytes, 64u * rows) << rows << " rows";
    // What the columns really cost; the fixed part is under 64 bytes.
    EXPECT_LE(bytes, 64u + 7u * rows) << rows << " rows";
    RecordProperty("bytes_of_" + std::to_string(rows), static_cast<int>(bytes));
  }
}

TEST(Codec, LongestPromptFits) {
  Step step = sample_step();
  step.started[0].tokens.assign(kMaxSequenceTokens, 200000);
  const std::string frame = encode(step, envelope());
  EXPECT_LE(frame.size(), kMaxMessageBytes);
  EXPECT_TRUE(decode<ToWorker>(frame).is_ok());
}

TEST(Codec, EnvelopeIsChecked) {
  const ToWorker beat = CoordinatorHeartbeat{1};
  EnvelopeInfo e = envelope();
  e.cluster = "";
  EXPECT_EQ(decode<ToWorker>(encode(beat, e)).status().code(), Code::kInvalidArgument);
  e.cluster = std::string(kMaxClusterId + 1, 'x');
  EXPECT_EQ(decode<ToWorker>(encode(beat, e)).status().code(), Code::kInvalidArgument);
  e.cluster = "\xff";
  EXPECT_EQ(decode<ToWorker>(encode(beat, e)).status().code(), Code::kInvalidArgument);
  e = envelope();
  e.sequence = 0;
  EXPECT_EQ(decode<ToWorker>(encode(beat, e)).status().code(), Code::kInvalidArgument);
  e = envelope();
  e.incarnation = 0;
  EXPECT_EQ(decode<ToWorker>(encode(beat, e)).status().code(), Code::kInvalidArgument);
}

TEST(Codec, OtherVersionsOnlyGreetAndRefuse) {
  EnvelopeInfo e = envelope();
  e.protocol_version = kProtocolVersion + 1;
  testing::for_each_message([&](const auto& message) {
    const auto decoded = decode<std::remove_cvref_t<decltype(message)>>(encode(message, e));
    const std::string_view name = message_name(message);
    if (name == "Hello" || name == "Refused") {
      ASSERT_TRUE(decoded.is_ok());
      EXPECT_EQ(decoded->envelope.protocol_version, kProtocolVersion + 1);
    } else {
      EXPECT_EQ(decoded.status().code(), Code::kUnsupported) << name;
    }
  });
}

TEST(Codec, EveryTruncationIsAnError) {
  testing::for_each_message([&](const auto& message) {
    const std::string frame = encode(message, envelope());
    // The body comes last, so any cut leaves it incomplete.
    for (size_t n = 0; n < frame.size(); ++n) {
      const std::string_view cut = std::string_view(frame).substr(0, n);
      EXPECT_FALSE(decode<std::remove_cvref_t<decltype(message)>>(cut).is_ok())
          << message_name(message) << " cut at " << n;
    }
  });
}

// How many of damaged frames can still be read.
template <class M>
int read_damaged(const std::vector<M>& messages, uint64_t seed) {
  Rng rng(seed);
  int accepted = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string frame = encode(messages[rng.below(messages.size())], envelope());
    for (uint64_t flips = 1 + rng.below(4); flips > 0; --flips) {
      frame[rng.below(frame.size())] = static_cast<char>(rng());
    }
    const auto decoded = decode<M>(frame);
    if (!decoded) continue;
    ++accepted;
    EXPECT_TRUE(validate(decoded->message).is_ok()) << "seed " << seed << " round " << round;
    EXPECT_TRUE(decode<M>(encode(decoded->message, decoded->envelope)).is_ok())
        << "seed " << seed << " round " << round;
  }
  return accepted;
}

TEST(Codec, FlippedBytesNeverYieldAnInvalidMessage) {
  const uint64_t seed = shoal::testing::test_seed(1);
  EXPECT_GT(read_damaged(messages_of_workers(), seed), 50)
      << "the flips should leave some frames readable";
  EXPECT_GT(read_damaged(messages_of_coordinators(), seed), 50);
}

// Raw protobuf, as a hostile peer would write it.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out += static_cast<char>(value);
}
std::string bytes_field(uint32_t number, const std::string& payload) {
  return varint(number << 3 | 2) + varint(payload.size()) + payload;
}
std::string varint_field(uint32_t number, uint64_t value) {
  return varint(number << 3) + varint(value);
}
std::string framed(uint32_t body_number, const std::string& body) {
  return varint_field(1, kProtocolVersion) + bytes_field(2, "lab") + varint(3 << 3 | 1) +
         std::string(8, '\1') + varint_field(4, 1) + bytes_field(body_number, body);
}

TEST(Codec, HostileFrames) {
  ASSERT_TRUE(decode<ToWorker>(framed(34, varint_field(1, 1))).is_ok())
      << "the helpers write valid frames";
  struct Case {
    const char* what;
    std::string frame;
    const char* expected;
  };
  std::string many_started, many_bodies;
  for (int i = 0; i < 20000; ++i) many_started += bytes_field(4, "");
  for (int i = 0; i < 100000; ++i) many_bodies += bytes_field(i % 2 ? 16 : 22, "");
  const Case cases[] = {
      {"nothing", "", "Envelope.protocol_version: 0"},
      {"only zeros", std::string(64, '\0'), "malformed"},
      {"text", "GET / HTTP/1.1\r\n\r\n", "malformed"},
      {"unknown body", framed(99, ""), "without a known message"},
      {"group", framed(34, "\x0b\x0c"), "malformed"},
      {"elements behind a group", framed(33, "\x0b\x0c" + many_started), "malformed"},
      {"endless varint", std::string(100, '\xff'), "malformed"},
      {"length beyond the frame", framed(33, bytes_field(4, "").replace(1, 1, "\x7f")),
       "malformed"},
      {"20,000 empty sequences", framed(33, many_started), "more than"},
      {"many bodies", framed(34, "") + many_bodies, "more than one message"},
      {"too large", std::string(kMaxMessageBytes + 1, 'x'), "at most"},
      {"columns of different lengths",
       framed(33, varint_field(1, 1) + varint_field(2, 1) + bytes_field(6, "\x01\x02") +
                      bytes_field(7, "\x01")),
       "Step.rows: columns of 2 and 1 entries"},
      {"bias columns", framed(33, bytes_field(4, bytes_field(7, bytes_field(9, "\x01")))),
       "Step.started[0].sampling.logit_bias: columns"},
      {"logprob columns", framed(20, bytes_field(3, bytes_field(5, "\x01"))),
       "StepResult.rows[0].top: columns"},
      {"score columns", framed(20, bytes_field(10, bytes_field(4, std::string(4, '\0')))),
       "StepResult.scores[0]: columns"},
      {"alternatives that are not there",
       framed(20, bytes_field(10, bytes_field(4, std::string(4, '\0')) + bytes_field(5, "\x01"))),
       "StepResult.scores[0].top_count[0]: more than there are"},
      {"alternatives of no token",
       framed(20, bytes_field(10, bytes_field(6, "\x01") + bytes_field(7, std::string(4, '\0')))),
       "StepResult.scores[0].top: 1 entries belong to no token"},
      {"rows that want too much",
       framed(33, varint_field(1, 1) + varint_field(2, 1) + bytes_field(6, "\x01") +
                      bytes_field(7, "\x01") + bytes_field(8, "\x01") +
                      bytes_field(10, "\x82\x01")),
       "Step.rows[0].draw: 65; must be at most 64"},
      {"negative token",
       framed(33, varint_field(1, 1) + varint_field(2, 1) +
                      bytes_field(4, varint_field(3, UINT64_MAX))),
       "Step.started[0].tokens[0]: -1"},
  };
  for (const Case& c : cases) {
    const Status as_worker = decode<ToWorker>(c.frame).status();
    const Status as_coordinator = decode<ToCoordinator>(c.frame).status();
    ASSERT_FALSE(as_worker || as_coordinator) << c.what;
    const bool named = as_worker.message().find(c.expected) != std::string::npos ||
                       as_coordinator.message().find(c.expected) != std::string::npos;
    EXPECT_TRUE(named) << c.what << ": " << as_worker.message() << "; " << as_coordinator.message();
  }
}

TEST(Codec, EnumsDoNotWrap) {
  Assign plan = sample_assign();
  for (const int value : {3, 200, 255}) {
    plan.engine = static_cast<CollectiveEngine>(value);
    EXPECT_EQ(decode<ToWorker>(encode(plan, envelope())).status().message(),
              "Assign.engine: " + std::to_string(value) + "; must be at most 2");
  }
  // 256 and −1 as sent by a peer would be 0 and 255 in eight bits.
  for (const uint64_t value : {uint64_t{256}, uint64_t{258}, UINT64_MAX, uint64_t{1} << 31}) {
    std::string frame = encode(sample_assign(), envelope());
    std::string body = varint_field(13, value);
    frame += bytes_field(32, body);  // merges with the first body: the last value of a field wins
    EXPECT_EQ(decode<ToWorker>(frame).status().message(), "Assign.engine: 255; must be at most 2")
        << value;
  }
}

}  // namespace
}  // namespace shoal::wire

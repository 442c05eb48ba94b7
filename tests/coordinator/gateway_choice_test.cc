// Choice and StopMatcher: what is released when, and never too early.
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "base/utf8.h"
#include "coordinator/gateway/choice.h"
#include "coordinator/gateway/json_writer.h"
#include "tests/coordinator/gateway_fakes.h"
#include "tests/support/support.h"

namespace shoal::gateway {
namespace {

using testing::FakeCodec;

TokenEvent token(int32_t id) {
  TokenEvent event;
  event.token = id;
  event.logprob = -0.5f;
  return event;
}

struct Outcome {
  std::string text;
  std::vector<std::string> pieces;
  std::vector<int32_t> ids;
  std::vector<size_t> offsets;
  std::optional<std::string_view> reason;
  uint32_t tokens = 0;
};

Outcome run(const std::string& bytes, std::vector<std::string> stop,
            FinishReason reason = FinishReason::kLength) {
  FakeCodec codec;
  Choice choice(codec, std::move(stop), true);
  Outcome out;
  const auto take = [&](const ChoiceDelta& delta) {
    if (!delta.text.empty()) out.pieces.push_back(delta.text);
    out.text += delta.text;
    for (const auto& record : delta.records) {
      out.ids.push_back(record.id);
      out.offsets.push_back(record.text_offset);
    }
  };
  for (const int32_t id : testing::bytes_of(bytes)) {
    take(choice.on_token(token(id)));
    if (choice.stopped_by_text()) break;
  }
  take(choice.on_finish(choice.stopped_by_text() ? FinishReason::kCancelled : reason));
  out.reason = choice.finish_reason();
  out.tokens = choice.completion_tokens();
  return out;
}

TEST(GatewayChoice, PlainText) {
  const Outcome got = run("abc", {});
  EXPECT_EQ(got.text, "abc");
  EXPECT_EQ(got.pieces.size(), 3u);
  EXPECT_EQ(got.ids, testing::bytes_of("abc"));
  EXPECT_EQ(got.offsets, (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(got.reason, "length");
}

TEST(GatewayChoice, StopStringsAcrossTokens) {
  struct Case {
    const char* text;
    std::vector<std::string> stop;
    const char* want;
    const char* reason;
  };
  for (const Case& c : std::vector<Case>{
           {"hello END world", {"END"}, "hello ", "stop"},
           {"hello EN world", {"END"}, "hello EN world", "length"},
           {"hello EN", {"END"}, "hello EN", "length"},  // held back, then released
           {"aab", {"ab"}, "a", "stop"},                 // a second start inside a first
           {"ababac!", {"abac"}, "ab", "stop"},
           {"END", {"END"}, "", "stop"},
           {"xyz", {"yz", "xyz"}, "", "stop"},  // the earliest wins
           {"one two", {"two", "one two three"}, "one ", "stop"},
           {"a\nb", {"\n"}, "a", "stop"},
           {"caf\xc3\xa9 fin", {"\xc3\xa9 f"}, "caf", "stop"},
           {"caf\xc3\xa9", {"\xc3\xa9x"}, "caf\xc3\xa9", "length"},
       }) {
    const Outcome got = run(c.text, c.stop);
    EXPECT_EQ(got.text, c.want) << c.text;
    EXPECT_EQ(got.reason, c.reason) << c.text;
    EXPECT_EQ(got.ids, testing::bytes_of(c.want)) << c.text;  // records end with the text
  }
}

TEST(GatewayChoice, NothingComesOutBeforeItIsCertain) {
  FakeCodec codec;
  Choice choice(codec, {"stop"}, true);
  for (const int32_t id : testing::bytes_of("sto")) {
    EXPECT_TRUE(choice.on_token(token(id)).empty());
  }
  const ChoiceDelta delta = choice.on_token(token('o'));
  EXPECT_EQ(delta.text, "stoo");
  EXPECT_EQ(delta.records.size(), 4u);
}

TEST(GatewayChoice, CharactersAreNeverSplit) {
  const Outcome got = run("a\xf0\x9f\x98\x80z", {});
  EXPECT_EQ(got.pieces, (std::vector<std::string>{"a", "\xf0\x9f\x98\x80", "z"}));
  EXPECT_EQ(got.offsets, (std::vector<size_t>{0, 1, 1, 1, 1, 2}));
  const Outcome half = run("a\xf0\x9f", {});
  EXPECT_EQ(half.text, "a\xef\xbf\xbd");
  EXPECT_EQ(half.ids.size(), 3u);
}

TEST(GatewayChoice, StopTokenCountsButIsNoText) {
  FakeCodec codec;
  Choice choice(codec, {}, true);
  EXPECT_EQ(choice.on_token(token('a')).text, "a");
  TokenEvent end = token(testing::kEos);
  end.is_stop = true;
  EXPECT_TRUE(choice.on_token(end).empty());
  EXPECT_TRUE(choice.on_finish(FinishReason::kStop).empty());
  EXPECT_EQ(choice.finish_reason(), "stop");
  EXPECT_EQ(choice.completion_tokens(), 2u);
  EXPECT_TRUE(choice.on_token(token('x')).empty());  // nothing after the end
}

TEST(GatewayChoice, ErrorsLeaveNoFinishReason) {
  EXPECT_FALSE(run("abc", {}, FinishReason::kError).reason.has_value());
  EXPECT_FALSE(run("abc", {}, FinishReason::kCancelled).reason.has_value());
}

TEST(GatewayChoice, JsonText) {
  const auto text = [](std::string_view value) {
    std::string out;
    append_json_string(&out, value);
    return out;
  };
  EXPECT_EQ(text("a\"b\\c\n\r\t"), "\"a\\\"b\\\\c\\n\\r\\t\"");
  EXPECT_EQ(text(std::string_view("\0\x1f\x7f", 3)), "\"\\u0000\\u001f\\u007f\"");
  EXPECT_EQ(text("\xc3\xa9\xff"), "\"\xc3\xa9\xef\xbf\xbd\"");
  const auto number = [](float value) {
    std::string out;
    append_json_logprob(&out, value);
    return out;
  };
  EXPECT_EQ(number(-0.1f), "-0.1");
  EXPECT_EQ(number(-INFINITY), "-9999");
  EXPECT_EQ(number(NAN), "-9999");
  EXPECT_EQ(std::stof(number(-1.23456789e-7f)), -1.23456789e-7f);
}

// Random texts over a tiny alphabet against the plain definition: cut at the earliest stop string.
TEST(GatewayChoice, AgreesWithTheDefinition) {
  Rng rng(shoal::testing::test_seed(7));
  const char* letters[] = {"a", "b", "\xc3\xa9"};
  const auto word = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += letters[rng.below(3)];
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    const std::string text = word(rng.below(20));
    std::vector<std::string> stops;
    for (uint64_t i = rng.below(4); i > 0; --i) stops.push_back(word(1 + rng.below(4)));
    // The first match to be complete decides, and among those complete together the earliest.
    size_t cut = text.size();
    for (size_t end = 1; end <= text.size() && cut == text.size(); ++end) {
      for (const auto& stop : stops) {
        const size_t at = text.substr(0, end).find(stop);
        if (at != std::string::npos) cut = std::min(cut, at);
      }
    }
    const bool found = std::any_of(stops.begin(), stops.end(), [&](const std::string& stop) {
      return text.find(stop) != std::string::npos;
    });
    const Outcome got = run(text, stops);
    ASSERT_EQ(got.text, found ? text.substr(0, cut) : text) << text;
    ASSERT_EQ(got.reason, found ? "stop" : "length");
    ASSERT_EQ(got.ids, testing::bytes_of(got.text));
    for (const auto& piece : got.pieces) ASSERT_TRUE(is_valid_utf8(piece));
  }
}

}  // namespace
}  // namespace shoal::gateway

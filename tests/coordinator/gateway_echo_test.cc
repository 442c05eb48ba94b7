// Echoed prompts: the text as it was written, the places of its tokens, log-probabilities from the
// second token on, and entries that can be counted from the end.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/gateway/choice.h"
#include "coordinator/gateway/echo.h"
#include "tests/coordinator/gateway_server.h"
#include "tests/support/support.h"

namespace shoal::gateway {
namespace {

using testing::FakeCodec;
using testing::kBos;
using testing::kEos;
using testing::kImEnd;
using testing::TestServer;

constexpr const char* kText = "/v1/completions";

Json choice(const TestServer& server, const std::string& body, size_t index = 0) {
  const auto reply = server.post(kText, body);
  EXPECT_EQ(reply.status, 200) << reply.body;
  return Json::parse(reply.body)["choices"].at(index);
}

std::string refused(const TestServer& server, const std::string& body) {
  const auto reply = server.post(kText, body);
  EXPECT_EQ(reply.status, 400) << reply.body;
  return Json::parse(reply.body)["error"]["param"].get<std::string>();
}

struct Streamed {
  std::string text;
  Json::array_t logprobs, offsets, ids;
  std::string reason;
};

Streamed streamed(const TestServer& server, const std::string& body) {
  Streamed out;
  const auto reply = server.post(kText, body);
  EXPECT_EQ(reply.status, 200);
  size_t at = 0;
  while ((at = reply.body.find("data: {", at)) != std::string::npos) {
    const Json chunk = Json::parse(reply.body.substr(at + 6, reply.body.find('\n', at) - at - 6));
    ++at;
    const Json& c = chunk["choices"].at(0);
    out.text += c["text"].get<std::string>();
    if (!c["finish_reason"].is_null()) out.reason = c["finish_reason"];
    for (const Json& id : c.value("token_ids", Json::array())) out.ids.push_back(id);
    if (c["logprobs"].is_null()) continue;
    for (const Json& l : c["logprobs"]["token_logprobs"]) out.logprobs.push_back(l);
    for (const Json& o : c["logprobs"]["text_offset"]) out.offsets.push_back(o);
  }
  return out;
}

TEST(GatewayEcho, TheTextBeginsWithThePromptAsItWasWritten) {
  TestServer server;
  EXPECT_EQ(choice(server, R"({"prompt":"h\u00e9 <|im_end|>","echo":true,"max_tokens":2})")["text"],
            "h\u00e9 <|im_end|>He");
  EXPECT_FALSE(server.service.requests().back().score_prompt);
  EXPECT_EQ(choice(server, R"({"prompt":[104,105],"echo":true,"max_tokens":2})")["text"], "hiHe");
  EXPECT_EQ(choice(server, R"({"prompt":"","echo":true,"max_tokens":2})")["text"], "He");
  const std::string two = R"({"prompt":["ab","cd"],"n":2,"echo":true,"max_tokens":1})";
  EXPECT_EQ(choice(server, two, 1)["text"], "abH");
  EXPECT_EQ(choice(server, two, 2)["text"], "cdH");
  // Stop strings are looked for in the answer alone.
  const Json stopped = choice(server, R"({"prompt":"a H","echo":true,"stop":["o w","H H"]})");
  EXPECT_EQ(stopped["text"], "a HHell");
  const Streamed got =
      streamed(server, R"({"prompt":"ab","echo":true,"max_tokens":3,"stream":true})");
  EXPECT_EQ(got.text, "abHel");
  EXPECT_EQ(got.reason, "length");
}

TEST(GatewayEcho, EveryTokenHasAnEntry) {
  TestServer server;
  const std::string body =
      R"("prompt":"abcde","echo":true,"max_tokens":2,"logprobs":2,"return_token_ids":true)";
  const Json c = choice(server, "{" + body + "}");
  EXPECT_EQ(c["text"], "abcdeHe");
  const Json& logprobs = c["logprobs"];
  EXPECT_EQ(logprobs["token_logprobs"].dump(), "[null,-1,-2,-3,-4,-5,-0.25,-0.25]");
  EXPECT_EQ(logprobs["tokens"].dump(), R"(["<s>","a","b","c","d","e","H","e"])");
  EXPECT_EQ(logprobs["text_offset"].dump(), "[0,0,1,2,3,4,5,6]");
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["top_logprobs"][2].dump(), R"({"a":-2,"b":-3})");
  EXPECT_TRUE(logprobs["content"][0]["logprob"].is_null());
  EXPECT_EQ(logprobs["content"][0]["top_logprobs"].dump(), "[]");
  EXPECT_EQ(c["token_ids"].dump(), "[256,97,98,99,100,101,72,101]");
  EXPECT_TRUE(server.service.requests().back().score_prompt);
  const Streamed got = streamed(server, "{" + body + R"(,"stream":true})");
  EXPECT_EQ(got.text, "abcdeHe");
  EXPECT_EQ(Json(got.logprobs), logprobs["token_logprobs"]);
  EXPECT_EQ(Json(got.offsets), logprobs["text_offset"]);
  EXPECT_EQ(Json(got.ids), c["token_ids"]);
}

TEST(GatewayEcho, NothingButThePrompt) {
  TestServer server;
  const std::string body =
      R"({"prompt":[97,98,99,100,101],"echo":true,"max_tokens":0,"logprobs":0)";
  const Streamed got = streamed(server, body + R"(,"stream":true})");
  EXPECT_EQ(got.text, "abcde");
  EXPECT_EQ(Json(got.logprobs).dump(), "[null,-1,-2,-3,-4]");
  EXPECT_EQ(got.reason, "length");
  EXPECT_EQ(server.service.requests().back().max_tokens, 1u);
  EXPECT_EQ(choice(server, body + "}")["logprobs"]["token_logprobs"], Json(got.logprobs));
  // A model that would end at once changes nothing.
  server.service.set_script([](const GenerationRequest&) { return testing::text_script(""); });
  const auto reply =
      server.post(kText, R"({"prompt":[97],"echo":true,"max_tokens":0,"logprobs":1})");
  const Json ended = Json::parse(reply.body);
  EXPECT_EQ(ended["choices"][0]["text"], "a");
  EXPECT_EQ(ended["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(ended["choices"][0]["logprobs"]["token_logprobs"].dump(), "[null]");
  EXPECT_EQ(ended["usage"]["completion_tokens"], 0);
}

// Harnesses ask for one token and drop the last entry, whatever it is.
TEST(GatewayEcho, TheTokenThatEndsTheAnswerIsCounted) {
  TestServer server;
  server.service.set_script([](const GenerationRequest&) { return testing::text_script(""); });
  const Json c = choice(server, R"({"prompt":[97,98],"echo":true,"max_tokens":1,"logprobs":1})");
  EXPECT_EQ(c["text"], "ab");
  EXPECT_EQ(c["finish_reason"], "stop");
  EXPECT_EQ(c["logprobs"]["tokens"].dump(), R"(["a","b","</s>"])");
  EXPECT_EQ(c["logprobs"]["text_offset"].dump(), "[0,1,2]");
}

TEST(GatewayEcho, WhatWouldBeTooMuch) {
  TestServer server;
  server.service.context = 1 << 24;
  const std::string long_text(100'000, 'a');
  EXPECT_EQ(refused(server, R"({"prompt":")" + long_text + R"(","echo":true,"logprobs":5})"),
            "logprobs");
  EXPECT_EQ(server.service.requests().size(), 0u);
  EXPECT_EQ(refused(server, R"({"prompt":")" + std::string(5'000'000, 'a') +
                                R"(","n":16,"echo":true,"max_tokens":1})"),
            "echo");
  EXPECT_EQ(streamed(server, R"({"prompt":")" + long_text +
                                 R"(","echo":true,"max_tokens":0,"stream":true})")
                .text,
            long_text);
}

// Every cut of every text gives the text; offsets count the characters before a token.
TEST(GatewayEcho, PartsMakeUpTheText) {
  FakeCodec codec;
  const std::string text = "a\u00e9<|im_end|>\xf0\x9f\x98\x80z";
  EncodeOptions options;
  options.add_bos = options.parse_special = true;
  const std::vector<int32_t> ids = codec.encode(text, options).value();
  const Echo whole(codec, ids, text);
  EXPECT_EQ(whole.characters(), 14u);
  EXPECT_EQ(whole.part(0, whole.tokens()).text, text);
  for (size_t cut = 0; cut <= whole.tokens(); ++cut) {
    const ChoiceDelta before = whole.part(0, cut), after = whole.part(cut, whole.tokens());
    EXPECT_EQ(before.text + after.text, text) << cut;
    EXPECT_EQ(before.records.size(), cut);
    if (!after.records.empty()) {
      const size_t characters = static_cast<size_t>(std::count_if(
          before.text.begin(), before.text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
      EXPECT_EQ(after.records[0].text_offset, characters) << cut;
    }
  }
  // A text that its tokens do not spell stays as it is.
  const Echo other(codec, {'x', 'y'}, "ab");
  EXPECT_EQ(other.part(0, 2).text, "ab");
  // Half a character at the end of ids.
  const Echo half(codec, {'a', 0xc3});
  EXPECT_EQ(half.part(0, 1).text, "a");
}

}  // namespace
}  // namespace shoal::gateway

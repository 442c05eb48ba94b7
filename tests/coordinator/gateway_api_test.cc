// The API through real HTTP: shapes of answers and streams, errors, authentication.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "coordinator/gateway/json_reader.h"
#include "tests/coordinator/bad_requests.h"
#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::kEos;
using testing::Script;
using testing::TestServer;

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kText = "/v1/completions";
constexpr const char* kHi = R"("messages":[{"role":"user","content":"hi"}])";

std::string chat(const std::string& fields = "") {
  return std::string("{") + kHi + (fields.empty() ? "" : "," + fields) + "}";
}

// Bodies of a stream's chunks; the last event must be [DONE].
std::vector<Json> chunks(const testing::RawResponse& response) {
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_TRUE(response.complete);
  EXPECT_TRUE(response.headers.at("content-type").starts_with("text/event-stream"));
  auto events = testing::sse_events(response.body);
  EXPECT_EQ(events.empty() ? "" : events.back(), "[DONE]");
  std::vector<Json> out;
  for (size_t i = 0; i + 1 < events.size(); ++i) out.push_back(Json::parse(events[i]));
  return out;
}

TEST(GatewayApi, ChatAnswer) {
  TestServer server;
  server.service.set_script([](const GenerationRequest&) {
    Script script = testing::text_script("Hello");
    script.cached_tokens = 3;
    return script;
  });
  const auto response = server.post(kChat, chat(R"("model":"any")"));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
  Json body = Json::parse(response.body);
  const std::string id = body["id"];
  EXPECT_TRUE(id.starts_with("chatcmpl-"));
  EXPECT_EQ(response.headers.at("x-request-id"), id);
  body["id"] = "";
  const size_t prompt = 1 + 1 + 5 + 2 + 1 + 1 + 1 + 10;  // <s><|im_start|>user\nhi<|im_end|>\n…
  EXPECT_EQ(server.service.requests().at(0).prompt.size(), prompt);
  EXPECT_EQ(body.dump(),
            R"({"id":"","object":"chat.completion","created":1700000000,"model":"any",)"
            R"("system_fingerprint":"fp","choices":[{"index":0,"message":{"role":"assistant",)"
            R"("content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],)"
            R"("usage":{"prompt_tokens":22,"completion_tokens":6,"total_tokens":28,)"
            R"("prompt_tokens_details":{"cached_tokens":3}}})");
}

TEST(GatewayApi, ChatStream) {
  TestServer server;
  const auto got = chunks(server.post(
      kChat, chat(R"("stream":true,"stream_options":{"include_usage":true},"max_tokens":3)")));
  ASSERT_EQ(got.size(), 6u);
  const std::string head =
      R"("object":"chat.completion.chunk","created":1700000000,"model":"test/model",)"
      R"("system_fingerprint":"fp","choices":)";
  const auto want = [&](size_t i, const std::string& choices, const std::string& usage) {
    Json chunk = got[i];
    chunk.erase("id");
    EXPECT_EQ(chunk.dump(), "{" + head + choices + R"(,"usage":)" + usage + "}") << i;
    EXPECT_EQ(got[i]["id"], got[0]["id"]);
  };
  const auto choice = [](const std::string& delta, const std::string& reason) {
    return R"([{"index":0,"delta":)" + delta + R"(,"logprobs":null,"finish_reason":)" + reason +
           "}]";
  };
  want(0, choice(R"({"role":"assistant","content":"","refusal":null})", "null"), "null");
  want(1, choice(R"({"content":"H"})", "null"), "null");
  want(2, choice(R"({"content":"e"})", "null"), "null");
  want(3, choice(R"({"content":"l"})", "null"), "null");
  want(4, choice("{}", R"("length")"), "null");
  want(5, "[]",
       R"({"prompt_tokens":22,"completion_tokens":3,"total_tokens":25,)"
       R"("prompt_tokens_details":{"cached_tokens":0}})");
  // Without include_usage no chunk mentions usage.
  for (const Json& chunk : chunks(server.post(kChat, chat(R"("stream":true)")))) {
    EXPECT_FALSE(chunk.contains("usage"));
  }
}

TEST(GatewayApi, CompletionAnswerAndStream) {
  TestServer server;
  Json body = Json::parse(server.post(kText, R"({"prompt":"ab","max_tokens":2})").body);
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"].dump(),
            R"([{"index":0,"text":"He","logprobs":null,"finish_reason":"length"}])");
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);  // BOS, a, b
  const auto got = chunks(server.post(kText, R"({"prompt":[97,98],"max_tokens":2,"stream":true})"));
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0]["choices"].dump(),
            R"([{"index":0,"text":"H","logprobs":null,"finish_reason":null}])");
  EXPECT_EQ(got[2]["choices"].dump(),
            R"([{"index":0,"text":"","logprobs":null,"finish_reason":"length"}])");
  EXPECT_EQ(server.service.requests().back().prompt, (std::vector<int32_t>{97, 98}));  // no BOS

  // No text is BOS alone, where there is one.
  EXPECT_EQ(server.post(kText, R"({"prompt":"","max_tokens":1})").status, 200);
  EXPECT_EQ(server.service.requests().back().prompt, std::vector<int32_t>{testing::kBos});
  const auto none = server.post(kText, R"({"prompt":"","add_special_tokens":false})");
  EXPECT_EQ(none.status, 400);
  EXPECT_EQ(Json::parse(none.body)["error"]["param"], "prompt");
}

TEST(GatewayApi, SamplingReachesTheEngine) {
  TestServer server;
  server.post(kText, R"({"prompt":"<s>a<|im_end|>","add_special_tokens":false,"temperature":0,
      "top_k":5,"stop_token_ids":[65],"ignore_eos":true,"seed":77,"logit_bias":{"3":-100}})");
  const GenerationRequest request = server.service.requests().at(0);
  EXPECT_EQ(request.prompt, (std::vector<int32_t>{testing::kBos, 'a', testing::kImEnd}));
  EXPECT_EQ(request.sampling.temperature, 0);
  EXPECT_EQ(request.sampling.top_k, 5);
  EXPECT_EQ(request.sampling.top_logprobs, -1);
  EXPECT_EQ(request.stop_tokens, std::vector<int32_t>{65});
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_EQ(request.seed, 77u);
  EXPECT_EQ(request.max_tokens, 4096u - 3);  // what is left
  server.post(kText, R"({"prompt":"a","max_tokens":1000000})");
  EXPECT_EQ(server.service.requests().at(1).max_tokens, 4096u - 2);
}

// Clients join a base URL and a path with slashes of their own.
TEST(GatewayApi, SlashesTooMany) {
  TestServer server;
  for (const char* path : {"/v1/models/", "/v1//models", "//v1/models", "/v1/models//"}) {
    const auto listed = server.get(path);
    EXPECT_EQ(listed.status, 200) << path;
    EXPECT_EQ(Json::parse(listed.body)["object"], "list") << path;
  }
  for (const char* path : {"/health/", "//health", "/ready/", "//"}) {
    EXPECT_EQ(server.get(path).status, 200) << path;
  }
  EXPECT_EQ(server.post("/v1/completions/", R"({"prompt":"a","max_tokens":1})").status, 200);
  const auto twice = server.get("/v1/v1/models");
  EXPECT_EQ(twice.status, 404);
  EXPECT_NE(twice.body.find("/v1 is there twice"), std::string::npos) << twice.body;
  const auto unknown = server.get("/v2/models");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_NE(unknown.body.find("POST /v1/chat/completions"), std::string::npos) << unknown.body;
}

TEST(GatewayApi, ChatLogprobs) {
  TestServer server;
  server.service.set_script(
      [](const GenerationRequest&) { return testing::text_script("a\xc3\xa9"); });
  const Json body = Json::parse(
      server.post(kChat, chat(R"("logprobs":true,"top_logprobs":2,"return_token_ids":true)")).body);
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "a\xc3\xa9");
  EXPECT_EQ(choice["token_ids"].dump(), "[97,195,169]");
  EXPECT_EQ(choice["logprobs"]["refusal"], nullptr);
  const Json& content = choice["logprobs"]["content"];
  ASSERT_EQ(content.size(), 3u);
  EXPECT_EQ(content[0].dump(),
            R"({"token":"a","id":97,"logprob":-0.25,"bytes":[97],"top_logprobs":[)"
            R"({"token":"a","id":97,"logprob":-0.25,"bytes":[97]},)"
            R"({"token":"b","id":98,"logprob":-1.25,"bytes":[98]}]})");
  EXPECT_EQ(content[1]["token"], "bytes:\\xc3");
  EXPECT_EQ(content[1]["bytes"].dump(), "[195]");
}

TEST(GatewayApi, StreamedLogprobsAddUp) {
  TestServer server;
  server.service.set_script([](const GenerationRequest&) {
    return testing::text_script("x\xf0\x9f\x98\x80 one STOP two");
  });
  const auto got = chunks(server.post(
      kChat, chat(R"("logprobs":true,"stream":true,"return_token_ids":true,"stop":"STOP")")));
  std::string text, bytes;
  std::vector<int32_t> ids;
  for (const Json& chunk : got) {
    const Json& choice = chunk["choices"][0];
    const std::string piece = choice["delta"].value("content", "");
    EXPECT_TRUE(is_valid_utf8(piece));
    text += piece;
    if (choice.contains("token_ids")) {
      for (const int32_t id : choice["token_ids"]) ids.push_back(id);
    }
    if (choice["logprobs"].is_null()) continue;
    for (const Json& entry : choice["logprobs"]["content"]) {
      for (const int byte : entry["bytes"]) bytes += static_cast<char>(byte);
    }
  }
  EXPECT_EQ(text, "x\xf0\x9f\x98\x80 one ");
  EXPECT_EQ(bytes, text);
  EXPECT_EQ(ids, testing::bytes_of(text));
  EXPECT_EQ(got.back()["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(server.service.cancelled(), 1u);
}

TEST(GatewayApi, CompletionLogprobs) {
  TestServer server;
  const Json body =
      Json::parse(server.post(kText, R"({"prompt":"a","logprobs":2,"max_tokens":2})").body);
  const Json& logprobs = body["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].dump(), R"(["H","e"])");
  EXPECT_EQ(logprobs["token_logprobs"].dump(), "[-0.25,-0.25]");
  EXPECT_EQ(logprobs["top_logprobs"][0].dump(), R"({"H":-0.25,"I":-1.25})");
  EXPECT_EQ(logprobs["text_offset"].dump(), "[0,1]");
  EXPECT_EQ(logprobs["content"][1]["id"], 'e');
  EXPECT_EQ(logprobs["content"][1]["top_logprobs"].size(), 2u);
}

TEST(GatewayApi, ManyChoicesAndPrompts) {
  TestServer server;
  server.service.set_script([](const GenerationRequest& request) {
    return testing::text_script(std::string(1, static_cast<char>(request.prompt.back())) +
                                std::to_string(request.choice));
  });
  const std::string body = R"({"prompt":["a","b"],"n":3,"seed":5)";
  const Json answer = Json::parse(server.post(kText, body + "}").body);
  const std::vector<std::string> want = {"a0", "a1", "a2", "b0", "b1", "b2"};
  ASSERT_EQ(answer["choices"].size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(answer["choices"][i]["index"], i);
    EXPECT_EQ(answer["choices"][i]["text"], want[i]);
  }
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 18);
  std::vector<std::string> streamed(want.size());
  for (const Json& chunk : chunks(server.post(kText, body + R"(,"stream":true})"))) {
    const Json& choice = chunk["choices"][0];
    streamed.at(choice["index"]) += choice["text"].get<std::string>();
  }
  EXPECT_EQ(streamed, want);
  for (const auto& request : server.service.requests()) EXPECT_EQ(request.seed, 5u);
}

TEST(GatewayApi, BadRequestsAndTheNextOne) {
  TestServer server;
  for (const auto& bad : testing::bad_requests()) {
    testing::RawClient client(server.port());
    client.send(testing::post_request(bad.path, bad.body));
    const auto response = client.read_response();
    const std::string shown = bad.body.substr(0, 150);
    ASSERT_EQ(response.status, 400) << shown;
    const Json error = Json::parse(response.body)["error"];
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"].get<std::string>(), bad.param);
    EXPECT_TRUE(error["message"].is_string() && error["code"].is_string()) << error.dump();
    EXPECT_EQ(error.size(), 4u);
    client.send(testing::post_request(kText, R"({"prompt":"a","max_tokens":1})"));
    ASSERT_EQ(client.read_response().status, 200) << "after " << shown;
  }
  EXPECT_TRUE(server.service.wait_idle());
}

// What is refused is quoted in part, whatever field of whatever endpoint it stands in.
TEST(GatewayApi, ErrorsAreShortHoweverLongTheInput) {
  TestServer server;
  size_t refused = 0;
  const auto expect_short = [&](const testing::RawResponse& response, const std::string& shown) {
    ASSERT_NE(response.status, 0) << shown;
    if (response.status < 400) return;
    ++refused;
    ASSERT_LE(response.body.size(), 1500u) << shown << ": " << response.body.substr(0, 3000);
    const Json error = Json::parse(response.body)["error"];  // valid UTF-8, or it throws
    const std::string message = error["message"];
    EXPECT_LE(message.size(), 1024u);
    if (!error["param"].is_null()) {
      EXPECT_LE(error["param"].get<std::string>().size(), 256u);
    }
    for (const std::string& text : {message, error["param"].dump()}) {
      for (const char c : text) {
        ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << shown << ": " << text;
      }
    }
    EXPECT_EQ(message.find(std::string(201, 'A')), std::string::npos) << shown;
  };
  for (const auto& request : testing::long_requests(1 << 20)) {
    expect_short(server.post(request.path, request.body),
                 std::string(request.path) + " " + request.body.substr(0, 60));
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(refused, 300u);
  for (const char* path : {"/v1/models/", "/"}) {
    const std::string target = path + std::string(8000, 'A');
    expect_short(server.get(target), target.substr(0, 20));
    expect_short(server.post(target, "{}"), target.substr(0, 20));
  }
  EXPECT_TRUE(server.service.wait_idle());
}

TEST(GatewayApi, ContextLength) {
  TestServer server;
  server.service.context = 100;
  const auto response = server.post(kText, R"({"prompt":")" + std::string(150, 'a') + R"("})");
  EXPECT_EQ(response.status, 400);
  const Json error = Json::parse(response.body)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["param"], "prompt");
  const std::string message = error["message"];
  EXPECT_NE(message.find("151"), std::string::npos);
  // LangChain and others tell this error by these words.
  const std::string_view words = "maximum context length is 100 tokens";
  EXPECT_NE(message.find(words), std::string::npos);
  // So long that its bytes alone tell.
  const auto longer = server.post(kText, R"({"prompt":")" + std::string(1500, 'a') + R"("})");
  const Json refusal = Json::parse(longer.body)["error"];
  EXPECT_EQ(refusal["code"], "context_length_exceeded");
  EXPECT_NE(refusal["message"].get<std::string>().find(words), std::string::npos);
  EXPECT_EQ(server.post(kText, R"({"prompt":")" + std::string(98, 'a') + R"("})").status, 200);
  EXPECT_EQ(server.post(kText, R"({"prompt":")" + std::string(99, 'a') + R"("})").status, 400);
}

TEST(GatewayApi, TemplateErrorsAreTheClients) {
  TestServer server;
  const auto response = server.post(kChat, R"({"messages":[{"role":"user","content":"raise"}]})");
  EXPECT_EQ(response.status, 400);
  const Json error = Json::parse(response.body)["error"];
  EXPECT_EQ(error["param"], "messages");
  EXPECT_NE(error["message"].get<std::string>().find("no such conversation"), std::string::npos);
}

TEST(GatewayApi, RefusalsOfTheEngine) {
  TestServer server;
  struct Case {
    Status status;
    int http;
    bool retry;
  };
  for (const Case& c : std::vector<Case>{{resource_exhausted("queue full"), 429, true},
                                         {unavailable("no workers"), 503, true},
                                         {invalid_argument("too long"), 400, false},
                                         {internal_error("oops"), 500, false}}) {
    for (const char* stream : {"false", "true"}) {
      server.service.refuse_after(0, c.status);
      const auto response = server.post(kChat, chat(std::string("\"stream\":") + stream));
      EXPECT_EQ(response.status, c.http);
      EXPECT_EQ(response.headers.count("retry-after"), c.retry ? 1u : 0u);
      EXPECT_EQ(Json::parse(response.body)["error"]["message"], c.status.message());
    }
  }
  // The third of four choices is refused: the two before it are cancelled.
  server.service.set_script([](const GenerationRequest&) {
    Script script;
    script.hold = true;
    return script;
  });
  server.service.refuse_after(2, resource_exhausted("queue full"));
  EXPECT_EQ(server.post(kChat, chat(R"("n":4)")).status, 429);
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_EQ(server.service.cancelled(), 2u);
}

TEST(GatewayApi, ErrorsInTheMiddle) {
  TestServer server;
  server.service.set_script([](const GenerationRequest& request) {
    Script script = testing::text_script("abc");
    if (request.choice == 0) {
      script.finish = FinishReason::kError;
      script.error = unavailable("worker 1 died");
    } else {
      script.endless = true;
    }
    return script;
  });
  const auto streamed = server.post(kChat, chat(R"("stream":true,"n":2)"));
  EXPECT_EQ(streamed.status, 200);
  EXPECT_TRUE(streamed.complete);
  const auto events = testing::sse_events(streamed.body);
  const Json last = Json::parse(events.back());  // no [DONE] after an error
  EXPECT_EQ(last["error"]["message"], "worker 1 died");
  EXPECT_EQ(last["error"]["code"], "unavailable");
  const auto whole = server.post(kChat, chat(R"("n":2)"));
  EXPECT_EQ(whole.status, 503);
  EXPECT_EQ(whole.headers.count("retry-after"), 1u);
  EXPECT_TRUE(server.service.wait_idle());  // the endless choices were cancelled
}

TEST(GatewayApi, SilentStreamsAreKeptAlive) {
  GatewayOptions options;
  options.silence = std::chrono::milliseconds(50);
  TestServer server({}, {}, options);
  server.service.set_script([](const GenerationRequest&) {
    Script script;
    script.hold = true;
    return script;
  });
  testing::RawClient client(server.port());
  client.send(testing::post_request(kChat, chat(R"("stream":true)")));
  ASSERT_TRUE(client.read_until(": waiting\n\n", 5));
  EXPECT_TRUE(client.received().starts_with("HTTP/1.1 200"));
  EXPECT_NE(client.received().find(R"("role":"assistant")"), std::string::npos);
  client.close();
  EXPECT_TRUE(server.service.wait_idle());
}

TEST(GatewayApi, ErrorBeforeTheFirstTokenIsAStatus) {
  TestServer server;
  server.service.set_script([](const GenerationRequest&) {
    Script script;
    script.finish = FinishReason::kError;
    script.error = unavailable("worker 1 died");
    return script;
  });
  EXPECT_EQ(server.post(kChat, chat(R"("stream":true)")).status, 503);
}

TEST(GatewayApi, CollectedLogprobsAreBounded) {
  TestServer server;
  server.service.context = 1 << 20;
  server.service.turn = std::chrono::microseconds(1);
  server.service.set_script([](const GenerationRequest&) {
    Script script = testing::text_script("a");
    script.endless = true;
    return script;
  });
  const auto response = server.post(kText, R"({"prompt":"a","n":16,"logprobs":64})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(Json::parse(response.body)["error"]["param"], "logprobs");
  EXPECT_TRUE(server.service.wait_idle());
}

TEST(GatewayApi, Models) {
  TestServer server;
  EXPECT_EQ(server.get("/v1/models").body,
            R"({"object":"list","data":[{"id":"test/model","object":"model",)"
            R"("created":1700000000,"owned_by":"shoal","max_model_len":4096}]})");
  EXPECT_EQ(Json::parse(server.get("/v1/models/test%2Fmodel").body)["id"], "test/model");
  EXPECT_EQ(server.get("/v1/models/test/model").status, 200);
  const auto missing = server.get("/v1/models/other");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(Json::parse(missing.body)["error"]["code"], "model_not_found");
}

TEST(GatewayApi, TokenizeAndBack) {
  TestServer server;
  EXPECT_EQ(server.post("/tokenize", R"({"content":"a<|im_end|>"})").body,
            R"({"tokens":[97,259],"count":2,"max_model_len":4096})");
  EXPECT_EQ(
      Json::parse(
          server.post("/tokenize", R"({"prompt":"<s>","add_special":true,"parse_special":false})")
              .body)["tokens"]
          .dump(),
      "[256,60,115,62,257]");
  EXPECT_EQ(
      Json::parse(
          server.post("/tokenize", R"({"content":"a\u00e9","with_pieces":true})").body)["tokens"]
          .dump(),
      R"([{"id":97,"piece":"a"},{"id":195,"piece":[195]},{"id":169,"piece":[169]}])");
  EXPECT_EQ(server.post("/detokenize", R"({"tokens":[97,195,169,259,255]})").body,
            "{\"content\":\"a\xc3\xa9<|im_end|>\xef\xbf\xbd\"}");
}

TEST(GatewayApi, HealthAndReadiness) {
  TestServer server;
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/ready").status, 200);
  ServiceState state;
  state.not_ready_reason = "worker 1 is loading";
  server.service.set_state(state);
  EXPECT_EQ(server.get("/health").status, 200);
  const auto loading = server.get("/ready");
  EXPECT_EQ(loading.status, 503);
  EXPECT_EQ(loading.headers.count("retry-after"), 1u);
  EXPECT_EQ(Json::parse(loading.body)["reason"], "worker 1 is loading");
  state.ready = true;
  state.seconds_since_loop = 30;
  server.service.set_state(state);
  EXPECT_EQ(server.get("/health").status, 503);
  EXPECT_EQ(server.get("/ready").status, 503);
  state.seconds_since_loop = 0;
  state.draining = true;
  server.service.set_state(state);
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/ready").status, 503);
}

TEST(GatewayApi, MetricsClusterAndRoot) {
  TestServer server;
  ServiceState state;
  state.ready = true;
  state.workers.push_back({"w0", "host", "cpu", "ready", 0, 123, 0.1, 1, 2, 3, 4});
  server.service.set_state(state);
  const auto metrics = server.get("/metrics");
  EXPECT_EQ(metrics.body, "shoal_up 1\n");
  EXPECT_TRUE(metrics.headers.at("content-type").starts_with("text/plain; version=0.0.4"));
  const Json cluster = Json::parse(server.get("/cluster").body);
  EXPECT_EQ(cluster["workers"][0]["name"], "w0");
  EXPECT_EQ(cluster["context_tokens"], 4096);
  EXPECT_EQ(server.get("/version").body, R"({"version":"0.1.0"})");
  const std::string summary = server.get("/").body;
  for (const Route& route : routes()) {
    EXPECT_NE(summary.find(route.path), std::string::npos) << route.path;
  }
}

TEST(GatewayApi, MethodsAndPaths) {
  TestServer server;
  const auto head =
      testing::fetch(server.port(), "HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", true);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"),
            std::to_string(server.get("/v1/models").body.size()));
  const auto wrong = server.get(kChat);
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
  EXPECT_EQ(server.post("/v1/models", "{}").headers.at("allow"), "GET, HEAD, OPTIONS");
  const auto options = testing::fetch(server.port(), "OPTIONS /health HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(testing::fetch(server.port(),
                           "HEAD " + std::string(kChat) + " HTTP/1.1\r\nHost: x\r\n\r\n", true)
                .status,
            405);
  const auto missing = server.get("/v1/nothing");
  EXPECT_EQ(missing.status, 404);
  EXPECT_TRUE(Json::parse(missing.body).contains("error"));
}

TEST(GatewayApi, KeysGuardEveryPath) {
  const std::string key = "sk-0123456789abcdef", other = "sk-fedcba9876543210";
  TestServer server({}, {key, other});
  for (const char* path : {"/v1/models", "/metrics", "/cluster", "/version", "/", "/v1/models/x",
                           "/nothing", kChat, "/tokenize"}) {
    for (const std::string& headers :
         {std::string(), std::string("Authorization: Bearer wrong-wrong-wrong\r\n"),
          "Authorization: Basic " + key + "\r\n", "Authorization: " + key + "\r\n",
          "X-API-Key: " + key + "x\r\n", "X-API-Key: " + key.substr(0, 18) + "\r\n",
          std::string("Authorization: Bearer \r\n")}) {
      const auto response = server.get(path, headers);
      EXPECT_EQ(response.status, 401) << path << " " << headers;
      EXPECT_EQ(response.headers.at("www-authenticate"), "Bearer");
      EXPECT_EQ(response.body.find(key), std::string::npos);
    }
    EXPECT_NE(server.get(path, "Authorization: Bearer " + key + "\r\n").status, 401) << path;
    EXPECT_NE(server.get(path, "authorization: bearer  " + other + "\r\n").status, 401) << path;
    EXPECT_NE(server.get(path, "x-api-key: " + other + "\r\n").status, 401) << path;
  }
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/ready").status, 200);
  GatewayOptions open_metrics;
  open_metrics.metrics_need_key = false;
  TestServer open({}, {key}, open_metrics);
  EXPECT_EQ(open.get("/metrics").status, 200);
  EXPECT_EQ(open.get("/cluster").status, 401);
  GatewayOptions no_metrics;
  no_metrics.metrics = false;
  TestServer without({}, {}, no_metrics);
  EXPECT_EQ(without.get("/metrics").status, 404);
}

}  // namespace
}  // namespace shoal::gateway

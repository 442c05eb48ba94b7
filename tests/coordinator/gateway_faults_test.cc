// Exceptions inside the gateway cost the request they arose from, and nothing else.
#include <gtest/gtest.h>

#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/utf8.h"
#include "tests/coordinator/gateway_server.h"
#include "tests/support/allocation_watch.h"

namespace shoal::gateway {
namespace {

using testing::RawResponse;
using testing::TestServer;

constexpr const char* kChat = "/v1/chat/completions";
const std::string kHello = R"({"messages":[{"role":"user","content":"hello"}],"max_tokens":4)";

std::string code_of(const std::string& body) {
  return Json::parse(body)["error"]["code"].get<std::string>();
}

void expect_alive(TestServer& server) {
  server.codec.on_content = [](const std::string& s) { return s; };
  server.codec.on_push = nullptr;
  EXPECT_EQ(server.post(kChat, kHello + "}").status, 200);
  EXPECT_EQ(server.get("/health").status, 200);
}

struct Thrown {
  const char* name;
  std::function<void()> raise;
  int status;
  const char* code;
  const char* kind;
};

const Thrown kThrown[] = {
    {"no memory", [] { throw std::bad_alloc(); }, 503, "out_of_memory", "memory"},
    {"a length beyond all memory", [] { std::string().append(SIZE_MAX / 2, 'x'); }, 503,
     "out_of_memory", "memory"},
    {"an exception", [] { throw std::runtime_error(std::string(5000, 'w')); }, 500,
     "internal_error", "exception"},
    {"no exception at all", [] { throw 7; }, 500, "internal_error", "exception"},
};

TEST(GatewayFaults, InAHandler) {
  for (const Thrown& thrown : kThrown) {
    SCOPED_TRACE(thrown.name);
    TestServer server;
    server.codec.on_content = [&](const std::string& s) {
      thrown.raise();
      return s;
    };
    const RawResponse response = server.post(kChat, kHello + "}");
    EXPECT_EQ(response.status, thrown.status);
    EXPECT_EQ(code_of(response.body), thrown.code);
    EXPECT_EQ(response.headers.count("retry-after"), thrown.status == 503 ? 1u : 0u);
    EXPECT_LT(response.body.size(), 400u);
    EXPECT_EQ(server.faults(), std::vector<std::string>{std::string(kChat) + " " + thrown.kind});
    expect_alive(server);
    EXPECT_EQ(server.observed().front(), (TestServer::Observed{kChat, thrown.status}));
  }
}

// Later callbacks run on the connection's thread: there it would have ended the server as well.
TEST(GatewayFaults, WhileAnAnswerIsMade) {
  for (const bool stream : {false, true}) {
    for (const Thrown& thrown : kThrown) {
      SCOPED_TRACE(std::string(thrown.name) + (stream ? ", streaming" : ""));
      TestServer server;
      server.service.set_script([](const GenerationRequest&) {
        testing::Script script = testing::text_script("abcdefgh");
        script.endless = true;
        return script;
      });
      auto pushes = std::make_shared<std::atomic<int>>(0);
      server.codec.on_push = [&thrown, pushes] {
        if (++*pushes == 5) thrown.raise();
      };
      const std::string body = R"({"messages":[{"role":"user","content":"hello"}])" +
                               std::string(stream ? ",\"stream\":true}" : "}");
      const RawResponse response = server.post(kChat, body);
      EXPECT_TRUE(response.complete);
      if (stream) {
        EXPECT_EQ(response.status, 200);
        const auto events = testing::sse_events(response.body);
        ASSERT_FALSE(events.empty());
        EXPECT_EQ(code_of(events.back()), thrown.code);
      } else {
        EXPECT_EQ(response.status, thrown.status);
        EXPECT_EQ(code_of(response.body), thrown.code);
      }
      EXPECT_TRUE(server.service.wait_idle()) << "what was under way was not cancelled";
      EXPECT_EQ(server.faults().size(), 1u);
      server.service.set_script(
          [](const GenerationRequest&) { return testing::text_script("ok"); });
      expect_alive(server);
    }
  }
}

// Real ones, wherever the memory is asked for: parser, template, tokenizer, answer, sockets.
TEST(GatewayFaults, LargeRequestsWithoutMemory) {
  TestServer server;
  server.service.context = 1 << 24;
  const std::string text(300000, 'a');
  const std::string array = [] {
    std::string ids = "1";
    for (int i = 0; i < 100000; ++i) ids += ",1";
    return ids;
  }();
  const std::pair<std::string, std::string> kRequests[] = {
      {"/tokenize", "{\"content\":\"" + text + "\",\"with_pieces\":true}"},
      {"/detokenize", "{\"tokens\":[" + array + "]}"},
      {kChat, R"({"max_tokens":1,"messages":[{"role":"user","content":")" + text + "\"}]}"},
      {"/v1/completions", R"({"max_tokens":1,"prompt":")" + text + "\"}"},
      {"/v1/completions", R"({"max_tokens":1,"prompt":[)" + array + "]}"},
  };
  for (const auto& [path, body] : kRequests) {
    EXPECT_EQ(server.post(path, body).status, 200) << path;
    bool failed = false;
    for (size_t limit = 64 << 10; limit <= 8 << 20; limit *= 2) {
      shoal::testing::fail_allocations_from(limit);
      const RawResponse response = server.post(path, body);
      shoal::testing::fail_allocations_from(0);
      failed |= response.status == 503;
      // Where the connection's own buffers find no memory, it ends.
      EXPECT_TRUE(response.status == 200 || response.status == 503 || !response.complete)
          << path << ", " << limit << ": " << response.status;
      EXPECT_EQ(server.get("/health").status, 200);
    }
    EXPECT_TRUE(failed || path != "/tokenize") << path;
  }
  expect_alive(server);
}

}  // namespace
}  // namespace shoal::gateway

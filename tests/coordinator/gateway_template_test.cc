// Templates that run for long: they end when nobody waits for them any more, and their limits are
// answers.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "model/chat_template.h"
#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::post_request;
using testing::RawClient;
using testing::TestServer;

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kHello = R"({"model":"m","messages":[{"role":"user","content":"hello"}]})";

// Templates that stop only when they are told to.
struct Endless {
  explicit Endless(TestServer& server) {
    server.codec.on_render = [this](RenderControl& control) -> Result<std::string> {
      ++running;
      const TimePoint end = SteadyClock().now() + from_seconds(30);
      while (!control.cancelled() && SteadyClock().now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      cancelled += control.cancelled();
      --running;
      return Status(Code::kCancelled, "cancelled");
    };
  }
  std::atomic<int> running{0}, cancelled{0};
};

TEST(GatewayTemplate, EndsWhenTheClientLeaves) {
  TestServer server;
  Endless templates(server);
  {
    RawClient client(server.port());
    client.send(post_request(kChat, kHello));
    ASSERT_TRUE(TestServer::eventually([&] { return templates.running == 1; }));
  }
  EXPECT_TRUE(TestServer::eventually([&] { return templates.running == 0; }));
  EXPECT_EQ(templates.cancelled, 1);
  EXPECT_EQ(server.service.submitted(), 0u);
}

TEST(GatewayTemplate, EndsWhenTheServerStops) {
  TestServer server;
  Endless templates(server);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {  // more than there are threads
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(post_request(kChat, kHello));
  }
  ASSERT_TRUE(TestServer::eventually([&] { return templates.running > 0; }));
  const TimePoint start = SteadyClock().now();
  server.server->drain({.limit = from_seconds(0.1)});
  EXPECT_LT(to_seconds(SteadyClock().now() - start), 15);
  EXPECT_EQ(templates.running, 0);
  EXPECT_GT(templates.cancelled, 0);
}

TEST(GatewayTemplate, LimitsAreAnswers) {
  TestServer server;
  server.codec.on_render = [](RenderControl&) -> Result<std::string> {
    return Status(Code::kResourceExhausted,
                  "the chat template took more than 1 s of CPU time for these messages");
  };
  const auto answer = server.post(kChat, kHello);
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.body.find("1 s of CPU time"), std::string::npos) << answer.body;
  EXPECT_NE(answer.body.find("\"param\":\"messages\""), std::string::npos) << answer.body;
}

// The second and third rendering, with marks, draw on what the first has left.
TEST(GatewayTemplate, AllRenderingsShareOneControl) {
  TestServer server;
  std::atomic<int> renderings{0};
  std::atomic<RenderControl*> first{nullptr};
  std::atomic<bool> same{true};
  server.codec.on_render = [&](RenderControl& control) -> Result<std::string> {
    if (renderings++ == 0) first = &control;
    same = same && first == &control;
    return renderings == 1 ? Result<std::string>("<|im_end|>")
                           : Status(Code::kResourceExhausted, "spent");
  };
  const auto answer =
      server.post(kChat, R"({"model":"m","messages":[{"role":"user","content":"<|im_end|>"}]})");
  EXPECT_EQ(answer.status, 400);
  EXPECT_NE(answer.body.find("spent"), std::string::npos) << answer.body;
  EXPECT_EQ(renderings, 2);
  EXPECT_TRUE(same);
}

}  // namespace
}  // namespace shoal::gateway

// Who gets what when there is not enough for all: bodies before keys, room for large bodies,
// threads for large and for small requests.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "coordinator/gateway/body_reserve.h"
#include "coordinator/gateway/json_reader.h"
#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::get_request;
using testing::post_request;
using testing::RawClient;
using testing::RawResponse;
using testing::TestServer;

constexpr const char* kText = "/v1/completions";
constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kKeys[] = {"sk-0123456789abcdef", "sk-fedcba9876543210"};

std::string with_key(int key) { return "x-api-key: " + std::string(kKeys[key]) + "\r\n"; }

// The head of a POST whose body is announced and does not come.
std::string announced(const std::string& path, uint64_t bytes, const std::string& headers = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(bytes) +
         "\r\n" + headers + "\r\n";
}

std::string chat(const std::string& content) {
  return R"({"max_tokens":1,"messages":[{"role":"user","content":")" + content + "\"}]}";
}

long count(const std::vector<std::string>& all, const std::string& what) {
  return std::count(all.begin(), all.end(), what);
}

TEST(GatewayLoad, JudgedByTheHead) {
  TestServer server({}, {kKeys[0]});
  const struct {
    std::string head;
    int status;
    std::string reason;
  } rows[] = {
      {announced(kText, 8 << 20), 401, "unauthorized"},
      {announced("/nothing", 8 << 20), 401, "unauthorized"},
      {announced(kText, 8 << 20, "x-api-key: sk-0123456789abcdeX\r\n"), 401, "unauthorized"},
      {announced("/nothing", 8 << 20, with_key(0)), 404, "no_route"},
      {announced("/v1/models", 8 << 20, with_key(0)), 405, "no_route"},
      {announced("/health", 8 << 20), 405, "no_route"},
      {announced(kText, (8 << 20) + 1, with_key(0)), 413, "body_too_large"},
      {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", 413, "body_too_large"},
      {"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 401,
       "unauthorized"},
      {announced(kText, 8 << 20, "Expect: 100-continue\r\n"), 401, "unauthorized"},
  };
  for (const auto& row : rows) {
    RawClient client(server.port());
    client.send(row.head);  // and not a byte of the body
    const auto response = client.read_response();
    EXPECT_EQ(response.status, row.status) << row.head;
    EXPECT_EQ(response.headers.at("connection"), "close") << row.head;
    EXPECT_TRUE(client.read_end()) << row.head;
    EXPECT_EQ(client.received(), "");
    EXPECT_EQ(server.refused().back(), row.reason) << row.head;
  }
  EXPECT_EQ(server.observed().size(), std::size(rows));
  EXPECT_EQ(server.observed().front(), (TestServer::Observed{kText, 401}));
  // Without a body the connection goes on, and a client may send one into an early answer.
  RawClient client(server.port());
  client.send(get_request("/v1/models") + get_request("/v1/models", with_key(0)));
  EXPECT_EQ(client.read_response().status, 401);
  EXPECT_EQ(client.read_response().status, 200);
  RawClient eager(server.port());
  eager.send(announced(kText, 4 << 20));
  for (int i = 0; i < 64 && eager.send(std::string(64 << 10, ' ')); ++i) {
  }
  EXPECT_EQ(eager.read_response().status, 401);
}

TEST(GatewayLoad, UploadsWithoutAKeyTakeNothing) {
  HttpServerOptions options;
  options.total_body_bytes = 4 << 20;
  options.body_bytes = 1 << 20;
  TestServer server(options, {kKeys[0]});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 17; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(announced(kText, 1 << 20) + std::string(100000, ' '));
  }
  EXPECT_EQ(server.post(kText, R"({"prompt":"a"})", with_key(0)).status, 200);
  const std::string large = R"({"prompt":"a","x":")" + std::string(900000, 'x') + "\"}";
  EXPECT_EQ(server.post(kText, large, with_key(0)).status, 200);
  for (auto& client : clients) EXPECT_EQ(client->read_response().status, 401);
  EXPECT_EQ(server.server->state().large_body_bytes, 0u);
}

TEST(GatewayLoad, OneKeysUploadsLeaveRoomForAnother) {
  HttpServerOptions options;
  options.total_body_bytes = 4 << 20;  // four parts of one body each
  options.body_bytes = 1 << 20;
  TestServer server(options, {kKeys[0], kKeys[1]});
  std::vector<std::unique_ptr<RawClient>> clients;
  int refused = 0;
  for (int i = 0; i < 17; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(announced(kText, 1 << 20, with_key(0)));
    if (i == 0) {
      ASSERT_TRUE(
          TestServer::eventually([&] { return server.server->state().large_body_bytes > 0; }));
      continue;
    }
    const auto response = clients.back()->read_response();
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.headers.count("retry-after"), 1u);
    refused += response.status == 503;
  }
  EXPECT_EQ(refused, 16);
  EXPECT_EQ(count(server.refused(), "large_bodies"), 16);
  const std::string large = R"({"prompt":"a","x":")" + std::string(900000, 'x') + "\"}";
  for (int i = 0; i < 20; ++i) {  // again and again: what an answered request had is free
    EXPECT_EQ(server.post(kText, large, with_key(1)).status, 200) << i;
  }
  EXPECT_EQ(server.post(kText, R"({"prompt":"a"})", with_key(0)).status, 200) << "small ones pass";
  clients.clear();  // the upload that never came frees its room
  EXPECT_TRUE(TestServer::eventually([&] { return server.server->state().large_body_bytes == 0; }));
  EXPECT_EQ(server.post(kText, large, with_key(0)).status, 200);
  // Of unknown length: room is taken as it grows.
  RawClient growing(server.port());
  growing.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + with_key(0) +
               "Transfer-Encoding: chunked\r\n\r\n20000\r\n" + std::string(0x20000, ' ') + "\r\n");
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().large_body_bytes > 0; }));
  EXPECT_EQ(server.post(kText, large, with_key(0)).status, 503);
  EXPECT_EQ(server.post(kText, large, with_key(1)).status, 200);
}

TEST(BodyReserve, Bounds) {
  const auto reserve = std::make_shared<BodyReserve>(BodyReserve::Limits{100, 40, 5, 2});
  auto a = reserve->take(1, 30);
  ASSERT_TRUE(a);
  EXPECT_FALSE(reserve->take(1, 11)) << "bytes of one client";
  auto b = reserve->take(1, 10);
  ASSERT_TRUE(b);
  EXPECT_FALSE(reserve->take(1, 0)) << "bodies of one client";
  auto c = reserve->take(2, 40), d = reserve->take(3, 19);
  ASSERT_TRUE(c && d);
  EXPECT_FALSE(reserve->take(4, 2)) << "bytes of all";
  EXPECT_TRUE(d->grow(20));
  EXPECT_FALSE(d->grow(21));
  EXPECT_TRUE(d->grow(5)) << "it has that";
  EXPECT_EQ(reserve->bytes(), 100u);
  auto e = reserve->take(5, 0);
  EXPECT_TRUE(e);
  EXPECT_FALSE(reserve->take(6, 0)) << "bodies of all";
  a->release();
  a->release();
  EXPECT_EQ(reserve->bytes(), 70u);
  EXPECT_FALSE(reserve->take(7, 31));
  EXPECT_TRUE(reserve->take(7, 30));
  a = b = c = d = e = nullptr;
  EXPECT_EQ(reserve->bytes(), 0u);
  EXPECT_FALSE(reserve->take(1, UINT64_MAX));
}

// Blocks whoever renders a content that begins with "wait", until told otherwise.
struct Gate {
  explicit Gate(TestServer& server) {
    server.codec.on_content = [this](const std::string& text) {
      if (!text.starts_with("wait")) return text;
      ++inside;
      while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --inside;  // the last that this touches
      return std::string("x");
    };
  }
  ~Gate() {
    open = true;
    while (inside > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::atomic<bool> open{false};
  std::atomic<int> inside{0};
};

TEST(GatewayLoad, LargeRequestsDoNotDelaySmallOnes) {
  TestServer server;
  server.service.context = 1 << 20;
  Gate gate(server);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(post_request(kChat, chat("wait" + std::string(100000, 'x'))));
    if (i == 1) {  // the first two are those that have their turn
      ASSERT_TRUE(TestServer::eventually([&] { return gate.inside == 2; }));
    }
  }
  ASSERT_TRUE(
      TestServer::eventually([&] { return server.server->state().large_pool.waiting == 6; }));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(server.post(kChat, chat("hello")).status, 200);
  EXPECT_EQ(gate.inside, 2);
  EXPECT_EQ(server.get("/health").status, 200) << "busy is not hung";
  EXPECT_EQ(server.get("/ready").status, 200);
  // Who leaves before its turn is not served.
  clients.resize(2);
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().connections == 2; }));
  const size_t before = server.service.submitted();
  gate.open = true;
  for (auto& client : clients) EXPECT_EQ(client->read_response().status, 200);
  EXPECT_TRUE(TestServer::eventually([&] { return count(server.refused(), "client_gone") == 6; }));
  EXPECT_EQ(server.service.submitted(), before + 2);
}

TEST(GatewayLoad, TheQueueOfLargeRequestsIsBounded) {
  HttpServerOptions options;
  options.large_bodies = 12;  // three of one client
  TestServer server(options);
  Gate gate(server);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(post_request(kChat, chat("wait" + std::string(100000, 'x'))));
    if (i < 3) {
      ASSERT_TRUE(TestServer::eventually([&] {
        const auto state = server.server->state();
        return state.large_pool.waiting + state.large_pool.running == static_cast<size_t>(i) + 1;
      }));
    }
  }
  for (size_t i = 3; i < 8; ++i) {
    const auto response = clients[i]->read_response();
    EXPECT_EQ(response.status, 503);
    EXPECT_EQ(response.headers.count("retry-after"), 1u);
  }
  gate.open = true;
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(clients[i]->read_response().status, 200);
}

TEST(GatewayLoad, AThreadThatHangsIsTold) {
  GatewayOptions options;
  options.small_limit_seconds = 0.3;
  options.large_limit_seconds = 1.2;
  TestServer server({}, {}, options);
  server.service.context = 1 << 20;
  Gate gate(server);
  const auto reason = [&](const char* path) {
    const auto response = server.get(path);
    return response.status == 200
               ? std::string()
               : Json::parse(response.body)["reason"].template get<std::string>();
  };
  EXPECT_EQ(reason("/health"), "");
  RawClient large(server.port());
  large.send(post_request(kChat, chat("wait" + std::string(100000, 'x'))));
  EXPECT_TRUE(TestServer::eventually(
      [&] { return reason("/health").find("one large request") != std::string::npos; }));
  EXPECT_NE(reason("/ready"), "");
  gate.open = true;
  EXPECT_EQ(large.read_response().status, 200);
  EXPECT_TRUE(TestServer::eventually([&] { return reason("/health").empty(); }));
  gate.open = false;
  RawClient one(server.port());
  one.send(post_request(kChat, chat("wait")));
  EXPECT_TRUE(TestServer::eventually(
      [&] { return reason("/health").find("one request") != std::string::npos; }));
  EXPECT_EQ(server.get("/ready").status, 503);
  gate.open = true;
  EXPECT_EQ(one.read_response().status, 200);
  EXPECT_TRUE(TestServer::eventually([&] { return reason("/ready").empty(); }));
}

TEST(HandlerPool, RunsInOrderWithinItsBounds) {
  HandlerPool::Options options;
  options.threads = 1;
  options.max_waiting = 3;
  options.max_waiting_bytes = 100;
  options.nice = 5;
  HandlerPool pool(options);
  std::atomic<bool> open{false};
  std::vector<int> ran;
  ASSERT_TRUE(pool.submit(0, [&] {
    while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }));
  ASSERT_TRUE(TestServer::eventually([&] { return pool.state().running == 1; }));
  EXPECT_TRUE(pool.submit(60, [&] { ran.push_back(1); }));
  EXPECT_FALSE(pool.submit(41, [&] { ran.push_back(-1); }));
  EXPECT_TRUE(pool.submit(40, [&] {
    ran.push_back(2);
    throw std::runtime_error("one that fails ends only itself");
  }));
  EXPECT_TRUE(pool.submit(0, [&] { ran.push_back(3); }));
  EXPECT_FALSE(pool.submit(0, [&] { ran.push_back(-1); }));
  EXPECT_EQ(pool.state().waiting, 3u);
  EXPECT_EQ(pool.state().waiting_bytes, 100u);
  EXPECT_TRUE(TestServer::eventually([&] { return pool.state().longest_wait_seconds > 0.01; }));
  EXPECT_GE(pool.state().longest_run_seconds, pool.state().longest_wait_seconds);
  open = true;
  pool.stop();
  EXPECT_EQ(ran, (std::vector<int>{1, 2, 3}));
  EXPECT_FALSE(pool.submit(0, [&] { ran.push_back(-1); }));
}

}  // namespace
}  // namespace shoal::gateway

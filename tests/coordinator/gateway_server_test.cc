// Clients that misbehave, leave, stall or come in crowds.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "coordinator/gateway/json_reader.h"
#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::get_request;
using testing::post_request;
using testing::RawClient;
using testing::Script;
using testing::TestServer;

constexpr const char* kText = "/v1/completions";

HttpServerOptions quick() {
  HttpServerOptions options;
  options.header_timeout = from_seconds(0.5);
  options.body_timeout = from_seconds(0.5);
  options.idle_timeout = from_seconds(0.5);
  options.write_timeout = from_seconds(0.5);
  return options;
}

// 0 under sanitizers, which keep freed memory for a while.
size_t resident_bytes() {
#ifdef SHOAL_SANITIZED
  return 0;
#endif
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

std::string prompt(const std::string& fields) { return "{\"prompt\":\"a\"," + fields + "}"; }

void hold_all(TestServer& server) {
  server.service.set_script([](const GenerationRequest&) {
    Script script;
    script.hold = true;
    return script;
  });
}
void endless(TestServer& server, size_t token_count = 10) {
  server.service.set_script([token_count](const GenerationRequest&) {
    Script script = testing::text_script(std::string(token_count, 'x'));
    script.endless = true;
    return script;
  });
  server.service.context = 1 << 30;
}

TEST(GatewayServer, KeepAliveAndPipelining) {
  TestServer server;
  RawClient client(server.port());
  client.send(get_request("/v1/models") + post_request(kText, prompt("\"max_tokens\":2")) +
              get_request("/health") + get_request("/nothing"));
  EXPECT_TRUE(client.read_response().body.find("\"list\"") != std::string::npos);
  EXPECT_TRUE(client.read_response().body.find("\"He\"") != std::string::npos);
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_EQ(client.read_response().status, 404);
  client.send(get_request("/health", "Connection: close\r\n"));
  const auto last = client.read_response();
  EXPECT_EQ(last.headers.at("connection"), "close");
  EXPECT_TRUE(client.read_end(1));
}

TEST(GatewayServer, ByteByByte) {
  TestServer server;
  RawClient client(server.port());
  for (const char c : post_request(kText, prompt("\"max_tokens\":2")))
    client.send(std::string(1, c));
  EXPECT_EQ(client.read_response().status, 200);
}

TEST(GatewayServer, ChunkedBodyAndContinue) {
  TestServer server;
  RawClient client(server.port());
  client.send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
      "Expect: 100-continue\r\n\r\n");
  ASSERT_TRUE(client.read_until("HTTP/1.1 100 Continue\r\n\r\n", 5));
  client.send("5\r\n{\"pro\r\n");
  client.send("b;x=y\r\nmpt\":\"abc\"}\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_EQ(server.service.requests().at(0).prompt.size(), 4u);
}

TEST(GatewayServer, Http10) {
  TestServer server;
  RawClient client(server.port());
  const std::string body = prompt("\"stream\":true,\"max_tokens\":2");
  client.send("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  const auto response = client.read_response();
  EXPECT_EQ(response.headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(testing::sse_events(response.body).back(), "[DONE]");
}

TEST(GatewayServer, HeaderAndBodyBombs) {
  TestServer server;
  const size_t before = resident_bytes();
  {
    RawClient client(server.port());
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + std::string(20000, 'a') + "\r\n\r\n");
    EXPECT_EQ(client.read_response().status, 431);
  }
  {
    RawClient client(server.port());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 100000; ++i) {
      if (!client.send("X-" + std::to_string(i) + ": 1\r\n")) break;
    }
    EXPECT_EQ(client.read_response().status, 431);
  }
  {
    RawClient client(server.port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n{");
    const auto response = client.read_response();
    EXPECT_EQ(response.status, 413);
    EXPECT_EQ(Json::parse(response.body)["error"]["code"], "body_too_large");
  }
  {  // endless chunks
    RawClient client(server.port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = "10000\r\n" + std::string(65536, ' ') + "\r\n";
    for (int i = 0; i < 1000 && client.send(chunk); ++i) {
    }
    EXPECT_EQ(client.read_response().status, 413);
  }
  {  // an endless chunk header
    RawClient client(server.port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;");
    for (int i = 0; i < 1000 && client.send(std::string(65536, 'x')); ++i) {
    }
    EXPECT_EQ(client.read_response().status, 400);
  }
  EXPECT_LT(resident_bytes(), before + (64u << 20));
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(GatewayServer, AllBodiesTogetherAreBounded) {
  HttpServerOptions options;
  options.total_body_bytes = 1 << 20;
  TestServer server(options);
  std::vector<std::unique_ptr<RawClient>> clients;
  int refused = 0;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n" +
        std::string(500000, ' '));
    refused += clients.back()->read_response(0.5).status == 503;
  }
  EXPECT_GE(refused, 1);
  clients.clear();
  EXPECT_TRUE(TestServer::eventually([&] {
    return server.post(kText, prompt("\"x\":\"" + std::string(500000, 'x') + "\"")).status == 200;
  }));
}

TEST(GatewayServer, SlowSendersAreTimedOut) {
  TestServer server(quick());
  RawClient silent(server.port()), header(server.port()), body(server.port()), idle(server.port());
  header.send("GET / HTTP/1.1\r\nHo");
  body.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
  idle.send(get_request("/health"));
  EXPECT_EQ(idle.read_response().status, 200);
  EXPECT_EQ(header.read_response(3).status, 408);
  EXPECT_EQ(body.read_response(3).status, 408);
  EXPECT_TRUE(header.read_end(3));
  EXPECT_TRUE(silent.read_end(3));
  EXPECT_TRUE(idle.read_end(3));
  EXPECT_TRUE(TestServer::eventually([&] { return server.server->state().connections == 0; }));
}

TEST(GatewayServer, SlowlorisTrickleIsTimedOut) {
  TestServer server(quick());
  RawClient client(server.port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n");
  bool alive = true;
  for (int i = 0; i < 40 && alive; ++i) {
    alive = client.send("X-A: b\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    alive = alive && !client.read_until("408", 0.01);
  }
  EXPECT_FALSE(alive);
}

TEST(GatewayServer, LeavingCancels) {
  TestServer server;
  endless(server);
  {
    RawClient client(server.port());
    client.send(post_request(kText, prompt("\"stream\":true")));
    ASSERT_TRUE(client.read_until("\"x\""));
  }
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_EQ(server.service.cancelled(), 1u);
  {
    RawClient client(server.port());
    client.send(post_request(kText, prompt("\"n\":3")));
    ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 3; }));
  }
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_EQ(server.service.cancelled(), 4u);
  hold_all(server);
  for (const char* stream : {"true", "false"}) {
    RawClient client(server.port());
    client.send(post_request(kText, prompt(std::string("\"stream\":") + stream)));
    ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 1; }));
    client.close();
    EXPECT_TRUE(server.service.wait_idle());
  }
  EXPECT_EQ(server.service.cancelled(), 6u);
}

TEST(GatewayServer, LeavingIsSeenBehindPipelinedRequests) {
  TestServer server;
  hold_all(server);
  RawClient client(server.port());
  client.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 1; }));
  for (int i = 0; i < 100; ++i) client.send(get_request("/" + std::string(2000, 'a')));
  EXPECT_EQ(server.service.active(), 1u);
  client.close();
  EXPECT_TRUE(server.service.wait_idle());
  RawClient flood(server.port());  // far more ahead than anyone needs
  flood.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 1; }));
  flood.send(get_request("/" + std::string(2 << 20, 'a')));
  EXPECT_TRUE(server.service.wait_idle());
}

TEST(GatewayServer, StalledReadersAreCutOff) {
  HttpServerOptions options;
  options.outbound_bytes = 256 << 10;
  options.write_timeout = from_seconds(60);
  TestServer server(options);
  endless(server);
  server.service.turn = std::chrono::microseconds(10);
  const size_t before = resident_bytes();
  RawClient client(server.port());
  client.set_receive_buffer(4096);
  client.send(post_request(kText, prompt("\"stream\":true,\"n\":16")));
  ASSERT_TRUE(client.read_until("\"x\""));
  EXPECT_TRUE(TestServer::eventually([&] { return server.service.cancelled() == 16; }));
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_LT(resident_bytes(), before + (32u << 20));
}

TEST(GatewayServer, ReadersThatTakeNothingTimeOut) {
  TestServer server(quick());
  std::string text(7000, 'y');
  server.service.set_script([&](const GenerationRequest&) { return testing::text_script(text); });
  server.service.turn = std::chrono::microseconds(1);
  server.service.context = 1 << 20;
  RawClient client(server.port());
  client.set_receive_buffer(4096);
  // 8 choices × 7000 tokens with 5 log-probabilities each: far beyond the sockets' buffers.
  client.send(post_request(kText, prompt("\"n\":8,\"logprobs\":5")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.submitted() == 8; }));
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_EQ(server.service.cancelled(), 0u);
  EXPECT_TRUE(TestServer::eventually([&] { return server.server->state().connections == 0; }));
}

TEST(GatewayServer, HealthDoesNotWaitForPrompts) {
  TestServer server;
  std::atomic<bool> let_go{false};
  server.codec.on_content = [&](const std::string& text) {
    while (!let_go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return text;
  };
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(
        post_request("/v1/chat/completions",
                     R"({"messages":[{"role":"user","content":"long"}],"max_tokens":1})"));
  }
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/metrics").status, 200);
  EXPECT_EQ(server.service.submitted(), 0u);
  let_go = true;
  for (auto& client : clients) EXPECT_EQ(client->read_response().status, 200);
}

TEST(GatewayServer, TooManyConnections) {
  HttpServerOptions options;
  options.max_connections = 8;
  TestServer server(options);
  hold_all(server);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (size_t i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(post_request(kText, prompt("\"n\":1")));
    ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == i + 1; }));
  }
  const auto start = SteadyClock().now();
  std::vector<std::unique_ptr<RawClient>> more;
  for (int i = 0; i < 3; ++i) {  // one is heard out, the others are beyond that, too
    more.push_back(std::make_unique<RawClient>(server.port()));
    if (i > 0) more.back()->send(get_request("/health"));
  }
  for (auto& client : more) {
    const auto refused = client->read_response(5);
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.headers.count("retry-after"), 1u);
    EXPECT_TRUE(client->read_end(5));
  }
  EXPECT_LT(to_seconds(SteadyClock().now() - start), 5) << "a full house is told quickly";
  const auto refused = server.refused();
  EXPECT_EQ(std::count(refused.begin(), refused.end(), "connections"), 3);
  EXPECT_EQ(server.service.active(), 8u) << "nobody who works makes room";
  clients.clear();
  EXPECT_TRUE(TestServer::eventually([&] { return server.get("/health").status == 200; }));
}

TEST(GatewayServer, WhoWaitsLongestMakesRoom) {
  HttpServerOptions options;
  options.max_connections = 8;
  TestServer server(options);
  hold_all(server);
  RawClient busy(server.port());
  busy.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 1; }));
  RawClient silent(server.port());  // never says anything
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().connections == 2; }));
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(i == 0 ? "GET /health HTTP/1.1\r\nHo" : get_request("/health"));
    if (i == 0) continue;
    EXPECT_EQ(clients.back()->read_response().status, 200);
  }
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().connections == 8; }));
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_TRUE(silent.read_end(5)) << "it waited for longest";
  // One that has only begun a request makes room, too, in its turn; the newest stays.
  for (int i = 0; i < 40; ++i) EXPECT_EQ(server.get("/health").status, 200) << i;
  std::vector<std::unique_ptr<RawClient>> crowd;
  for (int i = 0; i < 40; ++i) {
    crowd.push_back(std::make_unique<RawClient>(server.port()));
    crowd.back()->send(get_request("/health"));
    EXPECT_EQ(crowd.back()->read_response().status, 200) << i;
  }
  for (auto& client : clients) EXPECT_TRUE(client->read_end(5));
  crowd.back()->send(get_request("/health"));
  EXPECT_EQ(crowd.back()->read_response().status, 200);
  EXPECT_EQ(server.service.active(), 1u);
  EXPECT_TRUE(TestServer::eventually([&] { return server.refused().size() >= 33; }));
  for (const std::string& reason : server.refused()) EXPECT_EQ(reason, "idle_closed");
}

TEST(GatewayServer, RunningOutOfDescriptors) {
  TestServer server;
  hold_all(server);
  RawClient steady(server.port());
  steady.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 1; }));
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 24; ++i) clients.push_back(std::make_unique<RawClient>());
  const int highest = dup(0);
  close(highest);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit low = before;
  low.rlim_cur = static_cast<rlim_t>(highest) + 6;  // six connections
  setrlimit(RLIMIT_NOFILE, &low);
  for (auto& client : clients) {
    client->connect(server.port());
    client->send(get_request("/health"));
  }
  // Who has been answered makes room for the next; who is being answered stays.
  for (auto& client : clients) EXPECT_EQ(client->read_response().status, 200);
  EXPECT_EQ(server.service.active(), 1u);
  const auto refused = server.refused();
  EXPECT_GT(std::count(refused.begin(), refused.end(), "descriptors"), 0);
  EXPECT_GT(std::count(refused.begin(), refused.end(), "idle_closed"), 0);
  setrlimit(RLIMIT_NOFILE, &before);
  clients.clear();
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(GatewayServer, TwoHundredStreams) {
  TestServer server;
  server.service.set_script([](const GenerationRequest& request) {
    return testing::text_script("stream " + std::to_string(request.seed) + " is whole");
  });
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 250; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(
        post_request(kText, prompt("\"stream\":true,\"seed\":" + std::to_string(i))));
  }
  for (int i = 200; i < 250; ++i) clients[static_cast<size_t>(i)]->close();
  for (size_t i = 0; i < 200; ++i) {
    const auto response = clients[i]->read_response(30);
    ASSERT_TRUE(response.complete);
    auto events = testing::sse_events(response.body);
    ASSERT_EQ(events.back(), "[DONE]");
    events.pop_back();
    std::string text;
    for (const auto& event : events) text += Json::parse(event)["choices"][0]["text"];
    EXPECT_EQ(text, "stream " + std::to_string(i) + " is whole");
  }
  clients.clear();
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_TRUE(TestServer::eventually([&] { return server.server->state().connections == 0; }));
}

TEST(GatewayServer, DrainLetsRequestsEnd) {
  TestServer server;
  server.service.turn = std::chrono::milliseconds(5);
  RawClient busy(server.port()), idle(server.port()), whole(server.port());
  idle.send(get_request("/health"));
  EXPECT_EQ(idle.read_response().status, 200);
  busy.send(post_request(kText, prompt("\"stream\":true")));
  whole.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.submitted() == 2; }));
  std::thread drain([&] { EXPECT_EQ(server.server->drain({.limit = from_seconds(10)}), 0u); });
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().draining; }));
  idle.send(post_request(kText, prompt("\"n\":1")));  // on a connection from before
  const auto refused = idle.read_response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.count("retry-after"), 1u);
  EXPECT_TRUE(idle.read_end(5));
  EXPECT_EQ(testing::sse_events(busy.read_response().body).back(), "[DONE]");
  const auto answer = whole.read_response();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("connection"), "close");
  busy.close();
  whole.close();
  drain.join();
}

// Until the last request has ended there is somebody to say what is going on.
TEST(GatewayServer, AnswersWhileDraining) {
  TestServer server;
  hold_all(server);
  RawClient busy(server.port());
  busy.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 1; }));
  std::thread drain([&] { EXPECT_EQ(server.server->drain({.limit = from_seconds(60)}), 0u); });
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().draining; }));
  for (int i = 0; i < 3; ++i) {
    const auto ready = server.get("/ready");
    EXPECT_EQ(ready.status, 503);
    EXPECT_EQ(Json::parse(ready.body)["status"], "draining");
    EXPECT_EQ(ready.headers.at("connection"), "close");
    EXPECT_EQ(server.get("/health").status, 200);
    EXPECT_EQ(server.get("/metrics").status, 200);
    EXPECT_EQ(server.get("/nothing").status, 404);
    for (const auto& refused : {server.post(kText, prompt("\"n\":1")), server.get("/cluster"),
                                server.post("/tokenize", "{")}) {
      EXPECT_EQ(refused.status, 503);
      EXPECT_EQ(refused.headers.at("connection"), "close");
      EXPECT_EQ(refused.headers.count("retry-after"), 1u);
      EXPECT_EQ(Json::parse(refused.body)["error"]["code"], "unavailable");
    }
  }
  RawClient silent(server.port());  // holds nothing up
  server.service.release_held();
  EXPECT_EQ(busy.read_response().status, 200);
  busy.close();
  drain.join();
  EXPECT_TRUE(silent.read_end());
  RawClient late;
  EXPECT_FALSE(late.try_connect(server.port())) << "it listens no more";
  const auto refused = server.refused();
  EXPECT_EQ(std::count(refused.begin(), refused.end(), "draining"), 9);
}

TEST(GatewayServer, SocketsEndAtExec) {
  TestServer server;
  RawClient client(server.port());
  client.send(get_request("/health"));
  EXPECT_EQ(client.read_response().status, 200);
  size_t sockets = 0;
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) continue;
    if (ntohs(address.sin_port) != server.port()) continue;
    ++sockets;  // the listener and the accepted connection
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << fd;
  }
  EXPECT_EQ(sockets, 2u);
}

TEST(GatewayServer, DrainCutsOffAtTheDeadline) {
  TestServer server;
  hold_all(server);
  RawClient client(server.port());
  client.send(post_request(kText, prompt("\"n\":2")));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 2; }));
  const auto start = SteadyClock().now();
  EXPECT_EQ(server.server->drain({.limit = from_seconds(0.3)}), 1u);
  EXPECT_LT(to_seconds(SteadyClock().now() - start), 3);
  EXPECT_TRUE(client.read_end(1));
  EXPECT_TRUE(server.service.wait_idle());
}

// Who is cut off hears why: as an event of its stream, or as the answer.
TEST(GatewayServer, LastWordsAtTheDeadline) {
  TestServer server;
  endless(server);
  RawClient stream(server.port()), whole(server.port());
  stream.send(post_request(kText, prompt("\"stream\":true")));
  whole.send(post_request(kText, prompt("\"n\":1")));
  ASSERT_TRUE(stream.read_until("\"x"));
  ASSERT_TRUE(TestServer::eventually([&] { return server.service.active() == 2; }));
  std::atomic<bool> hurry{false};
  HttpServer::Drain how;
  how.limit = from_seconds(60);
  how.hurry = &hurry;
  how.at_limit = [&] { server.service.fail_all(unavailable("the server is shutting down")); };
  size_t cut = 0;
  std::thread drain([&] { cut = server.server->drain(how); });
  ASSERT_TRUE(TestServer::eventually([&] { return server.server->state().draining; }));
  hurry = true;
  const auto answer = whole.read_response();
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(Json::parse(answer.body)["error"]["code"], "unavailable");
  const auto events = testing::sse_events(stream.read_response().body);
  EXPECT_EQ(Json::parse(events.back())["error"]["message"], "the server is shutting down");
  stream.close();
  whole.close();
  drain.join();
  EXPECT_EQ(cut, 2u);
  for (const auto& record : server.records()) EXPECT_TRUE(record.complete);
}

TEST(GatewayServer, ListenFailures) {
  TestServer server;
  HttpServerOptions options;
  options.port = server.port();
  const auto clash = HttpServer::listen(options);
  ASSERT_FALSE(clash);
  EXPECT_NE(clash.status().message().find(std::to_string(server.port())), std::string::npos);
  options.host = "203.0.113.7";  // not an address of this machine
  EXPECT_FALSE(HttpServer::listen(options));
  options.host = "localhost";
  options.port = 0;
  EXPECT_TRUE(HttpServer::listen(options));
}

}  // namespace
}  // namespace shoal::gateway

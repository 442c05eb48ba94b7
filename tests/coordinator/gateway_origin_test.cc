// Pages of other origins, request ids, and the records of requests.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/gateway/access_log.h"
#include "coordinator/gateway/cors.h"
#include "coordinator/gateway/json_reader.h"
#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::RawClient;
using testing::RawResponse;
using testing::TestServer;
using Origins = std::vector<std::string>;

constexpr const char* kKey = "sk-0123456789abcdef";
constexpr const char* kChat = "/v1/chat/completions";

std::string header(const RawResponse& response, const std::string& name) {
  const auto found = response.headers.find(name);
  return found == response.headers.end() ? "" : found->second;
}

std::string allowed(const RawResponse& response) {
  return header(response, "access-control-allow-origin");
}

GatewayOptions with_origins(const Origins& origins, bool keys = false) {
  GatewayOptions options;
  options.cors = CorsPolicy(origins, keys);
  return options;
}

RawResponse preflight(const TestServer& server, const std::string& origin,
                      const std::string& path = kChat, const std::string& more = "") {
  return testing::fetch(server.port(),
                        "OPTIONS " + path + " HTTP/1.1\r\nHost: x\r\nOrigin: " + origin +
                            "\r\nAccess-Control-Request-Method: POST\r\n" + more + "\r\n");
}

TEST(Cors, WhoMayCall) {
  struct Case {
    Origins origins;
    bool keys;
    const char* origin;
    bool allowed;
  };
  const Case cases[] = {
      {{}, false, "http://localhost:3000", false},
      {{"auto"}, false, "http://localhost:3000", true},
      {{"auto"}, false, "https://localhost", true},
      {{"auto"}, false, "http://127.0.0.1:5173", true},
      {{"auto"}, false, "http://127.8.9.1", true},
      {{"auto"}, false, "http://[::1]:80", true},
      {{"auto"}, false, "http://localhost.example.org", false},
      {{"auto"}, false, "http://127.0.0.1.example.org", false},
      {{"auto"}, false, "https://example.org", false},
      {{"auto"}, false, "null", false},
      {{"auto"}, false, "ftp://localhost", false},
      {{"auto"}, true, "https://example.org", true},
      {{"auto"}, true, "null", true},
      {{"*"}, false, "https://example.org", true},
      {{"*"}, false, "null", true},
      {{"null"}, false, "null", true},
      {{"null"}, false, "http://null", false},
      {{"https://a.example"}, false, "https://a.example", true},
      {{"https://a.example"}, false, "https://A.Example:443", true},
      {{"https://a.example"}, false, "http://a.example", false},
      {{"https://a.example"}, false, "https://a.example:8443", false},
      {{"https://a.example"}, false, "https://b.a.example", false},
      {{"https://a.example:8443"}, false, "https://a.example:8443", true},
      {{"https://a.example:8443"}, false, "https://a.example", false},
      {{"http://localhost:*"}, false, "http://localhost:1", true},
      {{"http://localhost:*"}, false, "http://localhost", true},
      {{"https://*.example.org"}, false, "https://a.b.example.org", true},
      {{"https://*.example.org"}, false, "https://example.org", false},
      {{"https://*.example.org"}, false, "https://evilexample.org", false},
      {{"https://*.example.org"}, false, "https://*.example.org", false},
      {{"http://localhost:*"}, false, "http://localhost:*", false},
      {{"chrome-extension://abcdef"}, false, "chrome-extension://abcdef", true},
      {{"https://a.example", "https://b.example"}, false, "https://b.example", true},
      {{"*"}, false, "", false},
      {{"auto"}, false, "http://localhost/", false},
      {{"auto"}, false, "http://user@localhost", false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(CorsPolicy(c.origins, c.keys).allows(c.origin), c.allowed)
        << (c.origins.empty() ? "nobody" : c.origins[0]) << " " << c.origin;
  }
}

TEST(Cors, PreflightNeedsNoKey) {
  TestServer server({}, {kKey}, with_origins({"https://chat.example"}));
  const auto yes =
      preflight(server, "https://chat.example", kChat,
                "Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n"
                "Access-Control-Request-Private-Network: true\r\n");
  EXPECT_EQ(yes.status, 204);
  EXPECT_EQ(allowed(yes), "https://chat.example");
  EXPECT_EQ(header(yes, "vary"), "Origin");
  EXPECT_NE(header(yes, "access-control-allow-methods").find("POST"), std::string::npos);
  EXPECT_EQ(header(yes, "access-control-allow-headers"),
            "authorization,content-type,x-stainless-os");
  EXPECT_EQ(header(yes, "access-control-allow-private-network"), "true");
  EXPECT_EQ(header(yes, "access-control-max-age"), "7200");

  const auto no = preflight(server, "https://evil.example");
  EXPECT_EQ(no.status, 204);
  EXPECT_EQ(allowed(no), "");
  EXPECT_EQ(header(no, "access-control-allow-methods"), "");
  EXPECT_EQ(header(no, "vary"), "Origin");
  // A path that does not exist: the page is to see the 404 of the request itself.
  EXPECT_EQ(preflight(server, "https://chat.example", "/nothing").status, 204);
  // OPTIONS otherwise is what it was.
  EXPECT_EQ(testing::fetch(server.port(), "OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").status,
            401);
  EXPECT_EQ(header(preflight(server, "https://chat.example", kChat,
                             "Access-Control-Request-Headers: a\"b\r\n"),
                   "access-control-allow-headers"),
            "Authorization, Content-Type, X-API-Key, X-Request-Id");
}

TEST(Cors, EveryAnswerCanBeReadByThePage) {
  TestServer server({}, {kKey}, with_origins({"auto"}, true));
  const std::string origin = "Origin: https://page.example\r\n";
  const std::string key = origin + "Authorization: Bearer " + kKey + "\r\n";
  EXPECT_EQ(allowed(server.get("/health", origin)), "*");
  EXPECT_EQ(allowed(server.get("/v1/models", origin)), "*");  // 401
  EXPECT_EQ(allowed(server.get("/v1/models", key)), "*");
  EXPECT_EQ(allowed(server.get("/nothing", key)), "*");
  EXPECT_EQ(allowed(server.post("/v1/completions", "{", key)), "*");
  EXPECT_EQ(allowed(server.post("/v1/completions", R"({"prompt":"a"})", key)), "*");
  const auto stream = server.post("/v1/completions", R"({"prompt":"a","stream":true})", key);
  EXPECT_EQ(allowed(stream), "*");
  EXPECT_NE(header(stream, "access-control-expose-headers").find("X-Request-Id"),
            std::string::npos);
  EXPECT_EQ(header(stream, "access-control-allow-credentials"), "");
  EXPECT_EQ(allowed(server.get("/health")), "");  // no page asks
}

TEST(RequestIds, AreEchoedOrMade) {
  TestServer server;
  const auto id = [&](const std::string& headers, const std::string& path = "/health") {
    return header(server.get(path, headers), "x-request-id");
  };
  EXPECT_EQ(id("X-Request-Id: my-id/1.2\r\n"), "my-id/1.2");
  EXPECT_EQ(id("X-Request-Id: " + std::string(128, 'a') + "\r\n"), std::string(128, 'a'));
  EXPECT_EQ(id("X-Request-Id: x\r\n", "/nothing"), "x");
  for (const std::string& given :
       {std::string(), "X-Request-Id:\r\n" + std::string(), "X-Request-Id: a b\r\n" + std::string(),
        "X-Request-Id: \xc3\xa9\r\n" + std::string(),
        "X-Request-Id: " + std::string(129, 'a') + "\r\n"}) {
    const std::string made = id(given);
    EXPECT_TRUE(made.starts_with("req-") && made.size() == 36) << given << made;
  }
  EXPECT_NE(id(""), id(""));
  const auto stream =
      server.post("/v1/completions", R"({"prompt":"a","stream":true})", "x-request-id: s\r\n");
  EXPECT_EQ(header(stream, "x-request-id"), "s");
  EXPECT_EQ(stream.body.find("\"id\":\"s\""), std::string::npos);  // answers' ids are unique
}

TEST(Records, SayWhatBecameOfEachRequest) {
  TestServer server({}, {kKey});
  const std::string key = "X-API-Key: " + std::string(kKey) + "\r\n";
  const std::string query = "/v1/models?secret=1";
  server.get(query, key + "X-Request-Id: one\r\n");
  server.get("/v1/models");
  testing::fetch(server.port(), "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", true);
  server.post("/v1/completions", R"({"prompt":"abc","max_tokens":2})", key);
  server.post("/v1/completions", R"({"prompt":"abc","max_tokens":3,"stream":true})", key);
  testing::fetch(server.port(), "nonsense\r\n\r\n");
  ASSERT_TRUE(TestServer::eventually([&] { return server.records().size() == 6; }));
  const auto records = server.records();
  const auto line = [&](size_t i, bool keys = true) {
    HttpRecord record = records[i];
    record.seconds = 0.0125;
    return access_line(record, keys);
  };
  EXPECT_EQ(line(0).substr(0, 52), "access method=GET path=/v1/models status=200 bytes=" +
                                       std::to_string(records[0].body_bytes).substr(0, 1));
  EXPECT_TRUE(line(0).ends_with(" ms=12.5 key=1 peer=127.0.0.1 id=one")) << line(0);
  EXPECT_EQ(line(0).find("secret"), std::string::npos);
  EXPECT_EQ(records[1].status, 401);
  EXPECT_EQ(line(1).find("key="), std::string::npos);
  EXPECT_EQ(line(0, false).find("key="), std::string::npos);
  EXPECT_EQ(records[2].method, "HEAD");
  EXPECT_EQ(records[2].body_bytes, 0u);
  EXPECT_NE(line(3).find(" prompt_tokens=4 generated_tokens=2 "), std::string::npos) << line(3);
  EXPECT_GT(records[4].body_bytes, records[3].body_bytes);
  EXPECT_EQ(records[4].generated_tokens, 3u);
  EXPECT_TRUE(line(5).starts_with("access method=- path=- status=400 ")) << line(5);
  for (const auto& record : records) EXPECT_TRUE(record.complete);
}

TEST(Records, ThatAClientLeft) {
  TestServer server;
  server.service.set_script([](const GenerationRequest&) {
    testing::Script script = testing::text_script("xxxx");
    script.endless = true;
    return script;
  });
  {
    RawClient client(server.port());
    client.send(testing::post_request("/v1/completions",
                                      R"({"prompt":"a","stream":true,"max_tokens":4000})"));
    ASSERT_TRUE(client.read_until("\"x\""));
  }
  {
    RawClient client(server.port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    client.shutdown_send();
    client.read_end();
  }
  ASSERT_TRUE(TestServer::eventually([&] { return server.records().size() == 2; }));
  auto records = server.records();
  if (records[0].status != 200) std::swap(records[0], records[1]);
  EXPECT_FALSE(records[0].complete);
  EXPECT_GE(records[0].generated_tokens, 1u);
  EXPECT_NE(access_line(records[0], false).find(" complete=false "), std::string::npos);
  EXPECT_EQ(records[1].status, kClientClosedRequest);
}

TEST(AccessLog, PathsAndIdsKeepToTheirPlace) {
  HttpRecord record;
  record.method = "GET";
  record.path = "/a b\"c=d\\e\n\x01\xff\xc3\xa9%41";
  record.peer = "::1";
  record.status = 404;
  record.complete = true;
  record.ticket.request_id = "a\"b=c";
  const std::string line = access_line(record, false);
  EXPECT_NE(line.find(" path=/a%20b%22c%3Dd%5Ce%0A%01%FF%C3%A9%2541 "), std::string::npos) << line;
  EXPECT_TRUE(line.ends_with(" id=a%22b%3Dc")) << line;
  record.path = "/" + std::string(5000, 'x');
  EXPECT_LT(access_line(record, false).size(), 400u);
}

TEST(AccessLog, WhatGetsALine) {
  const auto lines = [](config::AccessLog kind, double sample, int status, const char* route,
                        bool complete = true) {
    uint64_t draw = 0;
    int count = 0;
    const AccessLog log(
        {kind, sample, false}, [&] { return draw += uint64_t{1} << 62; },
        [&](const std::string&) { ++count; });
    HttpRecord record;
    record.status = status;
    record.complete = complete;
    record.ticket.route_name = route;
    for (int i = 0; i < 8; ++i) log.write(record);
    return count;
  };
  using enum config::AccessLog;
  EXPECT_EQ(lines(kOff, 1, 500, kChat), 0);
  EXPECT_EQ(lines(kRequests, 1, 200, kChat), 8);
  EXPECT_EQ(lines(kRequests, 1, 200, "/health"), 0);
  EXPECT_EQ(lines(kRequests, 1, 503, "/ready"), 8);
  EXPECT_EQ(lines(kRequests, 1, 200, "/metrics"), 0);
  EXPECT_EQ(lines(kAll, 1, 200, "/metrics"), 8);
  EXPECT_EQ(lines(kRequests, 0.5, 200, kChat), 4);  // of draws 1/4, 2/4, 3/4, 0 …
  EXPECT_EQ(lines(kRequests, 0.2, 200, kChat), 2);
  EXPECT_EQ(lines(kRequests, 0.2, 404, kChat), 8);
  EXPECT_EQ(lines(kRequests, 0.2, 200, kChat, false), 8);
}

}  // namespace
}  // namespace shoal::gateway

// What the gateway says of each exchange to others: to the metrics how it ended, to the core
// whose prefixes it may share.
#include <gtest/gtest.h>

#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::RawClient;
using testing::TestServer;
using Observed = TestServer::Observed;

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kKeys[] = {"sk-0123456789abcdef", "sk-fedcba9876543210"};

TEST(GatewayExchanges, AreReportedByRouteAndStatus) {
  TestServer server({}, {kKeys[0]});
  const std::string key = "x-api-key: " + std::string(kKeys[0]) + "\r\n";
  server.get("/health");
  server.get("/v1/models");
  server.get("/v1/models/some/name", key);
  server.get("/v1/secret-text-of-a-client", key);
  server.get("/nothing");
  server.get(kCompletions, key);
  server.post(kCompletions, R"({"prompt":1})", key);
  server.post(kCompletions, R"({"prompt":"a"})", key);
  server.post(kCompletions, R"({"prompt":"a","stream":true})", key);
  EXPECT_TRUE(TestServer::eventually([&] { return server.observed().size() == 9; }));
  const std::vector<Observed> expected = {
      {"/health", 200},    {"/v1/models", 401}, {"/v1/models/*", 404},
      {"other", 404},      {"other", 401},      {kCompletions, 405},
      {kCompletions, 400}, {kCompletions, 200}, {kCompletions, 200},
  };
  EXPECT_EQ(server.observed(), expected);
}

TEST(GatewayExchanges, ThatTheClientLeftAreReportedOnce) {
  TestServer server;
  server.service.set_script([](const GenerationRequest&) {
    testing::Script script;
    script.tokens = {65};
    script.endless = true;
    return script;
  });
  {  // in the middle of a stream
    RawClient client(server.port());
    client.send(
        testing::post_request(kCompletions, R"({"prompt":"a","stream":true,"max_tokens":4000})"));
    ASSERT_TRUE(client.read_until("\"A\""));
    EXPECT_TRUE(server.observed().empty()) << "it has not ended yet";
  }
  EXPECT_TRUE(TestServer::eventually([&] { return server.observed().size() == 1; }));
  server.service.set_script([](const GenerationRequest&) {
    testing::Script script;
    script.hold = true;
    return script;
  });
  {  // before there was anything to send
    RawClient client(server.port());
    client.send(testing::post_request(kCompletions, R"({"prompt":"a"})"));
    ASSERT_TRUE(TestServer::eventually([&] { return server.service.submitted() == 2; }));
  }
  EXPECT_TRUE(TestServer::eventually([&] { return server.observed().size() == 2; }));
  EXPECT_TRUE(server.service.wait_idle());
  EXPECT_EQ(server.observed(), (std::vector<Observed>{{kCompletions, 200}, {kCompletions, 499}}));
}

TEST(GatewayExchanges, ShareCachedPrefixesOnlyWithinOneKeyAndSalt) {
  TestServer server({}, {kKeys[0], kKeys[1]});
  const auto scope = [&](int key, const std::string& salt) {
    const std::string body = R"({"prompt":"a")" + salt + "}";
    const auto response = server.post(kCompletions, body,
                                      "Authorization: Bearer " + std::string(kKeys[key]) + "\r\n");
    EXPECT_EQ(response.status, 200) << response.body;
    return server.service.requests().back().cache_scope;
  };
  const std::string first = scope(0, "");
  EXPECT_EQ(scope(0, ""), first);
  EXPECT_EQ(scope(0, R"(,"cache_salt":null)"), first);
  EXPECT_NE(scope(1, ""), first);
  const std::string salted = scope(0, R"(,"cache_salt":"tenant")");
  EXPECT_NE(salted, first);
  EXPECT_EQ(scope(0, R"(,"cache_salt":"tenant")"), salted);
  EXPECT_NE(scope(1, R"(,"cache_salt":"tenant")"), salted);
  // No salt reaches what belongs to another key.
  for (const std::string& other : {scope(1, ""), scope(1, R"(,"cache_salt":"x")")}) {
    EXPECT_NE(scope(0, R"(,"cache_salt":")" + other + "\""), other);
  }
  // All choices and prompts of a request are one scope; chat and completions, too.
  server.post(kCompletions, R"({"prompt":["a","b"],"n":2})",
              "x-api-key: " + std::string(kKeys[0]) + "\r\n");
  const auto requests = server.service.requests();
  for (size_t i = requests.size() - 4; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].cache_scope, first);
  }
  for (const char* bad :
       {R"({"prompt":"a","cache_salt":1})", R"({"prompt":"a","cache_salt":[]})"}) {
    EXPECT_EQ(server.post(kCompletions, bad, "x-api-key: " + std::string(kKeys[0]) + "\r\n").status,
              400);
  }
  const std::string endless(1025, 'x');
  EXPECT_EQ(server
                .post(kCompletions, R"({"prompt":"a","cache_salt":")" + endless + "\"}",
                      "x-api-key: " + std::string(kKeys[0]) + "\r\n")
                .status,
            400);
}

}  // namespace
}  // namespace shoal::gateway

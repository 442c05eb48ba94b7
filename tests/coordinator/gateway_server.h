// The real gateway on a real HTTP server on loopback, with a fake service behind it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/http_server.h"
#include "tests/coordinator/fake_service.h"
#include "tests/coordinator/gateway_fakes.h"
#include "tests/coordinator/raw_client.h"

namespace shoal::gateway::testing {

class TestServer {
 public:
  explicit TestServer(HttpServerOptions options = {}, std::vector<std::string> keys = {},
                      GatewayOptions gateway_options = {});
  ~TestServer();

  uint16_t port() const { return server->port(); }
  RawResponse post(const std::string& path, const std::string& body,
                   const std::string& headers = "") const {
    return fetch(port(), post_request(path, body, headers));
  }
  RawResponse get(const std::string& path, const std::string& headers = "") const {
    return fetch(port(), get_request(path, headers));
  }
  // Waits for a condition, at most kPatience.
  static bool eventually(const std::function<bool()>& condition);

  struct Observed {
    std::string route;
    int status = 0;
    friend bool operator==(const Observed&, const Observed&) = default;
  };
  std::vector<Observed> observed() const;    // exchanges that ended, in that order
  std::vector<HttpRecord> records() const;   // the same in full
  std::vector<std::string> faults() const;   // "ROUTE kind" of exceptions kept within requests
  std::vector<std::string> refused() const;  // why requests and connections were, in that order

 private:  // outlive everything that holds an exchange
  mutable std::mutex mutex_;
  std::vector<Observed> observed_;
  std::vector<HttpRecord> records_;
  std::vector<std::string> faults_;
  std::vector<std::string> refused_;

 public:
  FakeCodec codec;
  FakeService service;
  std::unique_ptr<Gateway> gateway;
  std::unique_ptr<HttpServer> server;
};

}  // namespace shoal::gateway::testing

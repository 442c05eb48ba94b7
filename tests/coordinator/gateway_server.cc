#include "tests/coordinator/gateway_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace shoal::gateway::testing {

TestServer::TestServer(HttpServerOptions options, std::vector<std::string> keys,
                       GatewayOptions gateway_options) {
  GatewayDependencies deps;
  deps.service = &service;
  deps.codec = &codec;
  deps.keys = ApiKeys::from_keys(keys).value();
  deps.metrics = [] { return std::string("shoal_up 1\n"); };
  deps.wall_seconds = [] { return int64_t{1700000000}; };
  deps.random = [counter = std::make_shared<std::atomic<uint64_t>>(1)] { return (*counter)++; };
  deps.on_record = [this](const HttpRecord& record) {
    EXPECT_GE(record.seconds, 0.0);
    std::lock_guard lock(mutex_);
    observed_.push_back({std::string(record.ticket.route_name), record.status});
    records_.push_back(record);
  };
  deps.fault_observer = [this](std::string_view route, std::string_view kind) {
    std::lock_guard lock(mutex_);
    faults_.push_back(std::string(route) + " " + std::string(kind));
  };
  deps.refusal_observer = [this](std::string_view reason) {
    std::lock_guard lock(mutex_);
    refused_.emplace_back(reason);
  };
  options.port = 0;
  server = HttpServer::listen(options).value();
  deps.http = [this] { return server->state(); };
  gateway_options.served_model = "test/model";
  gateway_options.system_fingerprint = "fp";
  gateway = std::make_unique<Gateway>(std::move(deps), gateway_options);
  server->serve(*gateway);
}

TestServer::~TestServer() {
  server->drain({});  // while there still is a server to ask for its state
  server.reset();
}

std::vector<TestServer::Observed> TestServer::observed() const {
  std::lock_guard lock(mutex_);
  return observed_;
}

std::vector<HttpRecord> TestServer::records() const {
  std::lock_guard lock(mutex_);
  return records_;
}

std::vector<std::string> TestServer::refused() const {
  std::lock_guard lock(mutex_);
  return refused_;
}

std::vector<std::string> TestServer::faults() const {
  std::lock_guard lock(mutex_);
  return faults_;
}

bool TestServer::eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

}  // namespace shoal::gateway::testing

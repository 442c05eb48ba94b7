// A coordinator and workers over real sockets on loopback.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "wire/zmq_link.h"

namespace shoal::wire::testing {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Generous: only a failing test waits that long, and test machines are busy.
inline constexpr Duration kPatience = seconds(20);

class ZmqTest : public ::testing::Test {
 protected:
  const CurveKeyPair coordinator_keys_ = make_curve_keys().value();
  const CurveKeyPair a_ = make_curve_keys().value(), b_ = make_curve_keys().value();

  ZmqCoordinatorOptions coordinator_options(uint16_t port = 0) const {
    ZmqCoordinatorOptions options;
    options.port = port;
    options.keys = coordinator_keys_;
    options.allowed = {{a_.public_key, "a"}, {b_.public_key, "b"}};
    return options;
  }
  std::unique_ptr<ZmqCoordinatorLink> coordinator(uint16_t port = 0) const {
    auto link = ZmqCoordinatorLink::bind(coordinator_options(port));
    EXPECT_TRUE(link.is_ok()) << link.status().to_string();
    return std::move(link).value();
  }
  std::unique_ptr<ZmqWorkerLink> worker(const std::string& endpoint, const CurveKeyPair& keys,
                                        uint64_t incarnation = 0) const {
    auto link = ZmqWorkerLink::connect({endpoint, coordinator_keys_.public_key, keys, incarnation});
    EXPECT_TRUE(link.is_ok()) << link.status().to_string();
    return std::move(link).value();
  }

  // Calls `step` until it holds.
  static bool eventually(const std::function<bool()>& step, Duration patience = kPatience) {
    const TimePoint deadline = std::chrono::steady_clock::now() + patience;
    while (!step()) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
    }
    return true;
  }
  // Until the worker's message is through: it connects in the background.
  static bool send_soon(ZmqWorkerLink& link, const ToCoordinator& message,
                        Duration patience = kPatience) {
    return eventually(
        [&] {
          if (link.send(message)) return true;
          link.wake();  // looks at the connection's state without waiting
          (void)link.receive({});
          std::this_thread::sleep_for(milliseconds(2));
          return false;
        },
        patience);
  }
  // The peer id under which the coordinator knows `link` after its first message.
  static PeerId introduce(ZmqCoordinatorLink& server, ZmqWorkerLink& link) {
    EXPECT_TRUE(send_soon(link, WorkerHeartbeat{1, 0, 0, false}));
    const auto incoming = server.receive(kPatience);
    EXPECT_TRUE(incoming.has_value());
    return incoming ? incoming->peer : "";
  }
  static uint16_t port_of(const ZmqCoordinatorLink& server) {
    return static_cast<uint16_t>(
        std::stoi(server.endpoint().substr(server.endpoint().rfind(':') + 1)));
  }
};

}  // namespace shoal::wire::testing

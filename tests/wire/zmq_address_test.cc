// Links over addresses of both families, and names.
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/descriptor.h"
#include "base/host.h"
#include "tests/wire/zmq_fixture.h"

namespace shoal::wire {
namespace {

const ToCoordinator kSign = WorkerHeartbeat{1, 0, 0, false};

class ZmqAddresses : public testing::ZmqTest {
 protected:
  static bool has_ipv6() {
    const Descriptor socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    return socket.valid() &&
           ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  std::unique_ptr<ZmqCoordinatorLink> listen(const std::string& host) {
    auto options = coordinator_options();
    options.host = host;
    auto link = ZmqCoordinatorLink::bind(options);
    EXPECT_TRUE(link.is_ok()) << host << ": " << link.status().to_string();
    return std::move(link).value();
  }
  // A worker that connects to `host` is heard.
  bool joins(ZmqCoordinatorLink& link, const std::string& host) {
    const std::string endpoint = "tcp://" + format_host_port({.host = host, .port = port_of(link)});
    const auto from = worker(endpoint, a_);
    if (!send_soon(*from, kSign)) return false;
    return eventually([&] {
      while (link.next_disconnected()) {  // the worker before
      }
      return link.receive(testing::milliseconds(100)).has_value();
    });
  }
};

TEST_F(ZmqAddresses, Ipv6) {
  if (!has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  const auto link = listen("::1");
  EXPECT_EQ(link->endpoint().rfind("tcp://[::1]:", 0), 0u) << link->endpoint();
  EXPECT_TRUE(joins(*link, "::1"));
}

TEST_F(ZmqAddresses, EveryInterfaceOfBothFamilies) {
  if (!has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  const auto link = listen("::");
  EXPECT_TRUE(joins(*link, "::1"));
  EXPECT_TRUE(joins(*link, "127.0.0.1"));
}

TEST_F(ZmqAddresses, LocalhostIsBothLoopbackAddresses) {
  const auto link = listen("localhost");
  EXPECT_TRUE(joins(*link, "127.0.0.1"));
  EXPECT_TRUE(joins(*link, "localhost"));
  EXPECT_TRUE(!has_ipv6() || joins(*link, "::1"));
}

// The first address of localhost refuses; the second is tried.
TEST_F(ZmqAddresses, ANameIsTriedAddressByAddress) {
  if (!has_ipv6()) GTEST_SKIP() << "no IPv6 on this machine";
  const auto link = listen("::1");
  EXPECT_TRUE(joins(*link, "localhost"));
}

TEST_F(ZmqAddresses, AConnectionFindsItsWayBack) {
  auto link = listen("localhost");
  const uint16_t port = port_of(*link);
  const auto from = worker("tcp://localhost:" + std::to_string(port), a_);
  ASSERT_TRUE(send_soon(*from, kSign));
  link.reset();
  ASSERT_TRUE(eventually([&] {
    from->wake();
    (void)from->receive({});
    return !from->connected();
  }));
  auto options = coordinator_options(port);
  options.host = has_ipv6() ? "::1" : "127.0.0.1";  // where it was not before
  const auto again = ZmqCoordinatorLink::bind(options);
  ASSERT_TRUE(again.is_ok()) << again.status().to_string();
  EXPECT_TRUE(send_soon(*from, kSign));
}

TEST_F(ZmqAddresses, ErrorsNameTheAddress) {
  auto options = coordinator_options();
  options.host = "203.0.113.7";  // TEST-NET-3: nobody's
  const Status foreign = ZmqCoordinatorLink::bind(options).status();
  EXPECT_NE(foreign.message().find("203.0.113.7:0"), std::string::npos) << foreign.message();
  EXPECT_NE(foreign.message().find("does not have that address"), std::string::npos);
  const auto first = listen("127.0.0.1");
  options.host = "127.0.0.1";
  options.port = port_of(*first);
  const Status taken = ZmqCoordinatorLink::bind(options).status();
  EXPECT_NE(taken.message().find("another program uses that port"), std::string::npos)
      << taken.message();
  for (const char* endpoint : {"10.0.0.1:1", "tcp://10.0.0.1", "tcp://::1:7070", "tcp://[::1]:0",
                               "tcp://[::1]:70700", "tcp://:7070"}) {
    const auto link = ZmqWorkerLink::connect({endpoint, coordinator_keys_.public_key, a_, 1});
    EXPECT_EQ(link.status().code(), Code::kInvalidArgument) << endpoint;
  }
}

}  // namespace
}  // namespace shoal::wire

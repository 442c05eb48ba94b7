// The links among enemies: nobody without a listed key gets in, and nobody disturbs the others.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include <gtest/gtest.h>

#include "base/rng.h"
#include "tests/support/support.h"
#include "tests/wire/sample_messages.h"
#include "tests/wire/zmq_fixture.h"
#include "wire/codec.h"
#include "wire/zmq_socket.h"

namespace shoal::wire::testing {
namespace {

// A DEALER that speaks whatever a test wants, below the worker link.
class RawClient {
 public:
  RawClient() : socket_(ZmqSocket::open(context_, ZMQ_DEALER).value()) {
    EXPECT_TRUE(socket_.set(ZMQ_LINGER, 0, "LINGER"));
    EXPECT_TRUE(socket_.set(ZMQ_IMMEDIATE, 1, "IMMEDIATE"));
  }
  RawClient& curve(const std::string& server_key, const CurveKeyPair& keys) {
    EXPECT_TRUE(socket_.set(ZMQ_CURVE_SERVERKEY, server_key, "CURVE_SERVERKEY"));
    EXPECT_TRUE(socket_.set(ZMQ_CURVE_PUBLICKEY, keys.public_key, "CURVE_PUBLICKEY"));
    EXPECT_TRUE(socket_.set(ZMQ_CURVE_SECRETKEY, keys.secret_key, "CURVE_SECRETKEY"));
    return *this;
  }
  RawClient& option(int option, std::string_view value) {
    EXPECT_TRUE(socket_.set(option, value, "option"));
    return *this;
  }
  RawClient& connect(const std::string& endpoint) {
    EXPECT_EQ(zmq_connect(socket_.handle(), endpoint.c_str()), 0);
    return *this;
  }
  // Sends all parts as soon as the handshake is through; false if that takes longer.
  bool send(const std::vector<std::string>& parts, Duration patience = kPatience) {
    EXPECT_TRUE(socket_.set(ZMQ_SNDTIMEO, poll_milliseconds(patience), "SNDTIMEO"));
    for (size_t i = 0; i < parts.size(); ++i) {
      const int flags = i + 1 < parts.size() ? ZMQ_SNDMORE : 0;
      if (zmq_send(socket_.handle(), parts[i].data(), parts[i].size(), flags) < 0) return false;
    }
    return true;
  }

 private:
  ZmqContext context_;
  ZmqSocket socket_;
};

class ZmqSecurityTest : public ZmqTest {
 protected:
  // What a well-behaved worker sends, for raw clients.
  std::string frame(const ToCoordinator& message, uint64_t sequence = 1,
                    uint64_t incarnation = 9) const {
    return encode(message, {kProtocolVersion, cluster_id(coordinator_keys_.public_key), incarnation,
                            sequence, 0});
  }
  std::string beat(uint64_t sequence = 1, uint64_t incarnation = 9) const {
    return frame(WorkerHeartbeat{1, 0, 0, false}, sequence, incarnation);
  }
  // A worker with a listed key still gets through, both ways.
  void expect_others_undisturbed(ZmqCoordinatorLink& server) {
    auto client = worker(server.endpoint(), b_);
    const PeerId peer = introduce(server, *client);
    EXPECT_TRUE(peer.starts_with("b#")) << peer;
    EXPECT_TRUE(server.send(peer, CoordinatorHeartbeat{1}).is_ok());
    EXPECT_TRUE(client->receive(kPatience).has_value());
    client.reset();
    while (!server.next_disconnected()) (void)server.receive(milliseconds(50));
  }
  // Nothing gets out of the coordinator's link for a while.
  static void expect_silence(ZmqCoordinatorLink& server, Duration time = milliseconds(300)) {
    const TimePoint end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      EXPECT_FALSE(server.receive(milliseconds(20)).has_value());
    }
  }
};

constexpr Duration kBrief = std::chrono::milliseconds(500);

TEST_F(ZmqSecurityTest, TheHelperClientIsAdmittedWithAListedKey) {
  auto server = coordinator();
  RawClient client;
  client.curve(coordinator_keys_.public_key, a_).connect(server->endpoint());
  ASSERT_TRUE(client.send({beat()})) << "or the refusals below prove nothing";
  EXPECT_EQ(server->receive(kPatience)->peer, "a#0000000000000009");
}

TEST_F(ZmqSecurityTest, AnUnlistedKeyIsRefused) {
  auto server = coordinator();
  RawClient client;
  client.curve(coordinator_keys_.public_key, make_curve_keys().value()).connect(server->endpoint());
  EXPECT_FALSE(client.send({beat()}, kBrief));
  expect_silence(*server);
  EXPECT_GE(server->counters().refused_keys, 1u);
  expect_others_undisturbed(*server);
}

TEST_F(ZmqSecurityTest, AListedPublicKeyWithoutItsSecretIsRefused) {
  auto server = coordinator();
  RawClient client;
  client.curve(coordinator_keys_.public_key, {a_.public_key, b_.secret_key})
      .connect(server->endpoint());
  EXPECT_FALSE(client.send({beat()}, kBrief));
  expect_silence(*server);
  expect_others_undisturbed(*server);
}

TEST_F(ZmqSecurityTest, AClientWithAWrongServerKeyIsRefused) {
  auto server = coordinator();
  RawClient client;
  client.curve(make_curve_keys()->public_key, a_).connect(server->endpoint());
  EXPECT_FALSE(client.send({beat()}, kBrief));
  expect_silence(*server);
  expect_others_undisturbed(*server);
}

TEST_F(ZmqSecurityTest, NullAndPlainClientsAreRefused) {
  auto server = coordinator();
  RawClient null_client, plain_client;
  null_client.connect(server->endpoint());
  EXPECT_FALSE(null_client.send({beat()}, kBrief));
  plain_client.option(ZMQ_PLAIN_USERNAME, "a")
      .option(ZMQ_PLAIN_PASSWORD, "a")
      .connect(server->endpoint());
  EXPECT_FALSE(plain_client.send({beat()}, kBrief));
  expect_silence(*server);
  EXPECT_GE(server->counters().refused_handshakes, 2u);
  EXPECT_EQ(server->counters().refused_keys, 0u);
  expect_others_undisturbed(*server);
}

TEST_F(ZmqSecurityTest, WithoutAuthenticationNobodyGetsIn) {
  auto server = coordinator();
  auto before = worker(server->endpoint(), b_);
  const PeerId peer = introduce(*server, *before);
  server->stop_admission();  // the ZAP thread is gone; CURVE alone would let the next one in
  RawClient client;
  client.curve(coordinator_keys_.public_key, a_).connect(server->endpoint());
  EXPECT_FALSE(client.send({beat()}, seconds(1)));
  expect_silence(*server);
  EXPECT_TRUE(server->send(peer, CoordinatorHeartbeat{1}).is_ok()) << "who was in stays in";
  EXPECT_TRUE(before->receive(kPatience).has_value());
}

TEST_F(ZmqSecurityTest, TheAllowListCanChange) {
  auto server = coordinator();
  const CurveKeyPair fresh = make_curve_keys().value();
  RawClient early;
  early.curve(coordinator_keys_.public_key, fresh).connect(server->endpoint());
  EXPECT_FALSE(early.send({beat()}, milliseconds(200)));
  ASSERT_TRUE(server->set_allowed({{fresh.public_key, "fresh"}}));
  RawClient client;
  client.curve(coordinator_keys_.public_key, fresh).connect(server->endpoint());
  ASSERT_TRUE(client.send({beat()}));
  const auto incoming = server->receive(kPatience);
  ASSERT_TRUE(incoming.has_value());
  EXPECT_EQ(incoming->peer, "fresh#0000000000000009");
  RawClient removed;
  removed.curve(coordinator_keys_.public_key, a_).connect(server->endpoint());
  EXPECT_FALSE(removed.send({beat()}, kBrief));
  EXPECT_EQ(server->set_allowed({{fresh.public_key, "../x"}}).code(), Code::kInvalidArgument);
}

TEST_F(ZmqSecurityTest, BadKeysAreRefusedAtTheStart) {
  const CurveKeyPair documented{"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
                                "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"};
  ZmqCoordinatorOptions options = coordinator_options();
  options.keys = documented;
  EXPECT_EQ(ZmqCoordinatorLink::bind(options).status().code(), Code::kInvalidArgument);
  options.keys = {};
  EXPECT_EQ(ZmqCoordinatorLink::bind(options).status().code(), Code::kInvalidArgument)
      << "there is no way to listen without keys";
  options = coordinator_options();
  options.allowed.emplace("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "c");
  EXPECT_EQ(ZmqCoordinatorLink::bind(options).status().code(), Code::kInvalidArgument);
  options = coordinator_options();
  options.allowed.begin()->second = "coordinator";
  EXPECT_EQ(ZmqCoordinatorLink::bind(options).status().code(), Code::kInvalidArgument);

  const std::string where = "tcp://127.0.0.1:1";
  EXPECT_FALSE(ZmqWorkerLink::connect({where, documented.public_key, a_, 0}).is_ok());
  EXPECT_FALSE(
      ZmqWorkerLink::connect({where, coordinator_keys_.public_key, documented, 0}).is_ok());
  EXPECT_FALSE(
      ZmqWorkerLink::connect({"ipc:///tmp/x", coordinator_keys_.public_key, a_, 0}).is_ok());
  EXPECT_FALSE(
      ZmqWorkerLink::connect({"tcp://nowhere", coordinator_keys_.public_key, a_, 0}).is_ok());
}

TEST_F(ZmqSecurityTest, AnAddressInUseIsAnError) {
  auto server = coordinator();
  const auto second = ZmqCoordinatorLink::bind(coordinator_options(port_of(*server)));
  ASSERT_FALSE(second.is_ok());
  EXPECT_NE(second.status().message().find(server->endpoint()), std::string::npos)
      << second.status().message();
}

int tcp_connect(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

TEST_F(ZmqSecurityTest, GarbageOnThePortDisturbsNobody) {
  auto server = coordinator();
  auto client = worker(server->endpoint(), a_);
  const PeerId peer = introduce(*server, *client);
  Rng rng(shoal::testing::test_seed(3));
  std::vector<int> open;
  for (int i = 0; i < 60; ++i) {
    const int fd = tcp_connect(port_of(*server));
    std::string garbage;
    switch (i % 4) {
      case 0:
        garbage = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        break;
      case 1:
        break;  // connects and says nothing
      case 2:   // a ZMTP 3.0 greeting with CURVE, then noise
        garbage = std::string("\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE", 17) + std::string(47, '\0');
        [[fallthrough]];
      default:
        for (uint64_t n = rng.below(4000); n > 0; --n) garbage += static_cast<char>(rng());
    }
    (void)!::send(fd, garbage.data(), garbage.size(), MSG_NOSIGNAL);
    i % 2 == 0 ? open.push_back(fd) : static_cast<void>(::close(fd));
  }
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(client->send(WorkerHeartbeat{1, 0, 0, false}).is_ok());
    const auto incoming = server->receive(kPatience);
    ASSERT_TRUE(incoming.has_value());
    EXPECT_EQ(incoming->peer, peer);
  }
  EXPECT_EQ(server->next_disconnected(), std::nullopt);
  expect_others_undisturbed(*server);
  for (const int fd : open) ::close(fd);
}

TEST_F(ZmqSecurityTest, OversizeMessagesEndTheConnectionOnly) {
  auto server = coordinator();
  RawClient client;
  client.curve(coordinator_keys_.public_key, a_).connect(server->endpoint());
  ASSERT_TRUE(client.send({std::string((20u << 20), 'x')}));
  expect_silence(*server);
  EXPECT_EQ(server->counters().rejected_messages, 0u) << "it never arrives";
  expect_others_undisturbed(*server);
}

TEST_F(ZmqSecurityTest, InvalidMessagesAreDroppedAndThenTheirSender) {
  auto server = coordinator();
  RawClient client;
  client.curve(coordinator_keys_.public_key, a_).connect(server->endpoint());
  ASSERT_TRUE(client.send({beat(1)}));
  EXPECT_TRUE(server->receive(kPatience).has_value());
  const std::vector<std::vector<std::string>> invalid = {
      {"garbage"},
      {""},
      {"", beat(2)},  // a REQ's empty delimiter
      {encode(ToWorker(sample_assign()),
              {kProtocolVersion, cluster_id(coordinator_keys_.public_key), 9, 2,
               0})},  // wrong direction
      {encode(WorkerHeartbeat{}, {kProtocolVersion, "other cluster", 9, 2, 0})},
      {encode(WorkerHeartbeat{},
              {kProtocolVersion + 1, cluster_id(coordinator_keys_.public_key), 9, 2, 0})}};
  uint64_t rejected = 0;
  for (const auto& parts : invalid) {
    ASSERT_TRUE(client.send(parts));
    EXPECT_TRUE(eventually([&] {
      EXPECT_FALSE(server->receive(milliseconds(5)).has_value());
      return server->counters().rejected_messages == rejected + 1;
    }));
    ++rejected;
  }
  ASSERT_TRUE(client.send({beat(2)}));
  EXPECT_TRUE(server->receive(kPatience).has_value()) << "some mistakes are forgiven";
  ASSERT_TRUE(client.send({beat(2)}));  // a sequence number again
  ASSERT_TRUE(client.send({"garbage"}));
  ASSERT_TRUE(client.send({"garbage"}));
  ASSERT_TRUE(client.send({beat(3)}));
  expect_silence(*server);
  EXPECT_EQ(server->counters().rejected_messages, rejected + 4)
      << "after eight, not even good ones count";
  expect_others_undisturbed(*server);
}

TEST_F(ZmqSecurityTest, ARoutingIdGivesNoIdentity) {
  auto server = coordinator();
  RawClient first, second;
  first.curve(coordinator_keys_.public_key, a_)
      .option(ZMQ_ROUTING_ID, "x")
      .connect(server->endpoint());
  ASSERT_TRUE(first.send({beat()}));
  EXPECT_EQ(server->receive(kPatience)->peer, "a#0000000000000009");
  // The same routing id under another key: libzmq refuses it while the first lives.
  second.curve(coordinator_keys_.public_key, b_)
      .option(ZMQ_ROUTING_ID, "x")
      .connect(server->endpoint());
  (void)second.send({beat()}, kBrief);
  expect_silence(*server);
  ASSERT_TRUE(first.send({beat(2)}));
  EXPECT_EQ(server->receive(kPatience)->peer, "a#0000000000000009");
}

TEST_F(ZmqSecurityTest, WorkersRefuseACoordinatorWithAnotherKey) {
  ZmqCoordinatorOptions options = coordinator_options();
  options.keys = make_curve_keys().value();  // an impostor on the address
  auto impostor = ZmqCoordinatorLink::bind(options).value();
  auto client = worker(impostor->endpoint(), a_);
  EXPECT_FALSE(send_soon(*client, WorkerHeartbeat{}, kBrief));
  EXPECT_FALSE(client->connected());
  EXPECT_EQ(client->send(WorkerHeartbeat{}).code(), Code::kUnavailable);
  expect_silence(*impostor, milliseconds(50));
}

}  // namespace
}  // namespace shoal::wire::testing

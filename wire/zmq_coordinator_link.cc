#include <atomic>
#include <deque>

#include <fmt/core.h>

#include "base/host.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "wire/codec.h"
#include "wire/peer_table.h"
#include "wire/validate.h"
#include "wire/zap.h"
#include "wire/zmq_link.h"
#include "wire/zmq_socket.h"

namespace shoal::wire {
namespace {

// Per connection. Sending stays below by credits; receiving makes a flooding peer wait in TCP.
constexpr int kSendHighWater = 4096;
constexpr int kReceiveHighWater = 256;
constexpr int kWatched = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

// zmq.h hides this option's number in builds without draft APIs, but libzmq 4.3 implements it
// everywhere. Should a future one not, bind() fails: without it, a dead ZAP handler lets all in.
constexpr int kZapEnforceDomain = 93;
constexpr std::string_view kTcp = "tcp://";
constexpr const char* kUserId = "User-Id";  // the property ZAP's verdict sets

std::string tcp_endpoint(const HostPort& address) { return "tcp://" + format_host_port(address); }

Status bind_error(const HostPort& address, int error) {
  Status status = zmq_status(fmt::format("cannot listen on {}", tcp_endpoint(address)));
  const std::string_view what_to_do =
      error == EADDRINUSE      ? "; another program uses that port, choose another one"
      : error == EADDRNOTAVAIL ? "; this host does not have that address"
                               : "";
  return {status.code(), status.message() + std::string(what_to_do)};
}

}  // namespace

class ZmqCoordinatorLink::Impl {
 public:
  explicit Impl(const ZmqCoordinatorOptions& options)
      : cluster_(cluster_id(options.keys.public_key)),
        incarnation_(options.incarnation != 0 ? options.incarnation : random_seed() | 1),
        peers_({options.max_outstanding_bytes, options.max_outstanding_frames}) {}

  Status bind(const ZmqCoordinatorOptions& options);
  Status bind_addresses(const ZmqCoordinatorOptions& options);
  std::vector<Status> send(std::span<const PeerId> peers, const ToWorker& message);
  Status send(const PeerId& id, std::string_view body);
  std::optional<Incoming> receive(Duration timeout);
  std::optional<PeerId> next_disconnected();

  WakeUp wake_up;
  std::string endpoint;
  struct Counters {
    std::atomic<uint64_t> rejected{0}, handshakes{0}, keys{0}, names{0}, processes{0};
  } counters;
  ZapServer& zap() { return *zap_; }
  void accept(const PeerId& peer) { peers_.accept(peer); }

 private:
  struct Frame {  // what one ROUTER message holds
    std::string routing, name;
    int fd = -1;
    bool whole = false;  // exactly routing id and one part
    ZmqFrame payload;
  };

  void drain_monitor();
  bool take_frame(Frame& frame);
  std::optional<Incoming> take(TimePoint deadline);
  Result<Incoming> open_frame(const Frame& frame);
  Status send_frame(const std::string& routing, std::string_view frame);
  void refuse(const std::string& routing, const std::string& reason);
  void reject(const Frame& frame, const Status& reason);

  const std::string cluster_;
  const uint64_t incarnation_;
  ZmqContext context_;
  std::unique_ptr<ZapServer> zap_;  // goes after the sockets it guards
  ZmqSocket router_;
  ZmqMonitor monitor_;
  PeerTable peers_;
  std::deque<PeerId> disconnected_;
  LogLimiter rejects_{std::chrono::seconds(1)}, handshakes_{std::chrono::seconds(5)};
};

Status ZmqCoordinatorLink::Impl::bind(const ZmqCoordinatorOptions& options) {
  SHOAL_TRY(check_key_pair("the coordinator's keys", options.keys));
  SHOAL_ASSIGN(zap_, ZapServer::start(context_, options.allowed));
  SHOAL_ASSIGN(router_, ZmqSocket::open(context_, ZMQ_ROUTER));
  SHOAL_TRY(set_common_options(router_));
  SHOAL_TRY(router_.set(ZMQ_ROUTER_MANDATORY, 1, "ROUTER_MANDATORY"));
  SHOAL_TRY(router_.set(ZMQ_SNDHWM, kSendHighWater, "SNDHWM"));
  SHOAL_TRY(router_.set(ZMQ_RCVHWM, kReceiveHighWater, "RCVHWM"));
  SHOAL_TRY(router_.set(ZMQ_CURVE_SERVER, 1, "CURVE_SERVER"));
  SHOAL_TRY(router_.set(ZMQ_CURVE_SECRETKEY, options.keys.secret_key, "CURVE_SECRETKEY"));
  SHOAL_TRY(router_.set(ZMQ_ZAP_DOMAIN, kZapDomain, "ZAP_DOMAIN"));
  SHOAL_TRY(router_.set(kZapEnforceDomain, 1, "ZAP_ENFORCE_DOMAIN"));
  SHOAL_ASSIGN(const int enforced, router_.get_int(kZapEnforceDomain, "ZAP_ENFORCE_DOMAIN"));
  if (enforced != 1) return unsupported("this libzmq does not enforce ZAP domains");
  SHOAL_ASSIGN(monitor_, ZmqMonitor::watch(context_, router_, kWatched));
  return bind_addresses(options);
}

// All addresses of the host on one port.
Status ZmqCoordinatorLink::Impl::bind_addresses(const ZmqCoordinatorOptions& options) {
  SHOAL_ASSIGN(const std::vector<std::string> addresses, resolve_host(options.host));
  uint16_t port = options.port;
  Status skipped;
  for (const std::string& address : addresses) {
    // "::" is bound for both families: that is what this option does with it.
    SHOAL_TRY(router_.set(ZMQ_IPV6, is_ipv6(address), "IPV6"));
    const HostPort wanted{address, port};
    if (zmq_bind(router_.handle(), tcp_endpoint(wanted).c_str()) == 0) {
      const std::string bound = router_.last_endpoint();
      if (endpoint.empty()) endpoint = bound;
      if (port == 0) {
        SHOAL_ASSIGN(const HostPort chosen, parse_host_port(bound.substr(kTcp.size())));
        port = chosen.port;
      }
      continue;
    }
    const int error = zmq_errno();
    // "localhost" means an IPv6 address also on a machine without IPv6.
    if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL) return bind_error(wanted, error);
    skipped = bind_error(wanted, error);
  }
  return endpoint.empty() ? skipped : Status::ok();
}

std::vector<Status> ZmqCoordinatorLink::Impl::send(std::span<const PeerId> peers,
                                                   const ToWorker& message) {
  if (Status valid = validate(message); !valid) return {peers.size(), valid};
  const std::string body = encode_body(message);
  if (body.size() > kMaxMessageBytes - kMaxEnvelopeBytes) {
    return {peers.size(),
            invalid_argument(fmt::format("{} of {} bytes; at most {}", message_name(message),
                                         body.size(), kMaxMessageBytes - kMaxEnvelopeBytes))};
  }
  std::vector<Status> sent;
  for (const PeerId& peer : peers) sent.push_back(send(peer, body));
  return sent;
}

Status ZmqCoordinatorLink::Impl::send(const PeerId& id, std::string_view body) {
  SHOAL_ASSIGN(PeerTable::Peer* const peer, peers_.find_for_sending(id, 0));
  const std::string frame = encode_frame(
      {kProtocolVersion, cluster_, incarnation_, peer->sent + 1, peer->received}, body);
  SHOAL_TRY(peers_.find_for_sending(id, frame.size()).status());
  SHOAL_TRY(send_frame(peer->routing, frame).annotate(fmt::format("worker {}", id)));
  peers_.sent(*peer, frame.size());
  return Status::ok();
}

Status ZmqCoordinatorLink::Impl::send_frame(const std::string& routing, std::string_view frame) {
  // MANDATORY: EHOSTUNREACH and EAGAIN come with the first part; the second cannot fail then.
  for (;;) {
    if (zmq_send(router_.handle(), routing.data(), routing.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
      break;
    if (zmq_errno() == EINTR) continue;
    if (zmq_errno() == EAGAIN) return resource_exhausted("it does not read its messages");
    if (zmq_errno() == EHOSTUNREACH) {
      if (auto lost = peers_.gone(routing)) disconnected_.push_back(std::move(*lost));
      return unavailable("not connected");
    }
    return zmq_status("cannot send");
  }
  ZmqFrame payload(frame);
  while (zmq_msg_send(payload.raw(), router_.handle(), ZMQ_DONTWAIT) < 0) {
    if (zmq_errno() != EINTR) return zmq_status("cannot send");
  }
  return Status::ok();
}

void ZmqCoordinatorLink::Impl::refuse(const std::string& routing, const std::string& reason) {
  // Outside the sequence: the receiver may not be a peer at all, and does not go on.
  const ToWorker refused = Refused{reason};
  const auto cleaned = with_clean_text(refused);
  (void)send_frame(routing, encode(cleaned ? *cleaned : refused,
                                   {kProtocolVersion, cluster_, incarnation_, 1, 0}));
}

void ZmqCoordinatorLink::Impl::drain_monitor() {
  while (const auto event = monitor_.next()) {
    if (event->what == ZMQ_EVENT_DISCONNECTED) {
      if (auto lost = peers_.closed(event->value)) disconnected_.push_back(std::move(*lost));
    } else {
      const bool key = event->what == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
      ++(key ? counters.keys : counters.handshakes);
      handshakes_.warn(key ? "refused a connection: its key is not on the list"
                           : "refused a connection that does not speak CURVE with our key");
    }
  }
}

bool ZmqCoordinatorLink::Impl::take_frame(Frame& frame) {
  ZmqFrame routing;
  if (!routing.receive(router_)) return false;
  frame.routing = routing.bytes();
  bool more = routing.more() && frame.payload.receive(router_);
  frame.whole = more && !frame.payload.more();
  more = more && frame.payload.more();
  while (more) {
    ZmqFrame rest;
    more = rest.receive(router_) && rest.more();
  }
  frame.name = frame.payload.property(kUserId);
  frame.fd = frame.payload.source_fd();
  return true;
}

void ZmqCoordinatorLink::Impl::reject(const Frame& frame, const Status& reason) {
  ++counters.rejected;
  rejects_.warn(fmt::format("dropped a message of worker '{}': {}", frame.name, reason.message()));
}

Result<Incoming> ZmqCoordinatorLink::Impl::open_frame(const Frame& frame) {
  // Cannot happen while ZAP is enforced; if it does, nobody gets in.
  if (frame.name.empty()) return internal_error("an unauthenticated connection");
  if (peers_.is_blocked(frame.routing, frame.name)) {
    return failed_precondition("its connection is cut off");
  }
  auto decoded = frame.whole
                     ? decode<ToCoordinator>(frame.payload.bytes())
                     : Result<Decoded<ToCoordinator>>(data_loss("it has not exactly one part"));
  Status status = decoded.status();
  if (status && decoded->envelope.cluster != cluster_) {
    status = invalid_argument("it belongs to another cluster");
  }
  if (!status) {
    if (peers_.misbehaved(frame.routing, frame.name, frame.fd)) {
      refuse(frame.routing, "too many invalid messages; the last: " + status.message());
    }
    return status;
  }
  const auto* hello = std::get_if<Hello>(&decoded->message);
  if (hello != nullptr && hello->name != frame.name) {
    const std::string reason = fmt::format("this key belongs to worker '{}', not to {}", frame.name,
                                           in_quotes(hello->name));
    ++counters.names;
    refuse(frame.routing, reason);
    return invalid_argument(reason);
  }
  auto arrival = peers_.arrived(frame.routing, frame.name, frame.fd, decoded->envelope);
  if (!arrival) {
    if (arrival.status().code() == Code::kFailedPrecondition) {
      refuse(frame.routing, arrival.status().message());
    }
    return arrival.status();
  }
  if (!arrival->evicted_routing.empty()) {
    ++counters.processes;
    rejects_.warn(fmt::format("more than {} processes connect with the key of worker '{}'",
                              PeerTable::kMaxCandidates, frame.name));
    refuse(arrival->evicted_routing, "too many processes connect with this worker's key");
  }
  return Incoming{arrival->peer->id, std::move(decoded->message)};
}

std::optional<Incoming> ZmqCoordinatorLink::Impl::take(TimePoint deadline) {
  for (;;) {
    Frame frame;
    if (!take_frame(frame)) return {};
    // Events of closed descriptors come before anything on a descriptor's next owner.
    drain_monitor();
    auto incoming = open_frame(frame);
    if (incoming) return std::move(incoming).value();
    reject(frame, incoming.status());
    if (std::chrono::steady_clock::now() >= deadline) return {};
  }
}

std::optional<Incoming> ZmqCoordinatorLink::Impl::receive(Duration timeout) {
  const TimePoint deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    drain_monitor();
    if (auto incoming = take(deadline)) return incoming;
    const TimePoint now = std::chrono::steady_clock::now();
    if (wake_up.clear() || !disconnected_.empty() || now >= deadline) return {};
    zmq_pollitem_t items[] = {{router_.handle(), 0, ZMQ_POLLIN, 0},
                              {monitor_.socket().handle(), 0, ZMQ_POLLIN, 0},
                              {nullptr, wake_up.fd(), ZMQ_POLLIN, 0}};
    if (zmq_poll(items, 3, poll_milliseconds(deadline - now)) < 0) return {};  // a signal
  }
}

std::optional<PeerId> ZmqCoordinatorLink::Impl::next_disconnected() {
  if (disconnected_.empty()) return {};
  PeerId peer = std::move(disconnected_.front());
  disconnected_.pop_front();
  return peer;
}

ZmqCoordinatorLink::ZmqCoordinatorLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqCoordinatorLink::~ZmqCoordinatorLink() = default;

Result<std::unique_ptr<ZmqCoordinatorLink>> ZmqCoordinatorLink::bind(
    const ZmqCoordinatorOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  SHOAL_TRY(impl->bind(options));
  return std::unique_ptr<ZmqCoordinatorLink>(new ZmqCoordinatorLink(std::move(impl)));
}

std::vector<Status> ZmqCoordinatorLink::send(std::span<const PeerId> peers,
                                             const ToWorker& message) {
  const auto cleaned = with_clean_text(message);
  return impl_->send(peers, cleaned ? *cleaned : message);
}
std::optional<Incoming> ZmqCoordinatorLink::receive(Duration timeout) {
  return impl_->receive(timeout);
}
void ZmqCoordinatorLink::wake() { impl_->wake_up.set(); }
void ZmqCoordinatorLink::accept(const PeerId& peer) { impl_->accept(peer); }
LinkCounters ZmqCoordinatorLink::counters() const {
  const auto& c = impl_->counters;
  return {c.rejected.load(), c.handshakes.load(), c.keys.load(), c.names.load(),
          c.processes.load()};
}
std::optional<PeerId> ZmqCoordinatorLink::next_disconnected() { return impl_->next_disconnected(); }
const std::string& ZmqCoordinatorLink::endpoint() const { return impl_->endpoint; }
Status ZmqCoordinatorLink::set_allowed(const std::map<std::string, std::string>& allowed) {
  return impl_->zap().set_allowed(allowed);
}
void ZmqCoordinatorLink::stop_admission() { impl_->zap().stop(); }

}  // namespace shoal::wire

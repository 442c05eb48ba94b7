#include <poll.h>

#include <array>
#include <atomic>
#include <mutex>

#include <fmt/core.h>

#include "base/host.h"
#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "wire/address_rotation.h"
#include "wire/codec.h"
#include "wire/host_lookup.h"
#include "wire/validate.h"
#include "wire/zmq_link.h"
#include "wire/zmq_socket.h"

namespace shoal::wire {
namespace {

constexpr int kReconnectMs = 100;      // libzmq adds jitter of up to as much again
constexpr int kReconnectMaxMs = 5000;  // doubles up to this
constexpr int kConnectTimeoutMs = 3000;
constexpr int kQueuedFrames = 1000;  // our own messages are small and few: a bound, not a budget
constexpr int kWatched = ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                         ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

constexpr std::string_view kTcp = "tcp://";

}  // namespace

std::string cluster_id(const std::string& coordinator_public_key) {
  return coordinator_public_key.substr(0, 20);  // 128 bits of it
}

class ZmqWorkerLink::Impl {
 public:
  explicit Impl(const ZmqWorkerOptions& options)
      : cluster_(cluster_id(options.server_key)),
        incarnation_(options.incarnation != 0 ? options.incarnation : random_seed() | 1) {}

  Status connect(const ZmqWorkerOptions& options);
  Status send(const ToCoordinator& message);
  std::optional<ToWorker> receive(Duration timeout);

  WakeUp wake_up;  // wake()
  std::atomic<uint64_t> rejected{0};
  std::atomic<bool> connected{false};

 private:
  Status set_options(const ZmqWorkerOptions& options);
  void drain_monitor();
  void choose_address(TimePoint now);
  Status use(const std::string& address);
  std::optional<ToWorker> take(TimePoint deadline);
  Result<ToWorker> open_frame(std::string_view bytes);
  void wait(Duration timeout);
  void reject(const Status& reason);

  const std::string cluster_;
  const uint64_t incarnation_;
  ZmqContext context_;
  std::mutex mutex_;  // the DEALER socket and sequence_: libzmq's sockets may change threads
  ZmqSocket dealer_;  // only behind a full fence, which a mutex is
  uint64_t sequence_ = 0;
  std::atomic<uint64_t> taken_{0};  // last sequence received: acknowledged in what we send
  // The receiving thread's.
  ZmqMonitor monitor_;
  WakeUp input_;  // a send() saw input and may have eaten the edge that announces it
  int dealer_fd_ = -1, monitor_fd_ = -1;
  uint64_t coordinator_ = 0;  // incarnation of who sent last
  HostPort address_;          // as given
  AddressRotation rotation_;
  HostLookup lookup_;
  std::string endpoint_;  // what the socket connects to, or empty
  LogLimiter refusals_{std::chrono::seconds(5)}, rejects_{std::chrono::seconds(1)};
  LogLimiter lookups_{std::chrono::seconds(30)};
};

Status ZmqWorkerLink::Impl::connect(const ZmqWorkerOptions& options) {
  SHOAL_TRY(check_public_key("the coordinator's public key", options.server_key));
  SHOAL_TRY(check_key_pair("this worker's keys", options.keys));
  if (!options.endpoint.starts_with(kTcp)) {
    return invalid_argument(fmt::format("{} is no coordinator address; expected tcp://HOST:PORT",
                                        in_quotes(options.endpoint)));
  }
  SHOAL_ASSIGN(address_, parse_host_port(std::string_view(options.endpoint).substr(kTcp.size())));
  if (address_.port == 0) return invalid_argument(in_quotes(options.endpoint) + " has no port");
  SHOAL_TRY(set_options(options));
  auto addresses = resolve_host(address_.host);
  if (!addresses) {  // its network may come up later
    lookups_.warn(addresses.status().message() + "; trying again");
    return Status::ok();
  }
  rotation_.replace(std::move(addresses).value());
  return use(rotation_.current());
}

Status ZmqWorkerLink::Impl::set_options(const ZmqWorkerOptions& options) {
  SHOAL_ASSIGN(dealer_, ZmqSocket::open(context_, ZMQ_DEALER));
  SHOAL_TRY(set_common_options(dealer_));
  SHOAL_TRY(dealer_.set(ZMQ_RECONNECT_IVL, kReconnectMs, "RECONNECT_IVL"));
  SHOAL_TRY(dealer_.set(ZMQ_RECONNECT_IVL_MAX, kReconnectMaxMs, "RECONNECT_IVL_MAX"));
  SHOAL_TRY(dealer_.set(ZMQ_CONNECT_TIMEOUT, kConnectTimeoutMs, "CONNECT_TIMEOUT"));
  SHOAL_TRY(dealer_.set(ZMQ_SNDHWM, kQueuedFrames, "SNDHWM"));
  SHOAL_TRY(dealer_.set(ZMQ_RCVHWM, kQueuedFrames, "RCVHWM"));
  SHOAL_TRY(dealer_.set(ZMQ_CURVE_SERVERKEY, options.server_key, "CURVE_SERVERKEY"));
  SHOAL_TRY(dealer_.set(ZMQ_CURVE_PUBLICKEY, options.keys.public_key, "CURVE_PUBLICKEY"));
  SHOAL_TRY(dealer_.set(ZMQ_CURVE_SECRETKEY, options.keys.secret_key, "CURVE_SECRETKEY"));
  SHOAL_ASSIGN(monitor_, ZmqMonitor::watch(context_, dealer_, kWatched));
  SHOAL_ASSIGN(dealer_fd_, dealer_.get_int(ZMQ_FD, "FD"));
  SHOAL_ASSIGN(monitor_fd_, monitor_.socket().get_int(ZMQ_FD, "FD"));
  return Status::ok();
}

// Instead of what the socket connects to now.
Status ZmqWorkerLink::Impl::use(const std::string& address) {
  const std::string wanted =
      std::string(kTcp) + format_host_port({.host = address, .port = address_.port});
  const std::lock_guard lock(mutex_);
  if (!endpoint_.empty()) zmq_disconnect(dealer_.handle(), endpoint_.c_str());
  endpoint_.clear();
  SHOAL_TRY(dealer_.set(ZMQ_IPV6, is_ipv6(address), "IPV6"));
  if (zmq_connect(dealer_.handle(), wanted.c_str()) != 0) {
    return zmq_status(fmt::format("cannot connect to {}", wanted));
  }
  endpoint_ = wanted;
  return Status::ok();
}

void ZmqWorkerLink::Impl::choose_address(TimePoint now) {
  if (rotation_.connected()) return;
  bool changed = rotation_.advance(now);
  // Of an address or "localhost" there is nothing new to learn.
  if (auto found = lookup_.take()) {
    if (found->is_ok()) changed = rotation_.replace(std::move(*found).value()) || changed;
    if (!found->is_ok()) lookups_.warn(found->status().message() + "; trying again");
  }
  if (!is_ip_address(address_.host) && rotation_.wants_lookup(now)) lookup_.start(address_.host);
  if (!changed) return;
  if (Status status = use(rotation_.current()); !status) lookups_.warn(status.message());
}

Status ZmqWorkerLink::Impl::send(const ToCoordinator& message) {
  SHOAL_TRY(validate(message));
  const std::lock_guard lock(mutex_);
  // Encoded under the lock: sequence numbers leave in order.
  const std::string frame =
      encode(message, {kProtocolVersion, cluster_, incarnation_, sequence_ + 1, taken_.load()});
  if (frame.size() > kMaxMessageBytes) {
    return invalid_argument(fmt::format("{} of {} bytes; at most {}", message_name(message),
                                        frame.size(), kMaxMessageBytes));
  }
  int sent = zmq_send(dealer_.handle(), frame.data(), frame.size(), ZMQ_DONTWAIT);
  while (sent < 0 && zmq_errno() == EINTR) {
    sent = zmq_send(dealer_.handle(), frame.data(), frame.size(), ZMQ_DONTWAIT);
  }
  const int error = sent < 0 ? zmq_errno() : 0;
  if (sent >= 0) ++sequence_;
  // libzmq's descriptor is edge-triggered and zmq_send reads the same mailbox as zmq_recv.
  if (dealer_.readable()) input_.set();
  if (error == 0) return Status::ok();
  if (error != EAGAIN) return zmq_status("cannot send to the coordinator");
  // IMMEDIATE: without a connection there is nothing to queue for.
  if (!connected.load()) return unavailable("the coordinator is not connected");
  return resource_exhausted("the coordinator does not read its messages");
}

void ZmqWorkerLink::Impl::drain_monitor() {
  while (const auto event = monitor_.next()) {
    switch (event->what) {
      case ZMQ_EVENT_CONNECT_RETRIED:
        rotation_.failed();
        break;
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        connected.store(true);
        rotation_.succeeded();
        break;
      case ZMQ_EVENT_DISCONNECTED:
        connected.store(false);
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        refusals_.warn(
            "the coordinator does not know this worker's key; put its .pub file in the "
            "coordinator's key folder");
        break;
      default:
        refusals_.warn(
            "no secure connection with the coordinator: wrong coordinator key, or something else "
            "listens there");
    }
  }
}

void ZmqWorkerLink::Impl::reject(const Status& reason) {
  ++rejected;
  rejects_.warn("dropped a message of the coordinator: " + reason.message());
}

Result<ToWorker> ZmqWorkerLink::Impl::open_frame(std::string_view bytes) {
  SHOAL_ASSIGN(Decoded<ToWorker> decoded, decode<ToWorker>(bytes));
  const EnvelopeInfo& envelope = decoded.envelope;
  if (envelope.cluster != cluster_) return invalid_argument("it belongs to another cluster");
  // Comes outside the sequence, from a coordinator that may not count this worker as a peer.
  if (std::holds_alternative<Refused>(decoded.message)) return std::move(decoded.message);
  if (envelope.incarnation != coordinator_) {  // the first, or a restarted coordinator
    coordinator_ = envelope.incarnation;
  } else if (envelope.sequence <= taken_.load()) {
    return data_loss(fmt::format("sequence {} after {}", envelope.sequence, taken_.load()));
  } else if (envelope.sequence != taken_.load() + 1) {
    // Lost with a broken connection. Not an error here: steps carry numbers of their own.
    log_debug(fmt::format("{} messages of the coordinator were lost",
                          envelope.sequence - taken_.load() - 1));
  }
  taken_.store(envelope.sequence);
  return std::move(decoded.message);
}

std::optional<ToWorker> ZmqWorkerLink::Impl::take(TimePoint deadline) {
  for (;;) {
    ZmqFrame frame;
    bool parts = false;
    {
      const std::lock_guard lock(mutex_);
      if (!frame.receive(dealer_)) return {};
      for (bool more = frame.more(); more;) {
        ZmqFrame rest;
        parts = true;
        more = rest.receive(dealer_) && rest.more();
      }
    }
    auto message =
        parts ? Result<ToWorker>(data_loss("it has several parts")) : open_frame(frame.bytes());
    if (message) return std::move(message).value();
    reject(message.status());
    if (std::chrono::steady_clock::now() >= deadline) return {};
  }
}

void ZmqWorkerLink::Impl::wait(Duration timeout) {
  std::array<pollfd, 4> items{{{dealer_fd_, POLLIN, 0},
                               {monitor_fd_, POLLIN, 0},
                               {input_.fd(), POLLIN, 0},
                               {wake_up.fd(), POLLIN, 0}}};
  ::poll(items.data(), items.size(), poll_milliseconds(timeout));
  input_.clear();
}

std::optional<ToWorker> ZmqWorkerLink::Impl::receive(Duration timeout) {
  const TimePoint deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    drain_monitor();
    if (auto message = take(deadline)) return message;
    const TimePoint now = std::chrono::steady_clock::now();
    choose_address(now);
    if (wake_up.clear() || now >= deadline) return {};
    wait(deadline - now);
  }
}

ZmqWorkerLink::ZmqWorkerLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqWorkerLink::~ZmqWorkerLink() = default;

Result<std::unique_ptr<ZmqWorkerLink>> ZmqWorkerLink::connect(const ZmqWorkerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  SHOAL_TRY(impl->connect(options));
  return std::unique_ptr<ZmqWorkerLink>(new ZmqWorkerLink(std::move(impl)));
}

Status ZmqWorkerLink::send(const ToCoordinator& message) {
  const auto cleaned = with_clean_text(message);
  return impl_->send(cleaned ? *cleaned : message);
}
std::optional<ToWorker> ZmqWorkerLink::receive(Duration timeout) { return impl_->receive(timeout); }
void ZmqWorkerLink::wake() { impl_->wake_up.set(); }
uint64_t ZmqWorkerLink::rejected_messages() const { return impl_->rejected.load(); }
bool ZmqWorkerLink::connected() const { return impl_->connected.load(); }

}  // namespace shoal::wire

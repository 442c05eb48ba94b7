#include "wire/zmq_socket.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"
#include "base/log.h"
#include "wire/messages.h"

namespace shoal::wire {
namespace {

constexpr int kHandshakeMs = 3000;
constexpr int kHeartbeatMs = 1000;  // ZMTP ping
// Without any traffic: the connection is closed. Only to get rid of half-open ones: silence is
// judged above, by messages and within seconds. Both ends' timers fire also if their own process
// stood still, so this is longer than a pause after which everything should go on.
constexpr int kHeartbeatTimeoutMs = 10000;
// Long enough for a Goodbye or Refused to leave, short enough not to notice at exit.
constexpr int kLingerMs = 300;

}  // namespace

Status zmq_status(std::string_view what) {
  const int error = zmq_errno();
  const Code code = error == EMFILE || error == ENFILE || error == ENOMEM ? Code::kResourceExhausted
                    : error == EADDRINUSE || error == EADDRNOTAVAIL || error == ENODEV ||
                            error == EINVAL || error == EACCES
                        ? Code::kInvalidArgument
                        : Code::kUnavailable;
  return {code, fmt::format("{}: {}", what, zmq_strerror(error))};
}

ZmqContext::ZmqContext() : handle_(zmq_ctx_new()) {
  SHOAL_CHECK(handle_ != nullptr, "zmq_ctx_new failed: out of memory or file descriptors");
}

ZmqContext::~ZmqContext() {
  while (zmq_ctx_term(handle_) != 0 && zmq_errno() == EINTR) {
  }
}

Result<ZmqSocket> ZmqSocket::open(const ZmqContext& context, int type) {
  void* handle = zmq_socket(context.handle(), type);
  if (handle == nullptr) return zmq_status("cannot make a ZeroMQ socket");
  return ZmqSocket(handle);
}

ZmqSocket& ZmqSocket::operator=(ZmqSocket&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

void ZmqSocket::close() {
  if (handle_ != nullptr) zmq_close(std::exchange(handle_, nullptr));
}

Status ZmqSocket::set(int option, int value, std::string_view name) {
  if (zmq_setsockopt(handle_, option, &value, sizeof(value)) == 0) return Status::ok();
  return zmq_status(fmt::format("cannot set {} to {}", name, value));
}

Status ZmqSocket::set(int option, std::string_view value, std::string_view name) {
  if (zmq_setsockopt(handle_, option, value.data(), value.size()) == 0) return Status::ok();
  return zmq_status(fmt::format("cannot set {}", name));  // the value may be a secret
}

Result<int> ZmqSocket::get_int(int option, std::string_view name) const {
  int value = 0;
  size_t size = sizeof(value);
  if (zmq_getsockopt(handle_, option, &value, &size) == 0) return value;
  return zmq_status(fmt::format("cannot read {}", name));
}

std::string ZmqSocket::last_endpoint() const {
  char text[512] = {};
  size_t size = sizeof(text);
  if (zmq_getsockopt(handle_, ZMQ_LAST_ENDPOINT, text, &size) != 0 || size == 0) return {};
  return std::string(text, size - 1);
}

bool ZmqSocket::readable() const {
  int events = 0;
  size_t size = sizeof(events);
  return zmq_getsockopt(handle_, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

ZmqFrame::ZmqFrame(std::string_view bytes) {
  SHOAL_CHECK(zmq_msg_init_size(&msg_, bytes.size()) == 0, "out of memory for a message");
  if (!bytes.empty()) std::memcpy(zmq_msg_data(&msg_), bytes.data(), bytes.size());
}

std::string ZmqFrame::property(const char* name) const {
  const char* value = zmq_msg_gets(&msg_, name);
  return value == nullptr ? std::string() : std::string(value);
}

WakeUp::WakeUp() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  SHOAL_CHECK(fd_ >= 0, "eventfd failed: out of file descriptors");
}

WakeUp::~WakeUp() { ::close(fd_); }

void WakeUp::set() {
  const uint64_t one = 1;
  // EAGAIN: the counter is full, so it is set.
  [[maybe_unused]] const ssize_t wrote = ::write(fd_, &one, sizeof(one));
}

bool WakeUp::clear() {
  uint64_t count = 0;
  return ::read(fd_, &count, sizeof(count)) == static_cast<ssize_t>(sizeof(count));
}

Result<ZmqMonitor> ZmqMonitor::watch(const ZmqContext& context, ZmqSocket& socket, int events) {
  static std::atomic<uint64_t> counter{
      0};  // inproc names are per context; this only keeps them apart
  const std::string address = fmt::format("inproc://shoal.monitor.{}", ++counter);
  if (zmq_socket_monitor(socket.handle(), address.c_str(), events) != 0) {
    return zmq_status("cannot watch a ZeroMQ socket");
  }
  ZmqMonitor monitor;
  monitor.watched_ = socket.handle();
  SHOAL_ASSIGN(monitor.pair_, ZmqSocket::open(context, ZMQ_PAIR));
  // Unlimited: libzmq's I/O thread blocks on a full monitor, and with it every connection.
  SHOAL_TRY(monitor.pair_.set(ZMQ_RCVHWM, 0, "RCVHWM"));
  SHOAL_TRY(monitor.pair_.set(ZMQ_LINGER, 0, "LINGER"));
  if (zmq_connect(monitor.pair_.handle(), address.c_str()) != 0) {
    return zmq_status("cannot watch a ZeroMQ socket");
  }
  return monitor;
}

ZmqMonitor& ZmqMonitor::operator=(ZmqMonitor&& other) noexcept {
  std::swap(watched_, other.watched_);
  std::swap(pair_, other.pair_);
  return *this;
}

void ZmqMonitor::stop() {
  // Before the pair closes: libzmq would wait for a reader of its next event.
  if (watched_ != nullptr) zmq_socket_monitor(std::exchange(watched_, nullptr), nullptr, 0);
  pair_.close();
}

std::optional<ZmqMonitor::Event> ZmqMonitor::next() {
  ZmqFrame first;
  if (!first.receive(pair_)) return {};
  Event event;
  if (const std::string_view bytes = first.bytes(); bytes.size() >= 6) {  // u16 event, u32 value
    uint16_t what = 0;
    std::memcpy(&what, bytes.data(), sizeof(what));
    uint32_t value = 0;
    std::memcpy(&value, bytes.data() + sizeof(what), sizeof(value));
    event = {what, static_cast<int>(value)};
  }
  for (bool more = first.more(); more;) {  // the address
    ZmqFrame rest;
    more = rest.receive(pair_) && rest.more();
  }
  return event;
}

void LogLimiter::warn(std::string_view message) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (now < next_) {
    ++kept_back_;
    return;
  }
  next_ = now + interval_;
  const uint64_t kept_back = std::exchange(kept_back_, 0);
  log_warn(kept_back == 0 ? std::string(message)
                          : fmt::format("{} (and {} more like it)", message, kept_back));
}

int poll_milliseconds(Duration timeout) {
  using std::chrono::milliseconds;
  if (timeout <= Duration::zero()) return 0;
  return static_cast<int>(
      std::min(std::chrono::ceil<milliseconds>(timeout), milliseconds(60000)).count());
}

Status set_common_options(ZmqSocket& socket) {
  const int linger = kLingerMs;
  SHOAL_TRY(socket.set(ZMQ_LINGER, linger, "LINGER"));
  SHOAL_TRY(socket.set(ZMQ_HANDSHAKE_IVL, kHandshakeMs, "HANDSHAKE_IVL"));
  SHOAL_TRY(socket.set(ZMQ_HEARTBEAT_IVL, kHeartbeatMs, "HEARTBEAT_IVL"));
  SHOAL_TRY(socket.set(ZMQ_HEARTBEAT_TIMEOUT, kHeartbeatTimeoutMs, "HEARTBEAT_TIMEOUT"));
  SHOAL_TRY(socket.set(ZMQ_HEARTBEAT_TTL, kHeartbeatTimeoutMs, "HEARTBEAT_TTL"));
  SHOAL_TRY(socket.set(ZMQ_IMMEDIATE, 1, "IMMEDIATE"));
  const int64_t max_bytes = static_cast<int64_t>(kMaxMessageBytes);
  if (zmq_setsockopt(socket.handle(), ZMQ_MAXMSGSIZE, &max_bytes, sizeof(max_bytes)) != 0) {
    return zmq_status("cannot set MAXMSGSIZE");
  }
  return Status::ok();
}

}  // namespace shoal::wire

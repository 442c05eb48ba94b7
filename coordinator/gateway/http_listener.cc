#include "coordinator/gateway/http_listener.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace shoal::gateway {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

constexpr int kBacklog = 1024;
constexpr int kAcceptsAtOnce = 16;  // then others on this thread have their turn
// After accept() failed for want of something, try again so much later.
constexpr Duration kFailurePause = std::chrono::milliseconds(100);
constexpr Duration kRoomPause = std::chrono::milliseconds(2);
constexpr Duration kWarningPause = std::chrono::seconds(10);

void set_socket_options(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  // A host that vanished without a word is noticed after 30 + 3 × 10 s without traffic.
  const int fd = socket.native_handle();
  const auto set = [fd](int option, int value) {
    setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
  };
  set(TCP_KEEPIDLE, 30);
  set(TCP_KEEPINTVL, 10);
  set(TCP_KEEPCNT, 3);
}

bool is_want_of_descriptors(int error) { return error == EMFILE || error == ENFILE; }

std::string describe(int error) {
  if (error == ENFILE) return "the system's limit of open files is reached (fs.file-max)";
  if (error != EMFILE) return std::strerror(error);
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return fmt::format("the limit of open files is reached (ulimit -n {})", limit.rlim_cur);
}

}  // namespace

HttpListener::HttpListener(asio::io_context& io)
    : io_(io), strand_(asio::make_strand(io)), acceptor_(strand_), pause_(strand_) {}

// The descriptor is made by hand: Asio would leave it open across exec.
HttpListener::Error HttpListener::open(asio::io_context& io, const Endpoint& endpoint,
                                       std::shared_ptr<HttpListener>* out) {
  const std::shared_ptr<HttpListener> listener(new HttpListener(io));
  listener->protocol_ = endpoint.protocol();
  const int fd = ::socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                          IPPROTO_TCP);
  if (fd < 0) return {errno, boost::system::system_category()};
  tcp::acceptor& acceptor = listener->acceptor_;
  Error error;
  acceptor.assign(endpoint.protocol(), fd, error);
  if (error) ::close(fd);
  // REUSEADDR skips old connections in TIME_WAIT; without REUSEPORT a second server still clashes.
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  // "::" is every address of the host, those of IPv4 too; another one is itself alone.
  const bool v6_only = !endpoint.address().is_unspecified();
  if (!error && endpoint.address().is_v6()) acceptor.set_option(asio::ip::v6_only(v6_only), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(kBacklog, error);
  if (!error) *out = listener;
  return error;
}

HttpListener::Endpoint HttpListener::endpoint() const {
  Error ignored;
  return acceptor_.local_endpoint(ignored);
}

void HttpListener::start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  asio::post(strand_, [self = shared_from_this()] { self->wait(); });
}

void HttpListener::close() {
  asio::post(strand_, [self = shared_from_this()] {
    Error ignored;
    self->acceptor_.close(ignored);
    self->pause_.cancel();
  });
}

void HttpListener::wait() {
  if (!acceptor_.is_open()) return;
  acceptor_.async_wait(tcp::acceptor::wait_read,
                       asio::bind_executor(strand_, [self = shared_from_this()](const Error&) {
                         if (self->acceptor_.is_open()) self->accept_some();
                       }));
}

void HttpListener::accept_some() {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    if (!callbacks_.has_room()) {
      pause(kRoomPause);
      return;
    }
    const int fd =
        ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      Error error;
      tcp::socket socket(io_);
      socket.assign(protocol_, fd, error);
      if (error) {
        ::close(fd);
        continue;
      }
      set_socket_options(socket);
      callbacks_.accepted(std::move(socket));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      failed(errno);
      return;
    }  // else: that client has gone before it was accepted (ECONNABORTED, EPROTO, …)
  }
  wait();
}

void HttpListener::failed(int error) {
  const TimePoint now = SteadyClock().now();
  if (now >= next_warning_) {
    log_warn(fmt::format("http: cannot accept connections: {}", describe(error)));
    next_warning_ = now + kWarningPause;
  }
  const bool helped = is_want_of_descriptors(error) && callbacks_.no_descriptors();
  pause(helped ? kRoomPause : kFailurePause);
}

void HttpListener::pause(Duration time) {
  pause_.expires_after(time);
  pause_.async_wait([self = shared_from_this()](const Error& cancelled) {
    if (!cancelled) self->wait();
  });
}

}  // namespace shoal::gateway

#include "coordinator/gateway/http_server.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <thread>

#include "base/log.h"
#include "coordinator/gateway/http_connection.h"

namespace shoal::gateway {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using Error = boost::system::error_code;

constexpr int kBacklog = 1024;
// Connections beyond the limit that are answered with 503; those beyond that are closed at once.
constexpr size_t kRefusedConnections = 64;
// After accept() failed (no descriptors left), try again so much later.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);
constexpr Duration kWarningPause = std::chrono::seconds(10);
constexpr Duration kCloseTime = std::chrono::seconds(5);

void set_socket_options(tcp::socket& socket) {
  Error ignored;
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

// Every connection needs a descriptor, and so do model files, workers' sockets and logs.
HttpServerOptions fitted_to_descriptors(HttpServerOptions options) {
  constexpr size_t kReserve = 64;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return options;
  const size_t fitting = limit.rlim_cur > 2 * kReserve ? limit.rlim_cur - kReserve : kReserve;
  if (fitting < options.max_connections) {
    log_warn(
        fmt::format("http: at most {} connections instead of {}: the limit of open files is {} "
                    "(ulimit -n)",
                    fitting, options.max_connections, limit.rlim_cur));
    options.max_connections = fitting;
  }
  return options;
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const HttpServerOptions& options, HttpHandler handler)
      : shared_(std::make_shared<ServerShared>(options)), work_(shared_->io.get_executor()) {
    shared_->handler = std::move(handler);
  }
  ~Impl() { stop(); }

  Status listen();
  void run();
  uint16_t port() const { return port_; }
  size_t connections() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->connections.size();
  }
  size_t drain(Duration limit);

 private:
  struct Listener {
    Listener(asio::io_context& io) : acceptor(io), pause(io) {}
    tcp::acceptor acceptor;
    asio::steady_timer pause;
    TimePoint next_warning{};
  };

  Error listen_on(const tcp::endpoint& endpoint);
  void accept(const std::shared_ptr<Listener>& listener);
  void accepted(tcp::socket socket);
  void for_each_connection(void (Connection::*method)());
  bool wait_for_connections(Duration limit);
  void stop();

  std::shared_ptr<ServerShared> shared_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::shared_ptr<Listener>> listeners_;
  std::vector<std::thread> threads_;
  uint16_t port_ = 0;
};

Error HttpServer::Impl::listen_on(const tcp::endpoint& endpoint) {
  auto listener = std::make_shared<Listener>(shared_->io);
  Error error;
  listener->acceptor.open(endpoint.protocol(), error);
  if (error) return error;
  // REUSEADDR skips old connections in TIME_WAIT; without REUSEPORT a second server still clashes.
  listener->acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (endpoint.address().is_v6()) listener->acceptor.set_option(asio::ip::v6_only(true), error);
  listener->acceptor.bind(endpoint, error);
  if (error) return error;
  listener->acceptor.listen(kBacklog, error);
  if (error) return error;
  port_ = listener->acceptor.local_endpoint(error).port();
  listeners_.push_back(std::move(listener));
  return error;
}

Status HttpServer::Impl::listen() {
  const HttpServerOptions& options = shared_->options;
  const std::string host = options.host.empty() ? "0.0.0.0" : options.host;
  const auto failed = [&](const Error& error) {
    return unavailable(fmt::format("cannot listen on {}:{}: {}{}", host, options.port,
                                   error.message(),
                                   error == asio::error::address_in_use
                                       ? "; another program uses that port, choose another one"
                                       : ""));
  };
  Error error;
  tcp::resolver resolver(shared_->io);
  const auto endpoints =
      resolver.resolve(host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error) return failed(error);
  Error skipped;
  for (const auto& entry : endpoints) {
    tcp::endpoint endpoint = entry.endpoint();
    if (port_ != 0) endpoint.port(port_);  // one port for all addresses of a name
    error = listen_on(endpoint);
    // "localhost" may resolve to an IPv6 address on a machine without IPv6.
    if (error == asio::error::address_family_not_supported ||
        error == boost::system::errc::address_not_available) {
      skipped = error;
    } else if (error) {
      return failed(error);
    }
  }
  return listeners_.empty() ? failed(skipped) : Status::ok();
}

void HttpServer::Impl::run() {
  shared_->pool = std::make_unique<asio::thread_pool>(shared_->options.handler_threads);
  for (const auto& listener : listeners_) accept(listener);
  for (unsigned i = 0; i < shared_->options.io_threads; ++i) {
    threads_.emplace_back([shared = shared_] { shared->io.run(); });
  }
}

void HttpServer::Impl::accept(const std::shared_ptr<Listener>& listener) {
  listener->acceptor.async_accept([this, listener](const Error& error, tcp::socket socket) {
    if (shared_->draining || error == asio::error::operation_aborted) return;
    if (!error) {
      accepted(std::move(socket));
      accept(listener);
      return;
    }
    const TimePoint now = SteadyClock().now();
    if (now >= listener->next_warning) {
      log_warn(fmt::format("http: cannot accept connections: {}", error.message()));
      listener->next_warning = now + kWarningPause;
    }
    listener->pause.expires_after(kAcceptPause);
    listener->pause.async_wait([this, listener](const Error& cancelled) {
      if (!cancelled) accept(listener);
    });
  });
}

void HttpServer::Impl::accepted(tcp::socket socket) {
  const size_t open = connections();
  const size_t limit = shared_->options.max_connections;
  if (open >= limit + kRefusedConnections) return;  // closes
  set_socket_options(socket);
  std::make_shared<Connection>(shared_, std::move(socket), open >= limit)->start();
}

void HttpServer::Impl::for_each_connection(void (Connection::*method)()) {
  std::vector<std::shared_ptr<Connection>> all;
  {
    const std::lock_guard lock(shared_->mutex);
    for (Connection* connection : shared_->connections) {
      if (auto alive = connection->weak_from_this().lock()) all.push_back(std::move(alive));
    }
  }
  for (const auto& connection : all) ((*connection).*method)();
}

bool HttpServer::Impl::wait_for_connections(Duration limit) {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_for(lock, limit, [&] { return shared_->connections.empty(); });
}

size_t HttpServer::Impl::drain(Duration limit) {
  if (threads_.empty()) return 0;
  shared_->draining = true;
  asio::post(shared_->io, [this] {
    Error ignored;
    for (const auto& listener : listeners_) {
      listener->acceptor.close(ignored);
      listener->pause.cancel();
    }
  });
  for_each_connection(&Connection::begin_drain);
  if (!wait_for_connections(limit)) {
    for_each_connection(&Connection::cut_off);
    wait_for_connections(kCloseTime);
  }
  stop();
  return shared_->cut_off;
}

void HttpServer::Impl::stop() {
  if (threads_.empty()) return;
  shared_->pool->join();
  work_.reset();
  shared_->io.stop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  shared_->stopped = true;
  // What was still queued holds connections, which hold this queue: run it, so both are freed.
  shared_->io.restart();
  shared_->io.poll();
  listeners_.clear();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { impl_->drain(Duration::zero()); }
uint16_t HttpServer::port() const { return impl_->port(); }
size_t HttpServer::connections() const { return impl_->connections(); }
size_t HttpServer::drain(Duration limit) { return impl_->drain(limit); }

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerOptions& options,
                                                      HttpHandler handler) {
  auto impl = std::make_unique<Impl>(fitted_to_descriptors(options), std::move(handler));
  SHOAL_TRY(impl->listen());
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

bool is_loopback_host(const std::string& host) {
  if (host == "localhost") return true;
  Error error;
  const auto address = asio::ip::make_address(host, error);
  return !error && address.is_loopback();
}

}  // namespace shoal::gateway

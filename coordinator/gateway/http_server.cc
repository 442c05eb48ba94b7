#include "coordinator/gateway/http_server.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <thread>

#include "base/host.h"
#include "base/log.h"
#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/http_connection.h"
#include "coordinator/gateway/http_listener.h"

namespace shoal::gateway {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using Error = boost::system::error_code;

// Connections beyond the limit that are heard out and answered with 503; those beyond that get it
// unheard. They count against the limit of open files like all others.
constexpr size_t kRefusedConnections = 64;
constexpr Duration kCloseTime = std::chrono::seconds(5);
// For requests that are cut off to get their error.
constexpr Duration kLastWords = std::chrono::seconds(1);
constexpr Duration kHurryPoll = std::chrono::milliseconds(50);

size_t refused_places(size_t max_connections) {
  return std::clamp<size_t>(max_connections / 8, 1, kRefusedConnections);
}

// The limit of connections that, with those being refused, leaves the reserve to others.
HttpServerOptions fitted_to_descriptors(HttpServerOptions options) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return options;
  const size_t files = limit.rlim_cur;
  const size_t left = files - std::min(options.reserved_descriptors, files);
  size_t fitting = std::max<size_t>(left * 8 / 9, 4);
  if (left > 9 * kRefusedConnections) fitting = left - kRefusedConnections;
  if (fitting < options.max_connections) {
    log_warn(
        fmt::format("http: at most {} connections instead of {}: the limit of open files is {} "
                    "(ulimit -n), {} of them are for other uses",
                    fitting, options.max_connections, files, options.reserved_descriptors));
    options.max_connections = fitting;
  }
  return options;
}

// For a client that there is no place for at all: as much as fits without waiting for it.
void refuse_unheard(tcp::socket& socket) {
  ApiError error;
  error.status = 503;
  error.type = "unavailable_error";
  error.code = "overloaded";
  error.message = "too many connections";
  const std::string body = error_body(error);
  const std::string answer = fmt::format(
      "HTTP/1.1 503 {}\r\nServer: shoal\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
      "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
      status_text(503), body.size(), body);
  ::send(socket.native_handle(), answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  Error ignored;
  socket.shutdown(tcp::socket::shutdown_send, ignored);
}

}  // namespace

class HttpServer::Impl {
 public:
  explicit Impl(const HttpServerOptions& options)
      : shared_(std::make_shared<ServerShared>(options)), work_(shared_->io.get_executor()) {}
  ~Impl() { stop(); }

  Status listen();
  void serve(HttpService& service);
  uint16_t port() const { return port_; }
  HttpServerState state() const;
  size_t drain(const Drain& how);

 private:
  bool has_room() const;
  void accepted(tcp::socket socket);
  bool no_descriptors();
  bool make_room();
  void for_each_connection(void (Connection::*method)());
  size_t wait_for_work(Duration limit, const std::atomic<bool>* hurry);
  bool wait_for_connections(Duration limit);
  void run_thread();
  void stop();

  const std::shared_ptr<ServerShared> shared_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::shared_ptr<HttpListener>> listeners_;
  std::vector<std::thread> threads_;
  uint16_t port_ = 0;
};

Status HttpServer::Impl::listen() {
  const HttpServerOptions& options = shared_->options;
  const std::string host = options.host.empty() ? "0.0.0.0" : options.host;
  const auto failed = [&](const Error& error) {
    std::string_view what_to_do;
    if (error == asio::error::address_in_use) {
      what_to_do = "; another program uses that port, choose another one";
    } else if (error == boost::system::errc::address_not_available) {
      what_to_do = "; this host does not have that address";
    }
    return unavailable(fmt::format("cannot listen on {}: {}{}",
                                   format_host_port({host, options.port}), error.message(),
                                   what_to_do));
  };
  SHOAL_ASSIGN(const std::vector<std::string> addresses, resolve_host(host));
  Error error, skipped;
  for (const std::string& address : addresses) {
    const auto ip = asio::ip::make_address(address, error);
    if (error) return failed(error);
    // One port for all addresses of a name.
    const tcp::endpoint endpoint(ip, port_ != 0 ? port_ : options.port);
    std::shared_ptr<HttpListener> listener;
    error = HttpListener::open(shared_->io, endpoint, &listener);
    // "localhost" means an IPv6 address also on a machine without IPv6.
    if (error == asio::error::address_family_not_supported ||
        error == boost::system::errc::address_not_available) {
      skipped = error;
    } else if (error) {
      return failed(error);
    } else {
      port_ = listener->endpoint().port();
      listeners_.push_back(std::move(listener));
    }
  }
  return listeners_.empty() ? failed(skipped) : Status::ok();
}

void HttpServer::Impl::serve(HttpService& service) {
  const HttpServerOptions& options = shared_->options;
  shared_->service = &service;
  HandlerPool::Options small;
  small.threads = options.handler_threads;
  small.max_waiting = options.max_connections;  // one request each
  shared_->small_pool = std::make_unique<HandlerPool>(small);
  HandlerPool::Options large;
  large.threads = options.large_handler_threads;
  large.nice = options.large_handler_nice;
  large.max_waiting = options.large_bodies;
  large.max_waiting_bytes = options.total_body_bytes;
  shared_->large_pool = std::make_unique<HandlerPool>(large);
  for (const auto& listener : listeners_) {
    listener->start({[this] { return has_room(); },
                     [this](tcp::socket socket) { accepted(std::move(socket)); },
                     [this] { return no_descriptors(); }});
  }
  for (unsigned i = 0; i < options.io_threads; ++i) {
    threads_.emplace_back([this] { run_thread(); });
  }
}

// What a connection's own code throws (for want of memory) ends that connection: nothing refers to
// it any more then.
void HttpServer::Impl::run_thread() {
  while (true) {
    try {
      shared_->io.run();
      return;
    } catch (const std::exception& error) {
      if (shared_->options.on_fault) shared_->options.on_fault();
      log_error(fmt::format("http: a connection failed within the server: {}", error.what()));
    }
  }
}

HttpServerState HttpServer::Impl::state() const {
  HttpServerState out;
  out.draining = shared_->draining;
  out.max_connections = shared_->options.max_connections;
  out.large_body_bytes = shared_->reserve->bytes();
  if (shared_->small_pool) out.small_pool = shared_->small_pool->state();
  if (shared_->large_pool) out.large_pool = shared_->large_pool->state();
  const std::lock_guard lock(shared_->mutex);
  out.connections = shared_->connections.size();
  return out;
}

// Connections that are about to be closed still have their descriptors: while they fill the margin,
// newcomers wait in the backlog.
bool HttpServer::Impl::has_room() const {
  if (shared_->evictions == 0) return true;
  const size_t limit = shared_->options.max_connections;
  const std::lock_guard lock(shared_->mutex);
  return shared_->connections.size() < limit + refused_places(limit);
}

bool HttpServer::Impl::make_room() {
  const auto victim = Connection::take_oldest_waiting(*shared_);
  if (victim) victim->evict();
  return victim != nullptr;
}

void HttpServer::Impl::accepted(tcp::socket socket) {
  size_t open = 0;
  {
    const std::lock_guard lock(shared_->mutex);
    open = shared_->connections.size();
  }
  const size_t limit = shared_->options.max_connections;
  const bool full = open >= limit + shared_->evictions && !make_room();
  if (full && open >= limit + refused_places(limit)) {
    refuse_unheard(socket);
    shared_->service->refused(HttpRefusal::kConnections);
    HttpRecord record;
    record.status = 503;
    shared_->service->over(record);
    return;
  }
  std::make_shared<Connection>(shared_, std::move(socket), full)->start();
}

bool HttpServer::Impl::no_descriptors() {
  shared_->service->refused(HttpRefusal::kDescriptors);
  return make_room();
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

// How many requests are still at work.
size_t HttpServer::Impl::wait_for_work(Duration limit, const std::atomic<bool>* hurry) {
  const TimePoint end = SteadyClock().now() + limit;
  std::unique_lock lock(shared_->mutex);
  while (shared_->working > 0 && !(hurry != nullptr && *hurry)) {
    const Duration left = end - SteadyClock().now();
    if (left <= Duration::zero()) break;
    shared_->changed.wait_for(lock, std::min(left, kHurryPoll));
  }
  return shared_->working;
}

bool HttpServer::Impl::wait_for_connections(Duration limit) {
  std::unique_lock lock(shared_->mutex);
  return shared_->changed.wait_for(lock, limit, [&] { return shared_->connections.empty(); });
}

size_t HttpServer::Impl::drain(const Drain& how) {
  if (threads_.empty()) return 0;
  shared_->draining = true;
  const size_t late = wait_for_work(how.limit, how.hurry);
  if (late > 0 && how.at_limit) how.at_limit();
  const bool finished =
      late == 0 || wait_for_work(how.at_limit ? kLastWords : Duration::zero(), nullptr) == 0;
  shared_->closing = true;
  for (const auto& listener : listeners_) listener->close();
  for_each_connection(&Connection::end_drain);
  // Last answers are on their way; connections end by themselves when these were taken.
  if (!finished || !wait_for_connections(kLingerTime)) {
    for_each_connection(&Connection::cut_off);
    wait_for_connections(kCloseTime);
  }
  stop();
  return late;
}

void HttpServer::Impl::stop() {
  if (threads_.empty()) return;
  shared_->small_pool->stop();
  shared_->large_pool->stop();
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
HttpServer::~HttpServer() { impl_->drain({}); }
uint16_t HttpServer::port() const { return impl_->port(); }
HttpServerState HttpServer::state() const { return impl_->state(); }
void HttpServer::serve(HttpService& service) { impl_->serve(service); }
size_t HttpServer::drain(const Drain& how) { return impl_->drain(how); }

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpServerOptions& options) {
  auto impl = std::make_unique<Impl>(fitted_to_descriptors(options));
  SHOAL_TRY(impl->listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpServerOptions& options,
                                                      HttpService& service) {
  SHOAL_ASSIGN(auto server, listen(options));
  server->serve(service);
  return server;
}

}  // namespace shoal::gateway

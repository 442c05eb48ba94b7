// One client connection. Inside the HTTP server only: brings Boost.Asio.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "coordinator/gateway/http_server.h"

namespace shoal::gateway {

class Connection;

// What the connections of one server share. Outlives the server object as long as an Exchange does.
struct ServerShared {
  explicit ServerShared(const HttpServerOptions& o) : options(o) {}

  const HttpServerOptions options;
  HttpHandler handler;
  boost::asio::io_context io;
  std::unique_ptr<boost::asio::thread_pool> pool;
  std::atomic<bool> draining{false};
  std::atomic<bool> stopped{false};  // no thread runs `io` any more
  std::atomic<size_t> body_bytes{0};
  std::atomic<size_t> cut_off{0};

  std::mutex mutex;  // guards the following
  std::condition_variable changed;
  std::unordered_set<Connection*> connections;  // each holds itself alive through its pending I/O
};

// All members are used on the strand, except where noted.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  // `refuse`: there are too many connections; answer the first request with 503.
  Connection(std::shared_ptr<ServerShared> shared, Socket socket, bool refuse);
  ~Connection();

  void start();        // any thread
  void begin_drain();  // any thread: no further request
  void cut_off();      // any thread
  // Any thread; post() runs the task at once when called on the strand, enqueue() never does.
  void post(std::function<void()> task);
  void enqueue(std::function<void()> task);

  // For the Exchange; `serial` tells one request of this connection from the next.
  void respond(uint64_t serial, HttpResponse response);
  void start_stream(uint64_t serial, int status, const std::string& content_type,
                    const HttpHeaders& headers);
  void write_chunk(uint64_t serial, std::string chunk);
  void finish(uint64_t serial);
  void on_gone(uint64_t serial, std::function<void()> task);
  void after(uint64_t serial, Duration delay, std::function<void()> task);
  void abandoned(uint64_t serial);

 private:
  enum class State { kIdle, kHeader, kBody, kHandling, kLinger, kClosed };
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using Error = boost::system::error_code;

  void forget();
  bool current(uint64_t serial) const { return serial == serial_ && state_ == State::kHandling; }
  void read();
  void on_read(const Error& error, size_t bytes);
  void process();
  bool parse_some();  // false: needs more bytes, or the state changed to one that reads none
  bool check_header();
  void count_body(size_t bytes);
  void dispatch();
  void refuse_request(int status, const std::string& message, const std::string& code);
  void complete();  // the current answer is entirely queued
  void next_request();
  void queue(std::string bytes);
  void write();
  void on_write(const Error& error, size_t bytes);
  void linger();
  void close();
  void wait_until(TimePoint deadline);
  void arm_timer();
  void on_timer();
  std::string head(int status, const std::string& content_type, const HttpHeaders& headers,
                   std::optional<size_t> length);

  const std::shared_ptr<ServerShared> shared_;
  Socket socket_;
  boost::asio::strand<boost::asio::io_context::executor_type> strand_;
  boost::asio::steady_timer timer_, user_timer_;
  const bool refuse_;

  State state_ = State::kIdle;
  std::array<char, 16 << 10> chunk_;  // what the pending read fills
  std::string buffer_;                // received, not parsed yet
  std::optional<Parser> parser_;
  bool reading_ = false;
  bool header_checked_ = false;
  size_t counted_body_ = 0;  // what this connection has in shared_->body_bytes

  uint64_t serial_ = 0;
  bool keep_alive_ = false, http_1_0_ = false, head_only_ = false;
  bool streaming_ = false, answered_ = false;  // answered_: complete, though perhaps not yet sent
  std::function<void()> gone_;

  std::deque<std::string> out_;
  size_t out_offset_ = 0;  // of the first element
  size_t out_bytes_ = 0;
  bool writing_ = false;

  TimePoint deadline_ = TimePoint::max();        // of the current state
  TimePoint write_deadline_ = TimePoint::max();  // for the next byte to leave
  TimePoint armed_ = TimePoint::max();
};

}  // namespace shoal::gateway

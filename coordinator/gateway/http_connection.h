// One client connection. Inside the HTTP server only: brings Boost.Asio.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <condition_variable>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "coordinator/gateway/body_reserve.h"
#include "coordinator/gateway/content_coding.h"
#include "coordinator/gateway/handler_pool.h"
#include "coordinator/gateway/http_body.h"
#include "coordinator/gateway/http_head.h"
#include "coordinator/gateway/http_server.h"

namespace shoal::gateway {

class Connection;

// After an early answer the rest of the request is read and dropped for so long: closing at once
// would reset the connection and destroy the answer on its way.
inline constexpr Duration kLingerTime = std::chrono::seconds(2);

// What the connections of one server share. Outlives the server object as long as an Exchange does.
struct ServerShared {
  explicit ServerShared(const HttpServerOptions& options);

  const HttpServerOptions options;
  HttpService* service = nullptr;  // set, as the pools are, before there is a connection
  boost::asio::io_context io;
  const std::shared_ptr<BodyReserve> reserve;
  std::unique_ptr<HandlerPool> small_pool, large_pool;
  std::atomic<bool> draining{false};  // no new work is taken
  std::atomic<bool> closing{false};   // nor any connection
  std::atomic<bool> stopped{false};   // no thread runs `io` any more
  std::atomic<size_t> evictions{0};   // on their way

  std::mutex mutex;  // guards the following
  std::condition_variable changed;
  std::unordered_set<Connection*> connections;  // each holds itself alive through its pending I/O
  std::list<Connection*> waiting;               // for a request's head; for longest in front
  size_t working = 0;  // with a request that was taken before the drain and is not answered yet
};

// All members are used on the strand, except where noted.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  // `refuse`: there are too many connections; answer the first request with 503.
  Connection(std::shared_ptr<ServerShared> shared, Socket socket, bool refuse);
  ~Connection();

  // Any thread: the connection that has waited for a request for longest, no longer among those
  // that wait; null: none waits.
  static std::shared_ptr<Connection> take_oldest_waiting(ServerShared& shared);

  void start();      // any thread
  void end_drain();  // any thread: closes unless an answer is on its way
  void evict();      // any thread: closes unless a request has arrived meanwhile
  void cut_off();    // any thread
  bool gone() const { return gone_flag_; }  // any thread
  // Any thread; post() runs the task at once when called on the strand, enqueue() never does.
  void post(std::function<void()> task);
  void enqueue(std::function<void()> task);

  // For the Exchange; `serial` tells one request of this connection from the next.
  void respond(uint64_t serial, HttpResponse response);
  void start_stream(uint64_t serial, int status, const std::string& content_type,
                    const HttpHeaders& headers);
  void write_chunk(uint64_t serial, std::string chunk);
  void finish(uint64_t serial);
  void note_tokens(uint64_t serial, uint64_t prompt, uint64_t generated);
  void on_gone(uint64_t serial, std::function<void()> task);
  void after(uint64_t serial, Duration delay, std::function<void()> task);
  void abandoned(uint64_t serial);

 private:
  enum class State { kIdle, kHeader, kBody, kHandling, kLinger, kClosed };
  // Where ServerShared counts the connection.
  enum class Standing { kNone, kWaiting, kWorking };
  using Error = boost::system::error_code;

  // `task(connection, …)` as a handler that keeps this alive; if it throws, the connection ends and
  // nothing else does.
  template <class Task>
  auto guarded(Task task) {
    return [self = shared_from_this(), task = std::move(task)](auto&&... arguments) mutable {
      try {
        task(*self, std::forward<decltype(arguments)>(arguments)...);
      } catch (const std::exception& error) {
        self->failed(error);
      }
    };
  }
  void failed(const std::exception& error);
  void stand(Standing standing);
  void forget();
  bool current(uint64_t serial) const { return serial == serial_ && state_ == State::kHandling; }

  // http_connection.cc: what comes in
  bool make_room(const Error& error);
  void read();
  void on_read(const Error& error, size_t bytes);
  void process();
  void begin_request();
  bool read_head();  // false: needs more bytes, or the state changed to one that reads none
  bool read_body();
  bool admit_body();
  bool hold_body(uint64_t bytes);
  void dispatch();
  void refuse(int status, const std::string& message, const char* code, HttpRefusal reason);
  void refuse_coding();
  void submit_to_pool(std::shared_ptr<HttpRequest> request, std::shared_ptr<Exchange> exchange);
  void answer_at_once(HttpVerdict verdict);

  // http_answer.cc: what goes out
  void begin_answer();
  void release_hold();
  void complete();  // the current answer is entirely queued
  void end_record(bool complete);
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
  std::string peer_;
  uint64_t peer_class_ = 0;
  std::atomic<bool> gone_flag_{false};

  State state_ = State::kIdle;
  Standing standing_ = Standing::kNone;          // guarded by shared_->mutex
  std::list<Connection*>::iterator waiting_at_;  // so is this; set while standing_ is kWaiting
  std::array<char, 16 << 10> chunk_;             // what the pending read fills
  std::string buffer_;                           // received, not parsed yet
  bool reading_ = false, evicted_ = false;

  std::optional<HttpHeadReader> head_reader_;
  std::optional<HttpBodyReader> body_reader_;
  std::shared_ptr<HttpRequest> request_;  // from its head to the handler
  std::shared_ptr<BodyHold> hold_;
  ContentCoding coding_ = ContentCoding::kIdentity;
  HttpHeaders headers_;  // of the answer, whatever it is
  std::optional<size_t> client_;
  std::optional<HttpRecord> record_;  // from the complete head to the complete answer
  TimePoint began_;

  uint64_t serial_ = 0;
  bool keep_alive_ = false, http_1_0_ = false, head_only_ = false, has_body_ = false;
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

// The way back to a connection's request `serial`.
std::shared_ptr<Exchange> make_exchange(std::shared_ptr<Connection> connection, uint64_t serial);

}  // namespace shoal::gateway

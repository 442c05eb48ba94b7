#include "coordinator/gateway/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
#include <ctime>

#include "coordinator/gateway/api_error.h"

namespace shoal::gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

// Requests sent ahead of an answer wait here. Who sends more is cut off: not reading on would hide
// that a client has left, and no real client pipelines that much.
constexpr size_t kReadAheadBytes = 256 << 10;
// A chunk header or trailer may not be longer.
constexpr size_t kMaxChunkHeader = 64 << 10;
constexpr size_t kWriteBuffers = 64;  // per system call
// After an early answer the rest of the request is read and dropped for so long: closing at once
// would reset the connection and destroy the answer on its way.
constexpr Duration kLingerTime = std::chrono::seconds(2);

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 64> text{};
  const size_t length =
      std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return std::string(text.data(), length);
}

class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, uint64_t serial)
      : connection_(std::move(connection)), serial_(serial) {}
  ~ConnectionExchange() override {
    connection_->post([c = connection_, s = serial_] { c->abandoned(s); });
  }

  void respond(HttpResponse response) override {
    connection_->post([c = connection_, s = serial_, r = std::move(response)]() mutable {
      c->respond(s, std::move(r));
    });
  }
  void start_stream(int status, std::string content_type, HttpHeaders headers) override {
    connection_->post([c = connection_, s = serial_, status, t = std::move(content_type),
                       h = std::move(headers)] { c->start_stream(s, status, t, h); });
  }
  void write(std::string chunk) override {
    connection_->post([c = connection_, s = serial_, text = std::move(chunk)]() mutable {
      c->write_chunk(s, std::move(text));
    });
  }
  void finish() override {
    connection_->post([c = connection_, s = serial_] { c->finish(s); });
  }
  void post(std::function<void()> task) override { connection_->enqueue(std::move(task)); }
  void on_gone(std::function<void()> task) override {
    connection_->post([c = connection_, s = serial_, t = std::move(task)]() mutable {
      c->on_gone(s, std::move(t));
    });
  }
  void after(Duration delay, std::function<void()> task) override {
    connection_->post([c = connection_, s = serial_, delay, t = std::move(task)]() mutable {
      c->after(s, delay, std::move(t));
    });
  }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t serial_;
};

}  // namespace

Connection::Connection(std::shared_ptr<ServerShared> shared, Socket socket, bool refuse)
    : shared_(std::move(shared)),
      socket_(std::move(socket)),
      strand_(asio::make_strand(shared_->io)),
      timer_(strand_),
      user_timer_(strand_),
      refuse_(refuse) {
  const std::lock_guard lock(shared_->mutex);
  shared_->connections.insert(this);
}

Connection::~Connection() {
  shared_->body_bytes -= counted_body_;
  forget();
}

void Connection::forget() {
  const std::lock_guard lock(shared_->mutex);
  shared_->connections.erase(this);
  shared_->changed.notify_all();
}

void Connection::enqueue(std::function<void()> task) {
  if (shared_->stopped) return;
  asio::post(strand_, std::move(task));
}

void Connection::post(std::function<void()> task) {
  if (shared_->stopped) return;
  asio::dispatch(strand_, std::move(task));
}

void Connection::start() {
  post([self = shared_from_this()] {
    if (self->shared_->draining) {
      self->close();
      return;
    }
    self->wait_until(SteadyClock().now() + self->shared_->options.header_timeout);
    self->read();
  });
}

void Connection::begin_drain() {
  post([self = shared_from_this()] {
    if (self->state_ == State::kIdle && self->buffer_.empty()) self->close();
  });
}

void Connection::cut_off() {
  post([self = shared_from_this()] {
    if (self->state_ == State::kHandling) ++self->shared_->cut_off;
    self->close();
  });
}

// ---------------------------------------------------------------- reading

// One read is always pending while the connection lives: that is how a client's leaving is seen.
void Connection::read() {
  if (reading_ || state_ == State::kClosed) return;
  if (buffer_.size() >= kReadAheadBytes) {
    close();
    return;
  }
  reading_ = true;
  socket_.async_read_some(
      asio::buffer(chunk_),
      asio::bind_executor(strand_, [self = shared_from_this()](const Error& error, size_t bytes) {
        self->on_read(error, bytes);
      }));
}

void Connection::on_read(const Error& error, size_t bytes) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  if (error) {  // gone, or finished sending: nobody who speaks HTTP waits for an answer after that
    close();
    return;
  }
  if (state_ != State::kLinger) buffer_.append(chunk_.data(), bytes);
  if (state_ != State::kLinger && state_ != State::kHandling) process();
  read();
}

void Connection::process() {
  while (state_ == State::kIdle || state_ == State::kHeader || state_ == State::kBody) {
    if (state_ == State::kIdle) {
      if (buffer_.empty()) return;
      state_ = State::kHeader;
      header_checked_ = false;
      parser_.emplace();
      parser_->header_limit(static_cast<uint32_t>(shared_->options.header_bytes));
      parser_->body_limit(shared_->options.body_bytes);
      wait_until(SteadyClock().now() + shared_->options.header_timeout);
    }
    if (!parse_some()) return;
  }
}

bool Connection::parse_some() {
  Error error;
  const size_t used = parser_->put(asio::buffer(buffer_), error);
  buffer_.erase(0, used);
  const bool needs_more = error == http::error::need_more;
  if (error && !needs_more) {
    if (error == http::error::header_limit) {
      refuse_request(431, fmt::format("the headers exceed {} bytes", shared_->options.header_bytes),
                     "headers_too_large");
    } else if (error == http::error::body_limit) {
      refuse_request(413, fmt::format("the body exceeds {} bytes", shared_->options.body_bytes),
                     "body_too_large");
    } else {
      refuse_request(400, "malformed HTTP request: " + error.message(), "bad_http");
    }
    return false;
  }
  if (parser_->is_header_done() && !header_checked_) {
    header_checked_ = true;
    if (!check_header()) return false;
    state_ = State::kBody;
    wait_until(SteadyClock().now() + shared_->options.body_timeout);
  }
  count_body(parser_->get().body().size());
  if (shared_->body_bytes > shared_->options.total_body_bytes) {
    refuse_request(503, "too many large requests at the same time", "overloaded");
    return false;
  }
  if (parser_->is_done()) {
    dispatch();
    return false;
  }
  if (needs_more && buffer_.size() >= kMaxChunkHeader) {  // an endless chunk header or trailer
    refuse_request(400, "malformed HTTP request: chunk header too long", "bad_http");
    return false;
  }
  return !needs_more && !buffer_.empty();
}

void Connection::count_body(size_t bytes) {
  shared_->body_bytes += bytes;
  shared_->body_bytes -= counted_body_;
  counted_body_ = bytes;
}

bool Connection::check_header() {
  const auto& message = parser_->get();
  http_1_0_ = message.version() < 11;
  keep_alive_ = message.keep_alive() && !shared_->draining;
  head_only_ = message.method() == http::verb::head;
  if (refuse_) {
    refuse_request(503, "too many connections", "overloaded");
    return false;
  }
  if (!http_1_0_ && message.count(http::field::host) != 1) {
    refuse_request(400, "malformed HTTP request: exactly one Host header is required", "bad_http");
    return false;
  }
  const auto expect = message[http::field::expect];
  if (expect.empty() || http_1_0_) return true;
  if (!boost::beast::iequals(expect, "100-continue")) {
    refuse_request(417, "only \"Expect: 100-continue\" is known", "bad_http");
    return false;
  }
  if (!parser_->is_done()) queue("HTTP/1.1 100 Continue\r\n\r\n");
  return true;
}

void Connection::dispatch() {
  auto message = parser_->release();
  parser_.reset();
  auto request = std::make_shared<HttpRequest>();
  request->head = head_only_;
  request->method = head_only_ ? "GET" : std::string(message.method_string());
  std::string_view target(message.target().data(), message.target().size());
  if (target.starts_with("http://")) {  // the form sent to proxies
    target.remove_prefix(std::min(target.size(), target.find('/', 7)));
  }
  const size_t question = target.find('?');
  request->path = percent_decode(target.substr(0, question));
  if (question != target.npos) request->query = target.substr(question + 1);
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    request->headers.emplace_back(std::move(name), std::string(field.value()));
  }
  request->body = std::move(message.body());
  Error ignored;
  request->peer = socket_.remote_endpoint(ignored).address().to_string();

  state_ = State::kHandling;
  streaming_ = answered_ = false;
  gone_ = nullptr;
  ++serial_;
  wait_until(TimePoint::max());
  auto exchange = std::make_shared<ConnectionExchange>(shared_from_this(), serial_);
  // What only reads state answers at once: /health must not wait behind prompts being tokenized.
  if (request->method == "GET") {
    shared_->handler(std::move(request), std::move(exchange));
    return;
  }
  asio::post(*shared_->pool, [shared = shared_, request = std::move(request),
                              exchange = std::move(exchange)]() mutable {
    shared->handler(std::move(request), std::move(exchange));
  });
}

// Answers without a handler and ends the connection: what follows on it cannot be trusted or is not
// wanted.
void Connection::refuse_request(int status, const std::string& message, const std::string& code) {
  ApiError error;
  error.status = status;
  error.message = message;
  error.code = code;
  if (status == 503) error.type = "unavailable_error";
  keep_alive_ = false;
  const std::string body = error_body(error);
  HttpHeaders headers;
  if (status == 503) headers.emplace_back("Retry-After", "1");
  queue(head(status, "application/json", headers, body.size()) + (head_only_ ? "" : body));
  parser_.reset();
  count_body(0);
  linger();
}

// ---------------------------------------------------------------- answering

std::string Connection::head(int status, const std::string& content_type,
                             const HttpHeaders& headers, std::optional<size_t> length) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\nServer: shoal\r\nDate: {}\r\n", status,
                                status_text(status), http_date());
  if (status != 204) out += fmt::format("Content-Type: {}\r\n", content_type);
  for (const auto& [name, value] : headers) out += fmt::format("{}: {}\r\n", name, value);
  if (length && status != 204) out += fmt::format("Content-Length: {}\r\n", *length);
  if (!length && !http_1_0_) out += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive_) {
    out += "Connection: close\r\n";
  } else if (http_1_0_) {
    out += "Connection: keep-alive\r\n";
  }
  return out + "\r\n";
}

void Connection::respond(uint64_t serial, HttpResponse response) {
  if (!current(serial) || answered_ || streaming_) return;
  if (shared_->draining) keep_alive_ = false;
  std::string bytes =
      head(response.status, response.content_type, response.headers, response.body.size());
  if (!head_only_) bytes += response.body;
  queue(std::move(bytes));
  complete();
}

void Connection::start_stream(uint64_t serial, int status, const std::string& content_type,
                              const HttpHeaders& headers) {
  if (!current(serial) || answered_ || streaming_) return;
  streaming_ = true;
  if (http_1_0_ || shared_->draining) keep_alive_ = false;
  queue(head(status, content_type, headers, std::nullopt));
}

void Connection::write_chunk(uint64_t serial, std::string chunk) {
  if (!current(serial) || answered_ || !streaming_ || chunk.empty() || head_only_) return;
  if (out_bytes_ + chunk.size() > shared_->options.outbound_bytes) {
    close();  // the client does not read
    return;
  }
  queue(http_1_0_ ? std::move(chunk) : fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk));
}

void Connection::finish(uint64_t serial) {
  if (!current(serial) || answered_ || !streaming_) return;
  if (!http_1_0_ && !head_only_) queue("0\r\n\r\n");
  complete();
}

void Connection::abandoned(uint64_t serial) {
  if (!current(serial) || answered_) return;
  if (streaming_) {
    close();  // the missing last chunk tells the client
    return;
  }
  ApiError error;
  error.status = 500;
  error.type = "server_error";
  error.message = "the server dropped this request";
  HttpResponse response;
  response.status = 500;
  response.body = error_body(error);
  respond(serial, std::move(response));
}

void Connection::on_gone(uint64_t serial, std::function<void()> task) {
  if (serial == serial_ && state_ == State::kHandling) {
    if (!answered_) gone_ = std::move(task);
  } else if (serial == serial_ && state_ == State::kClosed && !answered_) {
    task();
  }
}

void Connection::after(uint64_t serial, Duration delay, std::function<void()> task) {
  if (!current(serial) || answered_) return;
  user_timer_.expires_after(delay);
  user_timer_.async_wait(
      [self = shared_from_this(), serial, task = std::move(task)](const Error& error) {
        if (!error && self->current(serial) && !self->answered_) task();
      });
}

void Connection::complete() {
  answered_ = true;
  gone_ = nullptr;
  user_timer_.cancel();
  count_body(0);
  if (out_.empty()) next_request();
}

void Connection::next_request() {
  if (!keep_alive_ || shared_->draining) {
    linger();
    return;
  }
  state_ = State::kIdle;
  wait_until(SteadyClock().now() + shared_->options.idle_timeout);
  process();
  read();
}

// ---------------------------------------------------------------- writing

void Connection::queue(std::string bytes) {
  if (out_.empty()) write_deadline_ = SteadyClock().now() + shared_->options.write_timeout;
  out_bytes_ += bytes.size();
  out_.push_back(std::move(bytes));
  write();
}

void Connection::write() {
  if (writing_ || out_.empty() || state_ == State::kClosed) return;
  writing_ = true;
  std::vector<asio::const_buffer> buffers;
  for (size_t i = 0; i < out_.size() && i < kWriteBuffers; ++i) {
    const size_t skip = i == 0 ? out_offset_ : 0;
    buffers.emplace_back(out_[i].data() + skip, out_[i].size() - skip);
  }
  arm_timer();
  socket_.async_write_some(
      buffers,
      asio::bind_executor(strand_, [self = shared_from_this()](const Error& error, size_t bytes) {
        self->on_write(error, bytes);
      }));
}

void Connection::on_write(const Error& error, size_t bytes) {
  writing_ = false;
  if (state_ == State::kClosed) return;
  if (error) {
    close();
    return;
  }
  out_bytes_ -= bytes;
  out_offset_ += bytes;
  while (!out_.empty() && out_offset_ >= out_.front().size()) {
    out_offset_ -= out_.front().size();
    out_.pop_front();
  }
  if (!out_.empty()) {
    write_deadline_ = SteadyClock().now() + shared_->options.write_timeout;
    write();
    return;
  }
  write_deadline_ = TimePoint::max();
  if (state_ == State::kLinger) {
    linger();
  } else if (state_ == State::kHandling && answered_) {
    next_request();
  }
}

// ---------------------------------------------------------------- ending

// Sends what is queued, then says goodbye and drops what still comes in.
void Connection::linger() {
  if (state_ != State::kLinger) {
    state_ = State::kLinger;
    buffer_.clear();
    wait_until(TimePoint::max());
    read();
  }
  if (!out_.empty()) return;  // on_write comes back here; write_deadline_ bounds it
  Error ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  wait_until(SteadyClock().now() + kLingerTime);
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  const bool unanswered = state_ == State::kHandling && !answered_;
  state_ = State::kClosed;
  Error ignored;
  socket_.close(ignored);
  timer_.cancel();
  user_timer_.cancel();
  parser_.reset();
  buffer_.clear();
  // Buffers of a write in progress stay until its handler ran.
  count_body(0);
  forget();
  if (unanswered && gone_) std::exchange(gone_, nullptr)();
  gone_ = nullptr;
}

// ---------------------------------------------------------------- time

void Connection::wait_until(TimePoint deadline) {
  deadline_ = deadline;
  arm_timer();
}

// The timer is moved only when it would fire too late; firing early costs nothing.
void Connection::arm_timer() {
  const TimePoint next = std::min(deadline_, out_.empty() ? TimePoint::max() : write_deadline_);
  if (next >= armed_ || state_ == State::kClosed) return;
  armed_ = next;
  timer_.expires_at(next);
  timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (!error) self->on_timer();
  });
}

void Connection::on_timer() {
  armed_ = TimePoint::max();
  if (state_ == State::kClosed) return;
  const TimePoint now = SteadyClock().now();
  if (!out_.empty() && now >= write_deadline_) {
    close();
    return;
  }
  if (now >= deadline_) {
    deadline_ = TimePoint::max();
    if (state_ == State::kHeader || state_ == State::kBody) {
      refuse_request(408, "the request took too long to arrive", "request_timeout");
    } else {
      close();
    }
  }
  arm_timer();
}

}  // namespace shoal::gateway
